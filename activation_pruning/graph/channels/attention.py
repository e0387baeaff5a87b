"""Attention, of which whole heads can go."""

import keras
import numpy as np

from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.mixing import kernel_of
from activation_pruning.graph.channels.rules import Call, NotFollowed, rule

_MASKS = ("query_mask", "value_mask", "key_mask", "attention_mask")


@rule(keras.layers.MultiHeadAttention, masks=_MASKS)
def attention(call: Call) -> Channels:
    """Inputs of the projections, whole heads that the output does not read, outputs."""
    flow, layer, xs = call.flow, call.layer, call.xs
    if len(xs) not in (2, 3) or any(len(x.shape) != 3 for x in xs) or len(call.shapes) > 1:
        raise NotFollowed("called in a way that is not known to compaction")
    if len(layer.output_dense.kernel.shape) != 3 or layer.get_config().get("use_gate"):
        raise NotFollowed("its output has several axes, or a gate")
    wide = [x for x in call.operands if isinstance(x, Channels) and len(x.shape) > 3]
    if any(mask.shape[-3] != 1 for mask in wide):
        raise NotFollowed("its mask has heads of its own")
    query, value, key = (flow.along(x, -1) for x in (xs if len(xs) == 3 else [*xs, xs[1]]))
    own = layer.query_dense, layer.key_dense, layer.value_dense
    heads = flow.units_of(layer.output_dense, layer.num_heads)
    for dense, x in zip(own, (query, key, value), strict=True):
        kernel, alive = kernel_of(dense.kernel)  # inputs x heads x numbers of each
        entries = flow.units_of(dense, alive.shape[1] * alive.shape[2])
        flow.tie(entries, np.repeat(heads, alive.shape[2]))
        kernel, alive = (part.reshape(len(x.ids), -1) for part in (kernel, alive))
        flow.use(dense, x, entries, alive, folds=dense.bias is not None, weights=kernel)
        flow.slice(dense.kernel, 0, x.ids)
        flow.slice(dense.kernel, 1, heads)
        flow.slice(dense.bias, 0, heads)
    flow.size(layer, "num_heads", heads)
    return _projected(call, heads)


def _projected(call, heads):
    flow, layer, dense = call.flow, call.layer, call.layer.output_dense
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
    return flow.made(layer, call.last(out, value))
