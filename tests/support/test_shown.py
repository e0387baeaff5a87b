"""Values in messages: brief, whatever they are."""

import keras
import numpy as np
import pandas as pd
import pytest

import activation_pruning as ap
from activation_pruning.support.shown import MOST, shown

X, Y = np.random.default_rng(0).random((50, 4)), np.zeros((50, 2))
TABLE = pd.DataFrame({"layer": range(60), "b": 0.1})


class Broken:
    def __repr__(self):
        raise RuntimeError("no")


class Long:
    shape = "everywhere"

    def __repr__(self):
        return "long\n" * 99


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"),
        (np.float64(0.5), "np.float64(0.5)"),
        ("conv_1", "'conv_1'"),
        (None, "None"),
        (np.zeros((60, 4)), "<ndarray, 60 x 4>"),
        (np.zeros(0), "<ndarray, 0>"),
        (TABLE, "<DataFrame, 60 x 2>"),
        (TABLE["b"], "<Series, 60>"),
        ([np.zeros(3), 1], "[<ndarray, 3>, 1]"),
        ({"a": np.zeros(3)}, "{'a': <ndarray, 3>}"),
        ((0.1, 0.2), "(0.1, 0.2)"),
        (np.ndarray, "<class 'numpy.ndarray'>"),
        (Long(), "<Long, everywhere>"),
    ],
)
def test_values_read_briefly(value, text):
    assert shown(value) == text


def test_no_value_takes_more_than_a_line():
    values = [X, TABLE, [X] * 1000, dict.fromkeys(range(9999), TABLE), "a" * 999, 10**999, Broken(),
              Long(), list(range(10**6)), keras.ops.zeros((9, 9, 9)), lambda x: x]  # fmt: skip
    for value in values:
        assert len(shown(value)) <= MOST
        assert "\n" not in shown(value)


def model():
    found = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    found.compile("sgd", "mse")
    return found


WRONG = {
    "data after the criterion": lambda: ap.prune(model(), 0.5, "taylor", X, Y),
    "a table for a criterion": lambda: ap.prune(model(), 0.5, TABLE),
    "data for a sparsity": lambda: ap.prune(model(), X),
    "a granularity": lambda: ap.prune(model(), 0.5, "magnitude", "global", X),
    "a seed": lambda: ap.prune(model(), 0.5, seed=X),
    "layers": lambda: ap.prune(model(), 0.5, include=X),
    "a folder": lambda: ap.reports.write(TABLE, "folder"),
    "no folder": lambda: ap.reports.write("folder", X),
    "events that are a word": lambda: ap.reports.write("folder", "x"),
    "sections": lambda: ap.reports.page.write("r.html", "t", [TABLE]),
    "a path": lambda: ap.load_compressed(TABLE),
    "another path": lambda: ap.load_exported(X),
    "bits": lambda: ap.compress(model(), X),
    "a schedule": lambda: ap.PruningCallback(X),
    "a sparsity": lambda: ap.schedules.OneShot(X),
    "regrowth": lambda: ap.PruningCallback(ap.schedules.OneShot(0.5), regrow=TABLE),
    "a model": lambda: ap.analysis.latency(X, model()),
    "batch sizes": lambda: ap.analysis.latency(model(), X, X),
    "fit": lambda: ap.find_sparsity(model(), X, Y),
    "what evaluate returns": lambda: ap.find_sparsity(model(), lambda m: 0, lambda m: X),
    "a pruner": lambda: ap.EventLog(".", X),
}


@pytest.mark.parametrize("case", WRONG)
def test_messages_show_no_data(case):
    with pytest.raises((TypeError, ValueError)) as caught:
        WRONG[case]()
    text = str(caught.value)
    assert len(text) < 450
    assert "\n" not in text
    assert "0.1" not in text.replace("0.1)", "").replace("(-0.1", "")


def test_what_write_wants_is_said():
    with pytest.raises(TypeError, match="events='x'; after the folder give what PruningCallback"):
        ap.reports.write("folder", "x")
