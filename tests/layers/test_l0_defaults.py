"""What L0 gates do as they are by default, and in which precision."""

import warnings

import keras
import numpy as np
import pytest
from gates import RATE, array, fit, mlp, noise, outputs, set_gates, sigmoid
from keras import layers

import activation_pruning as ap

pytestmark = pytest.mark.backend


def test_gates_of_float64_layers_are_of_float64():
    keras.config.set_floatx("float64")
    try:
        model = mlp()
        model = ap.wrap(model, wrapper=ap.L0Layer)
        x = noise(64, 6).astype("float64")
        fit(model, x, noise(64, 3).astype("float64"), epochs=2)
    finally:
        keras.config.set_floatx("float32")
    check_float64(model, x)


def test_one_float64_layer_in_a_float32_model():
    x = noise(64, 6)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, dtype="float64", name="a"), layers.Dense(3, name="out")]
    )
    model = ap.wrap(model, exclude=(), wrapper=ap.L0Layer)
    fit(model, x, noise(64, 3), epochs=2)
    check_float64(model, x)


def check_float64(model, x):
    layer = model.layers[0]
    set_gates(layer)
    gates = layer.gates()["kernel"]
    if keras.backend.backend() == "tensorflow":  # the others may compute in float32
        assert gates.dtype == layer.layer.kernel.dtype == "float64"
    (log_alpha,) = [v for v in layer.trainable_variables if v.name.endswith("log_alpha")]
    expected = np.clip(1.2 * sigmoid(RATE * array(log_alpha).astype("float64")) - 0.1, 0, 1)
    precise = 1e-12 if gates.dtype == "float64" else 1e-6
    np.testing.assert_allclose(gates, expected, atol=precise)
    stripped = ap.strip(model)
    np.testing.assert_allclose(outputs(stripped, x), outputs(model, x), rtol=1e-5, atol=1e-6)


# -- what a default fit prunes ----------------------------------------------------------------


def digits_like(seed=0):
    """A classification of as many inputs and samples as scikit-learn's digits."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 10, 1440)
    return (random.normal(size=(10, 64))[y] + random.normal(size=(1440, 64))).astype("float32"), y


def test_the_defaults_prune_in_a_fit_of_usual_length():
    """The price of a weight is 1 / weights of its layer; Adam as compile("adam") makes it."""
    x, y = digits_like()
    keras.utils.set_random_seed(0)
    dense = keras.Sequential(
        [keras.Input((64,)), layers.Dense(20, activation="relu", name="a"), layers.Dense(10)]
    )
    model = ap.wrap(dense, wrapper=ap.L0Layer)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    logs = model.fit(x, y, epochs=20, verbose=0, callbacks=[ap.L0Sparsity()]).history
    assert logs["l0_sparsity"][0] == 0
    assert logs["l0_sparsity"][-1] > 0.25
    (gates,) = model.layers[0].gates().values()
    assert logs["l0_sparsity"][-1] == pytest.approx((gates == 0).mean())
    kernel = array(ap.strip(model).layers[0].kernel)
    assert (kernel == 0).mean() == pytest.approx(logs["l0_sparsity"][-1])
    assert model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"] > 0.95


@pytest.mark.parametrize(("granularity", "behind"), [("weight", 1), ("unit", 6)])
def test_the_default_price_of_a_layer_with_all_gates_open_is_one(granularity, behind):
    layer = ap.L0Layer(layers.Dense(8), granularity=granularity, droprate=1e-6)
    layer(noise(2, 6))
    opened = sigmoid(np.log(1e6 - 1) - 2 / 3 * np.log(0.1 / 1.1))
    assert layer.price == 1 / 48
    assert float(layer.losses[0]) == pytest.approx(48 / behind * behind / 48 * opened, rel=1e-5)


def test_strip_says_that_nothing_was_pruned():
    model = ap.wrap(mlp(), wrapper=ap.L0Layer)
    told = r"no gate of \['l0_a', 'l0_b'\] is closed: nothing is pruned.*penalty= \(now 0\.021 for"
    with pytest.warns(UserWarning, match=told):
        ap.strip(model)
    set_gates(model.layers[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        ap.strip(model)


def test_l0_sparsity_wants_gates():
    model = mlp()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"no built L0Layer.*ap\.wrap\(model, wrapper=ap\.L0Layer"):
        model.fit(noise(8, 6), noise(8, 3), verbose=0, callbacks=[ap.L0Sparsity()])


def test_a_file_without_a_rate_has_the_variables_of_then():
    config = ap.L0Layer(layers.Dense(3)).get_config()
    del config["rate"]
    assert ap.L0Layer.from_config(config).rate == 1.0
