"""Layers of users' own with an entry for each channel, or with none: what they do is tried."""

import keras
import numpy as np
import pruned_graphs
import pytest
from compacted import assert_same, noise
from keras import layers as L
from keras import ops

import activation_pruning as ap

pytestmark = pytest.mark.backend


class Scale(L.Layer):
    """LayerScale: its configuration counts the channels."""

    def __init__(self, width, start=0.5, **kwargs):
        super().__init__(**kwargs)
        self.width, self.start = width, start

    def build(self, shape):
        self.gamma = self.add_weight(shape=(self.width,), name="gamma")

    def call(self, x):
        return x * self.gamma

    def get_config(self):
        return {**super().get_config(), "width": self.width, "start": self.start}


class Affine(L.Layer):
    """Two vectors, one of them with more axes."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")
        self.shift = self.add_weight(shape=(1, shape[-1]), name="shift")

    def call(self, x):
        return ops.tanh(x * self.scale) + self.shift


class Weighted(Affine):
    """Looks at all channels."""

    def call(self, x):
        return ops.softmax(x * self.scale) + self.shift


class Numbered(Affine):
    """Takes channels by their numbers."""

    def call(self, x):
        return ops.roll(x, 1, axis=-1) * self.scale + self.shift


class Untold(Scale):
    """Its configuration does not make it again."""

    def get_config(self):
        return L.Layer.get_config(self)


class Mixed(L.Layer):
    """Two tensors, as in the residual blocks of InceptionResNetV2."""

    def call(self, one, other):
        return one + 0.3 * other


class Crossed(L.Layer):
    """Channel i of one meets channel i + 1 of the other."""

    def call(self, one, other):
        return one + ops.roll(other, 1, axis=-1)


class Listed(L.Layer):
    """Two tensors in a list."""

    def call(self, xs):
        return xs[0] * ops.sigmoid(xs[1])


def between(function, dead=(1, 4), bias=0.0):
    """A graph with `function` between a layer with dead units and one that reads them."""
    x = keras.Input((5, 8))
    a, b = (L.Dense(6, name=name)(x) for name in "ab")
    model = pruned_graphs.randomised(keras.Model(x, L.Dense(3)(function(a, b))))
    for layer in (one for one in model.layers if one.name in ("a", "b")):
        kernel, own = layer.get_weights()
        kernel[:, dead], own[list(dead)] = 0, bias
        layer.set_weights([kernel, own])
    return model


FOLLOWED = {
    "scale": lambda a, b: Scale(6, name="own")(a),
    "affine": lambda a, b: Affine(name="own")(a),
    "two tensors": lambda a, b: Mixed()(a, b),
    "a list": lambda a, b: Listed()([a, b]),
    "the same twice": lambda a, b: Mixed()(a, a),
}
PINNED = {
    "weighted": lambda a, b: Weighted()(a),
    "numbered": lambda a, b: Numbered()(a),
    "untold": lambda a, b: Untold(6)(a),
    "crossed": lambda a, b: Crossed()(a, b),
}


@pytest.mark.parametrize("kind", FOLLOWED)
@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_channels_go_with_their_entries(kind, bias):
    model = between(FOLLOWED[kind], bias=bias)
    small = ap.compact(model)
    assert_same(model, small, noise(4, 5, 8), 1e-6)
    assert small.get_layer("a").units == 4
    if kind in ("scale", "affine"):
        entries = [np.squeeze(one) for one in model.get_layer("own").get_weights()]
        for own, found in zip(entries, small.get_layer("own").get_weights(), strict=True):
            np.testing.assert_array_equal(np.squeeze(found), np.delete(own, [1, 4]))


@pytest.mark.parametrize("kind", PINNED)
def test_channels_stay_where_a_layer_does_something_else(kind):
    model = between(PINNED[kind])
    with pytest.warns(UserWarning, match="no unit can be removed"):
        small = ap.compact(model)
    assert_same(model, small, noise(4, 5, 8), 1e-6)
    reason = ap.removable(model).set_index("layer").loc["a", "reason"]
    assert "not known to compaction" in reason


def test_what_two_tensors_meet_in_goes_from_both_or_stays():
    model = between(FOLLOWED["two tensors"])
    kernel, bias = model.get_layer("b").get_weights()
    kernel[:, 4] = 1  # alive again
    model.get_layer("b").set_weights([kernel, bias])
    small = ap.compact(model)
    assert_same(model, small, noise(4, 5, 8), 1e-6)
    assert small.get_layer("a").units == small.get_layer("b").units == 5


def test_blocks_of_keras_applications_shrink():
    """ConvNeXt's blocks: its own LayerScale and StochasticDepth, residual streams without norms."""
    from keras.src.applications.convnext import LayerScale, StochasticDepth

    x = keras.Input((4, 4, 3))
    stem = L.Conv2D(6, 1, name="stem")(x)
    h = L.Dense(8, "gelu", name="wide")(L.DepthwiseConv2D(3, padding="same")(stem))
    h = StochasticDepth(0.1)(LayerScale(1e-6, 6, name="scale")(L.Dense(6, name="narrow")(h)))
    model = pruned_graphs.randomised(keras.Model(x, L.Dense(2)(L.Add()([stem, h]))))
    ap.prune(model, 0.5, granularity="unit", allocation="uniform")
    small = ap.compact(model)
    assert_same(model, small, noise(2, 4, 4, 3), 1e-5)
    assert small.get_layer("scale").gamma.shape == (3,)
    assert small.get_layer("wide").units == 4
