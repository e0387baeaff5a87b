"""Recurrent layers, and the wrappers around them."""

import keras
import numpy as np

from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.mixing import kernel_of
from activation_pruning.graph.channels.rules import RULES, Call, NotFollowed, rule
from activation_pruning.graph.channels.walk import step
from activation_pruning.sites import layer_classes

_L = keras.layers


@rule(*layer_classes.RECURRENT, masks=("mask",))
def recurrent(call: Call) -> list[Channels]:
    """Inputs may go; units are fed back into all gates and stay."""
    return _fed_back(call, call.layer)


@rule(_L.Bidirectional, masks=("mask",))
def bidirectional(call: Call) -> list[Channels]:
    """Two recurrent layers over the same inputs."""
    both = call.layer.forward_layer, call.layer.backward_layer
    if any(type(one) not in layer_classes.RECURRENT for one in both):
        raise NotFollowed("not known to compaction around this layer")
    return _fed_back(call, *both)


def _fed_back(call, *layers):
    flow = call.flow
    for layer in layers:
        x, cell = call.along(2), layer.cell
        kernel, alive = kernel_of(cell.kernel)
        gates = flow.units_of(cell, kernel.shape[1])
        flow.use(cell, x, gates, alive, folds=cell.bias is not None, weights=kernel)
        flow.slice(cell.kernel, 0, x.ids)
        flow.pin(gates, f"{layer.name!r} feeds its units back")
    reason = f"{call.layer.name!r} feeds its units back"
    return [flow.fixed(shape, reason) for shape in call.shapes]


@rule(_L.TimeDistributed, masks=("mask",))
def time_distributed(call: Call) -> Channels:
    """The layer inside takes channels as it would alone; its units stay."""
    x, inner, shape = call.x, call.layer.layer, call.shape
    if type(inner) not in RULES or x.axis == 1:
        raise NotFollowed("not known to compaction around this layer")
    value = x.value
    if getattr(inner, "bias", None) is None:  # there is nothing to fold constants into
        value = np.where(value == 0, 0.0, np.nan)
    one = Channels((x.shape[0], *x.shape[2:]), x.axis - 1, x.ids, value)
    (found,) = step(call.flow, inner, [(shape[0], *shape[2:])], (one,), {})
    call.flow.pin(found.ids, f"{call.layer.name!r} is made again around the same units")
    return found.to(shape, found.axis + 1)
