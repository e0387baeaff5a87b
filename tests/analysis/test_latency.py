import types

import keras
import models
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import activation_pruning as ap
from activation_pruning.analysis import memory
from activation_pruning.analysis.latency import bootstrap_median
from activation_pruning.analysis.running import batch_of, runner


class Machine:
    """A clock, and functions that take so many seconds of it each time they run."""

    def __init__(self):
        self.now, self.ran = 0.0, []

    def __call__(self):
        return self.now

    def function(self, name, seconds):
        def run(batch):
            times = [name for name, _ in self.ran].count(name)
            self.ran.append((name, len(batch)))
            self.now += seconds(times) if callable(seconds) else seconds

        return run


# -- one model ----------------------------------------------------------------------------------


def test_median_and_quartiles_are_those_of_the_timed_calls():
    machine = Machine()
    # The first two calls warm up; the five that count take 1 to 5 ms.
    taken = [9.0, 9.0, 0.005, 0.001, 0.004, 0.002, 0.003]
    run = machine.function("it", lambda n: taken[n % 7])
    table = ap.analysis.latency(run, np.zeros((3, 2)), (1, 4), repeats=5, warmup=2, clock=machine)
    assert machine.ran == [("it", 1)] * 7 + [("it", 4)] * 7
    assert table["batch_size"].tolist() == [1, 4]
    for name, value in {"median_ms": 3, "q1_ms": 2, "q3_ms": 4, "iqr_ms": 2}.items():
        assert table[name].tolist() == pytest.approx([value, value])
    assert table["samples_per_s"].tolist() == pytest.approx([1 / 0.003, 4 / 0.003])


def test_a_model_runs_by_its_predict_function():
    model, (x, _) = models.mlp(), models.data()
    table = ap.analysis.latency(model, x, 4, repeats=3, warmup=1)
    assert (table["median_ms"] > 0).all()
    assert model.predict_function is not None
    np.testing.assert_allclose(runner(model)(x), model.predict(x, verbose=0), rtol=1e-5)


def test_several_inputs_and_dicts():
    x = {"a": np.arange(3), "b": [np.ones((3, 2))]}
    batch = batch_of(x, 5)
    assert batch["a"].tolist() == [0, 1, 2, 0, 1]
    assert batch["b"][0].shape == (5, 2)


def test_outputs_are_waited_for():
    class Later:
        waited = False

        def block_until_ready(self):
            self.waited = True

    later = Later()
    runner(lambda batch: {"y": [later]})(np.ones(1))
    assert later.waited


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"model": "model"}, TypeError, "neither a keras.Model"),
        ({"repeats": 0}, ValueError, "repeats=0"),
        ({"warmup": 0}, ValueError, "warmup=0"),
        ({"batch_sizes": (1, 0)}, ValueError, "batch_sizes=0"),
        ({"x": np.zeros((0, 2))}, ValueError, "at least 1"),
        ({"x": [np.zeros((2, 2)), np.zeros((3, 2))]}, ValueError, r"\[2, 3\] samples"),
        ({"x": 3.0}, ValueError, "must be an array"),
    ],
)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        ap.analysis.latency(**{"model": np.sum, "x": np.ones((2, 2)), **arguments})


# -- several models -----------------------------------------------------------------------------


def compared(seed=0, rounds=12, **options):
    machine = Machine()
    # All slow down from call to call alike: ratios of a round know nothing of it.
    drift = {"a": 2.0, "b": 1.0, "c": 3.0}
    functions = {
        name: machine.function(name, lambda n, s=seconds: s * (1 + n / 10))
        for name, seconds in drift.items()
    }
    x = np.zeros((2, 2))
    options = {"warmup": 2, "resamples": 200, "clock": machine} | options
    return ap.analysis.latency_compare(functions, x, 2, rounds, seed=seed, **options), machine


def test_ratios_are_paired_by_round():
    (summary, times), _ = compared()
    assert summary["name"].tolist() == ["a", "b", "c"]
    for name in ("ratio", "ratio_low", "ratio_high"):
        assert summary[name].tolist() == pytest.approx([1, 0.5, 1.5])
    expected = {"a": 2.0, "b": 1.0, "c": 3.0}
    for _, row in times.iterrows():
        slower = 1 + (row["round"] + 1) / 10  # two calls of each came before
        assert row["time_ms"] == pytest.approx(1000 * expected[row["name"]] * slower)
    median = 1000 * 2.0 * np.median([1 + (n + 2) / 10 for n in range(12)])
    assert summary["median_ms"][0] == pytest.approx(median)


def test_each_round_runs_all_in_an_order_of_its_own():
    (_, times), machine = compared()
    orders = times.groupby("round")["name"].agg(list)
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    assert (times.groupby("round")["position"].agg(list).map(tuple) == (1, 2, 3)).all()
    assert [name for name, _ in machine.ran[6:]] == times["name"].tolist()


def test_the_seed_decides_the_order():
    first, again, other = (compared(seed)[0].times["name"].tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_keras_models_and_functions_side_by_side():
    model, (x, _) = models.mlp(), models.data()
    found = {"model": model, "mean": lambda batch: batch.mean(axis=1)}
    summary = ap.analysis.latency_compare(found, x, 8, rounds=4, warmup=1, resamples=50).summary
    assert summary["ratio"][0] == 1
    assert (summary["ratio_low"] <= summary["ratio"]).all()
    assert (summary["ratio"] <= summary["ratio_high"]).all()


def test_the_bootstrap_is_that_of_scipy():
    values = np.random.default_rng(3).lognormal(size=41)
    ours = bootstrap_median(values, np.random.default_rng(0), 20_000)
    theirs = stats.bootstrap((values,), np.median, method="percentile", n_resamples=20_000)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), rel=0.02)
    wide = bootstrap_median(values, np.random.default_rng(0), 20_000, level=0.99)
    assert wide[0] < ours[0] < np.median(values) < ours[1] < wide[1]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"models": {"a": np.sum}}, ValueError, "at least two"),
        ({"models": [np.sum, np.sum]}, ValueError, "dict"),
        ({"models": {"a": np.sum, "b": 3}}, TypeError, "neither"),
        ({"rounds": 1}, ValueError, "rounds=1"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
    ],
)
def test_bad_comparisons(arguments, error, words):
    given = {"models": {"a": np.sum, "b": np.max}, "x": np.ones((2, 2)), **arguments}
    with pytest.raises(error, match=words):
        ap.analysis.latency_compare(**given)


# -- memory -------------------------------------------------------------------------------------

MEGABYTE = 1 << 20


class Hungry:
    """A model that holds 400 MB for a while whenever it runs."""

    def __init__(self, model):
        self.model = model

    def __call__(self, batch):
        return np.ones(50 * MEGABYTE).sum() + self.model.predict_on_batch(batch).sum()


@pytest.mark.slow
def test_peak_memory_sees_what_is_held_for_a_while():
    # Memory of this process, which Linux adds to the children's `ru_maxrss`, must not count.
    here = np.ones(100 * MEGABYTE)
    x, _ = models.data()
    table = ap.analysis.latency(Hungry(models.mlp()), x, 2, repeats=1, warmup=1, memory=True)
    assert table["batch_size"].tolist() == [2]
    grown = table["peak_bytes"][0] - table["loaded_bytes"][0]
    assert 390 * MEGABYTE < grown < here.nbytes - 100 * MEGABYTE


@pytest.mark.slow
def test_memory_is_that_of_the_model_and_not_of_the_libraries(capfd):
    small = models.mlp()
    x, _ = models.data()
    table = ap.analysis.peak_memory(small, x, [64, 1, 64])
    told = capfd.readouterr().out
    assert "a process of its own loads" in told
    assert "batches of 1, 64 ..." in told
    assert table["batch_size"].tolist() == [64, 1, 64]
    assert (table["peak_bytes"] < 40 * MEGABYTE).all()  # 10 KB of weights, and what is compiled
    assert (table["baseline_bytes"] > 100 * MEGABYTE).all()
    weights = keras.Sequential([keras.Input((1000,)), keras.layers.Dense(25_000)])
    table = ap.analysis.peak_memory(weights, np.ones((1, 1000), "float32"), 1, verbose=0)
    assert capfd.readouterr().out == ""
    assert 95 * MEGABYTE <= table["loaded_bytes"][0] < 350 * MEGABYTE  # the weights; some twice


def test_one_process_measures_all_batch_sizes(monkeypatch):
    started = []

    def run(command, **_):
        started.append(command)
        return types.SimpleNamespace(returncode=1, stderr="enough")

    monkeypatch.setattr(memory.subprocess, "run", run)
    with pytest.raises(RuntimeError, match="enough"):
        ap.analysis.peak_memory(np.sum, np.ones((2, 2)), [1, 2, 3])
    assert len(started) == 1


def test_peak_memory_refuses_what_cannot_travel():
    with pytest.raises(TypeError, match="another process"):
        ap.analysis.peak_memory(lambda batch: batch, np.ones((2, 2)), 1)


def test_peak_memory_hands_on_what_went_wrong(monkeypatch):
    failed = types.SimpleNamespace(returncode=1, stderr="ValueError: it is broken")
    monkeypatch.setattr(memory.subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(RuntimeError, match="it is broken"):
        ap.analysis.peak_memory(np.sum, np.ones((2, 2)), 1)


def test_a_comparison_prints_within_a_narrow_terminal():
    functions = {"dense": np.sum, "small": np.sort}
    found = ap.analysis.latency_compare(functions, np.ones((8, 2)), rounds=3)
    with pd.option_context("display.width", 80, "display.max_columns", 4):
        lines = str(found).splitlines()
    assert len(lines) == 3
    assert max(len(line) for line in lines) <= 80
    assert all(name in lines[0] for name in found.summary.columns)
