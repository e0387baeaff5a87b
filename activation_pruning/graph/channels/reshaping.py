"""Layers that move numbers to other places."""

import keras
import numpy as np

from activation_pruning.graph.channels import probing
from activation_pruning.graph.channels.flow import Channels, spread
from activation_pruning.graph.channels.rules import Call, NotFollowed, rule

_L = keras.layers
_OPEN = 7, 11


@rule(_L.Flatten)
def flatten(call: Call) -> Channels:
    """Every position of a channel becomes a channel of its own, which goes with the others."""
    x = call.x
    if len(x.shape) < 3:
        return x.to(call.shape)
    last = call.layer.data_format == "channels_first"  # Keras moves them there first
    ids, value = (_spread(x, part, last).reshape(-1) for part in (x.ids, x.value))
    return Channels(call.shape, 1, ids, value)


@rule(_L.Reshape)
def reshape(call: Call) -> Channels:
    """Followed where channels end up along one axis."""
    target = call.layer.target_shape
    ids, value = _reshaped(call.x, target)
    axis = next((a for a in range(ids.ndim)[::-1] if _only_along(ids, a)), None)
    if axis is None:
        return _split_channels(call, ids, value, target, "target_shape", 0)
    if not _only_along(value, axis):
        raise NotFollowed("it spreads channels over several axes")
    own = tuple(slice(None) if a == axis else 0 for a in range(ids.ndim))
    _counted(call, ids[own], target, "target_shape", axis)
    return Channels(call.shape, axis + 1, ids[own], value[own])


def _counted(call, ids, target, key, axis):
    """The configuration counts the channels along an axis of the target, unless that is open."""

    def make(count):
        return tuple(count if a == axis else size for a, size in enumerate(target))

    if target[axis] != -1:  # that is found out anew by each call
        call.flow.size(call.layer, key, ids, make, axis)


@rule(_L.Permute)
def permute(call: Call) -> Channels:
    """Axes change places."""
    return call.x.to(call.shape, call.layer.dims.index(call.x.axis) + 1)


@rule(_L.RepeatVector)
def repeat_vector(call: Call) -> Channels:
    """(samples, channels) becomes (samples, n, channels)."""
    return call.x.to(call.shape, 2)


@rule(
    "numpy.Transpose", "numpy.Swapaxes", "numpy.Moveaxis", "numpy.ExpandDims", "numpy.Squeeze",
    "numpy.GetItem", "numpy.Repeat", "numpy.Flip", "numpy.Roll", "core.Unstack", "numpy.Copy",
)  # fmt: skip
def moved(call: Call) -> list[Channels]:
    """Numbers go to other places: to which, is seen by letting the operation move numbers.

    Followed where the numbers of each channel are along one axis afterwards, and where this does
    not depend on how many channels there are, as it does where some are picked by their numbers.
    """
    x = call.x
    if len(x.ids) < 2:
        raise NotFollowed("it moves a single channel")
    try:
        found = [_along_one_axis(numbers) for numbers in probing.origins(call)]
    except Exception as error:  # whatever a backend raises
        raise NotFollowed(f"it cannot be tried: {error}") from error
    if None in found or not probing.channel_by_channel(call, found):
        raise NotFollowed("it picks channels by their places, or spreads them over several axes")
    return [
        Channels(tuple(shape), axis, x.ids[origin], x.value[origin])
        for shape, (axis, origin) in zip(call.shapes, found, strict=True)
    ]


@rule("numpy.Split")
def split(call: Call) -> list[Channels]:
    """Into equal parts along the channels: those of the same place in each part go together.

    So do a gate and what it opens, made by one layer. Along another axis it only moves numbers.
    """
    x, parts = call.x, len(call.shapes)
    if call.layer.axis % len(x.shape) != x.axis:
        return moved(call)
    if not isinstance(call.layer.indices_or_sections, int):
        raise NotFollowed("it splits channels at given places", "split them into equal parts")
    ids, values = x.ids.reshape(parts, -1), x.value.reshape(parts, -1)
    call.flow.tie(ids, ids[:1])
    rows = zip(call.shapes, ids, values, strict=True)
    return [Channels(tuple(shape), x.axis, own, value) for shape, own, value in rows]


@rule("nn.Glu")
def gated(call: Call) -> Channels:
    """One half of the channels times the sigmoid of the other: they go in pairs."""
    x = call.x
    if call.layer.axis % len(x.shape) != x.axis:
        raise NotFollowed("it splits another axis than that of the channels")
    half = len(x.ids) // 2
    call.flow.tie(x.ids[:half], x.ids[half:])
    value = np.where(x.value[:half] == 0, 0.0, np.nan)
    return Channels(call.shape, x.axis, x.ids[:half], value)


@rule("numpy.BroadcastTo")
def broadcast_to(call: Call) -> Channels:
    """Repeated along other axes than that of the channels."""
    x, axis = call.x, call.x.axis + len(call.shape) - len(call.x.shape)
    if call.shape[axis] != len(x.ids) or len(x.ids) < 2:
        raise NotFollowed("it spreads one channel over several")
    shape = call.layer.shape

    def make(count):
        return tuple(count if a == axis else size for a, size in enumerate(shape))

    call.flow.size(call.layer, "shape", x.ids, make, axis)
    return x.to(call.shape, axis)


def _along_one_axis(numbers):
    """(axis, number at each of its indices), or None where they differ along several."""
    axes = [a for a in range(numbers.ndim) if _only_along(numbers, a)]
    if len(axes) != 1:
        return None
    return axes[0], np.moveaxis(numbers, axes[0], -1).reshape(-1, numbers.shape[axes[0]])[0]


@rule("numpy.Reshape")
def reshaped(call: Call) -> Channels:
    """As the layer; of channels that are split over several axes, each part goes as a whole.

    Such parts, heads say, lie along the second to last of these axes.
    """
    x, shape, target = call.x, call.shape, call.layer.newshape
    if x.axis == 0 or not shape or shape[0] != x.shape[0]:
        raise NotFollowed("it joins samples")
    ids, value = _reshaped(x, target[1:])
    return _split_channels(call, ids, value, target, "newshape", 1)


def _split_channels(call, ids, value, target, key, first):
    """Channels after a reshape, `ids` and `value` being those of one sample.

    first: the axis of `target` that is the first one of a sample.
    """
    spreading = [a for a in range(ids.ndim) if not _same_along(ids, a)]
    if not spreading:
        raise NotFollowed("it moves a single channel")
    axis = spreading[max(len(spreading) - 2, 0)]
    rows = np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)
    values = np.moveaxis(value, axis, 0).reshape(ids.shape[axis], -1)
    call.flow.tie(rows[:, :1], rows)
    same = (values == values[:, :1]).all(axis=1)
    _counted(call, rows[:, 0], target, key, axis + first)
    return Channels(call.shape, axis + 1, rows[:, 0], np.where(same, values[:, 0], np.nan))


def _reshaped(x, target):
    """The channels and their values, at all positions of one sample in its new shape.

    An open size is tried as two numbers that nothing else has: the result has to look the same.
    """
    found = []
    for size in _OPEN:
        shape = tuple(size if one is None else one for one in x.shape[1:])
        parts = (spread(part, x.axis - 1, shape) for part in (x.ids, x.value))
        try:
            found.append([part.reshape(target) for part in parts])
        except (ValueError, TypeError) as error:  # it takes others, or None, for the batch
            raise NotFollowed("it joins samples") from error
        if None not in x.shape[1:]:
            return found[0]
    (one, value), (other, _) = found
    grown = [a for a in range(one.ndim) if one.shape[a] != other.shape[a]]
    first = tuple(slice(0, 1) if a in grown else slice(None) for a in range(one.ndim))
    if not all(_same_along(one, a) for a in grown) or (one[first] != other[first]).any():
        raise NotFollowed("it joins channels with an axis of an open size")
    return one, value


def _same_along(values, axis):
    return bool((values == np.take(values, [0], axis)).all())


def _spread(x, values, channels_last=False):
    """The values of the channels at all positions of one sample."""
    if None in x.shape[1:]:
        raise NotFollowed("the size of its inputs is not known")
    found = spread(values, x.axis - 1, x.shape[1:])
    return np.moveaxis(found, 0, -1) if channels_last else found


def _only_along(values, axis):
    rows = np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])
    both_nan = (rows != rows) & (rows[:1] != rows[:1])
    return bool(((rows == rows[:1]) | both_nan).all())
