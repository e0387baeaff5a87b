"""What a schedule wants of a fit, and when it can be had."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from activation_pruning import amounts
from activation_pruning.callbacks.clock import Clock
from activation_pruning.support.counts import Count


class Agenda:
    """Asks the schedule of a callback, and keeps what cannot be done yet for later.

    Args:
        schedule: an object of `schedules`.
        clock: of the fit.
        count: function that returns how many weights are pruned now.

    Warns:
        UserWarning: the schedule does nothing, or not all, in this fit.
    """

    def __init__(self, schedule: Any, clock: Clock, count: Callable[[], Count]) -> None:
        self.schedule, self.clock, self.count = schedule, clock, count
        self.relative = schedule.relative
        self.granule = 1  # by how many weights a target must rise to prune something more
        self._owed: Any = None
        message = schedule.unreachable(clock.epochs, clock.steps)
        if message:
            warnings.warn(message, stacklevel=3)

    @property
    def end(self) -> int | None:
        """When the schedule, or else the fit, ends; None if unknown."""
        end = getattr(self.schedule, "end", None)
        return self.clock.end if end is None else end

    def resume(self) -> Any:
        """A fit goes on with an older one: the target that the schedule has now, or None.

        The weights may have been saved just before the event of their epoch; it is made up for
        when the schedule is asked next and activity is counted. Not where a schedule takes from
        what is there: it would take it a second time.
        """
        if not self.relative:
            self._owed = self._ask({}, self.clock.step)
        return self._owed

    def targets(self, logs: dict, steps: Sequence[int]) -> Iterator[Any]:
        """To prune to now, one after the other: the last of what the schedule says at `steps`."""
        if self.relative and len(steps) > 1:
            for step in steps:  # each takes from what the one before has left
                yield from self.targets(logs, [step])
            return
        targets = [self._ask(logs, step) for step in steps]
        targets = [target for target in targets if target is not None]
        owed, self._owed = self._owed, None
        if targets:
            yield targets[-1]
        elif owed is not None and self.lacks(owed):
            yield owed

    def _ask(self, logs: dict, step: int) -> Any:
        return self.schedule(self.clock.progress(step, logs, self.count(), self.granule))

    def lacks(self, target: Any) -> bool:
        """Whether `target` is further off than whole weights, units or blocks can explain."""
        if amounts.is_amount(target):
            return True
        return target * self.count().weights - self.count().pruned >= self.granule

    def postpone(self, target: Any) -> None:
        """Before the first step no activity has been counted: prune when asked next."""
        self._owed = target
        if self.lacks(target):
            how = f"by {target}" if amounts.is_amount(target) else f"to {target:.4f}"
            warnings.warn(
                f"the schedule prunes {how} before any training step, when nothing of "
                f"what the criterion needs is there: done after the first {self.schedule.by} "
                "instead. Let it begin later, or use a criterion such as 'magnitude'.",
                stacklevel=3,
            )

    def warn_short(self, events: int) -> None:
        """Warn where the fit is over, after so many events, and the schedule is not."""
        final = self.schedule.final_sparsity
        if final is not None and self.lacks(final):
            warnings.warn(
                f"training ended after {self.clock.epoch} epochs at sparsity "
                f"{self.count().sparsity:.4f}, before the schedule reached {final:.4f} ({events} "
                "events fired). Train longer, let the schedule end earlier, or give EarlyStopping "
                "more patience.",
                stacklevel=3,
            )
