"""Prune, retrain, and again: within `fit`, outside of it, and in search of a sparsity."""

import json

import keras
import numpy as np
import pytest

import activation_pruning as ap
from activation_pruning import masks


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    x = random.normal(size=(96, 8)).astype("float32")
    return x, (x[:, :1] * x[:, 1:2] > 0).astype("float32")


def network(metrics=("accuracy",), seed=0):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, "relu", name="first"),
            keras.layers.Dense(10, "relu", name="second"),
            keras.layers.Dense(1, "sigmoid", name="output"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        "binary_crossentropy",
        metrics=list(metrics),
        jit_compile=False,  # each fit traces its step anew
    )
    return model


WEIGHTS = 8 * 16 + 16 * 10


def alive(model):
    return [int(np.count_nonzero(layer.kernel)) for layer in model.layers[:-1]]


def zeros(model):
    return [np.array(layer.kernel) == 0 for layer in model.layers[:-1]]


def training(data, **options):
    x, y = data
    options["shuffle"] = False  # on JAX a second fit shuffles otherwise, whatever the seed
    return lambda model, **more: model.fit(x, y, batch_size=32, verbose=0, **options, **more)


def scores_of(values):
    """An `evaluate` that returns these, one after the other."""
    left = list(values)
    return lambda model: left.pop(0)


# -- iterative_prune ---------------------------------------------------------------------------


def test_shares_of_what_is_alive_go_down_to_the_size_asked_for(data):
    model, ups = network(), []
    fit = training(data)

    def watched(model, **more):
        before = zeros(model)
        fit(model, **more)
        ups.append(all((now == then).all() for now, then in zip(zeros(model), before, strict=True)))

    done = ap.iterative_prune(model, watched, lambda m: 1.0, 0.5, until=50, retrain=3, verbose=0)
    table = done.table()
    assert table["weights_alive"].tolist() == [288, 144, 72, 50]  # the last step is cut
    assert table["weights_pruned"].tolist() == [0, 144, 72, 22]
    assert table["epochs_total"].tolist() == [0, 3, 6, 9]
    assert table["compression"].tolist() == [1.0, 2.0, 4.0, 288 / 50]
    assert table["time_total_s"].is_monotonic_increasing
    assert sum(alive(model)) == 50
    assert ups == [True] * 3  # pruned weights stay zeros while it retrains
    assert done.stopped == "50 weights alive, sparsity 0.8264"


def test_a_fixed_number_goes_each_time_and_steps_can_be_limited(data):
    until = ap.Until(steps=3)
    done = ap.iterative_prune(
        network(), training(data), lambda m: 1.0, 30, until, retrain=0, verbose=0
    )
    assert done.table()["weights_pruned"].tolist() == [0, 30, 30, 30]
    assert done.table()["epochs"].tolist() == [0, 0, 0, 0]
    assert done.stopped == "3 steps"


def test_a_bucket_sums_saliencies_anew_in_each_step(data):
    model = network()
    sums = []

    def fit(model, **more):
        pass

    def evaluate(model):
        sums.append(sum(np.abs(np.array(layer.kernel)).sum() for layer in model.layers[:-1]))
        return 1.0

    ap.iterative_prune(
        model, fit, evaluate, ap.amounts.Bucket(4.0), until=ap.Until(steps=3), retrain=0, verbose=0
    )
    lost = -np.diff(sums[::2])
    assert (lost <= 4.0).all()
    assert (lost > 3.8).all()


def test_layers_take_turns(data):
    model = network()
    done = ap.iterative_prune(
        model,
        training(data),
        lambda m: 1.0,
        ap.amounts.InTurn(ap.amounts.Fraction(0.5)),
        ap.Until(steps=3),
        retrain=1,
        verbose=0,
    )
    assert done.table()["weights_alive"].tolist() == [288, 288 - 64, 288 - 64 - 80, 288 - 96 - 80]
    assert alive(model) == [32, 80]


def test_a_layer_without_anything_to_take_passes_its_turn_on(data):
    model = network()
    first, second = (layer.kernel for layer in model.layers[:-1])
    first.assign(np.ones(first.shape))
    small = np.ones(second.shape)
    small[:2, :3] = 0.01
    second.assign(small)
    done = ap.iterative_prune(
        model,
        training(data),
        lambda m: 1.0,
        ap.amounts.InTurn(ap.amounts.Threshold(0.5)),
        retrain=0,
        verbose=0,
    )
    assert done.table()["weights_alive"].tolist() == [288, 282]
    assert done.table()["step"].tolist() == [0, 1]
    assert done.stopped == "InTurn(amount=Threshold(score=0.5)) takes nothing more"


def test_up_to_holds_any_amount_back(data):
    for amount in (ap.amounts.Fraction(0.9), ap.amounts.Number(200), ap.amounts.Threshold(9.0)):
        model = network()
        ap.prune(model, ap.amounts.UpTo(amount, 0.25), verbose=0)
        assert sum(alive(model)) == 216


def test_it_stops_below_the_floor_and_keeps_the_two_networks_of_interest(data):
    model = network()
    # dense, then (before, after) retraining of each step
    values = [0.90, 0.5, 0.91, 0.5, 0.895, 0.5, 0.89, 0.5, 0.70]
    done = ap.iterative_prune(
        model, training(data), scores_of(values), 60, ap.Until(metric=0.8), verbose=0
    )
    assert done.table()["metric"].tolist() == [0.90, 0.91, 0.895, 0.89, 0.70]
    assert done.table()["metric_pruned"].tolist() == [0.90, 0.5, 0.5, 0.5, 0.5]
    assert done.stopped == "metric 0.7000 below 0.8"
    assert (done.smallest.step, done.smallest.metric) == (3, 0.89)  # exactly one point is within
    # 60 of 288 are 21 %: from step 3 on it is half or more
    assert (done.most_accurate.step, done.most_accurate.sparsity) == (3, pytest.approx(0.625))
    assert sum(alive(model)) == 288 - 240
    assert sum(alive(done.smallest.restore())) == 288 - 180
    assert model is done.smallest.model


def test_the_most_accurate_is_looked_for_among_the_compressed(data):
    values = [0.9, 0, 0.99, 0, 0.80, 0, 0.85, 0, 0.85]
    done = ap.iterative_prune(
        network(), training(data), scores_of(values), 72, ap.Until(steps=3), verbose=0
    )
    assert done.smallest.step == 1
    assert (done.most_accurate.step, done.most_accurate.metric) == (3, 0.85)
    assert "smallest within 0.01" in str(done)


def test_it_stops_before_a_layer_is_emptied_and_leaves_what_was(data):
    model = network()
    small = model.get_layer("second")
    small.kernel.assign(np.array(small.kernel) * 1e-6)  # all of it would go first
    done = ap.iterative_prune(
        model, lambda model, **more: None, lambda m: 1.0, 100, 0.99, retrain=0, verbose=0
    )
    assert "nothing is emptied" in done.stopped
    assert "second/kernel" in done.stopped
    assert done.table()["weights_alive"].tolist() == [288, 188]
    assert sum(alive(model)) == 188


def test_it_stops_when_the_amount_takes_nothing_more(data):
    done = ap.iterative_prune(
        network(),
        training(data),
        lambda m: 1.0,
        ap.amounts.Threshold(0.0),
        retrain=0,
        verbose=0,
    )
    assert done.stopped == "Threshold(score=0.0) takes nothing more"
    assert done.smallest is None


def test_retraining_goes_on_until_it_is_flat(data):
    model = network()
    policy = ap.retraining.UntilFlat(improvement=10.0, at_most=9, monitor="val_accuracy")
    fit = training(data, validation_data=data)
    done = ap.iterative_prune(
        model, fit, lambda m: 1.0, 60, ap.Until(steps=1), retrain=policy, verbose=0
    )
    assert done.table()["epochs"].tolist() == [0, 2]  # nothing improves by 10


def test_a_criterion_that_looks_at_data_and_whole_units(data):
    model = network()
    done = ap.iterative_prune(
        model,
        training(data),
        lambda m: 1.0,
        ap.amounts.BelowMean(0.5),
        ap.Until(steps=1),
        criterion="activation",
        granularity="unit",
        data=data[0],
        verbose=0,
    )
    kernels = [np.array(layer.kernel) for layer in model.layers[:-1]]
    dead = [np.flatnonzero(~kernel.any(axis=0)) for kernel in kernels]
    assert sum(d.size for d in dead)
    assert sum(alive(model)) == sum(
        k.size - d.size * k.shape[0] for k, d in zip(kernels, dead, strict=True)
    )
    assert done.table()["weights_pruned"].iloc[1] == 288 - sum(alive(model))


def test_a_step_is_told(data, capsys):
    ap.iterative_prune(network(), training(data), lambda m: 0.5, 0.5, ap.Until(steps=1))
    told = capsys.readouterr().out
    assert "step 1: 144 weights alive (50.0%), metric 0.5000 (0.5000 before retraining), 2" in told


def test_on_step_is_told_of_the_dense_network_and_of_each_step(data):
    told = []

    def on_step(model, row):
        told.append((row["step"], sum(alive(model)), row["weights_alive"], row["metric"]))
        return {"test_accuracy": 0.1 * row["step"]} if row["step"] != 1 else None

    values = [0.9, 0.5, 0.8, 0.5, 0.7]
    fit, evaluate = training(data), scores_of(values)
    done = ap.iterative_prune(
        network(), fit, evaluate, 0.5, ap.Until(steps=2), retrain=1, on_step=on_step, verbose=0
    )
    assert told == [(0, 288, 288, 0.9), (1, 144, 144, 0.8), (2, 72, 72, 0.7)]  # after retraining
    table = done.table()
    assert table["test_accuracy"].fillna(-1).tolist() == [0.0, -1, 0.2]
    assert table["metric"].tolist() == [0.9, 0.8, 0.7]


@pytest.mark.parametrize("wrong", [0.9, {"metric": 1.0}, {"time_total_s": 1.0}])
def test_what_on_step_returns_must_be_new_columns(data, wrong):
    with pytest.raises(ValueError, match=r"on_step= returned .*a dict of columns other than"):
        ap.iterative_prune(
            network(), training(data), lambda m: 1.0, on_step=lambda model, row: wrong, verbose=0
        )


def test_arguments_of_prune_are_handed_on_and_others_named(data):
    model = network()
    ap.iterative_prune(
        model,
        training(data),
        lambda m: 1.0,
        0.5,
        ap.Until(steps=1),
        retrain=0,
        criterion="wanda",
        data=data[0],
        include="second",
        sequential=True,
        verbose=0,
    )
    assert alive(model) == [128, 80]
    for call in (ap.iterative_prune, ap.find_sparsity):
        with pytest.raises(TypeError, match=r"unknown argument 'criterium'.*: criterion, alloc"):
            call(model, training(data), lambda m: 1.0, criterium="obd")


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"fit": lambda model, **more: None}, ValueError, "hand them on"),
        ({"evaluate": lambda model: "good"}, ValueError, "evaluate= returned 'good'"),
        ({"evaluate": lambda model: float("nan")}, ValueError, "returned nan: the training"),
        ({"evaluate": lambda model: -float("inf")}, ValueError, "returned -inf: the training"),
        ({"evaluate": "accuracy"}, TypeError, "evaluate='accuracy'; it must be a function"),
        ({"fit": None}, TypeError, "fit=None; it must be a function"),
        ({"on_step": "log"}, TypeError, "on_step='log'; it must be a function"),
        ({"max_loss": -1}, ValueError, "max_loss=-1"),
        ({"min_sparsity": float("nan")}, ValueError, "min_sparsity=nan"),
        ({"until": True}, TypeError, "until=True"),
        ({"retrain": True}, TypeError, "retrain=True"),
        ({"amount": True}, TypeError, "amount=True"),
        ({"until": "end"}, TypeError, "until='end'; give a sparsity"),
        ({"until": 1.5}, ValueError, "sparsity=1.5"),
        ({"amount": "some"}, TypeError, "amount='some'"),
        ({"retrain": -1}, ValueError, "at_most=-1"),
        ({"retrain": "long"}, TypeError, "retrain='long'"),
        ({"criterion": "magnitud"}, ValueError, "magnitude"),
        ({"retrain": ap.retraining.UntilFlat()}, ValueError, "monitor='val_accuracy' is not among"),
        ({"criterion": "synflow", "amount": ap.amounts.Bucket(1)}, ValueError, "in rounds"),
    ],
)
def test_what_cannot_work_is_refused(data, more, error, message):
    how = {"fit": training(data), "evaluate": lambda model: 1.0, "verbose": 0} | more
    with pytest.raises(error, match=message):
        ap.iterative_prune(network(), **how)


def test_another_model_must_not_be_trained(data):
    def fit(model, **more):
        twin = keras.models.clone_model(model)
        twin.compile("sgd", "binary_crossentropy", jit_compile=False)
        return training(data)(twin, **more)

    with pytest.raises(ValueError, match=r"another model than the .* train that one, in place"):
        ap.iterative_prune(network(), fit, lambda model: 1.0, verbose=0)


def test_a_model_may_be_trained_as_a_part_of_a_greater_one(data):
    model = network()
    greater = keras.Sequential([keras.Input((8,)), keras.layers.GaussianNoise(0.1), model])
    greater.compile("sgd", "binary_crossentropy", jit_compile=False)
    fit = training(data)
    done = ap.iterative_prune(
        model, lambda _, **more: fit(greater, **more), lambda model: 1.0, 0.5, until=72, verbose=0
    )
    assert done.table()["weights_alive"].tolist() == [288, 144, 72]
    assert sum(alive(model)) == 72


def test_until_needs_an_end():
    with pytest.raises(ValueError, match=r"Until\(\) stops nowhere"):
        ap.Until()
    with pytest.raises(ValueError, match="weights=0"):
        ap.Until(weights=0)


def test_surgeons_prune_step_by_step(data):
    model = network()
    ap.iterative_prune(
        model, training(data), lambda m: 1.0, 100, 88, criterion="lobs", data=data[0], verbose=0
    )
    assert sum(alive(model)) == 88


# -- policies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "enough"),
    [
        ([0.5], False),
        ([0.5, 0.6], False),
        ([0.5, 0.6, 0.6005], True),
        ([0.5, 0.6, 0.601], False),  # 0.1 point is enough
        ([0.6, 0.5, 0.55], True),  # better than the last epoch, not than the best one
        ([0.5, float("nan")], True),
        ([0.1, 0.2, 0.3, 0.4, 0.5], True),  # at most 5
    ],
)
def test_until_flat(values, enough):
    policy = ap.retraining.UntilFlat(improvement=0.001 - 1e-12, at_most=5, monitor="m")
    assert policy([{"m": value} for value in values]) is enough
    falling = ap.retraining.UntilFlat(improvement=0.001 - 1e-12, at_most=5, monitor="m_loss")
    assert falling([{"m_loss": -value} for value in values]) is enough


# -- in fit ------------------------------------------------------------------------------------


def pruned_in_fit(data, schedule, epochs, criterion="magnitude", **more):
    model = network()
    pruner = ap.PruningCallback(schedule, criterion, **more)
    x, y = data
    history = model.fit(
        x, y, 32, epochs, verbose=0, validation_data=(x, y), callbacks=[pruner]
    ).history
    return model, pruner, history


def test_every_takes_its_amount_at_intervals(data):
    schedule = ap.schedules.Every(0.5, frequency=2, begin=1, final_sparsity=0.8)
    _, pruner, history = pruned_in_fit(data, schedule, 8)
    assert history["sparsity"] == pytest.approx(
        [0.5, 0.5, 0.75, 0.75, 0.7986] + [0.7986] * 3, abs=1e-4
    )
    assert pruner.table()["epoch"].unique().tolist() == [1, 3, 5]


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras has no steps_per_execution on PyTorch"
)
def test_every_by_step_counts_each_event_within_one_execution(data):
    model = network()
    model.compile("sgd", "binary_crossentropy", steps_per_execution=3)
    schedule = ap.schedules.Every(10, frequency=1, begin=1, end=3, by="step")
    model.fit(*data, 32, 2, verbose=0, callbacks=[ap.PruningCallback(schedule, "magnitude")])
    assert sum(alive(model)) == 288 - 30


def test_one_layer_at_each_event_by_the_frequency_of_its_units(data):
    schedule = ap.schedules.Every(ap.amounts.InTurn(ap.amounts.BelowMean(0.5)), frequency=1)
    _, pruner, _ = pruned_in_fit(data, schedule, 2, "activation", granularity="unit")
    table = pruner.table().pivot(index="event", columns="layer", values="pruned")
    assert table.loc[1, "first"] > 0
    assert table.loc[1, "second"] == 0
    assert table.loc[2, "first"] == table.loc[1, "first"]
    assert table.loc[2, "second"] > 0
    # the mean less half a deviation of the frequencies counted, recomputed from the table
    frequency = pruner.activity().query("layer == 'first'")["frequency"].to_numpy()
    assert len(frequency) == 16


@pytest.mark.parametrize("reset", [True, False])
def test_counts_are_kept_or_begin_anew_at_an_event(data, reset):
    schedule = ap.schedules.Every(10, frequency=2, begin=2, end=2)
    _, pruner, _ = pruned_in_fit(data, schedule, 3, "activation_magnitude", reset_counts=reset)
    assert set(pruner.activity()["samples"]) == {96 if reset else 3 * 96}


def test_below_mean_takes_the_units_that_fire_rarely(data):
    counter = ap.ActivationCounter()
    model = network()
    model.compile(keras.optimizers.SGD(0.0), "binary_crossentropy")  # the same counts again
    model.fit(*data, 32, verbose=0, callbacks=[counter])
    table = counter.table().query("layer == 'first'")["frequency"].to_numpy()
    rare = np.flatnonzero(table < table.mean() - table.std())
    schedule = ap.schedules.OneShot(0.5, at=1)
    schedule = ap.schedules.Every(ap.amounts.OneLayer(0, ap.amounts.BelowMean(1.0)))
    pruner = ap.PruningCallback(schedule, "activation", granularity="unit")
    model.fit(*data, 32, 1, verbose=0, callbacks=[pruner])
    gone = np.flatnonzero(~np.array(model.get_layer("first").kernel).any(axis=0))
    assert rare.size
    assert gone.tolist() == rare.tolist()


def test_iterative_waits_for_its_policy(data):
    policy = ap.retraining.UntilFlat(improvement=10.0, at_most=9)
    schedule = ap.schedules.Iterative(0.5, retrain=policy, begin=1, final_sparsity=0.7)
    _, pruner, _ = pruned_in_fit(data, schedule, 6)
    assert pruner.table()["epoch"].unique().tolist() == [1, 3]
    assert pruner.table()["total_sparsity"].unique() == pytest.approx([0.5, 202 / 288])


def test_iterative_says_which_metric_is_missing(data):
    model = network(metrics=())
    pruner = ap.PruningCallback(ap.schedules.Iterative(0.5, ap.retraining.UntilFlat()), "magnitude")
    with pytest.raises(ValueError, match="val_accuracy"):
        model.fit(*data, verbose=0, callbacks=[pruner])


def test_amounts_begin_after_the_first_step_where_activity_is_needed(data):
    schedule = ap.schedules.Every(ap.amounts.Bucket(1.0), frequency=3, begin=0)
    with pytest.warns(UserWarning, match=r"prunes by UpTo\(amount=Bucket"):
        _, pruner, _ = pruned_in_fit(data, schedule, 2, "activation_magnitude")
    assert pruner.table()["epoch"].unique().tolist() == [1]


def test_a_resumed_run_does_not_take_an_amount_twice(data):
    model, x, y = network(), *data
    schedule = ap.schedules.Every(50, frequency=2, begin=2)
    model.fit(x, y, 32, 2, verbose=0, callbacks=[ap.PruningCallback(schedule, "magnitude")])
    assert sum(alive(model)) == 238
    pruner = ap.PruningCallback(schedule, "magnitude")
    model.fit(x, y, 32, 4, initial_epoch=2, verbose=0, callbacks=[pruner])
    assert sum(alive(model)) == 188


def test_regrowth_keeps_a_sparsity():
    with pytest.raises(ValueError, match="use one with a target"):
        ap.PruningCallback(ap.schedules.Every(0.2), "magnitude", regrow="set")


def test_prune_takes_an_amount_of_what_is_alive(data):
    model = network()
    ap.prune(model, 0.5)
    report = ap.prune(model, ap.amounts.Fraction(0.5))
    assert report.sparsity == 0.75
    ap.prune(model, ap.amounts.Number(2))
    assert sum(alive(model)) == 70
    assert "target" not in str(ap.prune(model, ap.amounts.Bucket(0.1)))
    economical = ap.surgeons.LayerwiseOBS(damping=0.1, recalculate_every=10)
    with pytest.raises(ValueError, match="recalculate_every"):
        ap.prune(model, ap.amounts.Bucket(0.1), economical, data=data[0], verbose=0)


# -- find_sparsity -----------------------------------------------------------------------------


def quality(model):
    """Falls as more is pruned: a known largest sparsity."""
    return 1.0 - 0.1 * (np.concatenate([z.ravel() for z in zeros(model)]).mean() > 0.6)


def search(data, model=None, **more):
    how = {"max_loss": 0.05, "tolerance": 0.02, "high": 0.96, "retrain": 1, "verbose": 0}
    return ap.find_sparsity(model or network(), training(data), quality, **(how | more))


def test_the_largest_sparsity_is_bracketed_and_its_network_restored(data):
    model = network()
    found = search(data, model)
    assert 0.58 <= found.sparsity <= 0.6
    assert found.metric == 1.0
    assert sum(alive(model)) == 288 - int(np.floor(found.sparsity * 288 + 0.5))
    table = found.table()
    assert table["sparsity"].iloc[0] == 0.96
    assert table.loc[~table["within"], "sparsity"].min() - found.sparsity <= 0.02


def test_every_trial_starts_from_the_dense_network(data):
    model = network()
    first = search(data, model, high=0.5)
    assert first.table()["sparsity"].tolist() == [0.5]  # the highest holds: nothing to bisect
    alone = model.get_weights()
    model = network()
    search(data, model, high=0.96, low=0.04, tolerance=0.3)  # 0.96, then 0.5
    for one, other in zip(alone, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_where_nothing_holds_the_dense_network_stays(data):
    model = network()
    before = model.get_weights()
    found = search(data, model, low=0.7, tolerance=0.1)
    assert found.sparsity == 0.0
    assert found.metric == 1.0
    np.testing.assert_array_equal(before[0], model.get_weights()[0])


def test_a_search_goes_on_where_it_was_stopped(data, tmp_path):
    whole = network()
    expected = search(data, whole).table().drop(columns="time_s")
    calls = []

    def stopping(model, **more):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        training(data)(model, **more)

    with pytest.raises(KeyboardInterrupt):
        ap.find_sparsity(
            network(), stopping, quality, 0.05, retrain=1, high=0.96, tolerance=0.02,
            folder=tmp_path, verbose=0,
        )  # fmt: skip
    assert len(json.loads((tmp_path / "search.json").read_text())["trials"]) == 3
    model = network()
    found = search(data, model, folder=tmp_path)
    assert found.table().drop(columns="time_s").equals(expected)
    for one, other in zip(whole.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    again = search(data, network(), folder=tmp_path)  # all is known
    assert again.table().equals(found.table())


def test_a_folder_of_another_search_is_left_alone(data, tmp_path):
    search(data, folder=tmp_path)
    before = (tmp_path / "search.json").read_text()
    with pytest.raises(ValueError, match="holds another search: criterion differ"):
        search(data, folder=tmp_path, criterion="random")
    with pytest.raises(ValueError, match="the model must be the dense one again"):
        search(data, network(seed=1), folder=tmp_path)
    assert (tmp_path / "search.json").read_text() == before
    (tmp_path / "search.json").write_text(before.replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match="of format 2"):
        search(data, folder=tmp_path)
    for damaged in ("{bad", "[]", '{"format": 1}'):
        (tmp_path / "search.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"search\.json cannot be read, it is damaged"):
            search(data, folder=tmp_path)


def test_a_search_with_another_metric_is_another_one(data, tmp_path):
    search(data, folder=tmp_path, high=0.5)
    with pytest.raises(ValueError, match=r"its dense model measured 1, evaluate= returned 0\.2"):
        ap.find_sparsity(
            network(), training(data), lambda model: 0.2, 0.05, retrain=1, high=0.5,
            tolerance=0.02, folder=tmp_path, verbose=0,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"max_loss": -0.1}, "max_loss=-0.1"),
        ({"tolerance": 0}, "tolerance=0; it must be a finite number of at least 1e-06"),
        ({"low": 0.9, "high": 0.5}, "high=0.5 is not above low=0.9"),
        ({"high": 1.0}, "high=1.0"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(data, more, message):
    with pytest.raises(ValueError, match=message):
        search(data, **more)


def test_the_category_of_the_warning_is_public():
    assert issubclass(ap.masks.EmptiedWarning, UserWarning)
    assert masks.EmptiedWarning is ap.masks.EmptiedWarning
