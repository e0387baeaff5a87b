"""Layers and operations that bring several tensors together."""

import keras
import numpy as np

from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.rules import Call, NotFollowed, rule

_L = keras.layers


def _product(values):
    found = np.prod(values, axis=0)
    return np.where((np.asarray(values) == 0).any(axis=0), 0.0, found)  # whatever the others are


_COMBINED = {
    "Add": lambda values: np.sum(values, axis=0),
    "Subtract": lambda values: values[0] - values[1],
    "Multiply": _product,
    "Maximum": lambda values: np.max(values, axis=0),
    "Minimum": lambda values: np.min(values, axis=0),
    "Average": lambda values: np.mean(values, axis=0),
}
_OPERATIONS = [f"numpy.{name}" for name in _COMBINED if name != "Average"]  # that takes weights


@rule(*(getattr(_L, name) for name in _COMBINED), *_OPERATIONS)
def number_by_number(call: Call) -> Channels:
    """Channel i of one with channel i of the others: they go together or not at all."""
    xs = call.xs
    if len(xs) < 2:
        raise NotFollowed("called with something else than tensors of the graph")
    if len({len(x.shape) for x in xs}) > 1 or len({(x.axis, len(x.ids)) for x in xs}) > 1:
        raise NotFollowed("it joins tensors of different shapes")
    combine = _COMBINED[type(call.layer).__name__]
    return _tied(call).to(call.shape, value=combine([x.value for x in xs]))


@rule(_L.Concatenate, "numpy.Concatenate")
def concatenate(call: Call) -> Channels:
    """Along the channels: side by side; along another axis channel i is one in all of them."""
    xs, axis = call.xs, call.layer.axis % len(call.shape)
    if len({x.axis for x in xs}) > 1:
        raise NotFollowed("it joins tensors with channels along different axes")
    if axis == xs[0].axis:
        ids = np.concatenate([x.ids for x in xs])
        return Channels(call.shape, axis, ids, np.concatenate([x.value for x in xs]))
    first = _tied(call)
    same = np.all([x.value == first.value for x in xs], axis=0)
    return first.to(call.shape, value=np.where(same, first.value, np.nan))


def _tied(call):
    """The first of the tensors, its channels tied to those of the others."""
    first, *others = call.xs
    for other in others:
        call.flow.tie(first.ids, other.ids)
    return first
