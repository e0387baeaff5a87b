"""Padded steps count nowhere: what is gathered is that of the same sequences, unpadded, by hand."""

import keras
import numpy as np
import pytest
from keras import layers

import activation_pruning as ap
from activation_pruning import sites
from activation_pruning.evidence import gathering, inputs, significance

pytestmark = pytest.mark.backend
LENGTHS = [3, 5, 1, 4, 0]  # of five steps; the last one is nothing but padding
WORDS = np.zeros((5, 5), "int32")
for row, length in enumerate(LENGTHS):
    WORDS[row, :length] = np.random.default_rng(row).integers(1, 9, length)


def tagger():
    """Embedding with a mask, then a layer of each kind that passes it on."""
    keras.utils.set_random_seed(0)
    ids = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True, name="words")(ids)
    x = layers.Dense(6, "relu", name="dense")(x)
    x = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    last = layers.LSTM(3, name="last")(x)
    x = layers.EinsumDense("abc,cd->abd", (5, 3), activation="relu", name="einsum")(x)
    x = layers.Concatenate()([last, layers.GlobalAveragePooling1D()(x)])
    model = keras.Model(ids, layers.Dense(3, "softmax", name="out")(x))
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    return model


ORDER = ["words", "dense", "lstm", "einsum"]


def unpadded(model, name):
    """[outputs of a layer for one sequence, (steps, units)], each run alone."""
    found = []
    for row, length in enumerate(LENGTHS):
        if length:
            x = keras.ops.convert_to_tensor(WORDS[row : row + 1, :length])
            for one in ORDER[: ORDER.index(name) + 1]:
                x = model.get_layer(one)(x)
            found.append(np.atleast_2d(np.squeeze(keras.ops.convert_to_numpy(x), 0)))
    return found


def live(model, *names):
    return [site for site in sites.find(model, exclude=()).sites if site.path in names]


@pytest.mark.parametrize("name", ORDER)
def test_counts_over_data(name):
    model = tagger()
    (found, *_) = gathering.observe(model, live(model, name), WORDS).values()
    outputs = unpadded(model, name)
    assert found.samples == 4
    expected = np.mean([(part > 0).mean(axis=0) for part in outputs], axis=0)
    np.testing.assert_allclose(found.frequency, expected, atol=1e-6)
    expected = np.mean([part.mean(axis=0) for part in outputs], axis=0)
    np.testing.assert_allclose(found.mean, expected, atol=1e-6)


def test_counts_in_training():
    model = tagger()
    counter = ap.ActivationCounter()
    model.fit(WORDS, np.zeros(5), batch_size=2, epochs=2, verbose=0, callbacks=[counter])
    table = counter.table().set_index("layer")
    for name in ORDER:
        expected = np.mean([(part > 0).mean(axis=0) for part in unpadded(model, name)], axis=0)
        np.testing.assert_allclose(table.loc[name, "frequency"], expected, atol=1e-6)
        assert set(table.loc[name, "samples"]) == {8}
    assert set(table.loc["last", "samples"]) == {10}  # one state for each sequence, padded or not


def test_a_mask_that_is_given_to_the_call():
    ids, mask = keras.Input((5, 2)), keras.Input((5,), dtype="bool")
    lstm = layers.LSTM(3, return_sequences=True, name="lstm")
    model = keras.Model([ids, mask], layers.Flatten()(lstm(ids, mask=mask)))
    x = np.random.default_rng(1).normal(size=(4, 5, 2)).astype("float32")
    real = np.arange(5) < np.array([[2], [5], [1], [3]])
    (found, *_) = gathering.observe(model, live(model, "lstm"), [x, real]).values()
    alone = [
        keras.ops.convert_to_numpy(lstm(x[i : i + 1, :n]))[0] for i, n in enumerate([2, 5, 1, 3])
    ]
    expected = np.mean([(part > 0).mean(axis=0) for part in alone], axis=0)
    np.testing.assert_allclose(found.frequency, expected, atol=1e-6)


KINDS = {
    "multi-head": lambda: layers.MultiHeadAttention(2, 3, name="heads"),
    "grouped": lambda: layers.GroupQueryAttention(3, 2, 1, name="heads"),
}


def attentive(kind, mask_zero=True):
    keras.utils.set_random_seed(0)
    ids = keras.Input((None,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=mask_zero, name="words")(ids)
    x = KINDS[kind]()(x, x)
    x = layers.Dense(5, "relu", name="after")(x)
    model = keras.Model(ids, layers.GlobalAveragePooling1D()(x))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_masks_reach_into_attention(kind):
    """Keras takes them off the tensors that attention projects."""
    model, plain, counter = attentive(kind), attentive(kind, False), ap.ActivationCounter()
    live = sites.find(model, exclude=()).sites
    rows = [WORDS[row : row + 1, :length] for row, length in enumerate(LENGTHS) if length]
    alone = [gathering.observe(plain, sites.find(plain, exclude=()).sites, row) for row in rows]
    norms = [
        inputs.gather(plain, sites.find(plain, exclude=()).sites[1:], row, [inputs.NORM])
        for row in rows
    ]
    found = gathering.observe(model, live, WORDS)
    model.fit(WORDS, np.zeros((5, 5)), batch_size=2, verbose=0, callbacks=[counter])
    table = counter.table().groupby("layer")
    assert len(found) == 6
    for site in live:
        expected = np.mean([one[site.name].frequency for one in alone], axis=0)
        np.testing.assert_allclose(found[site.name].frequency, expected, atol=1e-6)
        in_fit = table.get_group(site.path)
        np.testing.assert_allclose(in_fit["frequency"], expected, atol=1e-6)
        assert set(in_fit["samples"]) == {4}
    whole = inputs.gather(model, live[1:], WORDS, [inputs.NORM])
    for name, own in whole.items():
        expected = np.sqrt(np.sum([one[name][inputs.NORM] ** 2 for one in norms], axis=0))
        np.testing.assert_allclose(own[inputs.NORM], expected, rtol=1e-4, atol=1e-7)


def test_counts_of_a_pruned_layer_with_several_outputs():
    x = np.random.default_rng(1).normal(size=(4, 5, 2)).astype("float32")
    for row, length in enumerate([2, 5, 1, 3]):
        x[row, length:] = 0
    lstm = layers.LSTM(3, return_sequences=True, return_state=True, name="lstm")
    given, pruned = keras.Input((5, 2)), ap.PrunedLayer(lstm)
    outputs = pruned(layers.Masking()(given))[0]
    model = keras.Model(given, layers.Dense(1)(outputs))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(x, np.zeros((4, 5, 1)), batch_size=3, verbose=0)
    rows = [lstm(x[i : i + 1, :n])[0] for i, n in enumerate([2, 5, 1, 3])]
    active = [(keras.ops.convert_to_numpy(row)[0] > 0).mean(axis=0) for row in rows]
    np.testing.assert_allclose(pruned.activity()["frequency"], np.mean(active, axis=0), atol=1e-6)


def test_second_moments_of_inputs():
    model = tagger()
    names = ["dense", "einsum"]
    found = inputs.gather(model, live(model, *names), WORDS, [inputs.NORM, inputs.HESSIAN])
    for name, before in (("dense", "words"), ("einsum", "lstm")):
        x = np.concatenate(unpadded(model, before)).astype("float64")
        own = found[f"{name}/kernel"]
        np.testing.assert_allclose(own[inputs.NORM][:, 0], np.sqrt((x**2).sum(axis=0)), rtol=1e-5)
        hessian = own[inputs.HESSIAN]
        np.testing.assert_allclose(hessian.hessian[0], x.T @ x / len(x), rtol=1e-4, atol=1e-7)
        assert hessian.rows == sum(LENGTHS)


@pytest.mark.parametrize("form", ["same", "causal", "valid"])
def test_windows_of_a_convolution(form):
    x = np.random.default_rng(2).normal(size=(3, 6, 2)).astype("float32")
    lengths = [4, 6, 3]
    for row, length in enumerate(lengths):
        x[row, length:] = 0
    layer = layers.Conv1D(2, 3, padding=form, name="conv")
    model = keras.Sequential([keras.Input((6, 2)), layers.Masking(), layer])
    found = inputs.gather(model, live(model, "conv"), x, [inputs.NORM])["conv/kernel"][inputs.NORM]
    sides = {"same": (1, 1), "causal": (2, 0), "valid": (0, 0)}[form]
    total = np.zeros((3, 2))
    for row, length in enumerate(lengths):
        padded = np.pad(x[row, :length].astype("float64"), [sides, (0, 0)])
        for start in range(len(padded) - 2):
            total += padded[start : start + 3] ** 2
    np.testing.assert_allclose(found[..., 0], np.sqrt(total), rtol=1e-5)


def test_sigmoids():
    model = tagger()
    (found,) = significance.sigmoid(model, live(model, "dense"), WORDS).values()
    weights, bias = model.get_layer("dense").get_weights()
    before = [part @ weights + bias for part in unpadded(model, "words")]
    expected = np.mean([(1 / (1 + np.exp(-z))).mean(axis=0) for z in before], axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_a_padded_step_holds_is_of_no_account():
    """Even NaN: a product with a mask of zeros would keep it."""
    source = live(tagger(), "dense")[0].source
    counter = ap.hooks.counting.Counter(source)
    values = np.ones((2, 5, 6), "float32")
    values[0, 2:] = np.nan
    mask = np.array([[True, True, False, False, False], [True] * 5])
    counter.update(keras.ops.convert_to_tensor(values), keras.ops.convert_to_tensor(mask))
    assert counter.read().frequency.tolist() == [1.0] * 6
