"""Where in a model activations are rounded: where a runtime of integers stores them.

Layers that only pick or move values keep the range of what comes in. A ReLU, and a
BatchNormalization behind a kernel, are done before anything is stored; other activations read what
is stored, and are stored themselves.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras

from activation_pruning import keras_private, sites
from activation_pruning.sites import layer_classes
from activation_pruning.support.types import Model

_L = keras.layers
_MOVING = (
    _L.InputLayer, _L.Identity, _L.Flatten, _L.Reshape, _L.Permute, _L.RepeatVector,
    _L.MaxPooling1D, _L.MaxPooling2D, _L.MaxPooling3D,
    _L.GlobalMaxPooling1D, _L.GlobalMaxPooling2D, _L.GlobalMaxPooling3D,
    _L.ZeroPadding1D, _L.ZeroPadding2D, _L.ZeroPadding3D,
    _L.Cropping1D, _L.Cropping2D, _L.Cropping3D,
    _L.Dropout, _L.SpatialDropout1D, _L.SpatialDropout2D, _L.SpatialDropout3D,
    _L.GaussianDropout, _L.GaussianNoise, _L.AlphaDropout, _L.ActivityRegularization,
)  # fmt: skip
_KERNELS = (
    _L.Dense, _L.EinsumDense, *layer_classes.CONVOLUTIONS, *layer_classes.TRANSPOSED,
    *layer_classes.DEPTHWISE, *layer_classes.SEPARABLE,
)  # fmt: skip
# What LiteRT's integers of these functions stand for, whatever the data.
_FIXED = {"softmax": (0.0, 255 / 256), "sigmoid": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}


@dataclasses.dataclass(frozen=True)
class Place:
    """What of one layer or operation is rounded.

    before: whether it is what its own activation gets. after: whether it is what it returns.
    fixed: the range of what it returns, where its activation says it.
    """

    layer: Any
    path: str
    before: bool = False
    after: bool = True
    fixed: tuple[float, float] | None = None


def places(model: Model) -> Iterator[Place]:
    """All places in a model but its inputs, in the order of its layers.

    Of layers whose graph is not known, what layers with kernels return.

    Example:
        >>> layers = [_L.Conv2D(2, 3, name="a"), _L.BatchNormalization(name="b"),
        ...           _L.ReLU(name="c"), _L.Flatten(name="d"), _L.Dense(2, "softmax", name="e")]
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
        >>> [(one.path, one.before, one.after) for one in places(model)]
        [('c', False, True), ('e', True, True)]
    """
    yield from _within(model, "", set())


def _within(layer, prefix, done):
    known = sites.operations(layer)
    inner = layer.operations if known and not isinstance(layer, keras.Sequential) else None
    for one in inner or keras_private.sublayers(layer):
        if id(one) in done:
            continue
        done.add(id(one))
        path = prefix + one.name
        if isinstance(one, keras.Layer) and _has_inner(one):
            yield from _within(one, f"{path}/", done)
        elif known:
            place = _place(one, path, keras_private.consumers(one, known))
            if place.before or place.after:
                yield place
        elif isinstance(one, _KERNELS):
            yield _place(one, path, [])


def _has_inner(layer):
    return bool(keras_private.sublayers(layer))


def _place(operation, path, consumers):
    name = _activation(operation)
    if isinstance(operation, _MOVING) or name == "linear_layer":
        return Place(operation, path, after=False)
    own = isinstance(operation, _KERNELS) and name not in ("linear", "relu", "relu6")
    plain = name in (None, "linear")
    return Place(
        operation,
        path,
        before=own,
        after=not (plain and len(consumers) == 1 and _taken_in(operation, consumers[0])),
        fixed=_FIXED.get(name),
    )


def _taken_in(operation, consumer):
    """Whether a runtime does `consumer` in the same step as `operation`."""
    if isinstance(consumer, _L.BatchNormalization):
        return isinstance(operation, _KERNELS)
    return _activation(consumer) in ("relu", "relu6") and not isinstance(consumer, _KERNELS)


def _activation(operation):
    """The name of the function that a layer applies; None for a layer that has none."""
    if isinstance(operation, _L.ReLU):
        plain = not operation.negative_slope and not operation.threshold
        return {None: "relu", 6.0: "relu6"}.get(operation.max_value, "other") if plain else "other"
    if isinstance(operation, _L.Softmax):
        return "softmax"
    function = getattr(operation, "activation", None)
    if function is None:
        return None
    name = getattr(function, "__name__", type(function).__name__)
    if isinstance(operation, _L.Activation) and name == "linear":
        return "linear_layer"
    return name
