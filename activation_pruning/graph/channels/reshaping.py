"""Layers that move numbers to other places."""

import keras
import numpy as np

from activation_pruning.graph.channels.flow import Channels, spread
from activation_pruning.graph.channels.rules import Call, NotFollowed, rule

_L = keras.layers


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
    x, shape, target = call.x, call.shape, call.layer.target_shape
    if None in shape[1:]:
        raise NotFollowed("its shape is not known before it is called")
    ids, value = (_spread(x, part).reshape(shape[1:]) for part in (x.ids, x.value))
    axis = next((a for a in range(ids.ndim)[::-1] if _only_along(ids, a)), None)
    if axis is None or not _only_along(value, axis):
        raise NotFollowed("it spreads channels over several axes")
    own = tuple(slice(None) if a == axis else 0 for a in range(ids.ndim))

    def make(count):
        return tuple(count if a == axis else size for a, size in enumerate(target))

    if target[axis] != -1:  # that is found out anew by each call
        call.flow.size(call.layer, "target_shape", ids[own], make, axis)
    return Channels(shape, axis + 1, ids[own], value[own])


@rule(_L.Permute)
def permute(call: Call) -> Channels:
    """Axes change places."""
    return call.x.to(call.shape, call.layer.dims.index(call.x.axis) + 1)


@rule(_L.RepeatVector)
def repeat_vector(call: Call) -> Channels:
    """(samples, channels) becomes (samples, n, channels)."""
    return call.x.to(call.shape, 2)


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
