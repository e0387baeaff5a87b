"""Layers that divide by the length of what comes in: zeros may go from it."""

import keras
import numpy as np

from activation_pruning import keras_private
from activation_pruning.graph import configurations
from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.rules import Call, NotFollowed, own_rule, rule
from activation_pruning.graph.reasons import Why
from activation_pruning.graph.twins import NotCopied

_L = keras.layers
_TOGETHER = "prune all layers that add to them at once: ap.prune(..., granularity='unit') does"


@rule(_L.RMSNormalization)
def rms_normalization(call: Call) -> Channels:
    """scale * x / sqrt(mean of squares + epsilon), where zeros leave the sum of squares as it is.

    Without them the mean is over n' of n channels: sum / n + epsilon is n' / n times
    sum / n' + epsilon * n / n'.
    """
    layer, axes = call.layer, axes_of(call)
    if axes[-1] != len(call.shape) - 1:  # Keras scales along the last axis all the same
        raise NotFollowed("it normalises over other axes than the last")
    if call.x.axis in axes:
        _shrinks(call, layer.scale, axes.index(call.x.axis))
    return _by_length(call, axes)


def _shrinks(call, scale, axis, offset=0.0):
    layer, ids, number = call.layer, call.x.ids, len(call.x.ids)
    call.flow.slice(scale, axis, ids)
    call.flow.size(layer, "epsilon", ids, lambda left: layer.epsilon * number / left)
    call.flow.multiply(scale, ids, lambda left: np.sqrt(number / left), offset)


def may_be_norm(layer: keras.Layer) -> bool:
    """Whether it looks like an RMS norm of a user's own: one vector, and an `epsilon`."""
    vectors = [one for one in layer.weights if len(one.shape) == 1]
    counts = isinstance(getattr(layer, "epsilon", None), float)
    return counts and len(vectors) == len(layer.weights) == 1 and not keras_private.sublayers(layer)


def own_norm(call: Call) -> Channels:
    """An RMS norm that somebody wrote, times its weights or 1 + these: which, is tried.

    On normally distributed numbers, as small as the root of epsilon and as large as one.
    """
    x, layer, (scale,) = call.x, call.layer, call.layer.weights
    if call.shape != x.shape or x.shape[-1] != scale.shape[0]:
        raise NotFollowed("not known to compaction", own_rule(layer))
    offset = next((one for one in (0.0, 1.0) if _is_norm(call, scale, one)), None)
    if offset is None:
        raise NotFollowed("not known to compaction", own_rule(layer))
    if not _told(layer):
        call.flow.exchange(layer, _of_keras, offset)
    if x.axis != len(x.shape) - 1:  # heads, say, each of which has a norm of its own
        return _by_length(call, [len(x.shape) - 1])
    _shrinks(call, scale, 0, offset)
    return _by_length(call, [x.axis])


def _told(layer):
    """Whether its configuration makes it again, with its epsilon."""
    try:
        return "epsilon" in configurations.config_of(layer)
    except NotCopied:
        return False


def _of_keras(layer, **changes):
    """Keras's own layer that does the same."""
    settings = {"epsilon": layer.epsilon, "name": layer.name, "dtype": layer.dtype_policy}
    return _L.RMSNormalization(**{**settings, **changes})


def _is_norm(call, scale, offset):
    shape = [2 if size is None else size for size in call.x.shape]
    epsilon, gain = call.layer.epsilon, keras.ops.convert_to_numpy(scale) + offset
    for size in (np.sqrt(epsilon), 1.0):
        x = np.random.default_rng(0).normal(0, size, shape).astype("float32")
        expected = x / np.sqrt((x.astype(float) ** 2).mean(-1, keepdims=True) + epsilon) * gain
        try:
            (found,) = call.run(x)
        except Exception:  # whatever a layer of the user's own raises
            return False
        if not np.allclose(found, expected, 1e-3, 1e-5):
            return False
    return True


@rule(_L.UnitNormalization)
def unit_normalization(call: Call) -> Channels:
    """x / sqrt(sum of squares), to which zeros add nothing."""
    return _by_length(call, axes_of(call))


def _by_length(call, axes):
    """Only channels that are zero may go from what divides by its length, and they stay zero."""
    flow, x = call.flow, call.x
    if x.axis in axes:
        reason = f"{call.layer.name!r} normalises over all channels"
        whole = flow.fresh(1)
        flow.pin(whole, reason)
        why = Why(f"{reason}, and they are not zero for all inputs", _TOGETHER)
        flow.use(call.layer, x, whole, np.ones((len(x.ids), 1), bool), why=why)
    return x.to(call.shape, value=np.where(x.value == 0, 0.0, np.nan))


def axes_of(call: Call) -> list[int]:
    """Those that a layer normalises over, from the front."""
    return [axis % len(call.x.shape) for axis in np.atleast_1d(call.layer.axis)]
