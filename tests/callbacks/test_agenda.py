"""How far a fit is, and what its schedule still wants."""

from types import SimpleNamespace

import keras
import models
import pytest

import activation_pruning as ap
from activation_pruning import amounts, schedules
from activation_pruning.callbacks.agenda import Agenda, Clock
from activation_pruning.support.counts import Count


def test_steps_of_several_epochs_and_executions():
    clock = Clock({"epochs": 3, "steps": 5}, "step")
    clock.start(epoch=1)
    assert (clock.time, clock.stepped, clock.end) == (5, False, 15)
    clock.begin_epoch()
    steps = [list(clock.end_batch(batch)) for batch in (1, 3, 5)]  # the last lies beyond the end
    assert steps == [[6, 7], [8, 9], [10]]
    assert clock.stepped
    clock.end_epoch(1, {"loss": 1.0})
    clock.begin_epoch()
    assert list(clock.end_batch(0)) == [11]
    assert (clock.epoch, clock.step) == (2, 11)


def test_where_the_length_of_an_epoch_is_not_known():
    clock = Clock({"epochs": 3, "steps": None}, "step")
    assert (clock.step, clock.end) == (0, None)
    assert list(clock.end_batch(4)) == [1, 2, 3, 4, 5]
    assert list(clock.end_epoch(0, {})) == []
    assert Clock({"epochs": 3}, "epoch").end == 3


def test_the_first_epoch_of_a_resumed_fit_says_how_long_those_before_were():
    clock = Clock({"epochs": 5, "steps": None}, "step")
    clock.start(epoch=2)
    clock.begin_epoch()
    assert clock.lost
    assert [list(clock.end_batch(batch)) for batch in (0, 1, 2)] == [[], [], []]
    assert clock.stepped
    assert list(clock.end_epoch(2, {})) == [7, 8, 9]  # two epochs of three steps were before
    assert not clock.lost
    assert clock.stepped
    clock.begin_epoch()
    assert list(clock.end_batch(0)) == [10]
    assert list(clock.end_epoch(3, {})) == []


def test_progress_tells_the_epochs_since_the_last_event():
    clock = Clock({"epochs": 3, "steps": 5}, "epoch")
    clock.end_epoch(0, {"loss": 2.0})
    clock.note_event()
    clock.end_epoch(1, {"loss": 1.0})
    told = clock.progress(step=10, logs={}, count=Count(weights=8, pruned=2), granule=1)
    assert (told.epoch, told.step, told.sparsity, told.weights) == (2, 10, 0.25, 8)
    assert (told.events, told.since, told.steps_per_epoch) == (1, ({"loss": 1.0},), 5)


@pytest.mark.parametrize(
    ("params", "match"),
    [(None, "plain list"), ({}, "plain list"), ({"epochs": 1, "steps": 0}, "data is empty")],
)
def test_where_nobody_can_tell_the_time(params, match):
    with pytest.raises(ValueError, match=match):
        Clock(params, "epoch")


def agenda(schedule, pruned=0):
    now = SimpleNamespace(count=Count(weights=100, pruned=pruned))
    clock = Clock({"epochs": 9, "steps": 2}, schedule.by)
    return Agenda(schedule, clock, lambda: now.count), now


def test_the_last_of_several_steps_counts():
    found, _ = agenda(schedules.Linear(0.6, begin=0, end=6, by="step"))
    assert list(found.targets({}, range(1, 4))) == [pytest.approx(0.3)]


def test_what_takes_from_what_is_there_is_asked_after_each_event():
    found, now = agenda(schedules.Every(10, by="step"))
    targets = []
    for target in found.targets({}, range(1, 4)):
        targets.append(target)
        now.count = Count(100, round(100 * target))
    assert targets == [0.1, 0.2, 0.3]


def test_what_is_postponed_comes_next_unless_it_is_there_already():
    for pruned, targets in ((0, [0.5]), (50, [])):
        found, now = agenda(schedules.OneShot(0.5, at=0))
        with pytest.warns(UserWarning, match="before any training step"):
            found.postpone(0.5)
        now.count = Count(100, pruned)
        found.clock.end_epoch(0, {})
        assert list(found.targets({}, [2])) == targets
        assert list(found.targets({}, [4])) == []


@pytest.mark.filterwarnings("error::UserWarning")
def test_what_takes_nothing_and_never_will_says_so_once():
    found, now = agenda(schedules.Every(0.2))
    found.granule = 30
    before = Count(100, 0)
    with pytest.warns(UserWarning, match=r"Every\(amount=Fraction.*comes to 20 weights"):
        found.note(0.2, before)
    found.note(0.2, before)
    now.count = Count(100, 30)
    found, _ = agenda(schedules.Every(0.2), pruned=30)
    found.note(0.44, Count(100, 0))  # it took something: nothing to say
    found, _ = agenda(schedules.OneShot(0.2))
    found.note(0.2, before)  # a target, which may rise
    found, _ = agenda(schedules.Every(0.2))
    found.note(0.2, before)  # enough for single weights: they must be last ones


def test_amounts_by_scores_that_took_nothing_say_so_at_the_end():
    bucket = amounts.UpTo(amounts.Bucket(0.1), 0.5)
    found, _ = agenda(schedules.Every(amounts.Bucket(0.1)))
    found.note(bucket, Count(100, 0))
    with pytest.warns(UserWarning, match="took nothing at any of its 3 events"):
        found.warn_short(3)


@pytest.mark.backend
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch has no steps_per_execution")
@pytest.mark.parametrize(
    ("schedule", "pruned"),
    [  # of 88 weights, with three steps in one call
        (schedules.Every(10, by="step"), [10, 20, 30, 40, 50, 60]),
        (schedules.Linear(0.6, begin=1, end=6, initial_sparsity=0.1, by="step"), [26, 53]),
    ],
    ids=["each takes from what is there", "the last target counts"],
)
def test_several_targets_in_one_call(schedule, pruned):
    model = models.compiled(models.mlp(), steps_per_execution=3)
    callback = ap.PruningCallback(schedule, "magnitude")
    x, y = models.data(samples=24)
    model.fit(x, y, batch_size=4, verbose=0, callbacks=[callback])
    events = callback.table().groupby("event")
    assert events["pruned"].sum().tolist() == pruned
    assert events["step"].first().tolist() == [3] * (len(pruned) // 2) + [6] * (len(pruned) // 2)
    zeros = sum((kernel == 0).sum() for kernel in models.kernels(model, "a", "b"))
    assert zeros == pruned[-1]
