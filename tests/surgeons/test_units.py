"""Whole units, made up for by the layers that take them."""

import keras
import numpy as np
import pytest
from surgery import hessian_of, small_network

import activation_pruning as ap
from activation_pruning.evidence import consumers
from activation_pruning.surgeons.units import Problem as UnitProblem
from activation_pruning.surgeons.units import unit_errors

pytestmark = [pytest.mark.backend, pytest.mark.lowest]


def brute_force_units(problems, count):
    """Order of removal and weights, each step by least squares on H from scratch."""
    order, left = [], list(range(count))
    now = [np.array(w) for _, w, _ in problems]
    while left:
        best = None
        for unit in left:
            kept = [u for u in left if u != unit]
            new, error = [], 0.0
            for (hessian, _, units), w in zip(problems, now, strict=True):
                alive = np.isin(units, [*kept, -1])
                old = np.isin(units, [*left, -1])
                v = np.zeros_like(w)
                dead = old & ~alive
                right = w[:, dead] @ hessian[np.ix_(dead, alive)]
                v[:, alive] = w[:, alive] + right @ np.linalg.inv(hessian[np.ix_(alive, alive)])
                error += np.einsum("ui,ij,uj", v - w, hessian, v - w) / 2
                new.append(v)
            if best is None or error < best[0]:
                best = error, unit, new
        _, unit, now = best
        order.append(unit)
        left.remove(unit)
    return order


@pytest.mark.parametrize("seed", range(4))
def test_units_go_in_the_order_of_brute_force(seed):
    generator = np.random.default_rng(seed)
    first = UnitProblem("a", hessian_of(5, seed), generator.normal(size=(3, 5)), np.arange(5))
    second = UnitProblem(
        "b",
        hessian_of(11, seed + 9),
        generator.normal(size=(2, 11)),
        np.append(np.arange(10) % 5, -1),
    )
    errors = unit_errors([first, second], 5)
    plain = [(one.hessian, one.weights, one.units) for one in (first, second)]
    order = brute_force_units(plain, 5)
    assert np.argsort(errors).tolist() == order


@pytest.mark.parametrize("bias", [True, False])
def test_layers_that_take_removed_units_are_compensated(bias):
    model, _, x, y = small_network("tanh", bias=bias)
    hidden = keras.Model(model.inputs, [layer.output for layer in model.layers[:2]])
    before = [w.copy() for w in model.get_weights()]
    a, b = (keras.ops.convert_to_numpy(v).astype("float64") for v in hidden(x))
    report = ap.prune(
        model,
        0.4,
        ap.surgeons.UnitOBS(damping=0),
        granularity="unit",
        data=x,
        include="b",
        verbose=0,
    )
    assert report.table()["units_removed"][0] == 2
    kernel = model.get_layer("b").get_weights()[0]
    alive = kernel.any(axis=0)
    features = np.column_stack([b, np.ones(300)]) if bias else b
    out = model.get_layer("out").get_weights()
    old = before[4:] if bias else before[2:]
    wanted = features @ np.vstack(old)
    kept = np.append(alive, True) if bias else alive
    expected, *_ = np.linalg.lstsq(features[:, kept], wanted, rcond=None)
    np.testing.assert_allclose(np.vstack(out)[kept], expected, atol=1e-4)
    assert (out[0][~alive] == 0).all()
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    assert a.shape == (300, 5)
    assert len(y) == 300


def test_unit_surgery_through_convolutions_pooling_and_flattening():
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="first")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.MaxPooling2D()(x)
    left = keras.layers.Conv2D(3, 3, activation="relu", name="second")(x)
    x = keras.layers.Dropout(0.5)(left)
    x = keras.layers.Flatten()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax", name="out")(x))
    data = np.random.default_rng(0).normal(size=(200, 8, 8, 2)).astype("float32")
    before = model.predict(data, verbose=0)
    found = consumers.consumers(model, ap.sites.find(model).sites, data)
    assert [one.name for one in found["first/kernel"]] == ["second/kernel"]
    assert found["first/kernel"][0].units.tolist() == list(range(4)) * 9
    assert found["second/kernel"][0].units.tolist() == list(range(3)) * 4
    by_norm = keras.models.clone_model(model)
    by_norm.set_weights(model.get_weights())
    ap.prune(by_norm, 0.3, "unit_norm", "uniform", "unit")
    plain = np.abs(by_norm.predict(data, verbose=0) - before).mean()
    report = ap.prune(model, 0.3, "unit_obs", "uniform", "unit", data=data, verbose=0)
    assert report.table()["units_removed"].tolist()[:2] == [1, 0]
    assert np.abs(model.predict(data, verbose=0) - before).mean() < plain


def test_units_that_cannot_be_followed_are_named():
    inputs = keras.Input((4,))
    a = keras.layers.Dense(4, name="a")(inputs)
    b = keras.layers.Dense(4, name="b")(inputs)
    model = keras.Model(
        inputs, keras.layers.Dense(2, name="out")(keras.layers.Add(name="sum")([a, b]))
    )
    x = np.random.default_rng(0).normal(size=(50, 4))
    with pytest.raises(ValueError, match=r"a/kernel: .*they are coupled with those of 'b'"):
        ap.prune(model, 0.5, "unit_obs", granularity="unit", data=x, verbose=0)
    with pytest.raises(ValueError, match="outputs of the model"):
        ap.prune(model, 0.5, "unit_obs", granularity="unit", data=x, include="out", verbose=0)
    with pytest.raises(ValueError, match=r"cannot be written down as a graph, see ap\.inline"):
        ap.prune(Branching(), 0.5, "unit_obs", granularity="unit", data=np.ones((50, 6)))


class Layered(keras.Model):
    """Three layers in a `call`."""

    def __init__(self):
        super().__init__()
        self.a = keras.layers.Dense(5, "relu", name="a")
        self.b = keras.layers.Dense(4, "relu", name="b")
        self.out = keras.layers.Dense(3, name="out")
        self(np.zeros((1, 6), "float32"))

    def call(self, x):
        return self.out(self.b(self.a(x)))


class Branching(Layered):
    """Does something else for some values."""

    def call(self, x):
        x = self.a(x)
        return self.out(self.b(x if keras.ops.sum(x) >= 0 else -x))


@pytest.mark.parametrize("criterion", ["unit_obs", "n2ps"])
def test_subclassed_models_are_followed(criterion):
    keras.utils.set_random_seed(3)
    own, x = Layered(), np.random.default_rng(0).normal(size=(90, 6)).astype("float32")
    plain = keras.Sequential(
        [keras.Input((6,)), *(type(one).from_config(one.get_config()) for one in own.layers)]
    )
    plain.set_weights(own.get_weights())
    for model in (own, plain):
        settings = {"granularity": "unit", "allocation": "uniform", "exclude": ["out"]}
        ap.prune(model, 0.5, criterion, data=x, verbose=0, **settings)
    for found, expected in zip(own.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert (own.b.get_weights()[0] == 0).any()


@pytest.mark.parametrize("criterion", ["unit_obs", "n2ps"])
def test_a_hidden_softmax_is_refused(criterion):
    hidden = keras.layers.Dense(6, "softmax", name="hidden")
    model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="'softmax' of 'hidden' may look at all channels"):
        ap.prune(model, 0.5, criterion, granularity="unit", data=np.ones((50, 4)), verbose=0)


def test_units_are_told_apart_by_axis_not_by_number():
    inputs = keras.Input((6, 6))  # as many steps as units
    summed = keras.layers.EinsumDense("abc,bd->adc", output_shape=(3, 6))
    model = keras.Model(inputs, summed(keras.layers.Dense(6, "relu", name="a")(inputs)))
    x = np.random.default_rng(0).normal(size=(50, 6, 6))
    with pytest.raises(ValueError, match="it does not sum over the channels that come in"):
        ap.prune(model, 0.5, "unit_obs", granularity="unit", data=x, verbose=0)


def test_weights_that_leave_removed_units_stay_zero_in_fit():
    model, _, x, y = small_network()
    pruner = ap.PruningCallback(
        ap.schedules.Linear(0.6, begin=1, end=3), "unit_obs", "uniform", "unit", data=x
    )
    history = model.fit(x, y, epochs=5, verbose=0, callbacks=[pruner]).history["sparsity"]
    assert history == sorted(history)
    dead = [~layer.get_weights()[0].any(axis=0) for layer in model.layers[:-1]]
    for gone, following in zip(dead, model.layers[1:], strict=True):
        assert gone.any()
        assert not following.get_weights()[0][gone].any()


def test_a_shared_taker_is_named():
    first, second = keras.Input((4,)), keras.Input((4,))
    taker = keras.layers.Dense(3, name="taker")
    a, b = keras.layers.Dense(5, name="a")(first), keras.layers.Dense(5, name="b")(second)
    model = keras.Model([first, second], keras.layers.Add()([taker(a), taker(b)]))
    x = np.random.default_rng(0).normal(size=(50, 4))
    with pytest.raises(ValueError, match="they are coupled with those of 'b'"):
        ap.prune(model, 0.4, "unit_obs", granularity="unit", data=[x, x], include="a", verbose=0)


def test_a_bias_of_several_axes_is_compensated():
    x = np.random.default_rng(0).normal(size=(200, 6)).astype("float32")
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(4, "tanh", name="hidden")
    heads = keras.layers.EinsumDense("ab,bhd->ahd", (2, 3), bias_axes="hd", name="heads")
    model = keras.Model(inputs, heads(hidden(inputs)))
    heads.bias.assign(np.arange(6.0).reshape(2, 3))
    wanted = model.predict(x, verbose=0).reshape(200, 6)
    surgeon = ap.surgeons.UnitOBS(damping=0)
    ap.prune(model, 0.5, surgeon, granularity="unit", data=x, include="hidden", verbose=0)
    alive = hidden.get_weights()[0].any(axis=0)
    assert alive.sum() == 2
    seen = keras.ops.convert_to_numpy(hidden(x))[:, alive]
    expected, *_ = np.linalg.lstsq(np.column_stack([seen, np.ones(200)]), wanted, rcond=None)
    kernel, bias = heads.get_weights()
    np.testing.assert_allclose(kernel[alive].reshape(2, 6), expected[:2], atol=1e-4)
    np.testing.assert_allclose(bias, expected[2].reshape(2, 3), atol=1e-4)
