"""Weights so near to zero that TensorFlow and JAX compute with them as with zero."""

import keras
import numpy as np
import pytest

import activation_pruning as ap

pytestmark = pytest.mark.backend
TINY = 1e-42  # a subnormal float32


def network(dtype="float32"):
    layers = [keras.layers.Dense(4, name="a", use_bias=False), keras.layers.Dense(1, name="out")]
    model = keras.Sequential([keras.Input((4,), dtype=dtype), *layers])
    kernel = np.arange(1.0, 17.0).reshape(4, 4)
    kernel[3, 3] = TINY
    model.get_layer("a").set_weights([kernel.astype("float32")])
    model.compile("sgd", "mse")
    return model


def largest_first(site):
    """A criterion that keeps the tiny weight."""
    return -np.abs(site.kernel)


def zeros(model):
    return np.array(model.get_layer("a").kernel) == 0


DATA = {"x": np.zeros((8, 4), "float32"), "y": np.zeros((8, 1), "float32"), "verbose": 0}


def test_a_tiny_weight_that_is_kept_is_no_zero_after_training():
    model = network()
    assert ap.prune(model, 0.5, largest_first, exclude=["out"], verbose=0).sparsity == 0.5
    history = model.fit(**DATA, callbacks=[ap.KeepPruned(exclude=["out"])])
    assert history.history["sparsity"] == [0.5]
    assert zeros(model).sum() == 8
    assert not zeros(model)[3, 3]
    assert abs(np.array(model.get_layer("a").kernel)[3, 3]) < 1e-37


@pytest.mark.parametrize("at", [0, 1])
def test_a_tiny_weight_is_no_zero_before_the_first_event(at):
    model = network()
    schedule = ap.schedules.OneShot(0.5, at=at)
    pruner = ap.PruningCallback(schedule, largest_first, exclude=["out"])
    history = model.fit(**DATA, epochs=2, callbacks=[pruner])
    assert history.history["sparsity"][-1] == 0.5
    assert zeros(model).sum() == 8
    assert not zeros(model)[3, 3]


def test_tiny_values_of_a_surgeon_are_no_zeros_in_half_precision():
    with keras.device("cpu"):
        variable = keras.Variable(np.ones((2, 2)), dtype="float16")
    from activation_pruning.hooks.masking import assign_mask

    site = type("Any", (), {"variable": variable, "mask_variable": None})
    kernel = np.array([[1e-12, -1e-12], [0.5, 1.0]])
    assign_mask(site, np.array([[True, True], [True, False]]), values=kernel)
    found = keras.ops.convert_to_numpy(variable).astype(float)
    np.testing.assert_array_equal(found, [[2.0**-24, -(2.0**-24)], [0.5, 0.0]])
