"""Attention, of which whole heads can go."""

import keras
import numpy as np

from activation_pruning import keras_private
from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.mixing import kernel_of
from activation_pruning.graph.channels.rules import Call, NotFollowed, rule
from activation_pruning.support.types import Array

_MASKS = ("query_mask", "value_mask", "key_mask", "attention_mask")


@rule(keras.layers.MultiHeadAttention, masks=_MASKS)
def attention(call: Call) -> Channels:
    """Inputs of the projections, whole heads that the output does not read, outputs."""
    layer = call.layer
    if len(layer.output_dense.kernel.shape) != 3:
        raise NotFollowed("its output has several axes")
    inputs = _inputs(call)
    heads = call.flow.units_of(layer.output_dense, layer.num_heads)
    read = _projected(call, inputs, heads, heads)
    call.flow.size(layer, "num_heads", heads)
    out = _joined(call, heads, read)
    call.flow.size(layer, "output_shape", out.ids, lambda count: (count,))
    return out


@rule(keras.layers.GroupQueryAttention, masks=_MASKS)
def grouped_attention(call: Call) -> Channels:
    """As `attention`; query heads that share a key and a value go together, with these.

    Where all share one, it stays, and each query head goes by itself. The layer wants as many
    channels of its values as of its query, and makes as many, so these go together.
    """
    flow, layer, inputs = call.flow, call.layer, _inputs(call)
    output = _inside(layer, "attention_output")
    if layer.num_key_value_heads == 1:
        heads = flow.units_of(output, layer.num_query_heads)
        shared = flow.fresh(1)
        flow.pin(shared, f"all query heads of {layer.name!r} share one key and one value")
    else:
        shared = flow.units_of(output, layer.num_key_value_heads)
        heads = np.repeat(shared, layer.num_query_heads // layer.num_key_value_heads)
        flow.size(layer, "num_key_value_heads", shared)
    read = _projected(call, inputs, heads, shared)
    flow.size(layer, "num_query_heads", heads)
    out = _joined(call, heads, read)
    for x in inputs[::2]:
        flow.tie(out.ids, x.ids)
    return out


def _inside(layer, name):
    """One of the projections, by its name; None where there is none, as mostly of a gate."""
    inside = {one.name: one for one in keras_private.sublayers(layer)}
    return inside.get(name)


def _inputs(call: Call) -> list[Channels]:
    """Query, key and value, with their channels along the last axis."""
    xs = call.xs
    if len(xs) not in (2, 3) or any(len(x.shape) != 3 for x in xs) or len(call.shapes) > 1:
        raise NotFollowed("called in a way that is not known to compaction")
    wide = [x for x in call.operands if isinstance(x, Channels) and len(x.shape) > 3]
    if any(mask.shape[-3] != 1 for mask in wide):
        raise NotFollowed("its mask has heads of its own")
    query, value, key = (call.flow.along(x, -1) for x in (xs if len(xs) == 3 else [*xs, xs[1]]))
    return [query, key, value]


def _projected(call: Call, inputs: list[Channels], heads: Array, shared: Array) -> Array:
    """Follow what comes in; returns bool, (heads,): those that make something else than zeros.

    heads: of the query, and of its gate. shared: of the key and value, as many or a divisor.
    """
    flow, layer, (query, key, value) = call.flow, call.layer, inputs
    parts = ("query", query, heads), ("gate", query, heads), ("key", key, shared)
    for name, x, own in (*parts, ("value", value, shared)):
        dense = _inside(layer, name)
        if dense is None:
            continue
        kernel, alive = kernel_of(dense.kernel)  # inputs x heads x numbers of each
        entries = flow.units_of(dense, alive.shape[1] * alive.shape[2])
        flow.tie(entries, np.repeat(own, alive.shape[2]))
        kernel, alive = (part.reshape(len(x.ids), -1) for part in (kernel, alive))
        flow.use(dense, x, entries, alive, folds=dense.bias is not None, weights=kernel)
        flow.slice(dense.kernel, 0, x.ids)
        flow.slice(dense.kernel, 1, own)
        flow.slice(dense.bias, 0, own)
    speaking = _inside(layer, "value")
    speaks = kernel_of(speaking.kernel)[1].any(axis=(0, 2))
    if speaking.bias is not None:
        speaks |= keras.ops.convert_to_numpy(speaking.bias).any(axis=1)
    return np.repeat(speaks, len(heads) // len(shared))


def _joined(call: Call, heads: Array, read: Array) -> Channels:
    """The output projection of the heads."""
    flow, layer, dense = call.flow, call.layer, _inside(call.layer, "attention_output")
    kernel, alive = kernel_of(dense.kernel)  # heads x numbers of each x outputs
    out = flow.units_of(layer, kernel.shape[-1])
    said = Channels((), 0, heads, np.where(read, np.nan, 0.0))
    use = flow.use(dense, said, out, np.asarray(alive.any(axis=1)))
    flow.slice(dense.kernel, 0, heads)
    flow.slice(dense.kernel, 2, out)
    flow.slice(dense.bias, 0, out)
    value = np.where(use.nonzero[~use.folds].any(axis=0), np.nan, 0.0)
    if dense.bias is not None:
        value = value + keras.ops.convert_to_numpy(dense.bias)
    return flow.made(layer, call.last(out, value))
