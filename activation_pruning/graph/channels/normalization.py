"""Layers that scale and shift channels, by numbers learned or taken from the data."""

import keras
import numpy as np

from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.rules import Call, NotFollowed, rule
from activation_pruning.graph.reasons import Why

_L = keras.layers
_TOGETHER = "prune all layers that add to them at once: ap.prune(..., granularity='unit') does"
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
    return normalised(call) if call.x.axis in _axes(call) else call.x.varying()


@rule(_L.RMSNormalization)
def rms_normalization(call: Call) -> Channels:
    """scale * x / sqrt(mean of squares + epsilon), where zeros leave the sum of squares as it is.

    Without them the mean is over n' of n channels: sum / n + epsilon is n' / n times
    sum / n' + epsilon * n / n'.
    """
    layer, ids, axes = call.layer, call.x.ids, _axes(call)
    if axes[-1] != len(call.shape) - 1:  # Keras scales along the last axis all the same
        raise NotFollowed("it normalises over other axes than the last")
    if call.x.axis in axes:
        number = len(ids)
        call.flow.slice(layer.scale, axes.index(call.x.axis), ids)
        call.flow.size(layer, "epsilon", ids, lambda left: layer.epsilon * number / left)
        call.flow.multiply(layer.scale, ids, lambda left: np.sqrt(number / left))
    return _by_length(call)


@rule(_L.UnitNormalization)
def unit_normalization(call: Call) -> Channels:
    """x / sqrt(sum of squares), to which zeros add nothing."""
    return _by_length(call)


def _by_length(call):
    """Only channels that are zero may go from what divides by its length, and they stay zero."""
    flow, x = call.flow, call.x
    if x.axis in _axes(call):
        reason = f"{call.layer.name!r} normalises over all channels"
        whole = flow.fresh(1)
        flow.pin(whole, reason)
        why = Why(f"{reason}, and they are not zero for all inputs", _TOGETHER)
        flow.use(call.layer, x, whole, np.ones((len(x.ids), 1), bool), why=why)
    return x.to(call.shape, value=np.where(x.value == 0, 0.0, np.nan))


@rule(_L.GroupNormalization)
def group_normalization(call: Call) -> Channels:
    """Each group has a mean and variance of its own, and goes as a whole."""
    flow, layer, x = call.flow, call.layer, call.x
    if layer.groups == 1 or x.axis not in _axes(call):
        return normalised(call)
    groups = x.ids.reshape(layer.groups, -1)
    flow.tie(groups, groups[:, :1])
    flow.size(layer, "groups", groups[:, 0])
    values, each = x.value.reshape(groups.shape), groups.shape[1]
    return _scaled(call, values.mean(1).repeat(each), values.var(1).repeat(each))


def _axes(call):
    """Those that a layer normalises over, from the front."""
    return [axis % len(call.x.shape) for axis in np.atleast_1d(call.layer.axis)]


@rule(_L.Normalization)
def normalised(call: Call) -> Channels:
    """The mean over channels changes when one goes, even a constant one."""
    call.flow.pin(call.x.ids, f"{call.layer.name!r} normalises over all channels", _OTHERS)
    return call.x.varying()
