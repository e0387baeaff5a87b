"""Dense, EinsumDense and Embedding."""

import inspect

import keras
import numpy as np

from activation_pruning.graph.channels.activations import activated
from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.mixing import by_input, finished, kernel_of, mix, mixed
from activation_pruning.graph.channels.rules import Call, NotFollowed, rule

_L = keras.layers


@rule(_L.Dense)
def dense(call: Call) -> Channels:
    """y = x K + b along the last axis."""
    return mixed(call, inputs=0, units=1, size="units")


@rule(_L.Embedding)
def embedding(call: Call) -> Channels:
    """Each column of the table is a channel, constant where all words have the same number."""
    flow, layer = call.flow, call.layer
    table, _ = kernel_of(layer.embeddings)
    out = flow.units_of(layer, table.shape[1])
    flow.slice(layer.embeddings, 1, out)
    flow.size(layer, "output_dim", out)
    same = (table == table[:1]).all(axis=0) & table.any()
    return flow.made(layer, call.last(out, np.where(same, table[0], np.nan)))


def _reversible(call: Call) -> Channels:
    """An embedding, and, reversed, a product with the same table or one of its own."""
    bound = inspect.signature(call.layer.call).bind(*call.arguments[0], **call.arguments[1])
    tied = getattr(call.layer, "tie_weights", True)
    table, axis = (call.layer.embeddings, 1) if tied else (call.layer.reverse_embeddings, 0)
    if not bound.arguments.get("reverse"):
        found = embedding(call)
        call.flow.slice(table, axis, found.ids)
        return found
    x = call.along(-1)
    _, alive = kernel_of(table)
    out = call.flow.fixed(call.shape, f"{call.layer.name!r} makes its words of them")
    call.flow.use(call.layer, x, out.ids, alive if axis == 0 else alive.T)
    call.flow.slice(table, axis, x.ids)
    return out


if hasattr(_L, "ReversibleEmbedding"):  # Keras 3.13
    rule(_L.ReversibleEmbedding)(_reversible)


@rule(_L.EinsumDense)
def einsum_dense(call: Call) -> Channels:
    """One axis of the input is channels and summed over; of those that are new, the first is units.

    Where several are new these are heads, of which each has several numbers: whole heads go.
    """
    flow, layer, x = call.flow, call.layer, call.x
    inputs, kernel, result = _letters(layer.equation, len(x.shape))
    letter, new = inputs[x.axis], [one for one in result if one not in inputs]
    if letter not in kernel or letter in result:
        raise NotFollowed("it does not sum over the channels that come in")
    if not new or set(kernel) & set(inputs) & set(result):
        raise NotFollowed(f"its equation {layer.equation!r} makes no channels")
    axes = kernel.index(letter), kernel.index(new[0])
    axis = result.index(new[0]) - len(result)
    weights, alive = by_input(layer.kernel, *axes)
    # With several new axes (heads) a constant does not add the same to all entries of a unit.
    whole = len(new) == 1 and layer.bias_axes == new[0]
    out, value = mix(call, x, alive=alive, weights=weights, folds=whole)
    if layer.bias is not None and not whole:
        value = np.full(len(out), np.nan)
    for own, ids in zip(axes, (x.ids, out), strict=True):
        flow.slice(layer.kernel, own, ids)
    _sized(call, axis, out)
    found = Channels(call.shape, len(result) + axis, out, value)
    if layer.bias is not None and not _spans(layer.bias, axis, len(out)):
        flow.pin(out, f"the bias of {layer.name!r} is shared by all of its channels")
        return flow.made(layer, found).varying()
    if len(new) > 1:
        return _several_axes(call, found, alive, axis)
    return finished(call, found.axis, out, value, axis)


def _sized(call, axis, out):
    # Without the batch axis and what an ellipsis hides, as the layer was made with.
    own = list(call.layer.get_config()["output_shape"])
    if -axis > len(own):
        raise NotFollowed("its equation puts channels where its output_shape has no number")

    def make(count):
        return (*own[:axis], count, *own[len(own) + axis + 1 :])

    call.flow.size(call.layer, "output_shape", out, make, axis)


def _spans(bias, axis, number):
    return -axis <= len(bias.shape) and bias.shape[axis] == number


def _several_axes(call, found, alive, axis):
    """Entries of a unit along the other new axes have biases of their own."""
    value, bias = np.where(alive.any(axis=0), np.nan, 0.0), call.layer.bias
    if bias is not None:
        call.flow.slice(bias, axis, found.ids)
        values = np.moveaxis(keras.ops.convert_to_numpy(bias), axis, -1)
        values = values.reshape(-1, len(found.ids))
        value = np.where((values == values[:1]).all(axis=0), value + values[0], np.nan)
    return call.flow.made(call.layer, activated(call, found.to(found.shape, value=value)))


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
