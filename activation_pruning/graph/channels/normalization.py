"""Layers that scale and shift channels, by numbers learned or taken from the data."""

import keras
import numpy as np

from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.rules import Call, NotFollowed, rule

_L = keras.layers


@rule(_L.Rescaling)
def rescaling(call: Call) -> Channels:
    """x * scale + offset, the same for all channels."""
    x, layer = call.x, call.layer
    if np.ndim(layer.scale) or np.ndim(layer.offset):
        raise NotFollowed("it scales every channel on its own")
    return x.to(call.shape, value=x.value * layer.scale + layer.offset)


@rule(_L.BatchNormalization)
def batch_normalization(call: Call) -> Channels:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta."""
    x, layer = call.x, call.layer
    if layer.axis % len(x.shape) != x.axis:
        return x.varying()
    found = {}
    for name, default in (("gamma", 1), ("beta", 0), ("moving_mean", 0), ("moving_variance", 1)):
        variable = getattr(layer, name, None)
        call.flow.slice(variable, 0, x.ids)
        known = variable is not None
        values = keras.ops.convert_to_numpy(variable) if known else np.full(len(x.ids), default)
        found[name] = values.astype(np.float64)
    spread = np.sqrt(found["moving_variance"] + layer.epsilon)
    value = (x.value - found["moving_mean"]) * found["gamma"] / spread + found["beta"]
    if found["gamma"].any():  # zeros in all of them are a fresh initialisation, not pruned units
        value = np.where(found["gamma"] == 0, found["beta"], value)
    return x.to(call.shape, value=value)


@rule(_L.LayerNormalization)
def layer_normalization(call: Call) -> Channels:
    """Exact only where it normalises along other axes than the channels'."""
    x = call.x
    if x.axis in [axis % len(x.shape) for axis in np.atleast_1d(call.layer.axis)]:
        return normalised(call)
    return x.varying()


@rule(_L.GroupNormalization, _L.RMSNormalization, _L.UnitNormalization, _L.Normalization)
def normalised(call: Call) -> Channels:
    """The mean over channels changes when one goes, even a constant one."""
    call.flow.pin(call.x.ids, f"{call.layer.name!r} normalises over all channels")
    return call.x.varying()
