"""Schedules that say by how much, not to which sparsity: one amount per event."""

from dataclasses import dataclass

from activation_pruning import amounts
from activation_pruning.allocations import rounded
from activation_pruning.schedules import retraining
from activation_pruning.schedules.when import Progress, Recurring, Schedule
from activation_pruning.support.checks import check_count, check_sparsity


class _ByAmount(Schedule):
    """What takes an amount of what is alive at each event, as far as `final_sparsity`."""

    amount: amounts.Amount | float
    relative = True

    def check_amount(self) -> None:
        """Look the amount up, or raise."""
        object.__setattr__(self, "amount", amounts.get(self.amount))
        if self.final_sparsity is not None:
            check_sparsity("final_sparsity", self.final_sparsity)

    def event(self, progress: Progress) -> int:
        """Return the number of the event, from 0."""
        raise NotImplementedError

    def target(self, progress: Progress) -> float | amounts.ByScores | None:
        final, weights = self.final_sparsity, progress.weights
        if weights is None:
            raise ValueError(f"{self} takes from the weights alive: give Progress(weights=...)")
        pruned = round(progress.sparsity * weights)
        if final is not None and rounded(final, weights) - pruned < progress.granule:
            return None  # as near as whole weights, units or blocks surely come
        # A number of weights may be all that are left: the layers' last ones are protected anyway.
        most = (weights - 1) / weights if final is None else final
        return amounts.resolved(self.amount, weights, pruned, self.event(progress), most)


@dataclass(frozen=True)
class Every(_ByAmount, Recurring):
    """Prune by `amount` at `begin`, `begin + frequency`, ... until `end`.

    Args:
        amount: a share of the weights alive in (0, 1), a number, or an object of `amounts`.
        frequency, begin, end, by: as in `Constant`.
        final_sparsity: no further than this, in [0, 1); None for no limit.

    Raises:
        ValueError, TypeError: an argument out of range; an amount that is none.

    Source: Ganguli & Chong, Algorithms 17(1):48, 2024, whose code prunes every few epochs.

    Example:
        >>> at = lambda epoch: Progress(epoch, 0, {}, sparsity=0.4, epochs=9, weights=100)
        >>> [Every(0.5, frequency=2)(at(epoch)) for epoch in (1, 2, 3)]
        [0.7, None, 0.7]
    """

    amount: amounts.Amount | float
    frequency: int = 1
    begin: int = 1
    end: int | None = None
    final_sparsity: float | None = None
    by: str = "epoch"

    def __post_init__(self) -> None:
        self.check_amount()
        self.check_times()

    def event(self, progress: Progress) -> int:
        return (self.now(progress) - self.begin) // self.frequency


@dataclass(frozen=True)
class Iterative(_ByAmount):
    """Prune by `amount`, retrain, and again: an event when the retraining policy has enough.

    A policy knows the epochs of this fit only: a resumed run begins its retraining anew.

    Args:
        amount: as for `Every`.
        retrain: epochs between two events, or an object of `retraining`.
        begin: epochs before the first event; 0 is before training.
        final_sparsity: as for `Every`.

    Raises:
        ValueError, TypeError: an argument out of range; an amount or a policy that is none.

    Source: Han et al., NIPS 2015, section 3.4 (iterative pruning).

    Example:
        >>> at = lambda *since: Progress(3, 0, {}, 0.5, 9, weights=100, events=1, since=since)
        >>> Iterative(0.5, retrain=2)(at({})), Iterative(0.5, retrain=2)(at({}, {}))
        (None, 0.75)
    """

    amount: amounts.Amount | float
    retrain: retraining.Policy | int = 2
    begin: int = 1
    final_sparsity: float | None = None
    times = ("begin",)

    def __post_init__(self) -> None:
        self.check_amount()
        check_count("begin", self.begin, 0)
        policy = retraining.get(self.retrain)
        object.__setattr__(self, "retrain", policy)
        object.__setattr__(self, "monitor", getattr(policy, "monitor", None))

    def due(self, progress: Progress) -> bool:
        if progress.epoch < self.begin:
            return False
        return not progress.events or retraining.get(self.retrain)(list(progress.since))

    def event(self, progress: Progress) -> int:
        return progress.events
