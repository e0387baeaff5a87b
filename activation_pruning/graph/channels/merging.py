"""Layers and operations that bring several tensors together."""

import functools
from typing import Any

import keras
import numpy as np

from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.rules import Call, NotFollowed, rule
from activation_pruning.support.types import Array

_L = keras.layers


def _product(values):
    values = np.broadcast_arrays(*values)
    return np.where(np.any(np.equal(values, 0), axis=0), 0.0, np.prod(values, axis=0))


_COMBINED = {
    "Add": lambda values: sum(values),
    "Subtract": lambda values: values[0] - values[1],
    "Multiply": _product,
    "Divide": lambda values: np.divide(*values),
    "TrueDivide": lambda values: np.divide(*values),
    "Power": lambda values: np.power(*values),
    "Maximum": lambda values: functools.reduce(np.maximum, values),
    "Minimum": lambda values: functools.reduce(np.minimum, values),
    "Average": lambda values: sum(values) / len(values),
    "Where": lambda values: np.where(values[1] == values[2], values[1], np.nan),
}
_MERGING = ("Add", "Subtract", "Multiply", "Maximum", "Minimum", "Average")  # layers, too
_OPERATIONS = [f"numpy.{name}" for name in _COMBINED if name != "Average"]  # that takes weights
_UNKNOWN = (  # values of which nothing is worked out
    "numpy.FloorDivide", "numpy.Mod", "numpy.Equal", "numpy.NotEqual", "numpy.Greater",
    "numpy.GreaterEqual", "numpy.Less", "numpy.LessEqual", "numpy.LogicalAnd",
    "numpy.LogicalOr", "numpy.LogicalXor",
)  # fmt: skip


@rule(*(getattr(_L, name) for name in _MERGING), *_OPERATIONS, *_UNKNOWN)
def number_by_number(call: Call) -> Channels:
    """Channel i of one with channel i of the others: they go together or not at all.

    Numbers, and arrays that are the same for all channels, may take part.
    """
    operands = call.operands
    x, values = joined(call, operands)
    combine = _COMBINED.get(type(call.layer).__name__)
    if combine is None:
        return x.varying()
    with np.errstate(all="ignore"):
        found = np.broadcast_to(combine(values), len(x.ids))
    return x.to(call.shape, value=np.where(np.isfinite(found), found, np.nan))


def joined(call: Call, operands: list[Any]) -> tuple[Channels, list[Array]]:
    """What comes of tensors, numbers and arrays that are broadcast to each other, tied.

    Returns:
        (Channels of the output, of no known value; the values of each operand, by channel).
    """
    rank = len(call.shape)
    shared = _shared_axis(operands, call.shape)
    wide = [one for one in operands if _spans(one, shared, call.shape)]
    values = []
    for one in operands:
        if not isinstance(one, Channels):
            values.append(_constant(one))
            continue
        if any(one is other for other in wide):
            call.flow.tie(wide[0].ids, one.ids)
        else:
            call.flow.pin(one.ids, f"{call.layer.name!r} spreads them over several channels")
        own = _from_end(one) == shared - rank
        values.append(one.value if own else np.full(1, np.nan))
    return wide[0].to(call.shape, shared).varying(), values


def _shared_axis(operands, shape):
    """The axis of the output along which all have the same channels, or one for all of them."""
    for start in dict.fromkeys(_from_end(x) for x in operands if isinstance(x, Channels)):
        wide = [one for one in operands if _spans(one, start + len(shape), shape)]
        own = [x for x in wide if isinstance(x, Channels) and _from_end(x) == start]
        if len(own) == len(wide) and len({len(x.ids) for x in own}) == 1:
            return start + len(shape)
    raise NotFollowed("it joins tensors with channels along different axes, or an array with them")


def _from_end(x):
    return x.axis - len(x.shape)


def _spans(one, axis, shape):
    """Whether an operand is not just spread along this axis of the output."""
    own = tuple(np.shape(one)) if not isinstance(one, Channels) else one.shape
    along = axis - len(shape) + len(own)
    fits = isinstance(one, Channels) and shape[axis] == 1
    return along >= 0 and (own[along] != 1 or fits)


def _constant(array):
    """The value of an array that is the same everywhere; else nothing is known."""
    values = np.asarray(keras.ops.convert_to_numpy(array)).astype(np.float64)
    same = values.size > 0 and (values == values.flat[0]).all()
    return np.full(1, values.flat[0] if same else np.nan)


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


@rule("numpy.Stack")
def stack(call: Call) -> Channels:
    """Side by side along a new axis: channel i is one in all of the tensors."""
    if len({x.axis for x in call.xs}) > 1 or len(call.xs) != len(call.operands):
        raise NotFollowed("it joins tensors with channels along different axes, or an array")
    first, axis = _tied(call), call.layer.axis % len(call.shape)
    same = np.all([x.value == first.value for x in call.xs], axis=0)
    value = np.where(same, first.value, np.nan)
    return first.to(call.shape, first.axis + (axis <= first.axis), value)
