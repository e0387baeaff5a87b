"""Schedules of tfmot's kind."""

import numpy as np
from asked import ask

from activation_pruning import schedules
from activation_pruning.schedules import Progress


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


def test_a_schedule_of_tfmots_kind_may_lack_its_times():
    class Bare(PruningSchedule):
        def __call__(self, step):
            return step == 3, 0.25

    schedule = schedules.get(Bare())
    assert ask(schedule, [0, 3], "step") == [None, 0.25]
    assert schedule.final_sparsity is None
    assert schedule.unreachable(1, 1) is None


def test_what_a_function_says_of_itself_is_kept():
    def own(progress):
        return 0.5

    own.by, own.final_sparsity, own.relative, own.monitor, own.end = "step", 0.8, True, "auc", 7
    own.unreachable = lambda epochs, steps_per_epoch: f"{epochs} of {steps_per_epoch}"
    found = schedules.get(own)
    assert (found.by, found.final_sparsity, found.relative) == ("step", 0.8, True)
    assert (found.monitor, found.end) == ("auc", 7)
    assert found.unreachable(3, 10) == "3 of 10"
    assert repr(found) == repr(own)
    assert found(Progress(1, 10, {}, 0.0, epochs=2)) == 0.5


def test_what_a_function_does_not_say():
    def own(progress):
        return None

    own.by = "epoch"
    found = schedules.get(own)
    assert (found.final_sparsity, found.relative, found.monitor, found.end) == (
        None,
        False,
        None,
        None,
    )
    assert found.unreachable(3, 10) is None
