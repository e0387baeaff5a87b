"""Convolutions: plain and grouped, transposed, depthwise, separable."""

import keras
import numpy as np

from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.mixing import by_input, finished, kernel_of, mix, mixed
from activation_pruning.graph.channels.rules import Call, rule
from activation_pruning.sites import layer_classes


@rule(*layer_classes.CONVOLUTIONS)
def convolution(call: Call) -> Channels:
    """Kernel (positions, inputs, filters); zeros around the image make borders differ."""
    if call.layer.groups > 1:
        return _grouped(call)
    return mixed(call, inputs=-2, units=-1, size="filters", folds=unpadded(call.layer))


def _grouped(call):
    """All groups must stay equally large: whole ones go, or the same filters of each."""
    flow, layer, x = call.flow, call.layer, call.along()
    weights, alive = (_apart(part, layer.groups) for part in by_input(layer.kernel, -2, -1))
    out, value = mix(call, x, alive=alive, weights=weights, folds=unpadded(layer))
    flow.slice(layer.kernel, -1, out)
    flow.size(layer, "filters", out)
    # Rows: what there is of each group.
    inputs, filters = x.ids.reshape(layer.groups, -1), out.reshape(layer.groups, -1)
    if layer.groups >= filters.shape[1]:  # the finer way of the two
        flow.tie(filters, filters[:, :1])
        flow.tie(inputs, filters[:, :1])
        flow.size(layer, "groups", filters[:, 0])
    else:
        flow.tie(filters, filters[:1])
        flow.tie(inputs, inputs[:1])
        flow.slice(layer.kernel, -2, inputs[0])
    return finished(call, x.axis, out, value)


def _apart(kernel, groups):
    """(inputs of a group, filters) as (inputs, filters), where no group reads another's inputs."""
    inputs, filters = np.arange(len(kernel) * groups), np.arange(kernel.shape[1])
    own = (inputs // len(kernel))[:, None] == filters // (len(filters) // groups)
    return np.where(own, np.tile(kernel, (groups, 1)), np.zeros((), kernel.dtype))


def unpadded(layer: keras.Layer) -> bool:
    """Whether every output is a sum over the whole kernel: no zeros are put around the image."""
    sizes = np.atleast_1d(layer.kernel_size)
    return layer.padding == "valid" or bool((sizes == 1).all())


@rule(*layer_classes.TRANSPOSED)
def transposed(call: Call) -> Channels:
    """Kernel (positions, filters, inputs); how many weights meet depends on the position."""
    return mixed(call, inputs=-1, units=-2, size="filters", folds=False)


@rule(*layer_classes.DEPTHWISE)
def depthwise(call: Call) -> Channels:
    """Kernel (positions, inputs, multiplier): its outputs go with the input they are made of."""
    x, layer = call.along(), call.layer
    kernel, alive = kernel_of(layer.kernel)
    spatial, times = tuple(range(kernel.ndim - 2)), kernel.shape[-1]
    value, alive = np.repeat(x.value, times), alive.any(spatial).reshape(-1)
    known = (value == 0) | (np.isfinite(value) & unpadded(layer))
    found = np.where(known, value, 0) * kernel.sum(spatial, dtype=np.float64).reshape(-1)
    call.flow.slice(layer.kernel, -2, x.ids)
    found = np.where(known | ~alive, found, np.nan)
    return finished(call, x.axis, np.repeat(x.ids, times), found)


@rule(*layer_classes.SEPARABLE)
def separable(call: Call) -> Channels:
    """A depthwise convolution without bias, then one of size 1."""
    flow, layer, x = call.flow, call.layer, call.along()
    first, first_alive = kernel_of(layer.depthwise_kernel)
    second, second_alive = kernel_of(layer.pointwise_kernel)
    spatial = tuple(range(first.ndim - 2))
    by_input = (*first.shape[-2:], second.shape[-1])
    second, second_alive = second.reshape(by_input), second_alive.reshape(by_input)
    weights = np.einsum("im,imo->io", first.sum(spatial, dtype=np.float64), second)
    alive = np.einsum("im,imo->io", first_alive.any(spatial).astype(int), second_alive) > 0
    out, value = mix(call, x, alive=alive, weights=weights, folds=unpadded(layer))
    flow.slice(layer.depthwise_kernel, -2, x.ids)
    flow.slice(layer.pointwise_kernel, -2, np.repeat(x.ids, by_input[1]))
    flow.slice(layer.pointwise_kernel, -1, out)
    flow.size(layer, "filters", out)
    return finished(call, x.axis, out, value)
