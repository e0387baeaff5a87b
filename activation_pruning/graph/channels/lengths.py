"""Layers that divide by the length of what comes in: zeros may go from it."""

import functools

import keras
import numpy as np

from activation_pruning import keras_private
from activation_pruning.graph import configurations
from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.rules import Call, NotFollowed, rule
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
        _shrinks(call, layer.scale, layer.epsilon, axes.index(call.x.axis))
    return _by_length(call, axes)


def _shrinks(call, scale, epsilon, axis, offset=0.0):
    layer, ids, number = call.layer, call.x.ids, len(call.x.ids)
    call.flow.slice(scale, axis, ids)
    call.flow.size(layer, "epsilon", ids, lambda left: epsilon * number / left)
    call.flow.multiply(scale, ids, lambda left: np.sqrt(number / left), offset)


def own_norm(call: Call) -> Channels | None:
    """An RMS norm that somebody wrote, times its weights or 1 + these; None for anything else.

    Its epsilon and which of the two it is are found by trying: on normally distributed numbers, of
    which next to nothing, the root of epsilon and one are the size.
    """
    layer = call.layer
    if keras_private.sublayers(layer) or [len(one.shape) for one in layer.weights] != [1]:
        return None
    (x,), (scale,) = call.xs, layer.weights
    if call.shape != x.shape or x.shape[-1] != scale.shape[0]:
        return None
    gain = keras.ops.convert_to_numpy(scale).astype(float)
    tried = ((offset, _epsilon(call, gain + offset)) for offset in (0.0, 1.0))
    offset, epsilon = next((one for one in tried if one[1] is not None), (0.0, None))
    if epsilon is None:
        return None
    if not _told(layer, epsilon):
        call.flow.exchange(layer, functools.partial(_of_keras, epsilon=epsilon), offset)
    if x.axis != len(x.shape) - 1:  # heads, say, each of which has a norm of its own
        return _by_length(call, [len(x.shape) - 1])
    _shrinks(call, scale, epsilon, 0, offset)
    return _by_length(call, [x.axis])


def _told(layer, epsilon):
    """Whether its configuration makes it again, with its epsilon."""
    try:
        own = configurations.config_of(layer).get("epsilon")
    except NotCopied:
        return False
    return isinstance(own, float) and np.isclose(own, epsilon, rtol=1e-3, atol=0)


def _of_keras(layer, epsilon, **changes):
    """Keras's own layer that does the same."""
    settings = {"epsilon": epsilon, "name": layer.name, "dtype": layer.dtype_policy}
    return _L.RMSNormalization(**{**settings, **changes})


def _epsilon(call, gain):
    """The epsilon of x / sqrt(mean of squares + epsilon) * gain, if that is what is computed."""
    shape = [2 if size is None else size for size in call.x.shape]
    normal = np.random.default_rng(0).normal(size=shape)

    def run(size):
        x = (size * normal).astype("float32")
        (found,) = call.run(x)
        return x.astype(float), found

    try:
        x, found = run(1e-8)  # next to nothing: all that is divided by is the root of epsilon
        ratio = np.abs(found).sum() / np.abs(x * gain).sum()
        epsilon = 1 / ratio**2 - np.square(x).mean()
        own = getattr(call.layer, "epsilon", None)  # what is measured is rounded
        exact = isinstance(own, float) and np.isclose(own, epsilon, rtol=1e-3, atol=0)
        epsilon = own if exact else float(f"{epsilon:.5g}")
        for size in (np.sqrt(epsilon), 1.0):
            x, found = run(size)
            expected = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + epsilon) * gain
            if not np.allclose(found, expected, 1e-3, 1e-5):
                return None
    except Exception:  # whatever a layer of the user's own raises, or makes of these numbers
        return None
    return epsilon if epsilon > 0 else None


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
