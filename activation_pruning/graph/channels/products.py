"""Layers that mix channels by a kernel: they take some and make others."""

import keras
import numpy as np

from activation_pruning.graph.channels.channelwise import activated, channel_axis
from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.walk import NotFollowed, rule, single

_L = keras.layers


def kernel_of(variable):
    """The values, and which count as alive: of a kernel of nothing but zeros all, it is fresh."""
    values = keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))
    return values, values != 0 if values.any() else np.ones(values.shape, bool)


def mix(flow, layer, x, alive, weights, folds=True):
    """Units that a layer makes of the channels of `x`: their ids, and their values before the bias.

    Args:
        flow, layer: see `Flow.use`.
        x: `Channels`.
        alive: bool (inputs, units). weights: float (inputs, units), see `Use`.
        folds: whether constants other than zero contribute the same at all positions.
    """
    out = flow.units_of(layer, alive.shape[1])
    use = flow.use(layer, x, out, alive, folds, weights)
    known = np.where(use.folds, x.value, 0.0)
    varies = alive[~use.folds].any(axis=0)
    return out, np.where(varies, np.nan, known @ weights.astype(np.float64))


def finished(flow, layer, shape, axis, out, value):
    """Add the bias, apply the activation, remember what is known of the units."""
    bias = getattr(layer, "bias", None)
    if bias is not None:
        flow.slice(bias, -1, out)
        value = value + keras.ops.convert_to_numpy(keras.ops.cast(bias, "float32"))
    found = activated(flow, layer, Channels(tuple(shape), axis, out, value))
    flow.units[id(layer)] = layer, out, found.value
    return found


@rule(_L.Dense)
def dense(flow, layer, xs, shapes):
    """y = x K + b along the last axis."""
    x = flow.along(single(xs), -1)
    kernel, alive = kernel_of(layer.kernel)
    out, value = mix(flow, layer, x, alive, kernel)
    flow.slice(layer.kernel, 0, x.ids)
    flow.slice(layer.kernel, 1, out)
    flow.size(layer, "units", out)
    return finished(flow, layer, shapes[0], len(shapes[0]) - 1, out, value)


@rule(_L.Conv1D, _L.Conv2D, _L.Conv3D)
def convolution(flow, layer, xs, shapes):
    """Kernel (positions, inputs, filters); zeros around the image make borders differ."""
    axis = channel_axis(layer, shapes[0])
    x = flow.along(single(xs), axis)
    kernel, alive = kernel_of(layer.kernel)
    if layer.groups > 1:
        return _grouped(flow, layer, x, shapes[0], axis, alive)
    spatial = tuple(range(kernel.ndim - 2))
    whole = unpadded(layer)
    out, value = mix(flow, layer, x, alive.any(spatial), kernel.sum(spatial), whole)
    flow.slice(layer.kernel, -2, x.ids)
    flow.slice(layer.kernel, -1, out)
    flow.size(layer, "filters", out)
    return finished(flow, layer, shapes[0], axis, out, value)


def _grouped(flow, layer, x, shape, axis, alive):
    """All groups must stay equally large: nothing is removed, but zeros are still constants."""
    reason = f"{layer.name!r} is a convolution in {layer.groups} groups of equal size"
    out = flow.units_of(layer, layer.filters)
    flow.pin(x.ids, reason)
    flow.pin(out, reason)
    alive = alive.reshape(-1, layer.filters).any(axis=0)
    value = np.where(alive, np.nan, 0.0)
    if layer.bias is not None:
        value = value + keras.ops.convert_to_numpy(layer.bias)
    return activated(flow, layer, Channels(shape, axis, out, value))


def unpadded(layer):
    """Whether every output is a sum over the whole kernel: no zeros are put around the image."""
    sizes = np.atleast_1d(layer.kernel_size)
    return layer.padding == "valid" or bool((sizes == 1).all())


@rule(_L.Conv1DTranspose, _L.Conv2DTranspose, _L.Conv3DTranspose)
def transposed(flow, layer, xs, shapes):
    """Kernel (positions, filters, inputs); how many weights meet depends on the position."""
    axis = channel_axis(layer, shapes[0])
    x = flow.along(single(xs), axis)
    kernel, alive = kernel_of(layer.kernel)
    spatial = tuple(range(kernel.ndim - 2))
    out, value = mix(flow, layer, x, alive.any(spatial).T, kernel.sum(spatial).T, folds=False)
    flow.slice(layer.kernel, -1, x.ids)
    flow.slice(layer.kernel, -2, out)
    flow.size(layer, "filters", out)
    return finished(flow, layer, shapes[0], axis, out, value)


@rule(_L.DepthwiseConv1D, _L.DepthwiseConv2D)
def depthwise(flow, layer, xs, shapes):
    """Kernel (positions, inputs, multiplier): its outputs go with the input they are made of."""
    axis = channel_axis(layer, shapes[0])
    x = flow.along(single(xs), axis)
    kernel, alive = kernel_of(layer.kernel)
    spatial, times = tuple(range(kernel.ndim - 2)), kernel.shape[-1]
    out = np.repeat(x.ids, times)
    value, alive = np.repeat(x.value, times), alive.any(spatial).reshape(-1)
    known = (value == 0) | (np.isfinite(value) & unpadded(layer))
    found = np.where(known, value, 0) * kernel.sum(spatial, dtype=np.float64).reshape(-1)
    flow.slice(layer.kernel, -2, x.ids)
    found = np.where(known | ~alive, found, np.nan)
    return finished(flow, layer, shapes[0], axis, out, found)


@rule(_L.SeparableConv1D, _L.SeparableConv2D)
def separable(flow, layer, xs, shapes):
    """A depthwise convolution without bias, then one of size 1."""
    axis = channel_axis(layer, shapes[0])
    x = flow.along(single(xs), axis)
    first, first_alive = kernel_of(layer.depthwise_kernel)
    second, second_alive = kernel_of(layer.pointwise_kernel)
    spatial = tuple(range(first.ndim - 2))
    by_input = (*first.shape[-2:], second.shape[-1])
    second, second_alive = second.reshape(by_input), second_alive.reshape(by_input)
    weights = np.einsum("im,imo->io", first.sum(spatial, dtype=np.float64), second)
    alive = np.einsum("im,imo->io", first_alive.any(spatial).astype(int), second_alive) > 0
    out, value = mix(flow, layer, x, alive, weights, unpadded(layer))
    flow.slice(layer.depthwise_kernel, -2, x.ids)
    flow.slice(layer.pointwise_kernel, -2, np.repeat(x.ids, by_input[1]))
    flow.slice(layer.pointwise_kernel, -1, out)
    flow.size(layer, "filters", out)
    return finished(flow, layer, shapes[0], axis, out, value)


@rule(_L.Embedding)
def embedding(flow, layer, xs, shapes):
    """Each column of the table is a channel, constant where all words have the same number."""
    table, _ = kernel_of(layer.embeddings)
    out = flow.units_of(layer, table.shape[1])
    flow.slice(layer.embeddings, 1, out)
    flow.size(layer, "output_dim", out)
    same = (table == table[:1]).all(axis=0) & table.any()
    value = np.where(same, table[0], np.nan)
    flow.units[id(layer)] = layer, out, value
    return Channels(shapes[0], len(shapes[0]) - 1, out, value)


@rule(_L.EinsumDense)
def einsum_dense(flow, layer, xs, shapes):
    """One axis of the input is summed over, the last of the output is new; the others stay."""
    x = single(xs)
    inputs, kernel_letters, result = _letters(layer.equation, len(x.shape))
    letter, new = inputs[x.axis], [one for one in kernel_letters if one not in inputs]
    if letter not in kernel_letters or letter in result:
        raise NotFollowed("it does not sum over the channels that come in")
    if not new or result[-1] != new[-1] or set(kernel_letters) & set(inputs) & set(result):
        raise NotFollowed(f"its equation {layer.equation!r} makes no channels along the last axis")
    kernel, alive = kernel_of(layer.kernel)
    rest = tuple(i for i, one in enumerate(kernel_letters) if one not in (letter, new[-1]))
    turned = kernel_letters.index(letter) > kernel_letters.index(new[-1])
    weights, alive = kernel.sum(rest), alive.any(rest)
    weights, alive = (weights.T, alive.T) if turned else (weights, alive)
    # With several new axes (heads) a constant does not add the same to all entries of a unit.
    whole = len(new) == 1 and layer.bias_axes == new[-1]
    out, value = mix(flow, layer, x, alive, weights, whole)
    if layer.bias is not None and (len(new) > 1 or not whole):
        value = np.full(len(out), np.nan)
    flow.slice(layer.kernel, kernel_letters.index(letter), x.ids)
    flow.slice(layer.kernel, kernel_letters.index(new[-1]), out)
    # Without the batch axis and what an ellipsis hides, as the layer was made with.
    own = layer.get_config()["output_shape"][:-1]
    flow.size(layer, "output_shape", out, lambda count: (*own, count))
    if layer.bias is not None and layer.bias.shape[-1] != len(out):
        flow.pin(out, f"the bias of {layer.name!r} is shared by all of its channels")
        flow.units[id(layer)] = layer, out, value
        return Channels(shapes[0], len(shapes[0]) - 1, out, np.full(len(out), np.nan))
    if len(new) > 1:
        return _several_axes(flow, layer, shapes[0], out, alive)
    return finished(flow, layer, shapes[0], len(shapes[0]) - 1, out, value)


def _several_axes(flow, layer, shape, out, alive):
    """Entries of a unit along the other new axes have biases of their own."""
    value = np.where(alive.any(axis=0), np.nan, 0.0)
    if layer.bias is not None:
        flow.slice(layer.bias, -1, out)
        bias = keras.ops.convert_to_numpy(layer.bias).reshape(-1, len(out))
        value = np.where((bias == bias[:1]).all(axis=0), value + bias[0], np.nan)
    found = activated(flow, layer, Channels(shape, len(shape) - 1, out, value))
    flow.units[id(layer)] = layer, out, found.value
    return found


def _letters(equation, rank):
    """(inputs, kernel, result) of an equation, with letters in the place of a leading ellipsis."""
    inputs, result = equation.replace(" ", "").split("->")
    inputs, kernel = inputs.split(",")
    hidden = rank - len(inputs.replace("...", ""))
    if "..." in inputs:
        unused = [chr(c) for c in range(ord("A"), ord("Z") + 1) if chr(c) not in equation]
        names = "".join(unused[:hidden])
        inputs, result = inputs.replace("...", names), result.replace("...", names)
    if "..." in kernel or len(inputs) != rank:
        raise NotFollowed(f"its equation {equation!r} is not understood")
    return inputs, kernel, result
