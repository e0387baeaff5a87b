"""Recurrent layers, and the wrappers around them."""

import keras
import numpy as np

from activation_pruning.graph.channels.activations import by_number, constants
from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.mixing import by_input
from activation_pruning.graph.channels.rules import Call, NotFollowed, rule
from activation_pruning.graph.channels.walk import step
from activation_pruning.graph.known import acting_as, rule_of
from activation_pruning.graph.reasons import Why
from activation_pruning.sites import layer_classes

_L = keras.layers
_CANDIDATES = {_L.LSTM: 2, _L.GRU: 2, _L.SimpleRNN: 0}  # the gate that makes a new state
_CANDIDATES |= dict.fromkeys(layer_classes.CONV_RECURRENT, 2)
_STATES = {_L.LSTM: 2, _L.GRU: 1, _L.SimpleRNN: 1}
_STATES |= dict.fromkeys(layer_classes.CONV_RECURRENT, 2)


@rule(*layer_classes.RECURRENT, *layer_classes.CONV_RECURRENT, masks=("mask",))
def recurrent(call: Call) -> list[Channels]:
    """A unit goes with all of its gates and states."""
    x, *states = call.xs
    if getattr(call.layer, "data_format", None) == "channels_first":
        raise NotFollowed("its channels come first")
    out = _fed_back(call, call.layer, x, states)
    return [out.to(shape, len(shape) - 1) for shape in call.shapes]


@rule(_L.Bidirectional, masks=("mask",))
def bidirectional(call: Call) -> list[Channels]:
    """Two recurrent layers over the same inputs; unit i of one goes with unit i of the other."""
    layer, (x, *states), half = call.layer, call.xs, (len(call.xs) - 1) // 2
    both = layer.forward_layer, layer.backward_layer
    kinds = [acting_as(type(one)) for one in both]
    if any(kind not in _STATES for kind in kinds):
        raise NotFollowed("not known to compaction around this layer")
    if any(getattr(one, "data_format", None) == "channels_first" for one in both):
        raise NotFollowed("its channels come first")
    if kinds[0] is not kinds[1] or _width(both[0].cell) != _width(both[1].cell):
        raise NotFollowed(
            "its two layers are not of one class and size", "make both of one class and size"
        )
    parts = states[:half], states[half:]
    found = [_fed_back(call, one, x, own) for one, own in zip(both, parts, strict=True)]
    # Keras takes the outputs of both to be equally wide.
    call.flow.tie(found[0].ids, found[1].ids)
    made = found if layer.merge_mode is None else [_merged(layer.merge_mode, *found)]
    if layer.return_state:
        made = made + [one for one in found for _ in range(_STATES[kinds[0]])]
    return [one.to(shape, len(shape) - 1) for one, shape in zip(made, call.shapes, strict=True)]


def _width(cell):
    return cell.filters if hasattr(cell, "filters") else cell.units


def _merged(mode, one, other):
    if mode == "concat":
        values = np.concatenate([one.value, other.value])
        return Channels((), 0, np.concatenate([one.ids, other.ids]), values)
    zero = one.value == 0, other.value == 0
    return one.to(
        (), value=np.where(np.any(zero, 0) if mode == "mul" else np.all(zero, 0), 0, np.nan)
    )


def _fed_back(call, layer, x, states):
    """The units of a recurrent layer: those that are zero for all inputs are known as such."""
    flow, cell, x = call.flow, layer.cell, call.flow.along(x, -1)
    states = [flow.along(state, -1) for state in states]
    kernel, alive = by_input(cell.kernel, -2, -1)
    fed = by_input(cell.recurrent_kernel, -2, -1)[1]
    # At the borders of an image constants would not contribute the same.
    folds = cell.bias is not None and getattr(cell, "padding", "valid") == "valid"
    size = "filters" if hasattr(cell, "filters") else "units"
    out, gates = flow.units_of(layer, _width(cell)), flow.units_of(cell, kernel.shape[1])
    each = np.tile(out, len(gates) // len(out))
    plain = by_number(cell.activation) and by_number(getattr(cell, "recurrent_activation", None))
    silent = plain & _silent(layer, x, states, alive, fed)
    units = flow.made(layer, Channels((), 0, out, np.where(silent, 0.0, np.nan)))
    if not plain:
        reason = f"an activation of {layer.name!r} may look at all units"
        flow.pin(out, reason, "use one that takes each number by itself, such as 'tanh'")
    flow.tie(gates, each)
    for state in states:
        flow.tie(state.ids, out)
    for variable in layer.states or ():
        flow.slice(variable, -1, out)
    flow.use(cell, x, gates, alive, folds=folds, weights=kernel)
    reason = f"{layer.name!r} feeds them back, and they are not zero for all inputs"
    remedy = "prune all that makes a unit: ap.prune(..., granularity='unit') does"
    flow.use(cell, units, each, fed, why=Why(reason, remedy))
    flow.slice(cell.kernel, -2, x.ids)
    flow.slice(cell.recurrent_kernel, -2, out)
    for variable in (cell.kernel, cell.recurrent_kernel, cell.bias):
        flow.slice(variable, -1, gates)
    flow.size(layer, size, out)
    return units


def _silent(layer, x, states, alive, fed):
    """Units that start at zero and whose candidate is zero: so is what they become, for ever."""
    cell, units = layer.cell, fed.shape[0]
    start = _CANDIDATES[acting_as(type(layer))] * units
    alive, fed = (kernel[:, start : start + units] for kernel in (alive, fed))
    found = constants(cell.activation, np.zeros(units)) == 0
    found &= ~alive[x.value != 0].any(axis=0)
    if cell.bias is not None:  # a GRU may have two
        bias = keras.ops.convert_to_numpy(keras.ops.cast(cell.bias, "float32"))
        found &= ~bias.reshape(-1, bias.shape[-1])[:, start : start + units].any(axis=0)
    for state in states:
        found &= state.value == 0
    for variable in layer.states or ():  # what a stateful layer has kept from its last batch
        found &= ~keras.ops.convert_to_numpy(variable).reshape(-1, units).any(axis=0)
    while (heard := found & fed[~found].any(axis=0)).any():
        found &= ~heard
    return found


@rule(_L.TimeDistributed, masks=("mask",))
def time_distributed(call: Call) -> Channels:
    """The layer inside does to channels what it would alone, but gets no bias that it has not."""
    x, inner, shape = call.x, call.layer.layer, call.shape
    if rule_of(type(inner)) is None or x.axis == 1:
        raise NotFollowed("not known to compaction around this layer")
    value = x.value
    if getattr(inner, "bias", None) is None:  # there is nothing to fold constants into
        value = np.where(value == 0, 0.0, np.nan)
    one = Channels((x.shape[0], *x.shape[2:]), x.axis - 1, x.ids, value)
    (found,) = step(call.flow, inner, [(shape[0], *shape[2:])], (one,), {})
    return found.to(shape, found.axis + 1)
