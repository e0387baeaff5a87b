"""When a schedule fires: what all schedules are, and what they are told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from activation_pruning.amounts import ByScores
from activation_pruning.support.checks import check_count
from activation_pruning.support.shown import shown

UNITS = ("epoch", "step")


@dataclass(frozen=True)
class Progress:
    """Where the training is, as a schedule is told.

    Args:
        epoch, step: completed epochs and training steps.
        logs: metrics of the epoch or step just completed; empty before training.
        sparsity: measured over all prunable weights, in [0, 1).
        epochs: epochs planned in this fit.
        steps_per_epoch: steps in an epoch, None when unknown.
        weights: number of prunable weights, None when unknown.
        granule: the least rise of the target, in weights, that surely prunes something; see
            `masks.granule`.
        events: pruning events in this fit so far.
        since: the metrics of each epoch since the last event, or since the start.

    Example:
        >>> import activation_pruning as ap
        >>> now = Progress(epoch=3, step=300, logs={}, sparsity=0.2, epochs=5)
        >>> ap.schedules.Linear(0.8, begin=1, end=5)(now)
        0.4
    """

    epoch: int
    step: int
    logs: Mapping[str, Any]
    sparsity: float
    epochs: int
    steps_per_epoch: int | None = None
    weights: int | None = None
    granule: int = 1
    events: int = 0
    since: tuple[Mapping[str, Any], ...] = ()


class Schedule:
    """When to prune, and to which sparsity: the base of all schedules.

    Schedules keep no state, so a resumed run goes on where it was; their fields rebuild them.

    by: "epoch" or "step": asked after each completed one, and once before training, at 0; the unit
    of all times. final_sparsity: where it ends, None when it doesn't say. relative: whether it
    takes from what is there, so that asked twice it prunes twice. releases: whether its targets
    may fall, and pruned weights train again then; without it a target below what is pruned changes
    nothing, with it `target` tells at any time. monitor: the metric that it watches, or None.
    times: fields that must lie within a fit.

    Example:
        >>> class Steps(Schedule):
        ...     targets, final_sparsity = {2: 0.5, 4: 0.8}, 0.8
        ...     def due(self, progress):
        ...         return progress.epoch in self.targets
        ...     def target(self, progress):
        ...         return self.targets[progress.epoch]
        >>> [Steps()(Progress(epoch, 0, {}, sparsity=0.0, epochs=5)) for epoch in range(1, 5)]
        [None, 0.5, None, 0.8]
    """

    by: str = "epoch"
    final_sparsity: Any
    relative: bool = False
    releases: bool = False
    monitor: str | None = None
    times: tuple[str, ...] = ()

    def __call__(self, progress: Progress) -> float | ByScores | None:
        """Return the target sparsity, an amount that looks at the scores, or None for not now."""
        return self.target(progress) if self.due(progress) else None

    def due(self, progress: Progress) -> bool:
        """Return whether an event falls on this moment."""
        raise NotImplementedError

    def target(self, progress: Progress) -> float | ByScores | None:
        """Return what the event of this moment goes to, None for nothing after all."""
        return self.final_sparsity

    def now(self, progress: Progress) -> int:
        """Return the time in the unit of the schedule."""
        return progress.epoch if self.by == "epoch" else progress.step

    def unreachable(self, epochs: int | None, steps_per_epoch: int | None) -> str | None:
        """Return why this schedule does nothing, or not all, in such a fit; None if it is fine."""
        times = {name: getattr(self, name) for name in self.times}
        return self.too_late(times, epochs, steps_per_epoch)

    def too_late(
        self, times: Mapping[str, int], epochs: int | None, steps_per_epoch: int | None
    ) -> str | None:
        """Return a message about the first of these times after the end of such a fit, or None."""
        per_epoch = 1 if self.by == "epoch" else steps_per_epoch
        if epochs is None or per_epoch is None:
            return None
        for name, time in times.items():
            if time > epochs * per_epoch:
                ends = name.startswith("end")
                lost = "it will not reach its final sparsity" if ends else "it never prunes"
                return (
                    f"{self}: {name}={time} lies after the last {self.by} of this fit, "
                    f"{epochs * per_epoch}; {lost}. Train longer or give a smaller {name}."
                )
        return None


class Recurring(Schedule):
    """Events at `begin`, `begin + frequency`, ..., none after `end`."""

    begin: int
    end: int | None
    frequency: int
    times: tuple[str, ...] = ("begin",)

    def due(self, progress: Progress) -> bool:
        now = self.now(progress)
        if now < self.begin or (self.end is not None and now > self.end):
            return False
        return (now - self.begin) % self.frequency == 0

    def check_times(self) -> None:
        """Raise a ValueError for times that are none, or in the wrong order."""
        check_count("begin", self.begin, 0)
        if self.end is not None:
            check_count("end", self.end, 0)
            if self.end < self.begin:
                raise ValueError(
                    f"end={self.end} is before begin={self.begin}; end must not be smaller."
                )
        check_count("frequency", self.frequency, 1)
        check_unit(self.by)


def check_unit(by: str) -> None:
    """Raise a ValueError unless `by` is a unit of time."""
    if by not in UNITS:
        raise ValueError(f"by={shown(by)}; it must be 'epoch' or 'step'.")
