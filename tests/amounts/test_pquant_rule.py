"""PQuantML's `activation_pruning` as a recipe: its rule, written down in NumPy, and ours."""

import keras
import numpy as np
import pytest
from keras import layers

import activation_pruning as ap

pytestmark = pytest.mark.backend

SHARE = 0.3
X = np.random.default_rng(3).normal(size=(96, 6, 6, 2)).astype("float32")
Y = np.zeros((96, 3), "float32")


def network(activation):
    scattered = keras.initializers.RandomNormal(stddev=0.6)
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(12, 3, activation=activation, bias_initializer=scattered, name="conv"),
            layers.Flatten(),
            layers.Dense(30, activation=activation, bias_initializer=scattered, name="dense"),
            layers.Dense(3, name="out"),
        ]
    )


def shares(model):
    """Of samples (and positions) where a unit's pre-activation is above zero, bias included."""
    found = []
    for name in ("conv", "dense"):
        layer = model.get_layer(name)
        before = keras.Model(model.inputs, layer.input)(X)
        plain = type(layer).from_config(layer.get_config() | {"activation": "linear"})
        plain.build(before.shape)
        plain.set_weights(layer.get_weights())
        z = keras.ops.convert_to_numpy(plain(before))
        found.append((z > 0).reshape(-1, z.shape[-1]).mean(axis=0))
    return found


def alive(model):
    kernels = (model.get_layer(name).get_weights()[0] for name in ("conv", "dense"))
    return [(k != 0).reshape(-1, k.shape[-1]).any(axis=0) for k in kernels]


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "linear"])
def test_units_live_where_their_share_exceeds_the_threshold(activation):
    """After what keeps the sign of its input the count is that of pre-activations."""
    model = network(activation)
    expected = [share > SHARE for share in shares(model)]
    ap.prune(model, ap.amounts.Threshold(SHARE), "activation", granularity="unit", data=X)
    for mask, wanted in zip(alive(model), expected, strict=True):
        assert 0 < wanted.sum() < wanted.size
        np.testing.assert_array_equal(mask, wanted)


def test_the_same_in_fit():
    """Every `t_delta` = 6 steps anew, here with weights that stay as they are in between."""
    model = network("relu")
    expected = [share > SHARE for share in shares(model)]
    model.compile(keras.optimizers.SGD(0.0), "mse")
    pruner = ap.PruningCallback(
        ap.schedules.Every(ap.amounts.Threshold(SHARE), frequency=6, begin=6, by="step"),
        "activation", granularity="unit", reset_counts=True,
    )  # fmt: skip
    model.fit(X, Y, batch_size=16, epochs=1, verbose=0, callbacks=[pruner])
    for mask, wanted in zip(alive(model), expected, strict=True):
        np.testing.assert_array_equal(mask, wanted)


def test_a_share_that_is_just_the_threshold_stays():
    """There PQuantML prunes: it keeps what is above."""
    dense = layers.Dense(3, activation="relu", use_bias=False, name="dense")
    model = keras.Sequential([keras.Input((3,)), dense, layers.Dense(1, name="out")])
    dense.set_weights([np.eye(3)])
    x = -np.ones((8, 3), "float32")
    x[:1, 0], x[:2, 1], x[:3, 2] = 1, 1, 1  # shares of 1/8, 2/8 and 3/8
    ap.prune(model, ap.amounts.Threshold(0.25), "activation", granularity="unit", data=x)
    kernel = dense.get_weights()[0]
    assert (kernel != 0).any(axis=0).tolist() == [False, True, True]
