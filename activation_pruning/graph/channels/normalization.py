"""Layers that scale and shift channels, by numbers learned or taken from the data."""

import keras
import numpy as np

from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.lengths import axes_of
from activation_pruning.graph.channels.rules import Call, NotFollowed, rule

_L = keras.layers
_OTHERS = "prune other layers, or train with RMSNormalization or BatchNormalization instead"


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
    return _scaled(call, *(_by_channel(call, name) for name in ("moving_mean", "moving_variance")))


def _scaled(call, mean, variance):
    x, gamma, beta = call.x, _by_channel(call, "gamma", 1.0), _by_channel(call, "beta")
    value = (x.value - mean) * gamma / np.sqrt(variance + call.layer.epsilon) + beta
    if gamma.any():  # zeros in all of them are a fresh initialisation, not pruned units
        value = np.where(gamma == 0, beta, value)
    return x.to(call.shape, value=value)


def _by_channel(call, name, default=0.0):
    """A weight with an entry for each channel, `default` where the layer has none."""
    variable, ids = getattr(call.layer, name, None), call.x.ids
    call.flow.slice(variable, 0, ids)
    known = variable is not None
    values = keras.ops.convert_to_numpy(variable) if known else np.full(len(ids), default)
    return values.astype(np.float64)


@rule(_L.LayerNormalization)
def layer_normalization(call: Call) -> Channels:
    """Exact only where it normalises along other axes than the channels'."""
    return normalised(call) if call.x.axis in axes_of(call) else call.x.varying()


@rule(_L.GroupNormalization)
def group_normalization(call: Call) -> Channels:
    """Each group has a mean and variance of its own, and goes as a whole."""
    flow, layer, x = call.flow, call.layer, call.x
    if layer.groups == 1 or x.axis not in axes_of(call):
        return normalised(call)
    groups = x.ids.reshape(layer.groups, -1)
    flow.tie(groups, groups[:, :1])
    flow.size(layer, "groups", groups[:, 0])
    values, each = x.value.reshape(groups.shape), groups.shape[1]
    return _scaled(call, values.mean(1).repeat(each), values.var(1).repeat(each))


@rule(_L.Normalization)
def normalised(call: Call) -> Channels:
    """The mean over channels changes when one goes, even a constant one."""
    call.flow.pin(call.x.ids, f"{call.layer.name!r} normalises over all channels", _OTHERS)
    return call.x.varying()
