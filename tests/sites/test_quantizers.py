"""Layers of users' own that compute with a quantised kernel, as those of QKeras do."""

import keras
import numpy as np
import pytest
from chosen_sites import names, sequential, skipped
from keras import layers, ops

import activation_pruning as ap

pytestmark = pytest.mark.backend
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(64, 8, 8, 2)).astype("float32"), RNG.integers(0, 3, 64)


def rounded(x, bits=3):
    """To multiples of 2**-bits; the gradient passes straight through."""
    return x + ops.stop_gradient(ops.round(x * 2**bits) / 2**bits - x)


def binary(x):
    return x + ops.stop_gradient(ops.where(x < 0, -1.0, 1.0) - x)


class QuantizedDense(layers.Dense):
    """As QDense of QKeras: a plain kernel, and what it is sent through."""

    def __init__(self, units, kernel_quantizer=rounded, **kwargs):
        super().__init__(units, **kwargs)
        self.kernel_quantizer = kernel_quantizer

    def call(self, x):
        return self.activation(ops.matmul(x, self.kernel_quantizer(self.kernel)) + self.bias)


class QuantizedConv2D(layers.Conv2D):
    """As QConv2D of QKeras."""

    def __init__(self, *args, kernel_quantizer=rounded, **kwargs):
        super().__init__(*args, **kwargs)
        self.kernel_quantizer = kernel_quantizer

    def call(self, x):
        outputs = self.convolution_op(x, self.kernel_quantizer(self.kernel))
        return self.activation(outputs + self.bias)


class Quantized(layers.Wrapper):
    """Computes with the quantised kernel of the Dense in it, which it never calls."""

    def call(self, x):
        return ops.matmul(x, rounded(self.layer.kernel)) + self.layer.bias

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.layer.units)


class Halved(layers.Wrapper):
    """Calls the layer in it."""

    def call(self, x):
        return self.layer(x) / 2


def network():
    model = sequential(
        QuantizedConv2D(4, 3, activation="relu", name="conv"),
        layers.Flatten(),
        QuantizedDense(12, activation="relu", name="dense"),
        Quantized(layers.Dense(10, name="inside"), name="quantized"),
        layers.ReLU(name="relu"),
        Halved(layers.Dense(8, name="inside"), name="halved"),
        layers.Dense(3, name="out"),
        shape=X.shape[1:],
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model


FOUND = ["conv/kernel", "dense/kernel", "quantized/inside/kernel", "halved/inside/kernel"]
WEIGHTS = 72 + 144 * 12 + 120 + 80


def zeros(model):
    return {site.name: site.kernel() == 0 for site in ap.sites.find(model).sites}


def test_layers_and_wrappers_are_found_and_counted():
    model = network()
    assert names(model) == FOUND
    assert skipped(model) == {"out": "output layer (excluded by default)"}
    report = ap.prune(model, 0.6)
    assert report.table()["weights"].sum() == WEIGHTS
    assert report.sparsity == int(0.6 * WEIGHTS + 0.5) / WEIGHTS


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_zeros_stay_through_fit(optimizer):
    model = network()
    ap.prune(model, 0.6)
    pruned = zeros(model)
    before = model.get_weights()
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[ap.KeepPruned()])
    for name, mask in zeros(model).items():
        np.testing.assert_array_equal(mask, pruned[name])
    assert any((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))


def test_a_callback_prunes_within_fit():
    model = network()
    pruner = ap.PruningCallback(ap.schedules.Linear(0.6, begin=0, end=2), "magnitude")
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[pruner])
    assert sum(mask.sum() for mask in zeros(model).values()) == int(0.6 * WEIGHTS + 0.5)


def test_a_quantiser_that_moves_zeros_is_refused():
    layer = QuantizedDense(4, kernel_quantizer=binary, name="it")
    model = sequential(layer, layers.Dense(3, name="kept"), layers.Dense(2))
    assert names(model) == ["kept/kernel"]
    assert skipped(model)["it"] == (
        "`kernel_quantizer` makes 1 of a zero, so that pruned weights would act; give the layer a "
        "quantiser that keeps zeros"
    )


def test_what_cannot_be_called_is_no_quantiser():
    layer = layers.Dense(4, name="it")
    layer.kernel_quantizer = "binary"
    assert names(sequential(layer, layers.Dense(2))) == ["it/kernel"]


def test_a_quantiser_is_named_not_given():
    with pytest.raises(TypeError, match="give the name of what the layer"):
        ap.sites.Kernel("kernel", quantizer=rounded)
