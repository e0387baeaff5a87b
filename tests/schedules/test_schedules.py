"""When and how much, as literal lists."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def ask(schedule, times, by="epoch"):
    """The schedule's answers, rounded for reading."""
    answers = []
    for time in times:
        epoch, step = (time, 100 * time) if by == "epoch" else (time // 100, time)
        answer = schedule(Progress(epoch, step, {"loss": 1.0}, 0.0, epochs=10))
        answers.append(answer if answer is None else round(answer, 6))
    return answers


# -- curves --------------------------------------------------------------------------------


def test_one_shot():
    assert ask(OneShot(0.8, at=2), range(5)) == [None, None, 0.8, None, None]
    assert ask(OneShot(0.8), range(3)) == [None, 0.8, None]
    assert ask(OneShot(0.8, at=0), range(2)) == [0.8, None]


def test_constant_asserts_itself_again():
    assert ask(Constant(0.5), range(3)) == [0.5, 0.5, 0.5]
    assert ask(Constant(0.5, begin=1, frequency=2), range(6)) == [None, 0.5, None, 0.5, None, 0.5]
    assert ask(Constant(0.5, 1, end=4, frequency=2), range(6)) == [None, 0.5, None, 0.5, 0.5, None]


def test_linear():
    assert ask(Linear(0.8, 0, 4), range(6)) == [0.0, 0.2, 0.4, 0.6, 0.8, None]
    assert ask(Linear(0.8, 1, 5, initial_sparsity=0.4), range(1, 7)) == [
        0.4,
        0.5,
        0.6,
        0.7,
        0.8,
        None,
    ]


def test_polynomial_has_the_power_of_zhu_and_gupta():
    # 0.8 - 0.8 * (3/4)**3, (2/4)**3, (1/4)**3
    assert ask(Polynomial(0.8, 0, 4), range(6)) == [0.0, 0.4625, 0.7, 0.7875, 0.8, None]
    assert ask(Polynomial(0.8, 0, 4, power=1), range(6)) == ask(Linear(0.8, 0, 4), range(6))
    assert ask(Polynomial(0.8, 0, 2, initial_sparsity=0.4, power=2), [1]) == [0.7]


def test_exponential_keeps_the_same_share_each_time():
    # densities 1, 1/2, 1/4, 1/8
    assert ask(Exponential(0.875, 0, 3), range(5)) == [0.0, 0.5, 0.75, 0.875, None]
    assert ask(Exponential(0.875, 0, 2, initial_sparsity=0.5), range(3)) == [0.5, 0.75, 0.875]


def test_the_end_is_an_event_even_off_the_beat():
    answers = ask(Linear(0.8, 1, 5, frequency=3), range(7))
    assert answers == [None, 0.0, None, None, 0.6, 0.8, None]


def test_a_ramp_of_no_length_jumps():
    assert ask(Polynomial(0.8, 2, 2, initial_sparsity=0.1), range(4)) == [None, None, 0.8, None]


def test_by_step_counts_steps():
    assert ask(OneShot(0.8, at=100, by="step"), [0, 1, 100, 101], by="step") == [
        None,
        None,
        0.8,
        None,
    ]
    assert ask(Linear(0.8, 0, 200, frequency=100, by="step"), [0, 50, 100, 200, 300], "step") == [
        0.0,
        None,
        0.4,
        0.8,
        None,
    ]


@given(
    kind=st.sampled_from([Linear, Polynomial, Exponential]),
    sparsities=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
    begin=st.integers(0, 20),
    length=st.integers(0, 20),
    frequency=st.integers(1, 7),
)
@settings(max_examples=80, deadline=None)
def test_ramps_rise_from_initial_to_exactly_final(kind, sparsities, begin, length, frequency):
    low, high = sorted(sparsities)
    schedule = kind(high, begin, begin + length, initial_sparsity=low, frequency=frequency)
    answers = [schedule(Progress(t, 0, {}, 0.0, 50)) for t in range(50)]
    fired = [a for a in answers if a is not None]
    assert all(a is None for a in answers[:begin] + answers[begin + length + 1 :])
    assert fired[-1] == high
    assert fired[0] == pytest.approx(low if length else high, abs=1e-12)
    assert all(b >= a - 1e-12 for a, b in pairwise(fired))
    assert all(low - 1e-12 <= a <= high + 1e-12 for a in fired)


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


# -- the paper's schedule ------------------------------------------------------------------

PAPER = AccuracyTriggered(start=0.80, stop=0.98, events=4, final_sparsity=0.8)


def at(value, sparsity, monitor="accuracy", **known):
    """Progress at an epoch's end with this metric and sparsity."""
    return Progress(3, 30, {monitor: value, "loss": 1.0} | known, sparsity, epochs=20)


def test_levels_and_shares():
    np.testing.assert_allclose(PAPER.levels, [0.80, 0.86, 0.92, 0.98])
    # shares 1, 0.8, 0.64, 0.512 of their sum 2.952
    np.testing.assert_allclose(PAPER.targets, 0.8 * np.array([1, 1.8, 2.44, 2.952]) / 2.952)
    assert PAPER.targets[-1] == 0.8
    assert AccuracyTriggered(0.8, 0.9, 1, 0.5).levels.tolist() == [0.8]


def test_an_event_waits_for_its_level():
    first, second = PAPER.targets[:2]
    assert PAPER(at(0.79, 0.0)) is None
    assert PAPER(at(0.80, 0.0)) == pytest.approx(first)
    assert PAPER(at(0.85, first)) is None
    assert PAPER(at(0.86, first)) == pytest.approx(second)
    assert PAPER(at(1.0, 0.8)) is None
    assert PAPER(at(float("nan"), 0.0)) is None


def test_one_event_per_epoch_even_if_all_levels_are_reached():
    assert PAPER(at(1.0, 0.0)) == pytest.approx(PAPER.targets[0])


def test_nothing_before_training():
    assert PAPER(Progress(0, 0, {}, 0.0, epochs=20)) is None


@pytest.mark.parametrize("monitor", ["loss", "val_loss", "error"])
def test_falling_metrics_fire_at_or_below_the_level(monitor):
    schedule = AccuracyTriggered(1.0, 0.2, 3, 0.6, monitor=monitor, decay=1.0)
    assert schedule(at(0, 0.0, **{monitor: 1.1})) is None
    assert schedule(at(0, 0.0, **{monitor: 1.0})) == pytest.approx(0.2)
    assert schedule(at(0, 0.2, **{monitor: 0.7})) is None
    assert schedule(at(0, 0.2, **{monitor: 0.6})) == pytest.approx(0.4)


def run(schedule, total, pruned_by, **known):
    """Pruned weights after each event of a training that always reaches the level."""
    pruned, reached = 0, []
    for _ in range(50):
        target = schedule(Progress(1, 1, {"accuracy": 1.0}, pruned / total, 50, **known))
        if target is None:
            return reached
        pruned = max(pruned, pruned_by(target * total))
        reached.append(pruned)
    raise AssertionError(f"the schedule repeats itself: {reached}")


def test_ten_weights_take_five_events():
    schedule = AccuracyTriggered(0.5, 0.9, 5, 0.8)
    assert run(schedule, 10, lambda k: int(k + 0.5)) == [2, 4, 6, 7, 8]
    assert run(schedule, 10, lambda k: int(k + 0.5), weights=10) == [2, 4, 6, 7, 8]


def test_whole_units_merge_the_events_that_they_cannot_tell_apart():
    # 10 units of 10 weights: 2.4, 4.3, 5.8, 7.03, 8 units
    schedule = AccuracyTriggered(0.5, 0.9, 5, 0.8)
    reached = run(schedule, 100, lambda k: int(k + 0.5) // 10 * 10, weights=100, granule=10)
    assert reached == [20, 40, 50, 70, 80]
    # 4 units of 25 weights: 0.95 (skipped), 1.7, 2.3, 2.8 (skipped), 3.2
    reached = run(schedule, 100, lambda k: int(k + 0.5) // 25 * 25, weights=100, granule=25)
    assert reached == [25, 50, 75]


@given(
    weights=st.integers(10, 10_000),
    events=st.integers(1, 12),
    final=st.floats(0.01, 0.99),
    decay=st.floats(0.3, 1.0),
)
@settings(max_examples=80, deadline=None)
def test_with_the_weights_known_every_run_ends_at_the_final_sparsity(weights, events, final, decay):
    schedule = AccuracyTriggered(0.5, 0.9, events, final, decay=decay)
    reached = run(schedule, weights, lambda k: int(np.floor(k + 0.5)), weights=weights)
    assert len(reached) <= events
    assert all(b > a for a, b in pairwise(reached))
    assert (reached[-1] if reached else 0) == pytest.approx(final * weights, abs=0.5 + 1e-6)


def test_a_metric_that_is_not_logged():
    with pytest.raises(ValueError, match=r"monitor='accuracy' is not .*\['auc', 'loss'\]"):
        PAPER(Progress(1, 10, {"loss": 0.1, "auc": 0.5}, 0.0, epochs=20))


# -- tfmot ---------------------------------------------------------------------------------


class PruningSchedule:
    """Stands in for tfmot's base class, which is recognised by its name."""


class Decay(PruningSchedule):
    """As tfmot's: every `frequency` steps from begin to end, NumPy scalars for tensors."""

    begin_step, end_step, final_sparsity = 10, 30, 0.6

    def __call__(self, step):
        """Return whether to prune, and the sparsity."""
        due = self.begin_step <= step <= self.end_step and step % 10 == 0
        return np.bool_(due), np.float32(0.02 * step)


def test_tfmot_schedules_are_asked_by_step():
    schedule = schedules.get(Decay())
    assert (schedule.by, schedule.final_sparsity) == ("step", 0.6)
    assert ask(schedule, [0, 9, 10, 15, 30, 40], "step") == [None, None, 0.2, None, 0.6, None]
    assert schedule.unreachable(3, 10) is None
    assert schedule.unreachable(3, None) is None
    assert "begin_step=10 lies after the last step of this fit, 9" in schedule.unreachable(1, 9)
    assert "end_step=30 lies after" in schedule.unreachable(1, 20)


def test_tfmot_constant_sparsity_says_its_target():
    class ConstantSparsity(Decay):
        final_sparsity, target_sparsity, end_step = None, 0.5, -1

    assert schedules.get(ConstantSparsity()).final_sparsity == 0.5
    assert schedules.get(ConstantSparsity()).unreachable(2, 10) is None


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


# -- schedules that come too late ----------------------------------------------------------


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


# -- bad input -----------------------------------------------------------------------------


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
        (lambda: Polynomial(0.5, 0, 9, power=0), "power=0; it must be a number greater than 0"),
        (lambda: AccuracyTriggered(0.5, 0.9, 0, 0.8), "events=0; it must be an integer of at lea"),
        (lambda: AccuracyTriggered(0.5, 0.9, 3, 1.0), "final_sparsity=1.0"),
        (lambda: AccuracyTriggered(0.5, 0.9, 3, 0.8, decay=0), r"decay=0; it must be in \(0, 1\]"),
        (lambda: AccuracyTriggered(0.5, 0.9, 3, 0.8, decay=1.1), "decay=1.1"),
        (lambda: AccuracyTriggered(float("inf"), 1, 3, 0.8), "start=inf; it must be a finite"),
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
