"""Schedules that say by how much, not to which sparsity: one amount per event."""

from dataclasses import dataclass
from typing import Any, ClassVar

from activation_pruning import amounts, retraining
from activation_pruning.allocations import rounded
from activation_pruning.support.checks import check_count, check_sparsity


@dataclass(frozen=True)
class Every:
    """Prune by `amount` at `begin`, `begin + frequency`, ... until `end`.

    Args:
        amount: a share of the weights alive in (0, 1), a number of weights, or an object of
            `amounts`; `InTurn` takes the next layer at each event.
        frequency: time between two events, at least 1.
        begin: first event; 0 is before training.
        end: last time, None for the whole training.
        final_sparsity: no further than this, in [0, 1); None for no limit.
        by: "epoch" or "step".

    Raises:
        ValueError: an argument out of range; `end` before `begin`.
        TypeError: an amount that is none.

    Source: Ganguli & Chong, Algorithms 17(1):48, 2024, whose code prunes every few epochs.

    Example:
        >>> from activation_pruning.schedules import Progress
        >>> at = lambda epoch, sparsity: Progress(epoch, 0, {}, sparsity, epochs=9, weights=100)
        >>> schedule = Every(0.5, frequency=2, final_sparsity=0.7)
        >>> [schedule(at(*now)) for now in ((1, 0.0), (2, 0.5), (3, 0.5), (5, 0.7))]
        [0.5, None, 0.7, None]
    """

    amount: Any
    frequency: int = 1
    begin: int = 1
    end: int | None = None
    final_sparsity: float | None = None
    by: str = "epoch"
    relative: ClassVar[bool] = True  # asked twice it prunes twice

    def __post_init__(self):
        _check(self)
        check_count("frequency", self.frequency, 1)
        if self.end is not None and self.end < self.begin:
            raise ValueError(
                f"end={self.end} is before begin={self.begin}; end must not be smaller."
            )
        if self.by not in ("epoch", "step"):
            raise ValueError(f"by={self.by!r}; it must be 'epoch' or 'step'.")

    def __call__(self, progress):
        """Return the target sparsity, an amount that looks at the scores, or None."""
        now = progress.epoch if self.by == "epoch" else progress.step
        if now < self.begin or (self.end is not None and now > self.end):
            return None
        event, rest = divmod(now - self.begin, self.frequency)
        return None if rest else _answer(self, progress, event)

    def unreachable(self, epochs, steps_per_epoch):
        """Return why this schedule does nothing in such a fit; None if it is fine."""
        return _too_late(self, epochs, steps_per_epoch)


@dataclass(frozen=True)
class Iterative:
    """Prune by `amount`, retrain, and again: an event when the retraining policy has enough.

    What a policy knows is the epochs of this fit since the last event: a resumed run begins its
    retraining anew.

    Args:
        amount: as for `Every`.
        retrain: epochs between two events, or an object of `retraining`.
        begin: epochs before the first event; 0 is before training.
        final_sparsity: as for `Every`.

    Raises:
        ValueError: an argument out of range.
        TypeError: an amount or a policy that is none.

    Source: Han et al., NIPS 2015, section 3.4 (iterative pruning).

    Example:
        >>> from activation_pruning.schedules import Progress
        >>> schedule = Iterative(0.5, retrain=2)
        >>> at = lambda **now: Progress(step=0, logs={}, epochs=9, weights=100, **now)
        >>> schedule(at(epoch=2, sparsity=0.5, events=1, since=({},)))
        >>> schedule(at(epoch=3, sparsity=0.5, events=1, since=({}, {})))
        0.75
    """

    amount: Any
    retrain: Any = 2
    begin: int = 1
    final_sparsity: float | None = None
    by: ClassVar[str] = "epoch"
    relative: ClassVar[bool] = True

    def __post_init__(self):
        _check(self)
        object.__setattr__(self, "retrain", retraining.get(self.retrain))

    def __call__(self, progress):
        """Return the target sparsity, an amount that looks at the scores, or None."""
        if progress.epoch < self.begin:
            return None
        if progress.events and not self.retrain(list(progress.since)):
            return None
        return _answer(self, progress, progress.events)

    @property
    def monitor(self):
        """Return the metric that the policy watches, or None."""
        return getattr(self.retrain, "monitor", None)

    def unreachable(self, epochs, steps_per_epoch):
        """Return why this schedule does nothing in such a fit; None if it is fine."""
        return _too_late(self, epochs, steps_per_epoch)


def _check(schedule):
    object.__setattr__(schedule, "amount", amounts.get(schedule.amount))
    check_count("begin", schedule.begin, 0)
    if schedule.final_sparsity is not None:
        check_sparsity("final_sparsity", schedule.final_sparsity)


def _answer(schedule, progress, event):
    final, weights = schedule.final_sparsity, progress.weights
    pruned = round(progress.sparsity * weights)
    if final is not None and rounded(final, weights) - pruned < progress.granule:
        return None  # as near as whole weights, units or blocks surely come
    # A number of weights may be all that are left: the layers' last ones are protected anyway.
    most = (weights - 1) / weights if final is None else final
    return amounts.resolved(schedule.amount, weights, pruned, event, most)


def _too_late(schedule, epochs, steps_per_epoch):
    per_epoch = 1 if schedule.by == "epoch" else steps_per_epoch
    if epochs is None or per_epoch is None or schedule.begin <= epochs * per_epoch:
        return None
    return (
        f"{schedule}: begin={schedule.begin} lies after the last {schedule.by} of this fit, "
        f"{epochs * per_epoch}; it never prunes. Train longer or give a smaller begin."
    )
