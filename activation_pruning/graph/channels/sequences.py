"""Layers over sequences: recurrent ones and attention."""

import keras
import numpy as np

from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.products import kernel_of
from activation_pruning.graph.channels.walk import RULES, NotFollowed, rule, single, step

_L = keras.layers
_PLAIN = (_L.LSTM, _L.GRU, _L.SimpleRNN)


@rule(*_PLAIN, masks=("mask",))
def recurrent(flow, layer, xs, shapes):
    """Inputs may go; units are fed back into all gates and stay."""
    _take(flow, layer, flow.along(single(xs), 2))
    return _stay(flow, layer, shapes)


@rule(_L.Bidirectional, masks=("mask",))
def bidirectional(flow, layer, xs, shapes):
    """Two recurrent layers over the same inputs."""
    both = layer.forward_layer, layer.backward_layer
    if any(type(one) not in _PLAIN for one in both):
        raise NotFollowed("not known to compaction around this layer")
    for one in both:
        _take(flow, one, flow.along(single(xs), 2))
    return _stay(flow, layer, shapes)


def _take(flow, layer, x):
    kernel, alive = kernel_of(layer.cell.kernel)
    gates = flow.units_of(layer.cell, kernel.shape[1])
    flow.use(layer.cell, x, gates, alive, layer.cell.bias is not None, kernel)
    flow.slice(layer.cell.kernel, 0, x.ids)
    flow.pin(gates, f"{layer.name!r} feeds its units back")


def _stay(flow, layer, shapes):
    return [flow.fixed(shape, f"{layer.name!r} feeds its units back") for shape in shapes]


@rule(_L.TimeDistributed, masks=("mask",))
def time_distributed(flow, layer, xs, shapes):
    """The layer inside takes channels as it would alone; its units stay."""
    x, inner = single(xs), layer.layer
    if type(inner) not in RULES or x.axis == 1:
        raise NotFollowed("not known to compaction around this layer")
    value = x.value
    if getattr(inner, "bias", None) is None:  # there is nothing to fold constants into
        value = np.where(value == 0, 0.0, np.nan)
    one = Channels((x.shape[0], *x.shape[2:]), x.axis - 1, x.ids, value)
    (found,) = step(flow, inner, [(shapes[0][0], *shapes[0][2:])], (one,), {})
    flow.pin(found.ids, f"{layer.name!r} is made again around the same units")
    return found.to(shapes[0], found.axis + 1)


@rule(
    _L.MultiHeadAttention, masks=("query_mask", "value_mask", "key_mask", "attention_mask")
)  # fmt: skip
def attention(flow, layer, xs, shapes):
    """Inputs of the projections, whole heads that the output does not read, outputs."""
    if len(xs) not in (2, 3) or any(len(x.shape) != 3 for x in xs) or len(shapes) > 1:
        raise NotFollowed("called in a way that is not known to compaction")
    if len(layer.output_dense.kernel.shape) != 3 or layer.get_config().get("use_gate"):
        raise NotFollowed("its output has several axes, or a gate")
    query, value, key = (flow.along(x, -1) for x in (xs if len(xs) == 3 else [*xs, xs[1]]))
    own = layer.query_dense, layer.key_dense, layer.value_dense
    heads = flow.units_of(layer.output_dense, layer.num_heads)
    for dense, x in zip(own, (query, key, value), strict=True):
        kernel, alive = kernel_of(dense.kernel)  # inputs x heads x numbers of each
        entries = flow.units_of(dense, alive.shape[1] * alive.shape[2])
        flow.tie(entries, np.repeat(heads, alive.shape[2]))
        folds = dense.bias is not None
        by_entry = kernel.reshape(len(x.ids), -1)
        flow.use(dense, x, entries, alive.reshape(len(x.ids), -1), folds, by_entry)
        flow.slice(dense.kernel, 0, x.ids)
        flow.slice(dense.kernel, 1, heads)
        flow.slice(dense.bias, 0, heads)
    flow.size(layer, "num_heads", heads)
    return _projected(flow, layer, heads, shapes[0])


def _projected(flow, layer, heads, shape):
    dense = layer.output_dense
    kernel, alive = kernel_of(dense.kernel)  # heads x numbers of each x outputs
    out = flow.units_of(layer, kernel.shape[-1])
    silent = ~kernel_of(layer.value_dense.kernel)[1].any(axis=(0, 2))
    if layer.value_dense.bias is not None:
        silent &= ~keras.ops.convert_to_numpy(layer.value_dense.bias).any(axis=1)
    said = Channels((), 0, heads, np.where(silent, 0.0, np.nan))
    use = flow.use(dense, said, out, alive.any(axis=1))
    flow.slice(dense.kernel, 0, heads)
    flow.slice(dense.kernel, 2, out)
    flow.slice(dense.bias, 0, out)
    flow.size(layer, "output_shape", out, lambda count: (count,))
    value = np.where(use.nonzero[~use.folds].any(axis=0), np.nan, 0.0)
    if dense.bias is not None:
        value = value + keras.ops.convert_to_numpy(dense.bias)
    flow.units[id(layer)] = layer, out, value
    return Channels(shape, len(shape) - 1, out, value)
