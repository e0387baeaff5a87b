"""The protocol of the paper: levels, validation data, when training ends, what is recorded."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

arms = importlib.import_module("lab.arms")
datasets = importlib.import_module("lab.datasets")
network = importlib.import_module("lab.network")
comparison = importlib.import_module("activation_vs_magnitude")
command_line = importlib.import_module("lab.command_line")


def options(*given):
    parser = command_line.parser("x", "x", comparison.ARMS, tuple(arms.OWN), (0.9,), (5, 10))
    parser.add_argument("--tfmot-end-share", type=float, default=0.5)
    return parser.parse_args(["--seeds", "1", "--arms", "dense", "magnitude", *given])


def grid(*given):
    return arms.settings_grid(options(*given), "data")


def test_the_last_event_comes_a_step_before_the_end():
    """0.80 + k (0.98 - 0.80) / n: the last of five at 94.4 %, of ten at 96.2 %."""
    found = {one["events"]: one for one in grid("--protocol", "paper") if one["events"]}
    assert (found[5]["start"], found[5]["stop"]) == (0.8, 0.944)
    assert (found[10]["start"], found[10]["stop"]) == (0.8, 0.962)
    five = [0.80 + k * 0.18 / 5 for k in range(5)]
    schedule = arms._pruner(found[5]).schedule
    np.testing.assert_allclose(schedule.levels, five, atol=1e-9)


def test_settings_tell_the_protocols_apart_and_the_short_one_keeps_its_records():
    short, paper = grid(), grid("--protocol", "paper")
    assert not any("protocol" in one for one in short)
    assert {one["protocol"] for one in paper} == {"paper"}
    for name, value in {"learning_rate": 0.01, "epochs": 500, "target_accuracy": 0.98}.items():
        assert {one[name] for one in paper} == {value}
    assert {one["epochs"] for one in grid("--protocol", "paper", "--epochs", "70")} == {70}


def test_the_first_tenth_validates_in_the_order_of_the_file():
    x = np.arange(40)[:, None]
    arrays = {"x_train": x, "y_train": x[:, 0] % 2, "x_test": x, "y_test": x[:, 0] % 2}
    data = datasets.split(arrays, None)
    assert data.x_validation.ravel().tolist() == [0, 1, 2, 3]
    assert data.x_train.ravel().tolist() == list(range(4, 40))


@pytest.mark.parametrize(
    ("losses", "stops"),
    [
        ([1.0, 1.2, 1.3, 1.4], True),
        ([1.0, 1.05, 1.08, 1.09], False),  # not above 1.1 times the least
        ([1.0, 1.2, 1.15, 1.3, 1.4], True),  # it fell between, but not below the bound
        ([1.0, 1.2, 1.05, 1.3, 1.4], False),  # below the bound: counted anew
        ([1.0, 1.2, 1.3, 0.9, 1.2], True),  # a new least does not count anew
        ([1.0, 1.4, 1.3, 1.2, 1.15], False),  # above the bound, but falling
        ([1.0, 2.0, 3.0], False),
        ([], False),
    ],
)
def test_training_ends_where_the_validation_loss_rises(losses, stops):
    assert network.overfits(losses) is stops


def test_inactivity_magnitude_by_hand():
    class Site:
        kernel = np.array([[1.0, -2.0], [3.0, 4.0]])
        units = np.array([[0, 1]])

        class activity:
            frequency = np.array([0.25, 1.0])

    found = arms.inactivity_magnitude(Site)
    np.testing.assert_allclose(found, [[0.75, 0.0], [2.25, 0.0]])


def test_it_trains_and_prunes_by_the_paper(monkeypatch):
    """A network on digits: events wait for their levels, and no weights are restored."""
    given = "--protocol paper --hidden 30 --epochs 40 --events 2 --sparsities 0.5 --start 0.5"
    one = next(s for s in grid(*given.split(), "--stop", "0.9") if s["arm"] == "magnitude")
    result = arms.train(
        {**one, "dataset": "digits", "learning_rate": 0.1, "arm": "magnitude"}
    ).result
    fired = sorted({row["epoch"] for row in result["events"]})
    history = [row["train_accuracy"] for row in result["history"]]
    levels = [0.5, 0.7]
    for level, before, epoch in zip(levels, [0, *fired], fired, strict=False):
        assert history[epoch - 1] >= level
        assert all(accuracy < level for accuracy in history[before : epoch - 1])
    assert len(fired) == len(levels)
    assert result["sparsity"] == pytest.approx(0.5, abs=1e-3)
    last = result["history"][-1]
    assert last["validation_loss"] == pytest.approx(result["validation_loss"], rel=1e-4)
