"""Amounts at events, within `fit`."""

import keras
import numpy as np
import pytest
from retrainable import alive, network, samples

import activation_pruning as ap


@pytest.fixture(scope="module")
def data():
    return samples()


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


@pytest.mark.parametrize("kind", [ap.schedules.Every, ap.schedules.Iterative])
def test_without_a_final_sparsity_only_the_last_weight_stays(kind):
    at = ap.schedules.Progress(2, 0, {}, sparsity=0.8, epochs=9, weights=10)
    assert kind(5)(at) == 0.9
    assert kind(1)(at) == 0.9
    assert kind(0.5)(at) == 0.9
    assert kind(5, final_sparsity=0.85)(at) is None or kind(5, final_sparsity=0.85)(at) == 0.85
    bucket = kind(ap.amounts.Bucket(1.0))(at)
    assert bucket == ap.amounts.UpTo(ap.amounts.Bucket(1.0), 0.9)


def test_every_by_unit_says_once_that_no_unit_is_as_small_as_its_amount(data):
    with pytest.warns(UserWarning, match="took nothing after 1 epochs, and never will") as caught:
        _, _, history = pruned_in_fit(
            data, ap.schedules.Every(0.05), 3, granularity="unit", include=["second"]
        )
    assert history["sparsity"] == [0.0, 0.0, 0.0]
    said = [str(one.message) for one in caught if "took nothing" in str(one.message)]
    assert len(said) == 1
    assert "comes to 8 weights" in said[0]  # 5 % of 160, where a unit has 16
    assert r"amounts.Number(16)" in said[0]
