"""Units of recurrent layers go with all their gates and states, and nothing else changes."""

import keras
import numpy as np
import pruned_graphs
import pytest
from compacted import assert_same, noise
from keras import layers as L

import activation_pruning as ap
from activation_pruning import keras_private

pytestmark = pytest.mark.backend

KINDS = {L.LSTM: 2, L.GRU: 2, L.SimpleRNN: 0}  # which gate is the candidate


def silenced(layer, units):
    """Candidates without kernel, recurrent kernel and bias; what their units are fed to stays."""
    cell, gate = layer.cell, KINDS[type(layer)]
    columns = gate * cell.units + np.array(units)
    for variable in [cell.kernel, cell.recurrent_kernel, *([cell.bias] if cell.use_bias else [])]:
        values = keras.ops.convert_to_numpy(variable).copy()
        values[..., columns] = 0
        variable.assign(values)


def unread(layer, reader, units, others):
    """No unit that stays hears these, and neither does the layer behind."""
    kernel = keras.ops.convert_to_numpy(layer.cell.recurrent_kernel).copy()
    gates = kernel.reshape(len(kernel), -1, layer.units)
    gates[np.ix_(units, np.arange(gates.shape[1]), others)] = 0
    layer.cell.recurrent_kernel.assign(gates.reshape(kernel.shape))
    kernel = keras.ops.convert_to_numpy(reader.kernel).copy()
    kernel[units] = 0
    reader.kernel.assign(kernel)


def recurrent_layers(model):
    return [one for one in keras_private.with_sublayers(model) if type(one) in KINDS]


def network(*made, shape=(6, 5)):
    return pruned_graphs.randomised(keras.Sequential([keras.Input(shape), *made, L.Dense(3)]))


OPTIONS = {
    "plain": {},
    "sequences": {"return_sequences": True},
    "without_bias": {"use_bias": False},
    "backwards": {"go_backwards": True},
    "unrolled": {"unroll": True},
    "relu": {"activation": "relu"},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_silent_and_unread_units_go(kind, options):
    model = network(kind(7, **OPTIONS[options]))
    layer, dense = model.layers
    silenced(layer, [0, 4])
    unread(layer, dense, [2, 5], [1, 3, 6])
    small = ap.compact(model)
    assert small.layers[0].units == 3
    gates = layer.cell.kernel.shape[1] // 7
    assert tuple(small.layers[0].cell.recurrent_kernel.shape) == (3, 3 * gates)
    assert_same(model, small, noise(4, 6, 5), 1e-6)
    row = ap.removable(model).iloc[0]
    assert row[["kind", "units", "removed", "left"]].tolist() == ["units", 7, 4, 0]


@pytest.mark.parametrize("reset_after", [True, False])
def test_both_biases_of_a_gru_shrink(reset_after):
    model = network(L.GRU(5, reset_after=reset_after))
    silenced(model.layers[0], [1])
    small = ap.compact(model)
    bias = np.asarray(model.layers[0].cell.bias).reshape(-1, 3, 5)
    expected = np.delete(bias, 1, axis=2).reshape(-1, 12)
    np.testing.assert_array_equal(np.asarray(small.layers[0].cell.bias).reshape(-1, 12), expected)
    assert_same(model, small, noise(4, 6, 5), 1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", ["kernel", "recurrent_kernel", "bias"])
def test_a_unit_with_a_candidate_stays(kind, missing):
    model = network(kind(4))
    cell = model.layers[0].cell
    before = keras.ops.convert_to_numpy(getattr(cell, missing)).copy()
    silenced(model.layers[0], [1])
    getattr(cell, missing).assign(before)
    assert ap.removable(model)["removed"].tolist() == [0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_an_activation_that_is_not_zero_at_zero_keeps_silent_units(kind):
    model = network(kind(4, activation="sigmoid"))
    for one in (model.layers[0].cell.kernel, model.layers[0].cell.recurrent_kernel):
        values = keras.ops.convert_to_numpy(one).copy()
        values[:, 1::4] = 0  # of all gates
        one.assign(values)
    silenced(model.layers[0], [1])
    row = ap.removable(model).iloc[0]
    assert row[["removed", "left"]].tolist() == [0, 1]
    assert f"{model.layers[0].name!r} feeds them back, and they are not zero" in row["reason"]
    unread(model.layers[0], model.layers[1], [1], [0, 2, 3])
    small = ap.compact(model)
    assert small.layers[0].units == 3
    assert_same(model, small, noise(4, 6, 5), 1e-6)


def test_silent_units_that_hear_each_other_only():
    model = network(L.LSTM(5))
    cell = model.layers[0].cell
    mutual = keras.ops.convert_to_numpy(cell.recurrent_kernel).reshape(5, 4, 5)[:, 2].copy()
    silenced(model.layers[0], [0, 3])
    kernel = keras.ops.convert_to_numpy(cell.recurrent_kernel).copy().reshape(5, 4, 5)
    kernel[np.ix_([0, 3], [2], [0, 3])] = mutual[np.ix_([0, 3], [0, 3])][:, None]
    cell.recurrent_kernel.assign(kernel.reshape(5, 20))
    small = ap.compact(model)
    assert small.layers[0].units == 3
    assert_same(model, small, noise(4, 6, 5), 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_pruned_units_of_stacked_layers_are_all_removed(kind):
    model = network(L.Dense(8), kind(6, return_sequences=True), kind(8))
    ap.prune(model, 0.5, allocation="uniform", granularity="unit")
    table = ap.removable(model)
    assert table["removed"].tolist() == [4, 3, 4, 0]
    assert (table["left"] == 0).all()
    small = ap.compact(model)
    assert [layer.units for layer in small.layers] == [4, 3, 4, 3]
    assert_same(model, small, noise(4, 6, 5), 1e-6)


@pytest.mark.parametrize("merge", ["concat", "sum", "ave", "mul", None])
@pytest.mark.parametrize("kind", KINDS)
def test_bidirectional(kind, merge):
    inputs = keras.Input((6, 5))
    both = L.Bidirectional(kind(6, return_sequences=True, return_state=True), merge_mode=merge)
    found = both(inputs)
    outputs = [L.Dense(2, name=f"d{i}")(one) for i, one in enumerate(found)]
    model = pruned_graphs.randomised(keras.Model(inputs, outputs))
    ap.prune(model, 0.5, allocation="uniform", granularity="unit")
    small = ap.compact(model)
    inner = recurrent_layers(small)
    assert [layer.units for layer in inner] == [3, 3]
    assert sorted(layer.go_backwards for layer in inner) == [False, True]
    assert_same(model, small, noise(4, 6, 5), 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_handed_from_one_layer_to_the_next(kind):
    source, target = keras.Input((6, 5)), keras.Input((4, 3))
    _, *states = kind(6, return_state=True, name="encoder")(source)
    x = kind(6, return_sequences=True, name="decoder")(target, initial_state=states)
    model = pruned_graphs.randomised(keras.Model([source, target], L.Dense(2)(x)))
    data = [noise(4, 6, 5), noise(4, 4, 3)]
    silenced(model.get_layer("decoder"), [0, 1])
    assert ap.removable(model)["removed"].sum() == 0  # they start from what the encoder found
    silenced(model.get_layer("encoder"), [1, 2])
    small = ap.compact(model)
    assert [layer.units for layer in recurrent_layers(small)] == [5, 5]
    assert_same(model, small, data, 1e-6)
    pruned_graphs.randomised(model)
    ap.prune(model, 0.5, allocation="uniform", granularity="unit")
    small = ap.compact(model)
    assert [layer.units for layer in recurrent_layers(small)] == [3, 3]
    assert_same(model, small, data, 1e-6)


def test_a_state_that_the_model_is_given_keeps_the_units():
    x, state = keras.Input((6, 5)), keras.Input((4,))
    layer = L.GRU(4)
    model = pruned_graphs.randomised(
        keras.Model([x, state], L.Dense(2)(layer(x, initial_state=state)))
    )
    silenced(layer, [1])
    assert ap.removable(model)["removed"].sum() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_stateful_layers_keep_what_they_remember(kind):
    inputs = keras.Input(batch_shape=(2, 6, 5))
    layer = kind(5, stateful=True)
    model = keras.Model(inputs, L.Dense(2)(layer(inputs)))
    pruned_graphs.randomised(model)
    silenced(layer, [1, 3])
    layer.reset_state()
    first, second = noise(2, 6, 5), noise(2, 6, 5, seed=1)
    small = ap.compact(model)
    assert small.layers[1].units == 3
    assert_same(model, small, first, 1e-6)
    assert_same(model, small, second, 1e-6)  # goes on from the states
    again = ap.compact(model)  # in the middle of it
    assert_same(model, again, first, 1e-6)
    for state in layer.states:
        state.assign(np.ones(state.shape))
    assert ap.removable(model)["removed"].sum() == 0


def test_masked_steps_and_a_table_of_words():
    tokens = keras.Input((6,))
    x = L.Embedding(9, 8, mask_zero=True)(tokens)
    x = L.Bidirectional(L.LSTM(6, return_sequences=True))(x)
    model = pruned_graphs.randomised(keras.Model(tokens, L.Dense(2)(L.GRU(4)(x))))
    ap.prune(model, 0.5, allocation="uniform", granularity="unit")
    small = ap.compact(model)
    assert (ap.removable(model)["left"] == 0).all()
    assert [layer.units for layer in recurrent_layers(small)] == [3, 3, 2]
    assert_same(model, small, np.random.default_rng(0).integers(0, 4, (6, 6)), 1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: L.Dense(8, "relu"),
        lambda: L.Dense(8, use_bias=False),
        lambda: L.LSTM(8),
        lambda: L.Bidirectional(L.GRU(8)),
        lambda: L.Conv1D(8, 3),
    ],
    ids=["dense", "without_bias", "lstm", "bidirectional", "convolution"],
)
def test_layers_in_time_distributed_shrink(make):
    inner = make()
    flat = [] if isinstance(inner, L.Dense | L.LSTM | L.Bidirectional) else [L.Flatten()]
    around = [L.TimeDistributed(one) for one in (L.Dense(6), inner, *flat)]
    model = network(*around, shape=(3, 6, 5))
    ap.prune(model, 0.5, allocation="uniform", granularity="unit")
    assert (ap.removable(model)["left"] == 0).all(), ap.removable(model).to_string()
    small = ap.compact(model)
    assert_same(model, small, noise(4, 3, 6, 5), 1e-6)
    assert small.count_params() < 0.62 * model.count_params()


@pytest.mark.parametrize("seed", range(12))
def test_random_silent_units(seed, tmp_path):
    generator = np.random.default_rng(seed)
    model = pruned_graphs.randomised(pruned_graphs.sequence_graph(seed), seed)
    for layer in recurrent_layers(model):
        units = np.flatnonzero(generator.random(layer.units) < 0.5)
        silenced(layer, units[: layer.units - 1])
    small = ap.compact(model) if ap.removable(model)["removed"].any() else model
    assert (small.count_params() < model.count_params()) == (small is not model)
    x = [generator.integers(0, 9, (4, 6)), generator.random((4, 6, 6)) < 0.7]
    assert_same(model, small, x, 1e-6)
    small.save(tmp_path / "small.keras")
    assert_same(small, keras.models.load_model(tmp_path / "small.keras"), x, 1e-6)


def test_fine_tuning_keeps_pruned_units_silent():
    model = network(L.GRU(6, return_sequences=True), L.LSTM(6), shape=(6, 5))
    model.compile("adam", "mse")
    ap.prune(model, 0.5, allocation="uniform", granularity="unit")
    model.fit(noise(8, 6, 5), noise(8, 3), epochs=2, verbose=0, callbacks=[ap.KeepPruned()])
    small = ap.compact(model)
    assert [layer.units for layer in small.layers] == [3, 3, 3]
    assert_same(model, small, noise(4, 6, 5), 1e-6)
