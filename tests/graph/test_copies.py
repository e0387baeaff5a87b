"""Copies of models: the same outputs, whatever they are made of."""

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap
from activation_pruning.graph import copies

pytestmark = pytest.mark.backend

L = keras.layers


def normalised():
    layer = L.Normalization()
    layer.adapt(5 + 3 * np.random.default_rng(0).normal(size=(50, 6)))
    return keras.Sequential([keras.Input((6,)), layer, L.Dense(8, name="a"), L.Dense(2)])


def operations():
    inputs = keras.Input((6,))
    hidden = keras.ops.relu(L.Dense(8, name="a")(inputs))
    return keras.Model(inputs, L.Dense(2)(hidden + 1.0))


def masked():
    inputs = keras.Input((6,))
    hidden = L.LSTM(4)(L.Embedding(10, 8, mask_zero=True, name="a")(inputs))
    return keras.Model(inputs, L.Dense(2)(hidden))


@pytest.mark.parametrize("make", [normalised, operations, masked])
@pytest.mark.parametrize(
    "copy",
    [
        copies.copy_model,
        ap.wrap,
        lambda model: ap.strip(ap.wrap(model)),
        lambda model: ap.analysis.low_rank(model, {}),
        lambda model: ap.analysis.factorize(model, {}),
    ],
    ids=["copy", "wrap", "strip", "low_rank", "factorize"],
)
def test_copies_give_the_same_outputs(make, copy):
    model = make()
    x = np.abs(np.random.default_rng(1).normal(size=(5, 6)) * 3).round().astype("float32")
    found, wanted = (keras.ops.convert_to_numpy(m(x)) for m in (copy(model), model))
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_a_metric_that_cannot_be_made_anew_leaves_the_copy_uncompiled():
    class Mine(keras.metrics.Mean):
        def __init__(self, needed, name="mine"):
            super().__init__(name=name)

    model = models.mlp()
    model.compile("sgd", "mse", metrics=[Mine(3)])
    with pytest.warns(UserWarning, match="the copy is not compiled"):
        copy = copies.copy_model(model)
    assert not copy.compiled
