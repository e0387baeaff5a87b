"""Functions of the progress as schedules."""

from typing import Any

from activation_pruning.amounts import ByScores
from activation_pruning.schedules.base import Progress, Schedule


class FromFunction(Schedule):
    """Ask a function, progress -> target sparsity, amount or None, that has a `by`.

    It may have the other attributes of a `Schedule`, too. `schedules.get` wraps such functions.

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
        """Return what the function does."""
        return self.function(progress)

    def unreachable(self, epochs: int | None, steps_per_epoch: int | None) -> str | None:
        """See `Schedule.unreachable`; None if the function does not say."""
        own = getattr(self.function, "unreachable", None)
        return own and own(epochs, steps_per_epoch)

    def __repr__(self) -> str:
        return repr(self.function)
