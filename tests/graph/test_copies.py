"""Copies of models: the same outputs, whatever they are made of."""

import warnings

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


class Counted(keras.metrics.Metric):
    """Takes an argument, holds another metric, and has no configuration."""

    def __init__(self, needed, name="counted"):
        super().__init__(name=name)
        self.needed, self.mean = needed, keras.metrics.Mean()

    def update_state(self, y, y_pred, sample_weight=None):
        self.mean.update_state(self.needed * keras.ops.ones_like(y_pred))

    def result(self):
        return self.mean.result()


def test_metrics_need_no_configuration_and_start_anew():
    model = models.mlp()
    model.compile("sgd", "mse", metrics=[Counted(3.0)])
    x, y = models.data()[0], np.zeros((22, models.CLASSES))
    model.fit(x, y, verbose=0)
    copy = copies.copy_model(model)
    assert copy.evaluate(x, y, verbose=0, return_dict=True)["counted"] == 3.0
    own = {id(variable) for metric in copy.metrics for variable in metric.variables}
    assert not own & {id(variable) for metric in model.metrics for variable in metric.variables}


def test_an_optimizer_that_cannot_be_made_anew_leaves_the_copy_uncompiled():
    class Mine(keras.optimizers.SGD):
        def __init__(self, needed):
            super().__init__(needed)

    model = models.mlp()
    model.compile(Mine(0.1), "mse")
    with pytest.warns(UserWarning, match="the copy is not compiled"):
        copy = copies.copy_model(model)
    assert not copy.compiled


@pytest.mark.lowest
def test_inputs_and_seeds_keep_their_names():
    inputs = keras.Input((6,))
    hidden = L.Dropout(0.5, name="drop")(L.Dense(4, name="a")(inputs))
    model = keras.Model(inputs, L.Dense(2, name="out")(hidden))
    for make in (copies.copy_model, ap.wrap, ap.compact):
        with warnings.catch_warnings(action="ignore"):
            copy = make(model)
        assert copy.layers[0].name == model.layers[0].name
        paths = [[v.path for v in one.variables if "seed" in v.path] for one in (copy, model)]
        assert paths[0] == paths[1] != []


class Silent(keras.regularizers.Regularizer):
    """Has no configuration."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, kernel):
        return self.factor * keras.ops.sum(kernel**2)


@pytest.mark.parametrize("way", ["compact", "factorize"])
def test_regularizers_need_no_configuration(way):
    model = keras.Sequential(
        [
            keras.Input((20,)),
            L.Dense(20, name="a", kernel_regularizer=Silent(0.5)),
            L.Dense(2, name="out", kernel_regularizer=Silent(2.0)),
        ]
    )
    ap.prune(model, 0.5, granularity="unit")
    x = np.random.default_rng(0).normal(size=(5, 20)).astype("float32")
    if way == "compact":
        copy = ap.compact(model)
        regularized = [0.5, 2.0]
        found, wanted = (keras.ops.convert_to_numpy(one(x)) for one in (copy, model))
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
        assert copy.layers[0].units == 10
    else:
        copy = ap.analysis.factorize(model, 2, method="svd")
        regularized = [2.0]
    kernels = [layer.kernel for layer in copy.layers if hasattr(layer, "kernel")]
    sums = [float(keras.ops.sum(kernel**2)) for kernel in kernels]
    wanted = sum(factor * total for factor, total in zip(regularized, sums, strict=True))
    assert float(sum(copy.losses)) == pytest.approx(wanted, rel=1e-5)


def test_what_a_layer_holds_without_a_configuration_is_named():
    class Mute(L.Layer):
        def get_config(self):
            raise NotImplementedError("nothing to say")

    with pytest.raises(TypeError, match="'mute' \\(Mute\\) has no configuration: nothing to say"):
        copies.resized_layer(Mute(name="mute"))
