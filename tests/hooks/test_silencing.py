"""What is pruned as a whole is silent: zero for all inputs, so that it can be taken out."""

import keras
import numpy as np
import pytest
from keras import layers

import activation_pruning as ap

RNG = np.random.default_rng(7)


def network(**options):
    """A convolution, normalised as `options` say, and one with zeros around the image."""
    x = inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(8, 3, padding="same", use_bias=options.pop("bias", False), name="a")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="norm", **options)(x))
    x = layers.Conv2D(4, 3, padding="same", name="b")(x)
    model = keras.Model(inputs, layers.Dense(3, name="out")(layers.Flatten()(x)))
    norm = model.get_layer("norm")
    for variable in norm.weights:
        low, high = (0.5, 1.5) if "variance" in variable.name else (-1.0, 1.0)
        variable.assign(RNG.uniform(low, high, variable.shape))
    return model


@pytest.mark.backend
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_dead_units_behind_any_batch_normalization_go_exactly(scale, center, bias):
    model = network(scale=scale, center=center, bias=bias)
    ap.prune(model, 0.5, granularity="unit", include="a")
    dead = ~model.get_layer("a").get_weights()[0].any(axis=(0, 1, 2))
    assert dead.sum() == 4
    x = RNG.normal(size=(5, 6, 6, 2)).astype("float32")
    normalised = keras.Model(model.inputs, model.get_layer("norm").output)
    assert not normalised.predict(x, verbose=0)[..., dead].any()
    small = ap.compact(model)
    assert small.get_layer("a").filters == 4
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(small.predict(x, verbose=0), expected, rtol=0, atol=1e-5)


def test_the_moving_mean_of_a_living_unit_and_of_one_with_a_gamma_stays():
    model = network(scale=False)
    before = keras.ops.convert_to_numpy(model.get_layer("norm").moving_mean).copy()
    ap.prune(model, 0.5, granularity="unit", include="a")
    alive = model.get_layer("a").get_weights()[0].any(axis=(0, 1, 2))
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(model.get_layer("norm").moving_mean), np.where(alive, before, 0)
    )
    model = network(scale=True)
    before = keras.ops.convert_to_numpy(model.get_layer("norm").moving_mean).copy()
    ap.prune(model, 0.5, granularity="unit", include="a")
    after = keras.ops.convert_to_numpy(model.get_layer("norm").moving_mean)
    np.testing.assert_array_equal(after, before)


@pytest.mark.backend
def test_dead_units_stay_silent_while_a_model_trains_on():
    model = network(scale=False)
    model.compile("adam", "mse")
    x, y = RNG.normal(1, 1, (16, 6, 6, 2)).astype("float32"), np.ones((16, 3))
    schedule = ap.schedules.OneShot(0.5, at=1)
    pruner = ap.PruningCallback(schedule, "magnitude", granularity="unit", include="a")
    model.fit(x, y, epochs=3, verbose=0, callbacks=[pruner])
    model.fit(x, y, epochs=2, verbose=0, callbacks=[ap.KeepPruned()])
    dead = ~model.get_layer("a").get_weights()[0].any(axis=(0, 1, 2))
    norm = model.get_layer("norm")
    assert dead.sum() == 4
    for values in (norm.moving_mean, norm.beta):
        assert not keras.ops.convert_to_numpy(values)[dead].any()
    small, expected = ap.compact(model), model.predict(x, verbose=0)
    assert small.get_layer("a").filters == 4
    np.testing.assert_allclose(small.predict(x, verbose=0), expected, rtol=0, atol=1e-5)


@pytest.mark.backend
def test_what_a_surgeon_cut_off_from_removed_units_stays_zero():
    """Removed units of a sigmoid still say one half: the next kernel would learn from that."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, "sigmoid", name="a"), layers.Dense(3, name="out")]
    )
    model.compile("adam", "mse")
    x, y = RNG.normal(size=(32, 6)).astype("float32"), RNG.normal(size=(32, 3)).astype("float32")
    schedule = ap.schedules.OneShot(0.5, at=1)
    pruner = ap.PruningCallback(schedule, "unit_obs", granularity="unit", data=x)
    model.fit(x, y, epochs=3, verbose=0, callbacks=[pruner])
    dead = ~model.get_layer("a").get_weights()[0].any(axis=0)
    assert dead.sum() == 4
    rows = model.get_layer("out").get_weights()[0].any(axis=1)
    assert (rows == ~dead).all()
