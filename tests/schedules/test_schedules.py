"""What holds for all schedules: fields, lookup, lateness, bad input."""

import dataclasses

import pytest
from asked import PAPER

from activation_pruning import schedules
from activation_pruning.schedules import (
    AccuracyTriggered,
    Constant,
    Exponential,
    Linear,
    OneShot,
    Polynomial,
    Progress,
)


@pytest.mark.parametrize(
    "schedule",
    [
        OneShot(0.5, at=3, by="step"),
        Constant(0.5, 1, 4, 2),
        Linear(0.5, 0, 9, 0.1),
        Polynomial(0.5, 0, 9, power=2.0),
        Exponential(0.5, 0, 9),
        AccuracyTriggered(0.5, 0.9, 4, 0.8, monitor="val_accuracy"),
    ],
)
def test_a_schedule_is_rebuilt_from_its_fields(schedule):
    assert schedules.SCHEDULES[type(schedule).__name__](**dataclasses.asdict(schedule)) == schedule


def test_get_takes_schedules_and_look_alikes():
    class Own:
        by = "epoch"

        def __call__(self, progress):
            return 0.5

    own = Own()
    found = schedules.get(own)
    assert found.function is own
    assert (found.by, found(Progress(1, 10, {}, 0.0, epochs=2))) == ("epoch", 0.5)
    assert (found.relative, found.final_sparsity, found.unreachable(9, 9)) == (False, None, None)
    assert schedules.get(PAPER) is PAPER


@pytest.mark.parametrize("bad", ["linear", 0.5, None, OneShot, lambda step: (True, 0.5)])
def test_what_is_not_a_schedule(bad):
    with pytest.raises(TypeError, match=r"is not a schedule; give an object such as .*Polynomial"):
        schedules.get(bad)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (OneShot(0.5, at=5), None),
        (OneShot(0.5, at=6), "at=6 lies after the last epoch of this fit, 5; it never prunes"),
        (OneShot(0.5, at=50, by="step"), None),
        (OneShot(0.5, at=51, by="step"), "at=51 lies after the last step of this fit, 50"),
        (Constant(0.5, begin=5), None),
        (Constant(0.5, begin=6), "begin=6 lies after .*it never prunes"),
        (Polynomial(0.5, 0, 5), None),
        (Polynomial(0.5, 6, 9), "begin=6 lies after .*it never prunes"),
        (Linear(0.5, 0, 6), "end=6 lies after .*it will not reach its final sparsity"),
        (AccuracyTriggered(0.5, 0.9, 5, 0.8), None),
        (AccuracyTriggered(0.5, 0.9, 6, 0.8), "6 events need at least 6 epochs, .* has 5"),
    ],
)
def test_unreachable(schedule, message):
    found = schedule.unreachable(epochs=5, steps_per_epoch=10)
    if message is None:
        assert found is None
    else:
        with pytest.raises(ValueError, match=message):
            raise ValueError(found)


def test_unknown_lengths_are_not_unreachable():
    assert OneShot(0.5, at=10**9, by="step").unreachable(5, None) is None
    assert OneShot(0.5, at=10**9).unreachable(None, 10) is None
    assert PAPER.unreachable(None, None) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneShot(1.0), r"final_sparsity=1.0; it must be a fraction in \[0, 1\)"),
        (lambda: OneShot(-0.1), "final_sparsity=-0.1"),
        (lambda: OneShot(float("nan")), "final_sparsity=nan"),
        (lambda: OneShot("0.5"), "final_sparsity='0.5'"),
        (lambda: OneShot(0.5, at=-1), "at=-1; it must be an integer of at least 0"),
        (lambda: OneShot(0.5, at=1.5), "at=1.5; it must be an integer"),
        (lambda: OneShot(0.5, by="batch"), "by='batch'; it must be 'epoch' or 'step'"),
        (lambda: Constant(0.5, begin=-1), "begin=-1; it must be an integer of at least 0"),
        (lambda: Constant(0.5, begin=3, end=2), "end=2 is before begin=3"),
        (lambda: Constant(0.5, frequency=0), "frequency=0; it must be an integer of at least 1"),
        (lambda: Linear(0.5, 3, 2), "end=2 is before begin=3"),
        (lambda: Linear(0.5, 3, None), "end=None; it must be an integer"),
        (lambda: Linear(0.5, 0, 9, initial_sparsity=0.6), "initial_sparsity=0.6 is above"),
        (lambda: Linear(0.5, 0, 9, initial_sparsity=-1), "initial_sparsity=-1; it must be"),
        (lambda: Exponential(0.5, 0, 9, by="day"), "by='day'"),
        (lambda: Polynomial(0.5, 0, 9, power=0), "power=0; it must be a finite number great"),
        (lambda: AccuracyTriggered(0.5, 0.9, 0, 0.8), "events=0; it must be an integer of at lea"),
        (lambda: AccuracyTriggered(0.5, 0.9, 3, 1.0), "final_sparsity=1.0"),
        (lambda: AccuracyTriggered(0.5, 0.9, 3, 0.8, decay=0), r"decay=0; it must be in \(0, 1\]"),
        (lambda: AccuracyTriggered(0.5, 0.9, 3, 0.8, decay=1.1), "decay=1.1"),
        (lambda: AccuracyTriggered(float("inf"), 1, 3, 0.8), "start=inf; it must be a finite"),
        (
            lambda: AccuracyTriggered(80, 98, 3, 0.8),
            r"start=80; it must be in \[0, 1\]: 0.8 for",
        ),
        (
            lambda: AccuracyTriggered(0.8, 98, 3, 0.8),
            r"stop=98; it must be in \[0, 1\]",
        ),
        (
            lambda: AccuracyTriggered(0.98, 0.8, 3, 0.8),
            "start=0.98 is above stop=0.8.*the lower",
        ),
        (
            lambda: AccuracyTriggered(0.98, 0.8, 3, 0.8, monitor="val_sparse_categorical_accuracy"),
            "rises during training",
        ),
        (lambda: AccuracyTriggered(0.5, "x", 3, 0.8), "stop='x'; it must be a finite number"),
        (
            lambda: AccuracyTriggered(0.1, 0.9, 3, 0.8, monitor="val_loss"),
            "start=0.1 is below stop=0.9, but monitor='val_loss' falls during training",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
