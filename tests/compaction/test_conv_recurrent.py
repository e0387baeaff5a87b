"""ConvLSTM: its filters are counted, pruned, kept at zero, and leave the model with their gates."""

import keras
import models
import numpy as np
import pruned_graphs
import pytest
from compacted import assert_same, noise
from keras import layers as L

import activation_pruning as ap

pytestmark = pytest.mark.backend

SHAPE = (4, 6, 6, 2)


def network(sequences=True, padding="same", **settings):
    x = keras.Input(SHAPE)
    y = L.ConvLSTM2D(4, 3, padding=padding, return_sequences=sequences, name="first", **settings)(x)
    if sequences:
        y = L.ConvLSTM2D(3, 2, padding=padding, name="second")(y)
    y = L.Flatten()(y)
    return pruned_graphs.randomised(keras.Model(x, L.Dense(2, "softmax", name="out")(y)))


def test_both_kernels_are_sites_of_the_same_units():
    found = ap.sites.find(network()).sites
    names = [f"{layer}/{kernel}" for layer in ("first", "second") for kernel in KERNELS]
    assert [site.name for site in found] == names
    gates = found[0].units  # (1, 1, 1, 16): each of four gates has the four filters
    assert gates.shape == (1, 1, 1, 16)
    assert gates.ravel().tolist() == [0, 1, 2, 3] * 4


KERNELS = "kernel", "recurrent_kernel"


def test_frequencies_are_shares_of_steps_and_positions():
    model, x = network(), noise(12, *SHAPE)
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    counter = ap.ActivationCounter()
    model.fit(x, np.zeros(12), batch_size=4, verbose=0, callbacks=[counter])
    shown = models.outputs(model, ["first", "second"], x)
    table = counter.table().set_index("layer")
    for name, values in shown.items():
        expected = (values.reshape(12, -1, values.shape[-1]) > 0).mean(axis=(0, 1))
        rows = table.loc[[name]].drop_duplicates("unit")
        np.testing.assert_allclose(rows["frequency"], expected, atol=1e-6)


def test_zeros_stay_zero_in_fit():
    model, x = network(), noise(12, *SHAPE)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "activation_magnitude")
    model.fit(x, np.arange(12) % 2, epochs=4, verbose=0, callbacks=[pruner])
    for layer in model.layers[1:3]:
        for name in KERNELS:
            assert (keras.ops.convert_to_numpy(getattr(layer.cell, name)) == 0).any()
    assert pruner.table().query("event == 1")["sparsity"].between(0.2, 0.8).all()


@pytest.mark.parametrize(
    ("sequences", "padding", "use_bias"),
    [(True, "same", True), (True, "valid", False), (False, "same", True)],
)
def test_pruned_filters_leave_with_their_gates(sequences, padding, use_bias, tmp_path):
    model = network(sequences, padding, use_bias=use_bias)
    ap.prune(model, 0.5, granularity="unit", allocation="uniform")
    small, x = ap.compact(model), noise(3, *SHAPE)
    assert_same(model, small, x, 1e-5)
    first = small.get_layer("first")
    assert first.filters == 2
    assert tuple(first.cell.kernel.shape) == (3, 3, 2, 8)
    assert tuple(first.cell.recurrent_kernel.shape) == (3, 3, 2, 8)
    small.save(tmp_path / "m.keras")
    assert_same(small, keras.models.load_model(tmp_path / "m.keras"), x, 1e-6)


def test_constants_that_come_in_are_folded_only_where_no_border_sees_less_of_them():
    for padding, filters in (("valid", 1), ("same", 2)):
        x = keras.Input(SHAPE)
        first = L.TimeDistributed(L.Conv2D(2, 1, name="conv"), name="each")
        y = L.ConvLSTM2D(2, 3, padding=padding)(first(x))
        model = pruned_graphs.randomised(keras.Model(x, L.Dense(2)(L.Flatten()(y))))
        kernel, bias = first.get_weights()
        first.set_weights([kernel * [1, 0], bias])
        if padding == "valid":
            small = ap.compact(model)
        else:
            with pytest.warns(UserWarning, match="sums differ at its borders"):
                small = ap.compact(model)
        assert_same(model, small, noise(3, *SHAPE), 1e-5)
        assert small.get_layer("each").layer.filters == filters


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="a CPU has no channels first")
def test_channels_that_come_first_stay():
    x = keras.Input((4, 2, 6, 6))
    y = L.ConvLSTM2D(4, 3, data_format="channels_first", name="first")(x)
    model = pruned_graphs.randomised(keras.Model(x, L.Dense(2)(L.Flatten()(y))))
    ap.prune(model, 0.5, granularity="unit", allocation="uniform")
    with pytest.warns(UserWarning, match="its channels come first"):
        assert_same(model, ap.compact(model), noise(3, 4, 2, 6, 6), 1e-6)
