"""Layers and operations that bring several tensors together."""

import keras
import numpy as np

from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.walk import NotFollowed, rule

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
_LAYERS = [getattr(_L, name) for name in _COMBINED]
_OPERATIONS = [f"numpy.{name}" for name in _COMBINED if name != "Average"]  # that takes weights


@rule(*_LAYERS, *_OPERATIONS)
def number_by_number(flow, layer, xs, shapes):
    """Channel i of one with channel i of the others: they go together or not at all."""
    if len(xs) < 2:
        raise NotFollowed("called with something else than tensors of the graph")
    if len({len(x.shape) for x in xs}) > 1 or len({(x.axis, len(x.ids)) for x in xs}) > 1:
        raise NotFollowed("it joins tensors of different shapes")
    first = xs[0]
    for other in xs[1:]:
        flow.tie(first.ids, other.ids)
    combine = _COMBINED[type(layer).__name__]
    return first.to(shapes[0], value=combine([x.value for x in xs]))


@rule(_L.Concatenate, "numpy.Concatenate")
def concatenate(flow, layer, xs, shapes):
    """Along the channels: side by side; along another axis channel i is one in all of them."""
    axis, first = layer.axis % len(shapes[0]), xs[0]
    if len({x.axis for x in xs}) > 1:
        raise NotFollowed("it joins tensors with channels along different axes")
    if axis == first.axis:
        ids = np.concatenate([x.ids for x in xs])
        return Channels(shapes[0], axis, ids, np.concatenate([x.value for x in xs]))
    for other in xs[1:]:
        flow.tie(first.ids, other.ids)
    same = np.all([x.value == first.value for x in xs], axis=0)
    return first.to(shapes[0], value=np.where(same, first.value, np.nan))
