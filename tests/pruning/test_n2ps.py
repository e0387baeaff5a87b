"""N2PS: significance by hand, and what is removed."""

import keras
import models
import numpy as np
import pytest
from keras import layers

import activation_pruning as ap
from activation_pruning import sites
from activation_pruning.evidence import consumers, significance

pytestmark = pytest.mark.backend


def network(activation="sigmoid"):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, activation, name="a"),
            layers.Dense(5, activation, name="b"),
            layers.Dense(2, "softmax", name="out"),
        ]
    )
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(size=w.shape) for w in model.get_weights()])
    return model, generator.normal(size=(40, 3)).astype("float32")


def by_hand(model, x, activation):
    """Significances of the inputs and of both hidden layers."""
    a, a_bias, b, b_bias, out, _ = [w.astype("float64") for w in model.get_weights()]
    z = x @ a + a_bias
    h = z if activation == "linear" else np.maximum(z, 0) if activation == "relu" else expit(z)
    found = [expit(x).mean(0) * np.abs(a).sum(1), expit(z).mean(0) * np.abs(b).sum(1)]
    return [*found, expit(h @ b + b_bias).mean(0) * np.abs(out).sum(1)]


def expit(values):
    return 1 / (1 + np.exp(-np.asarray(values, "float64")))


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_significance_by_hand(activation):
    model, x = network(activation)
    found = ap.scores(model, "n2ps", data=x)
    for name, expected in zip("ab", by_hand(model, x, activation)[1:], strict=True):
        kernel = found[f"{name}/kernel"]
        np.testing.assert_allclose(kernel, np.tile(expected, (len(kernel), 1)), rtol=1e-5)


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
@pytest.mark.parametrize("threshold", [None, 1.0])
def test_nodes_below_the_threshold_go_with_all_their_weights(activation, threshold):
    model, x = network(activation)
    nodes = by_hand(model, x, activation)
    gone = [s < (s.mean() if threshold is None else threshold) for s in nodes]
    before = model.get_weights()
    report = ap.n2ps(model, x, threshold)
    a, a_bias, b, _, out, _ = model.get_weights()
    alive = np.outer(~gone[0], ~gone[1])
    np.testing.assert_array_equal(a, np.where(alive, before[0], 0))
    np.testing.assert_array_equal(b, np.where(np.outer(~gone[1], ~gone[2]), before[2], 0))
    np.testing.assert_array_equal(out, np.where(~gone[2][:, None], before[4], 0))
    np.testing.assert_array_equal(a_bias, before[1])
    assert report.table()["units_removed"].tolist()[:2] == [gone[1].sum(), gone[2].sum()]
    assert "target" not in str(report).splitlines()[0]


def test_inputs_may_stay():
    model, x = network()
    ap.n2ps(model, x, inputs=False)
    assert model.get_weights()[0].any(axis=1).all()


def test_a_layer_keeps_its_best_node_and_says_so():
    model, x = network()
    best = by_hand(model, x, "sigmoid")[1].argmax()
    with pytest.warns(
        UserWarning, match=r"all 4 nodes are below threshold=1000 .*best one is kept"
    ):
        ap.n2ps(model, x, 1000.0, inputs=False, include="a")
    assert np.flatnonzero(model.get_weights()[0].any(axis=0)).tolist() == [best]


def test_activations_in_layers_of_their_own():
    model = models.normalised()  # Dense, BatchNormalization, Dropout, Activation
    x, _ = models.data()
    live = sites.find(model).sites
    found = significance.sigmoid(model, live, x)["a/kernel"]
    probe = keras.Model(model.inputs, model.get_layer("after").input)
    expected = expit(keras.ops.convert_to_numpy(probe(x))).mean(0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    leaving = np.abs(model.get_layer("out").get_weights()[0]).sum(1)
    np.testing.assert_allclose(consumers.outgoing(model, live)["a/kernel"], leaving, rtol=1e-6)


def test_convolutions_by_channel():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(3, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(2, name="out"),
        ]
    )
    x = np.random.default_rng(0).normal(size=(9, 6, 6, 2)).astype("float32")
    found = ap.scores(model, "n2ps", data=x)["conv/kernel"][0, 0, 0]
    conv = model.get_layer("conv")
    z = keras.ops.convert_to_numpy(keras.ops.conv(x, conv.kernel))
    leaving = np.abs(model.get_layer("out").get_weights()[0]).reshape(16, 3, 2).sum((0, 2))
    np.testing.assert_allclose(found, expit(z).mean((0, 1, 2)) * leaving, rtol=1e-4)


def test_to_a_target_like_any_criterion():
    model, x = network()
    report = ap.prune(model, 0.5, "n2ps", "uniform", "unit", data=x)
    assert report.table()["units_removed"].tolist()[:2] == [2, 2]


def test_bad_input():
    model, x = network()
    with pytest.raises(ValueError, match=r"threshold=-1; it must be a finite number of at least 0"):
        ap.n2ps(model, x, -1)
    recurrent = keras.Sequential([keras.Input((4, 3)), layers.LSTM(2), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"lstm/kernel: .*its layer feeds them back"):
        ap.prune(recurrent, 0.5, "n2ps", data=np.ones((4, 4, 3)))


class Own(keras.Model):
    """A subclassed model of these layers."""

    def __init__(self, layers):
        super().__init__()
        self.parts = layers

    def call(self, x):
        for layer in self.parts:
            x = layer(x)
        return x


def test_a_subclassed_model_loses_the_same_nodes_and_inputs():
    model, x = network()
    own = Own(keras.models.clone_model(model).layers)
    own(x)
    own.set_weights(model.get_weights())
    for one in (model, own):
        ap.n2ps(one, x, exclude=["out"])
    for found, expected in zip(own.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (own.get_weights()[0] == 0).all(axis=1).any()


def test_inputs_are_removed_behind_flatten_and_rescaling():
    model = keras.Sequential(
        [
            keras.Input((4, 4)),
            layers.Rescaling(2.0),
            layers.Flatten(),
            layers.Dense(6, "sigmoid", name="a"),
            layers.Dense(2),
        ]
    )
    x = np.random.default_rng(0).normal(size=(30, 4, 4)).astype("float32")
    ap.n2ps(model, x)
    alive = model.get_layer("a").get_weights()[0].any(axis=1)
    assert 0 < alive.sum() < 16
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="a"), layers.Dense(2)])
    with pytest.raises(ValueError, match="data is a generator"):
        ap.n2ps(model, (x for x in [np.ones((2, 3))]))
    deep, x = network()
    with pytest.warns(UserWarning, match="no inputs are removed"):
        ap.n2ps(deep, x, include="b")
