"""The schedules of tensorflow_model_optimization, known by the name of their base class."""

from dataclasses import dataclass
from typing import Any

from activation_pruning.schedules.base import Progress, Schedule


@dataclass(frozen=True)
class FromTfmot(Schedule):
    """Ask a schedule object of tensorflow_model_optimization, by step; `get` wraps them.

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
        """Return the target sparsity, or None for nothing now."""
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
