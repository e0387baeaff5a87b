"""One-shot pruning: exact, monotone, in place, and clear about what cannot be done."""

import keras
import models
import numpy as np
import pytest
from keras import layers, ops

import activation_pruning as ap
from activation_pruning import sites
from activation_pruning.allocations import ALLOCATIONS
from activation_pruning.criteria import CRITERIA
from activation_pruning.evidence import gathering
from activation_pruning.hooks.tracking import TRACKED

BACKEND = keras.backend.backend()
ONE_SHOT = [name for name in CRITERIA if not CRITERIA[name].needs & set(TRACKED)]


def mlp(*hidden, features=8):
    model = keras.Sequential([keras.Input((features,))])
    for index, units in enumerate(hidden or (12, 10)):
        model.add(layers.Dense(units, activation="relu", name=f"hidden_{index}"))
    model.add(layers.Dense(3, name="out"))
    return model


def noise(*shape):
    return np.random.default_rng(5).normal(size=shape).astype("float32")


def kernels(model, **chosen):
    return {site.name: site.kernel() for site in sites.find(model, **chosen).sites}


def zeros(model, **chosen):
    return sum(int((kernel == 0).sum()) for kernel in kernels(model, **chosen).values())


def weights(model, **chosen):
    return sum(kernel.size for kernel in kernels(model, **chosen).values())


def unchanged(model, before):
    return all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))


# -- exact budgets -------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.0, 0.001, 0.77])
@pytest.mark.parametrize("criterion", ONE_SHOT)
def test_exactly_k_weights_go_with_every_criterion(criterion, sparsity):
    model = mlp()
    model.compile(loss="mse")
    y = noise(50, *model.output_shape[1:])
    report = ap.prune(model, sparsity, criterion, data=(noise(50, 8), y))
    assert zeros(model) == int(np.floor(sparsity * 216 + 0.5))
    assert report.sparsity == zeros(model) / 216


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_totals_of_every_allocation(allocation):
    model = mlp()
    ap.prune(model, 0.7, allocation=allocation)
    by_site = [int((kernel == 0).sum()) for kernel in kernels(model).values()]
    if allocation == "uniform":
        assert by_site == [67, 84]  # floor(0.7 * 96 + 0.5), 0.7 * 120
    else:
        assert sum(by_site) == 151  # floor(0.7 * 216 + 0.5)


@pytest.mark.parametrize(
    ("granularity", "step"), [("unit", 12), ((2, 2), 4), ((8, 1), 8), (ap.masks.Block(4, 3), 12)]
)
def test_bigger_items_prune_as_many_as_fit(granularity, step):
    model = mlp()
    ap.prune(model, 0.55, granularity=granularity)
    budget = int(np.floor(0.55 * 216 + 0.5))
    assert budget - step < zeros(model) <= budget


def test_units_lose_all_their_weights_or_none():
    model = mlp()
    report = ap.prune(model, 0.5, "unit_norm", granularity="unit")
    for kernel in kernels(model).values():
        assert set((kernel == 0).mean(axis=0)) <= {0.0, 1.0}
    removed = [int((kernel == 0).all(axis=0).sum()) for kernel in kernels(model).values()]
    assert report.table()["units_removed"].tolist()[:2] == removed
    assert sum(removed) > 0


def test_n_to_m_implies_its_sparsity_and_keeps_the_largest_of_each_group():
    model = mlp()
    before = kernels(model)
    report = ap.prune(model, granularity="2:4")
    assert report.target == 0.5
    for name, kernel in kernels(model).items():
        groups = np.abs(before[name]).T.reshape(-1, 4)
        kept = groups >= np.sort(groups, axis=1)[:, 2:3]
        np.testing.assert_array_equal((kernel != 0).T.reshape(-1, 4), kept)


def test_ties_keep_the_lower_index_and_the_earlier_layer():
    model = mlp()
    for layer in model.layers:
        layer.kernel.assign(np.ones(layer.kernel.shape))
    ap.prune(model, 130 / 216)
    first, second = kernels(model).values()
    assert second.sum() == 1  # the guard keeps the layer's best item: the first of equals
    assert second[0, 0] == 1
    assert first.ravel().tolist() == [1.0] * 85 + [0.0] * 11


def test_sparsity_near_one_keeps_one_weight_of_each_layer_and_warns():
    model = mlp()
    with pytest.warns(UserWarning, match=r"nothing is emptied, in hidden_0/kernel"):
        ap.prune(model, 0.9999)
    assert [int((kernel != 0).sum()) for kernel in kernels(model).values()] == [1, 1]


def test_layers_of_one_unit_keep_it_and_warn():
    model = mlp(1, 6)
    with pytest.warns(UserWarning, match="hidden_0/kernel"):
        ap.prune(model, 0.9, granularity="unit")
    assert (kernels(model)["hidden_0/kernel"] != 0).all()


def test_repeated_pruning_only_adds_zeros():
    model, dead = mlp(), None
    for sparsity in (0.3, 0.6, 0.6, 0.2, 0.8):
        criterion = "random" if sparsity == 0.6 else "magnitude"
        ap.prune(model, sparsity, criterion, seed=int(10 * sparsity))
        now = np.concatenate([kernel.ravel() == 0 for kernel in kernels(model).values()])
        if dead is not None:
            assert now[dead].all()
        dead = now
    assert dead.sum() == int(np.floor(0.8 * 216 + 0.5))


def test_the_same_seed_gives_the_same_masks():
    results = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(0)
        model = mlp()
        ap.prune(model, 0.5, "random", seed=seed)
        results.append(kernels(model)["hidden_0/kernel"] == 0)
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_zeros_count_as_pruned_unless_told_otherwise():
    kernel = np.arange(1, 97, dtype="float32").reshape(8, 12)
    kernel[:4] = 0

    def pruned_of(respect_zeros):
        model = keras.Sequential([keras.Input((8,)), layers.Dense(12)])
        model.layers[0].kernel.assign(kernel)
        ap.prune(model, 0.5, lambda site: -np.abs(site.kernel), exclude=(),
                 respect_zeros=respect_zeros)  # fmt: skip
        return kernels(model, exclude=())["dense/kernel"] == 0

    np.testing.assert_array_equal(pruned_of(True), kernel == 0)
    keras.backend.clear_session()
    # 48 of 96 go, the largest first: those that were zeros already are no longer among them
    assert pruned_of(False).sum() == 96


def test_kernels_of_zeros_are_fresh_not_pruned():
    model = mlp()
    model.layers[0].kernel.assign(np.zeros((8, 12)))
    ap.prune(model, 0.5)
    second = kernels(model)["hidden_1/kernel"]
    assert (second == 0).sum() == 108 - 95  # one weight of the zeros is guarded


def test_biases_and_excluded_layers_stay_as_they_are():
    model = mlp()
    for layer in model.layers:
        layer.bias.assign(noise(*layer.bias.shape))
    before = [layer.get_weights() for layer in model.layers]
    ap.prune(model, 0.9, exclude="hidden_1")
    for layer, (kernel, bias) in zip(model.layers, before, strict=True):
        np.testing.assert_array_equal(layer.get_weights()[1], bias)
        if layer.name == "hidden_1":
            np.testing.assert_array_equal(layer.get_weights()[0], kernel)
    assert zeros(model, include=["hidden_0"]) == int(np.floor(0.9 * 96 + 0.5))
    assert zeros(model, include=["out"]) == 0  # what is excluded adds to the default


def test_surviving_weights_keep_their_values_in_low_precision():
    keras.config.set_dtype_policy("bfloat16")
    try:
        model = mlp()
    finally:
        keras.config.set_dtype_policy("float32")
    before = kernels(model)
    ap.prune(model, 0.5)
    assert keras.backend.standardize_dtype(model.layers[0].kernel.dtype) == "bfloat16"
    for name, kernel in kernels(model).items():
        np.testing.assert_array_equal(kernel[kernel != 0], before[name][kernel != 0])
    assert zeros(model) == 108


# -- activity from data ----------------------------------------------------------------------


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return -(-len(self.x) // 16)

    def __getitem__(self, index):
        part = self.x[16 * index : 16 * index + 16]
        return part, np.zeros(len(part))


def _tf_data(x):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((x, np.zeros(len(x)))).batch(16)


def _loader(x):
    torch = pytest.importorskip("torch")
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.tensor(x), torch.zeros(len(x))), batch_size=16
    )


DATA = {
    "array": lambda x: x,
    "x_y": lambda x: (x, np.zeros(len(x))),
    "py_dataset": Batches,
    "generator": lambda x: ((x[i : i + 16], None) for i in range(0, len(x), 16)),
    "tf_data": _tf_data,
    "torch_loader": _loader,
}


@pytest.mark.parametrize("kind", DATA)
def test_counts_equal_a_numpy_oracle_exactly(kind):
    if kind == "torch_loader" and BACKEND != "torch":
        pytest.skip("torch tensors are inputs of the torch backend")
    model = mlp()
    model.layers[0].set_weights([np.round(8 * noise(8, 12)) / 8, np.zeros(12)])
    x = np.round(8 * noise(50, 8)) / 8  # exact products and sums: `> 0` leaves no rounding
    found = sites.find(model).sites
    counted = gathering.observe(model, found, DATA[kind](x))["hidden_0/kernel"]
    output = np.maximum(x @ np.round(8 * noise(8, 12)) / 8, 0)
    assert counted.samples == 50
    np.testing.assert_array_equal(counted.frequency, (output > 0).sum(axis=0) / 50)
    np.testing.assert_allclose(counted.mean, output.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(counted.rms, np.sqrt((output**2).mean(axis=0)), rtol=1e-5)


def test_a_higher_threshold_counts_fewer():
    model, x = mlp(), noise(50, 8)
    found = sites.find(model).sites
    output = ops.convert_to_numpy(model.layers[0](x))
    counted = gathering.observe(model, found, x, threshold=0.5)["hidden_0/kernel"]
    np.testing.assert_array_equal(counted.frequency, (output > 0.5).sum(axis=0) / 50)


@pytest.mark.parametrize("named", [False, True])
def test_models_of_several_inputs_take_lists_and_dicts(named):
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    hidden = layers.Dense(5, activation="relu", name="hidden")(layers.Concatenate()([a, b]))
    model = keras.Model({"a": a, "b": b} if named else [a, b], layers.Dense(2)(hidden))
    x = noise(40, 4), noise(40, 4)[::-1].copy()
    data = {"a": x[0], "b": x[1]} if named else list(x)
    counted = gathering.observe(model, sites.find(model).sites, data)["hidden/kernel"]
    output = ops.convert_to_numpy(model.get_layer("hidden")(np.concatenate(x, axis=1)))
    np.testing.assert_array_equal(counted.frequency, (output > 0).sum(axis=0) / 40)


def test_rarely_active_units_go_first():
    model, x = mlp(), noise(60, 8)
    active = (ops.convert_to_numpy(model.layers[0](x)) > 0).sum(axis=0)
    ap.prune(model, 3 / 12, "activation", granularity="unit", data=x, include="hidden_0")
    removed = (kernels(model)["hidden_0/kernel"] == 0).all(axis=0)
    assert removed.sum() == 3
    assert active[removed].max() <= active[~removed].min()


def test_observing_leaves_no_trace():
    model = mlp()
    model.compile("sgd", "mse")
    x = noise(16, 8)
    model.fit(x, noise(16, 3), verbose=0)
    before, attributes = model.get_weights(), set(vars(model.layers[0]))
    gathering.observe(model, sites.find(model).sites, x)
    assert unchanged(model, before)
    assert set(vars(model.layers[0])) == attributes
    assert not model.layers[0]._layers
    assert "call" not in vars(model.layers[0])


# -- errors, with nothing changed --------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity must be in \[0, 1\), received 1.0"),
        ({"sparsity": 80}, r"sparsity must be in \[0, 1\), received 80; 0.8 for 80 %"),
        ({"sparsity": [50, 80]}, r"received 50.0; 0.8 for 80 %"),
        ({"sparsity": -0.1}, r"sparsity must be in \[0, 1\), received -0.1"),
        ({"sparsity": float("nan")}, r"sparsity must be in \[0, 1\), received nan"),
        ({"sparsity": "0.5"}, r"sparsity must be in \[0, 1\), received '0.5'"),
        ({"sparsity": ap.schedules.Every(0.2)}, "a schedule is for PruningCallback"),
        ({"sparsity": ap.schedules.OneShot(0.2)}, "a schedule is for PruningCallback"),
        ({"sparsity": None}, r"sparsity=None: give a fraction"),
        ({"sparsity": 0.6, "granularity": "2:4"}, r"sparsity must be in \[0, 0.5\]"),
        ({"criterion": "magnitud"}, "unknown criterion 'magnitud'; did you mean 'magnitude'"),
        ({"allocation": "globl"}, "unknown allocation 'globl'; did you mean 'global'"),
        ({"granularity": "units"}, "granularity='units'; give 'weight', 'unit'"),
        ({"granularity": "3:5"}, "input axis that 5 divides, got 8"),
        ({"include": "hiden_0"}, "Did you mean 'hidden_0'"),
        ({"criterion": "activation"}, "needs activity: pass data="),
        ({"criterion": "activation", "data": np.zeros((0, 8))}, "data is empty"),
        ({"criterion": lambda site: site.kernel[0]}, "one score per weight"),
        ({"criterion": lambda site: site.kernel * np.nan}, "hidden_0/kernel: the scores hold NaN"),
    ],
)
def test_bad_arguments_raise_and_change_nothing(arguments, message):
    model = mlp()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        ap.prune(model, **{"sparsity": 0.4, **arguments})
    assert unchanged(model, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_name_their_layer(bad):
    model = mlp()
    kernel = model.layers[1].get_weights()[0]
    kernel[2, 3] = bad
    model.layers[1].kernel.assign(kernel)
    before = model.get_weights()
    with pytest.raises(ValueError, match="layer 'hidden_1' has NaN or infinite weights"):
        ap.prune(model, 0.5)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_data_of_the_wrong_shape_raises_and_leaves_the_model_usable():
    model = mlp()
    before = model.get_weights()
    with pytest.raises(ValueError):
        ap.prune(model, 0.5, "activation", data=noise(10, 7))
    assert unchanged(model, before)
    assert "call" not in vars(model.layers[0])
    ap.prune(model, 0.5, "activation", data=noise(10, 8))
    assert zeros(model) == 108


# -- the report --------------------------------------------------------------------------------


def test_report_has_a_row_for_each_site_and_for_what_was_left_out():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="a"), layers.Dense(3)])
    model.layers[1].name = "out"
    report = ap.prune(model, 0.25)
    table = report.table()
    assert table.columns.tolist() == [
        "layer", "site", "weights", "pruned", "sparsity", "units", "units_removed", "note",
    ]  # fmt: skip
    assert table["layer"].tolist() == ["a", "out"]
    assert table.loc[0].tolist() == ["a", "a/kernel", 32, 8, 0.25, 4, 0, ""]
    assert table.loc[1, "note"] == "not pruned: output layer (excluded by default)"
    assert table.loc[1, ["weights", "pruned", "units", "units_removed"]].isna().all()
    assert report.sparsity == 0.25
    table.loc[0, "pruned"] = 99
    assert report.table().loc[0, "pruned"] == 8


def test_report_prints_as_a_table():
    text = str(ap.prune(mlp(), 0.5))
    assert text.startswith("108 of 216 prunable weights pruned: 50.00% (target 50.00%)\n")
    lines = text.splitlines()
    assert " ".join(lines[1].split()) == "site weights pruned sparsity units units_removed note"
    assert lines[2].split()[0] == "hidden_0/kernel"
    assert lines[2].split()[3].endswith("%")
    assert "not pruned: output layer" in lines[4]
    assert f"still holds {mlp().count_params():,} parameters" in lines[-1]


def test_predictions_survive_saving_and_loading(tmp_path):
    model, x = mlp(), noise(20, 8)
    ap.prune(model, 0.8, "activation_magnitude", data=x)
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
    assert zeros(loaded) == int(np.floor(0.8 * 216 + 0.5))


def test_every_batch_of_a_list_is_counted():
    model = models.mlp()
    x, _ = models.data(samples=12)
    found = gathering.observe(model, ap.sites.find(model).sites, [x[:4], x[4:12]])
    assert found["a/kernel"].samples == 12


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed=-1"):
        ap.prune(models.mlp(), 0.5, criterion="random", seed=-1)


@pytest.mark.parametrize("criterion", ["obd", "synflow", "magnitude"])
def test_what_takes_long_shows_a_bar_and_can_be_told_not_to(criterion, capsys):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    ap.prune(model, 0.5, criterion, data=np.ones((4, 6)), verbose=0)
    assert not capsys.readouterr().out
    ap.prune(model, 0.6, criterion, data=np.ones((4, 6)))
    assert ("/part" in capsys.readouterr().out) == (criterion != "magnitude")
