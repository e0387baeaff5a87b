"""Targets in time, with models that take as long as their size says."""

import time

import keras
import numpy as np
import pandas as pd
import pytest

import activation_pruning as ap

layers = keras.layers


def model_of(units=64):
    return keras.Sequential(
        [
            keras.Input((32,)),
            layers.Dense(units, "relu", name="a"),
            layers.Dense(units, "relu", name="b"),
            layers.Dense(8, name="out"),
        ]
    )


def by_size(model, x=None, run=None, repeats=None):
    """A microsecond for each parameter, however busy the machine is."""
    return 1e-3 * model.count_params()


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(ap.budgets.milliseconds, "time_of", by_size)


@pytest.fixture
def x():
    return np.ones((1, 32), "float32")


@pytest.mark.parametrize("share", [0.7, 0.4])
def test_the_measured_time_comes_close_to_what_was_asked_for(clock, x, share):
    model = model_of()
    asked = 1e-3 * model.count_params() * share
    budget = ap.budgets.Milliseconds(asked, x)
    spending = ap.prune(model, budget, granularity="unit").spending
    took = 1e-3 * ap.compact(model).count_params()
    assert 0.85 * asked < took <= asked
    assert spending.measured == took
    assert spending.asked == asked


def test_twice_as_fast(clock, x):
    model = model_of()
    before = model.count_params()
    ap.prune(model, ap.budgets.Speedup(2.0, x), granularity="unit")
    assert 0.4 * before < ap.compact(model).count_params() < 0.53 * before


def test_a_table_decides_where_units_go(clock, x):
    keras.utils.set_random_seed(0)
    model = model_of()
    sizes = [16, 32, 64]
    rows = [("a", inputs, units, 0.01) for inputs in (8, 16, 32) for units in sizes]
    rows += [("b", inputs, units, 0.01 * units) for inputs in sizes for units in sizes]
    rows += [("out", inputs, units, 0.01) for inputs in sizes for units in (2, 4, 8)]
    table = pd.DataFrame(rows, columns=["layer", "inputs", "units", "time_ms"])
    dense = 1e-3 * model.count_params()
    budget = ap.budgets.Milliseconds(0.8 * dense, x, table=table)
    ap.prune(model, budget, granularity="unit")
    small = ap.compact(model)
    assert small.get_layer("a").units == 64 > small.get_layer("b").units


def test_another_runtime_is_what_is_measured(x):
    ran = []

    def run(model):
        ran.append(model.count_params())
        return lambda batch: model(batch)

    model = model_of()
    met = ap.budgets.Milliseconds(1e6, x, run=run, repeats=1, verbose=0)
    ap.prune(model, met, granularity="unit")
    assert ran == [model.count_params()]  # and no layer was measured for nothing
    missed = ap.budgets.Milliseconds(1e-6, x, run=run, repeats=1, verbose=0)
    with pytest.raises(ValueError, match="stay whatever is pruned"):
        ap.prune(model, missed, granularity="unit")
    assert len(set(ran)) > 5  # layers of other widths, too


@pytest.mark.parametrize(
    ("shape", "layer"),
    [
        ((8, 8, 4), lambda: layers.Conv2D(8, 3)),
        ((8, 8, 4), lambda: layers.DepthwiseConv2D(3)),
        ((8, 8, 4), lambda: layers.SeparableConv2D(8, 3)),
        ((8, 8, 4), lambda: layers.Conv2DTranspose(8, 3)),
        ((8, 4), lambda: layers.Conv1DTranspose(8, 3)),
        ((8, 4), lambda: layers.SeparableConv1D(8, 3)),
        ((8, 4), lambda: layers.DepthwiseConv1D(3)),
        ((4, 4, 4, 4), lambda: layers.Conv3DTranspose(8, 2)),
        ((3, 6, 6, 4), lambda: layers.ConvLSTM2D(8, 3)),
    ],
)
def test_layers_of_pictures_have_their_rows(shape, layer):
    model = keras.Sequential([keras.Input(shape), layer()])
    table = ap.budgets.latency_table(model, widths=[0.5], repeats=1, verbose=0)
    assert table["inputs"].max() == 4
    assert (table["time_ms"] > 0).all()
    assert len(table) == (2 if "epthwise" in type(model.layers[0]).__name__ else 4)


def test_layers_that_are_alike_are_measured_once(monkeypatch):
    calls = []
    monkeypatch.setattr(
        ap.budgets.milliseconds, "time_of", lambda *arguments: calls.append(1) or 1.0
    )
    model = keras.Sequential([keras.Input((8,)), *[layers.Dense(8) for _ in range(3)]])
    table = ap.budgets.latency_table(model, widths=[0.5], verbose=0)
    assert len(calls) == 4
    assert len(table) == 12


def test_recurrent_and_convolutional_models_can_be_pruned_to_time(clock):
    inputs = keras.Input((8, 8, 3))
    y = layers.Conv2D(16, 3, activation="relu")(inputs)
    y = layers.DepthwiseConv2D(3)(y)
    y = layers.SeparableConv2D(16, 3)(y)
    y = layers.LSTM(12)(layers.Reshape((4, 16))(y))
    model = keras.Model(inputs, layers.Dense(3)(y))
    images = np.ones((2, 8, 8, 3), "float32")
    budget = ap.budgets.Speedup(1.5, images)
    spending = ap.prune(model, budget, granularity="unit").spending
    assert spending.measured <= spending.asked


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: ap.budgets.Milliseconds(0, x), "limit=0; it must be"),
        (lambda x: ap.budgets.Speedup(0.5, x), "limit=0.5; it must be"),
        (lambda x: ap.budgets.Milliseconds(1.0, x, repeats=0), "repeats=0"),
        (lambda x: ap.budgets.Milliseconds(1.0, 3.0), "x=3.0; give a batch"),
        (lambda x: ap.budgets.Milliseconds(1.0, x[:0]), "give a batch"),
    ],
)
def test_errors_name_the_argument(x, make, message):
    with pytest.raises(ValueError, match=message):
        make(x)


def test_a_table_of_another_model_is_refused(clock, x):
    other = keras.Sequential([keras.Input((32,)), layers.Dense(4, name="other")])
    table = ap.budgets.latency_table(other, widths=[1.0], repeats=1, verbose=0)
    budget = ap.budgets.Milliseconds(1e-6, x, table=table)
    with pytest.raises(ValueError, match="table: it has no rows of 'a'"):
        ap.prune(model_of(), budget, granularity="unit")


def test_a_dense_model_that_was_slow_for_a_while_is_no_speed_up():
    """It is timed anew beside each candidate: what slowed it once must not count as pruned."""
    model, slow = ticking_model(), [True]

    def run(one):
        seconds = 0.02 if slow.pop() else one.count_params() * 2e-6 + 0.0005
        slow.append(False)
        return lambda batch: time.sleep(seconds)

    budget = ap.budgets.Speedup(1.5, np.zeros((1, 16)), table=table_of(model), run=run, repeats=3)
    report = ap.prune(model, budget, granularity="unit")
    assert report.sparsity > 0
    assert ap.compact(model).count_params() < 0.7 * model.count_params()


def table_of(model):
    return ap.budgets.latency_table(model, widths=[0.5], repeats=2, verbose=0)


def ticking_model():
    layers = [keras.layers.Dense(40, "relu"), keras.layers.Dense(40, "relu")]
    return keras.Sequential([keras.Input((16,)), *layers, keras.layers.Dense(2)])
