"""Schedules of others: functions of the progress, and those of tensorflow_model_optimization."""

from dataclasses import dataclass
from typing import Any

from activation_pruning.amounts import ByScores
from activation_pruning.schedules.when import Progress, Schedule


class FromFunction(Schedule):
    """Ask a function, progress -> target sparsity, amount or None, that has a `by`; `get` wraps it.

    It may have the other attributes of a `Schedule`, too.

    Example:
        >>> def half(progress):
        ...     return 0.5 if progress.epoch == 2 else None
        >>> half.by = "epoch"
        >>> FromFunction(half)(Progress(2, 20, {}, 0.0, epochs=5))
        0.5
    """

    def __init__(self, function: Any) -> None:
        self.function, self.by = function, function.by
        self.final_sparsity = getattr(function, "final_sparsity", None)
        self.relative = getattr(function, "relative", False)
        self.monitor = getattr(function, "monitor", None)
        self.end = getattr(function, "end", None)

    def __call__(self, progress: Progress) -> float | ByScores | None:
        return self.function(progress)

    def unreachable(self, epochs: int | None, steps_per_epoch: int | None) -> str | None:
        own = getattr(self.function, "unreachable", None)
        return own and own(epochs, steps_per_epoch)

    def __repr__(self) -> str:
        return repr(self.function)


@dataclass(frozen=True)
class FromTfmot(Schedule):
    """Ask a schedule object of tensorflow_model_optimization, by step; `get` wraps it.

    Args:
        schedule: callable, step -> (whether to prune, target sparsity), scalars or tensors.

    Example:
        >>> FromTfmot(lambda step: (step == 3, 0.5))(Progress(0, 3, {}, 0.0, epochs=1))
        0.5
    """

    schedule: Any
    by = "step"

    def __post_init__(self) -> None:
        last = getattr(self.schedule, "final_sparsity", None)
        last = getattr(self.schedule, "target_sparsity", None) if last is None else last
        object.__setattr__(self, "final_sparsity", last)

    def __call__(self, progress: Progress) -> float | None:
        due, sparsity = self.schedule(progress.step)
        return float(sparsity) if bool(due) else None

    def unreachable(self, epochs: int | None, steps_per_epoch: int | None) -> str | None:
        times = {"begin_step": getattr(self.schedule, "begin_step", 0)}
        if hasattr(self.schedule, "final_sparsity"):
            times["end_step"] = getattr(self.schedule, "end_step", -1)  # -1: tfmot's "no end"
        return self.too_late(times, epochs, steps_per_epoch)


def is_tfmot(schedule: Any) -> bool:
    """Return whether an object is a schedule of tfmot's, without importing that."""
    return any(kind.__name__ == "PruningSchedule" for kind in type(schedule).__mro__)
