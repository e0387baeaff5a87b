"""BatchNormalization statistics anew."""

import keras
import numpy as np
import pytest
from keras import layers

import activation_pruning as ap

pytestmark = pytest.mark.backend


def normalised():
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, name="a"),
            layers.BatchNormalization(momentum=0.9, name="bn"),
            layers.ReLU(),
            layers.Dropout(0.5),
            layers.Dense(5, name="b"),
            layers.BatchNormalization(name="late"),
            layers.Dense(2, name="out"),
        ]
    )


def test_statistics_are_those_of_the_data():
    model = normalised()
    x = np.random.default_rng(0).normal(2, 3, (90, 4)).astype("float32")
    assert ap.recalibrate_batchnorm(model, x, batch_size=90) == 2
    kernel, bias = model.get_layer("a").get_weights()
    z = x @ kernel + bias
    gamma, beta, mean, variance = model.get_layer("bn").get_weights()
    np.testing.assert_allclose(mean, z.mean(0), atol=1e-4)
    np.testing.assert_allclose(variance, z.var(0), rtol=1e-4)
    # Dropout stays out of it: the later layer sees the values of inference, normalised anew.
    hidden = np.maximum((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-3) * gamma + beta, 0)
    kernel, bias = model.get_layer("b").get_weights()
    _, _, mean, variance = model.get_layer("late").get_weights()
    np.testing.assert_allclose(mean, (hidden @ kernel + bias).mean(0), atol=1e-3)
    assert model.get_layer("bn").momentum == 0.9
    assert "call" not in vars(model.get_layer("bn"))


def test_batches_count_by_their_samples():
    model = keras.Sequential([keras.Input((3,)), layers.BatchNormalization(name="bn")])
    x = np.random.default_rng(0).normal(2, 3, (10, 3)).astype("float32")
    ap.recalibrate_batchnorm(model, x, batch_size=4)  # 4, 4 and 2
    _, _, mean, variance = model.get_layer("bn").get_weights()
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-4)
    parts = [x[:4], x[4:8], x[8:]]
    expected = sum(len(part) * part.var(0) for part in parts) / 10
    np.testing.assert_allclose(variance, expected, rtol=1e-4)


def test_it_repairs_what_pruning_has_shifted():
    model = normalised()
    x = np.random.default_rng(1).normal(2, 3, (500, 4)).astype("float32")
    ap.recalibrate_batchnorm(model, x)
    ap.prune(model, 0.5, "magnitude", "uniform")
    probe = keras.Model(model.inputs, model.get_layer("bn").output)
    shifted = keras.ops.convert_to_numpy(probe(x)).mean(0)
    ap.recalibrate_batchnorm(model, x)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(probe(x)).mean(0), 0, atol=1e-3)
    assert np.abs(shifted).max() > 0.05
    assert ap.prune(model, 0.0).sparsity == 0.5


def test_frozen_layers_and_bad_input():
    model = normalised()
    model.get_layer("late").trainable = False
    before = model.get_layer("late").get_weights()
    assert ap.recalibrate_batchnorm(model, np.ones((5, 4))) == 1
    for old, new in zip(before, model.get_layer("late").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(ValueError, match="data is empty"):
        ap.recalibrate_batchnorm(model, np.ones((0, 4)))
    plain = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="no trainable BatchNormalization"):
        ap.recalibrate_batchnorm(plain, np.ones((5, 4)))


def test_a_shared_layer_sees_all_its_calls():
    first, second = keras.Input((1,)), keras.Input((1,))
    shared = layers.BatchNormalization(name="bn")
    model = keras.Model([first, second], layers.Add()([shared(first), shared(second)]))
    x = np.random.default_rng(0).normal(size=(40, 1)).astype("float32")
    ap.recalibrate_batchnorm(model, [x, x + 10], batch_size=16)
    mean = shared.get_weights()[2]
    np.testing.assert_allclose(mean, x.mean() + 5, atol=1e-3)
