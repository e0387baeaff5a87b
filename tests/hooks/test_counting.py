"""What the units of one output do, counted exactly whatever the number of samples."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

import activation_pruning as ap
from activation_pruning import sites
from activation_pruning.evidence import gathering
from activation_pruning.hooks.counting import Counter

pytestmark = pytest.mark.backend


def source(units=2):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(units, "relu", name="a")])
    return sites.find(model, exclude=()).sites[0].source


def test_counts_of_single_samples_go_on_beyond_2_to_the_24():
    counter = Counter(source(), statistics=["frequency"])
    start = np.array([[4095.0] * 3, [2.0**24 / 4096] * 3], "float32")
    counter.sums.assign(start)  # as after 2^24 + 4095 samples, all of them active
    for _ in range(3):
        counter.update(keras.ops.convert_to_tensor([[1.0, -1.0]]))
    found, samples = counter.read(), 2**24 + 4095
    assert found.samples == samples + 3
    np.testing.assert_allclose(found.frequency * found.samples, [samples + 3, samples], rtol=1e-12)


class TiedHead(layers.Dense):
    """Its own way back: as many outputs as inputs, or not."""

    def build(self, shape):
        super().build(shape)
        self.input_spec = None

    def call(self, x, reverse=False):
        if reverse:
            return keras.ops.matmul(x, keras.ops.transpose(self.kernel))
        return super().call(x)


@pytest.mark.parametrize("features", [3, 4, 8])  # of 4 units: neither divides, equal, double
def test_logits_of_a_tied_head_are_no_units(features):
    inputs = keras.Input((features,))
    tied = TiedHead(4, activation="relu", name="tied")
    model = keras.Model(inputs, tied(tied(inputs), reverse=True))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = np.random.default_rng(0).normal(size=(12, features)).astype("float32")
    counter = ap.ActivationCounter()
    model.fit(x, x, batch_size=5, verbose=0, callbacks=[counter])
    kernel, bias = tied.get_weights()
    expected = (x @ kernel + bias > 0).mean(axis=0)
    table = counter.table()
    np.testing.assert_allclose(table["frequency"], expected, atol=1e-6)
    assert set(table["samples"]) == {12}
    found = gathering.observe(model, sites.find(model, exclude=()).sites, x)
    np.testing.assert_allclose(found["tied/kernel"].frequency, expected, atol=1e-6)
    ap.prune(model, 0.5, "taylor_activation", data=(x, x), exclude=(), verbose=0)


@pytest.mark.skipif(not hasattr(layers, "ReversibleEmbedding"), reason="of newer releases")
@pytest.mark.parametrize("words", [4, 8, 10])  # of 4 numbers each
def test_a_reversible_embedding(words):
    ids = keras.Input((3,), dtype="int32")
    table = layers.ReversibleEmbedding(words, 4, name="words")
    hidden = layers.Dense(4, "relu", name="a")(table(ids))
    model = keras.Model(ids, table(hidden, reverse=True))
    model.compile(
        keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    x = np.random.default_rng(0).integers(0, words, (6, 3))
    counter = ap.ActivationCounter(include=["words"])
    model.fit(x, x, verbose=0, callbacks=[counter])
    embedded = keras.ops.convert_to_numpy(table.embeddings)[x]
    np.testing.assert_allclose(
        counter.table()["frequency"], (embedded > 0).mean(axis=(0, 1)), atol=1e-6
    )
    assert set(counter.table()["samples"]) == {6}


def test_a_layer_on_tensors_of_different_rank():
    flat, rows = keras.Input((3,)), keras.Input((5, 3))
    dense = layers.Dense(4, "relu", name="both")
    outputs = [dense(flat), layers.Flatten()(dense(rows))]
    model = keras.Model([flat, rows], layers.Concatenate()(outputs))
    generator = np.random.default_rng(0)
    x = [generator.normal(size=(7, *shape)).astype("float32") for shape in ((3,), (5, 3))]
    live = sites.find(model, exclude=()).sites
    found = gathering.observe(model, live, x)["both/kernel"]
    kernel, bias = dense.get_weights()
    active = [(part @ kernel + bias > 0) for part in x]
    expected = (active[0].sum(axis=0) + active[1].mean(axis=1).sum(axis=0)) / 14
    np.testing.assert_allclose(found.frequency, expected, atol=1e-6)
    from activation_pruning.evidence.significance import sigmoid

    z = [1 / (1 + np.exp(-(part @ kernel + bias))) for part in x]
    expected = (z[0].sum(axis=0) + z[1].mean(axis=1).sum(axis=0)) / 14
    np.testing.assert_allclose(sigmoid(model, live, x)["both/kernel"], expected, atol=1e-6)


@pytest.mark.parametrize("threshold", ["a", True, None, float("nan")])
def test_thresholds_that_are_no_numbers(threshold):
    with pytest.raises(ValueError, match="threshold="):
        ap.ActivationCounter(threshold=threshold)
    with pytest.raises(ValueError, match="threshold="):
        ap.PruningCallback(ap.schedules.Constant(0.5), threshold=threshold)


def test_units_along_any_axis_and_padded_steps():
    """Against NumPy: units on the first axis after the batch, and steps that do not count."""
    model = keras.Sequential([keras.Input((4, 3)), layers.Dense(2, name="a")])
    own = sites.find(model, exclude=()).sites[0].source
    values = np.random.default_rng(0).normal(size=(5, 4, 2)).astype("float32")
    turned = dataclasses.replace(own, axes=(1,))
    counter = Counter(turned)
    counter.update(keras.ops.convert_to_tensor(values.transpose(0, 2, 1)))
    found = counter.read()
    np.testing.assert_allclose(found.frequency, (values > 0).mean(axis=(0, 1)), rtol=1e-6)
    np.testing.assert_allclose(found.rms, np.sqrt((values**2).mean(axis=(0, 1))), rtol=1e-6)

    mask = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]], bool)
    hidden = np.where(mask[..., None], values, np.nan).astype("float32")
    counter = Counter(own)
    counter.update(keras.ops.convert_to_tensor(hidden), keras.ops.convert_to_tensor(mask))
    found = counter.read()
    means = [values[row][mask[row]].mean(axis=0) for row in (0, 1, 3, 4)]
    assert found.samples == 4
    np.testing.assert_allclose(found.mean, np.mean(means, axis=0), rtol=1e-5)
