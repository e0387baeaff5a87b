"""Stateful recurrent layers: measured from zeros, with their states back afterwards."""

import keras
import numpy as np
import pytest
from keras import layers

import activation_pruning as ap
from activation_pruning.analysis import running

pytestmark = pytest.mark.backend
X = np.random.default_rng(0).normal(size=(12, 5, 3)).astype("float32")
Y = np.arange(12) % 3


@pytest.fixture
def model():
    """With states that are not zeros."""
    keras.utils.set_random_seed(0)
    inner = layers.LSTM(4, stateful=True, return_sequences=True, name="inner")
    stack = [layers.Bidirectional(inner), layers.GRU(5, stateful=True), layers.Dense(3, "softmax")]
    model = keras.Sequential([keras.Input(batch_shape=(4, 5, 3)), *stack])
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    for state in variables(model):  # by hand: on PyTorch Keras cannot train such a model
        state.assign(np.full(state.shape, 0.5))
    return model


def variables(model):
    parts = [getattr(one, "states", None) or () for one in model._flatten_layers()]
    return keras.tree.flatten(parts)


def states(model):
    return [keras.ops.convert_to_numpy(state).copy() for state in variables(model)]


def assert_as_before(model, before):
    assert before
    assert all(np.abs(state).max() > 1e-3 for state in before)
    for state, kept in zip(states(model), before, strict=True):
        np.testing.assert_array_equal(state, kept)


def from_zeros(model):
    for layer in model.layers[:2]:
        layer.reset_states()
    return model.evaluate(X, Y, batch_size=4, verbose=0)


def test_sensitivity_is_that_of_a_model_that_starts_anew(model):
    before = states(model)
    table = ap.analysis.sensitivity(
        model, X, Y, sparsities=[0.0, 0.5], metric="loss", exclude=(), verbose=0
    )
    assert_as_before(model, before)
    nothing, half = (table[at] for at in (table["sparsity"] == 0, table["sparsity"] > 0))
    np.testing.assert_allclose(nothing["change"], 0, atol=1e-6)
    np.testing.assert_allclose(nothing["value"], from_zeros(model), atol=1e-6)
    for row in half.iloc[[0, -1]].itertuples():
        weights = model.get_weights()
        ap.prune(model, row.sparsity, include=row.site, exclude=())
        assert row.value == pytest.approx(from_zeros(model), abs=1e-6)
        model.set_weights(weights)


def test_latency_leaves_the_states_alone(model):
    before = states(model)
    ap.analysis.latency(model, X, repeats=2, warmup=1)
    assert_as_before(model, before)
    ap.analysis.latency_compare({"a": model, "sum": np.sum}, X, 4, rounds=2, warmup=1)
    assert_as_before(model, before)


def test_states_are_back_after_an_error(model):
    before = states(model)
    with pytest.raises(ZeroDivisionError), running.from_zeros(model):
        1 / (model.predict_on_batch(X[:4]).size - 12)
    assert_as_before(model, before)
