"""Layers that pick, average, repeat or add positions: channels stay what they are."""

import keras
import numpy as np

from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.rules import Call, rule

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
)  # fmt: skip
def over_all_positions(call: Call) -> Channels:
    """One number is left of each channel."""
    x = call.along()
    return x.to(call.shape, x.axis if len(call.shape) == len(x.shape) else 1)
