"""Layers that pick, average, repeat or add positions: channels stay what they are."""

import keras
import numpy as np

from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.rules import Call, NotFollowed, rule

_L = keras.layers


@rule(
    _L.MaxPooling1D, _L.MaxPooling2D, _L.MaxPooling3D, _L.UpSampling1D, _L.UpSampling2D,
    _L.UpSampling3D, _L.Cropping1D, _L.Cropping2D, _L.Cropping3D,
)  # fmt: skip
def positions(call: Call) -> Channels:
    """What picks or repeats positions leaves constants what they are."""
    return call.along().to(call.shape)


@rule(_L.ZeroPadding1D, _L.ZeroPadding2D, _L.ZeroPadding3D)
def padding(call: Call) -> Channels:
    """With zeros around it only a zero is still constant."""
    x = call.along()
    return x.to(call.shape, value=np.where(x.value == 0, 0.0, np.nan))


@rule(_L.AveragePooling1D, _L.AveragePooling2D, _L.AveragePooling3D)
def average(call: Call) -> Channels:
    """Means over positions; at padded borders not every backend leaves the padding out."""
    return positions(call) if call.layer.padding == "valid" else padding(call)


@rule(
    _L.GlobalMaxPooling1D, _L.GlobalMaxPooling2D, _L.GlobalMaxPooling3D,
    _L.GlobalAveragePooling1D, _L.GlobalAveragePooling2D, _L.GlobalAveragePooling3D,
    masks=("mask",),
)  # fmt: skip
def over_all_positions(call: Call) -> Channels:
    """One number is left of each channel."""
    x = call.along()
    return x.to(call.shape, x.axis if len(call.shape) == len(x.shape) else 1)


@rule("numpy.OnesLike", "numpy.ZerosLike")
def filled(call: Call) -> Channels:
    """Only the shape of what goes in counts."""
    value = float(type(call.layer).__name__ == "OnesLike")
    return call.x.to(call.shape, value=np.full(len(call.x.ids), value))


def _along_channels(call):
    """Known where all channels are one constant, or where zeros leave a sum what it is."""
    x, kind = call.x, type(call.layer).__name__
    out = call.flow.fixed(call.shape, f"{call.layer.name!r} goes along the channels")
    if kind == "Sum":
        read = np.ones((len(x.ids), 1), bool)
        call.flow.use(call.layer, x, out.ids[:1], read)
    elif kind == "Prod" or not (x.value == x.value[0]).all():
        raise NotFollowed("it goes along the channels")
    return out


@rule("numpy.Mean", "numpy.Max", "numpy.Min", "numpy.Amax", "numpy.Amin", "numpy.Sum", "numpy.Prod")
def reduced(call: Call) -> Channels:
    """Along other axes one number is left of each channel; a sum of constants is not known."""
    x, operation = call.x, call.layer
    rank = len(x.shape)
    axes = range(rank) if operation.axis is None else np.atleast_1d(operation.axis)
    gone = {int(axis) % rank for axis in axes}
    if x.axis in gone:
        return _along_channels(call)
    axis = x.axis - (0 if operation.keepdims else sum(axis < x.axis for axis in gone))
    kind = type(operation).__name__
    kept = np.zeros_like(x.value, bool) if kind in ("Sum", "Prod") else np.isfinite(x.value)
    return x.to(call.shape, axis, np.where(kept | (x.value == 0), x.value, np.nan))
