"""Models of a fixed batch size are run on batches of that size; what is counted is the data."""

import keras
import numpy as np
import pytest
from keras import layers

import activation_pruning as ap
from activation_pruning import sites
from activation_pruning.evidence import gathering, inputs

pytestmark = pytest.mark.backend
X = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")  # two batches of 8, and 4
Y = np.arange(20) % 3


def network(batch=8, reshape=False):
    """The same weights whatever the batch; `reshape` fixes its size within the model."""
    keras.utils.set_random_seed(3)
    x = given = keras.Input((6,)) if reshape or batch is None else keras.Input(batch_shape=(8, 6))
    if reshape:
        x = keras.ops.reshape(x, (8, 6))
    x = layers.Dense(7, "relu", name="a")(x)
    x = layers.Dense(5, "relu", name="b")(layers.BatchNormalization(name="norm")(x))
    model = keras.Model(given, layers.Dense(3, "softmax", name="out")(x))
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


KINDS = {"batch_shape": {}, "reshape": {"reshape": True}}


@pytest.fixture(params=KINDS)
def fixed(request):
    return network(**KINDS[request.param])


def test_what_they_say(fixed):
    assert sites.batch_size(fixed) == 8
    assert sites.batch_size(network(batch=None)) is None


EXACT = ["frequency", "mean", "input_norm", "input_hessian", "gauss_newton", "sigmoid"]


@pytest.mark.parametrize("need", EXACT)
def test_statistics_are_those_of_all_samples(fixed, need):
    found = []
    for model in (fixed, network(batch=None)):
        live = sites.find(model).sites
        found.append(gathering.gather(model, live, X, {need}))
    for name, one in found[0].items():
        other = found[1][name]
        if one.activity:
            assert one.activity.samples == 20
            pair = getattr(one.activity, need), getattr(other.activity, need)
        else:
            pair = one.statistics[need], other.statistics[need]
        if need == inputs.HESSIAN:
            assert pair[0].rows == 20
            pair = pair[0].hessian, pair[1].hessian
        np.testing.assert_allclose(*pair, rtol=1e-4, atol=1e-6)


def test_activity_by_hand(fixed):
    kernel, bias = fixed.get_layer("a").get_weights()
    found = gathering.observe(fixed, sites.find(fixed).sites, X)["a/kernel"]
    np.testing.assert_allclose(found.frequency, (X @ kernel + bias > 0).mean(axis=0), atol=1e-7)


def test_batches_of_other_sizes_are_cut_anew(fixed):
    kernel, bias = fixed.get_layer("a").get_weights()
    data = [X[:5], X[5:18], X[18:]]
    found = gathering.observe(fixed, sites.find(fixed).sites, data)["a/kernel"]
    np.testing.assert_allclose(found.frequency, (X @ kernel + bias > 0).mean(axis=0), atol=1e-7)
    assert found.samples == 20


@pytest.mark.parametrize("need", ["gradient", "squared_gradient", "activation_gradient"])
def test_losses_take_whole_batches_and_say_so(fixed, need):
    with pytest.warns(UserWarning, match="4 samples of data are left out"):
        found = gathering.gather(fixed, sites.find(fixed).sites, (X, Y), {need})
    plain = network(batch=None)
    batches = [(X[:8], Y[:8]), (X[8:16], Y[8:16])]
    expected = gathering.gather(plain, sites.find(plain).sites, batches, {need})
    for name, one in found.items():
        pair = one.statistics[need], expected[name].statistics[need]
        np.testing.assert_allclose(*pair, rtol=1e-4, atol=1e-7)


def test_too_few_samples_for_one_batch(fixed):
    with pytest.raises(ValueError, match="no batch of 8 samples"):
        ap.prune(fixed, 0.5, "taylor", data=(X[:5], Y[:5]), verbose=0)


def test_all_that_runs_a_model(fixed):
    with pytest.warns(UserWarning, match="left out"):
        ap.recalibrate_batchnorm(fixed, X)
    kernel, bias = fixed.get_layer("a").get_weights()
    moving = keras.ops.convert_to_numpy(fixed.get_layer("norm").moving_mean)
    expected = np.maximum(X[:16] @ kernel + bias, 0).mean(axis=0)
    np.testing.assert_allclose(moving, expected, rtol=1e-4, atol=1e-6)
    assert ap.prune(fixed, 0.5, "synflow", verbose=0).sparsity == 39 / 77  # of 6 * 7 + 7 * 5
    timed = ap.analysis.latency(fixed, X, repeats=1, warmup=1)
    assert timed["batch_size"].tolist() == [8]
    with pytest.raises(ValueError, match="batches of 8 only"):
        ap.analysis.latency(fixed, X, batch_sizes=[7], repeats=1)
    with pytest.warns(UserWarning, match="4 of 20 samples are left out"):
        table = ap.analysis.sensitivity(fixed, X, Y, sparsities=[0.5], verbose=0)
    assert len(table) == 2
    table = ap.analysis.cost(fixed).table().set_index("layer")
    assert table.loc["a", "multiply_adds"] == 6 * 7  # of one sample


def test_in_a_fit():
    model = network()
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "wanda", data=X)
    model.fit(X[:16], Y[:16], batch_size=8, epochs=2, verbose=0, callbacks=[pruner])
    assert pruner.table()["total_sparsity"].tolist()[-1] == 39 / 77


def test_stateful_layers_start_from_zeros_and_keep_their_states():
    given = keras.Input(batch_shape=(4, 3, 2))
    lstm = layers.LSTM(5, stateful=True, return_sequences=True, name="lstm")
    model = keras.Model(given, layers.Flatten()(lstm(given)))
    x = np.random.default_rng(1).normal(size=(10, 3, 2)).astype("float32")
    model(x[:4])
    before = [keras.ops.convert_to_numpy(state).copy() for state in lstm.states]
    assert any(state.any() for state in before)
    found = gathering.observe(model, sites.find(model, exclude=()).sites, x)["lstm/kernel"]
    for state, own in zip(lstm.states, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(state), own)
    plain = layers.LSTM(5, return_sequences=True)
    plain(x[:1])
    plain.set_weights([keras.ops.convert_to_numpy(v) for v in lstm.trainable_variables])
    outputs = keras.ops.convert_to_numpy(plain(x))
    np.testing.assert_allclose(found.frequency, (outputs > 0).mean(axis=(0, 1)), atol=1e-6)
    assert found.samples == 10
    assert lstm.stateful
