"""How far a fit is, and what its schedule still wants."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from activation_pruning import amounts
from activation_pruning.allocations import rounded
from activation_pruning.schedules import Progress
from activation_pruning.support.counts import Count


class Clock:
    """Counts the epochs and steps of a fit, also of one that goes on with an older one.

    Where Keras does not know how many steps an epoch has (generators), a fit that goes on with an
    older one cannot tell the step before its first epoch is over, and is taken to be as long as
    those before it.

    `params` is what Keras tells a callback; `by`, "epoch" or "step", the unit of `time` and `end`.
    Raises ValueError where nobody can tell the time in this fit.
    """

    def __init__(self, params: Mapping[str, Any] | None, by: str) -> None:
        if not params or "epochs" not in params:
            raise ValueError(
                "callbacks=CallbackList(...) without its parameters: give fit a plain list, or "
                "CallbackList(..., epochs=..., steps=...)"
            )
        self.epochs, self.steps, self.by = params["epochs"], params.get("steps"), by
        if self.steps == 0:
            raise ValueError("the training data is empty: there is no step in an epoch")
        self._events = 0  # in this fit
        self._since: list[dict] = []  # logs of the epochs since the last event
        self.start(0)

    def start(self, epoch: int) -> None:
        """The first epoch of this fit begins, after so many of older ones."""
        self.epoch = epoch  # completed ones
        self.step = self._first = self._before = epoch * (self.steps or 0)
        self._missing = 0 if self.steps else epoch  # epochs of unknown length before this fit

    @property
    def lost(self) -> bool:
        """Whether events by step have to wait: nobody knows how many steps there have been."""
        return self.by == "step" and self._missing > 0

    def begin_epoch(self) -> None:
        """An epoch begins, whose batches are counted from 0."""
        self._before = self.step

    def end_batch(self, batch: int) -> range:
        """A batch is over, and with steps_per_execution those before it; returns the new steps.

        None of them where their numbers are not known yet.
        """
        done = min(batch + 1, self.steps or batch + 1)  # it may lie beyond the end of the epoch
        before, self.step = self.step, self._before + done
        return range(0) if self.lost else range(before + 1, self.step + 1)

    def end_epoch(self, epoch: int, logs: Mapping[str, Any]) -> range:
        """An epoch is over, with these metrics; returns its steps where none were told till now."""
        self.epoch = epoch + 1
        self._since.append(dict(logs))
        late, before = self.lost, self._missing * self.step  # this epoch is the first of the fit
        self._first, self._missing = self._first + before, 0
        self.step += before
        return range(self._first + 1, self.step + 1) if late else range(0)

    def note_event(self) -> None:
        """There is a pruning event now."""
        self._events, self._since = self._events + 1, []

    @property
    def stepped(self) -> bool:
        """Whether there has been a training step in this fit."""
        return self.step > self._first

    @property
    def time(self) -> int:
        """Completed epochs or steps."""
        return self.epoch if self.by == "epoch" else self.step

    @property
    def end(self) -> int | None:
        """When the fit ends; None where the length of an epoch is not known."""
        per_epoch = 1 if self.by == "epoch" else self.steps
        return per_epoch and per_epoch * self.epochs

    def progress(self, step: int, logs: dict, count: Count, granule: int) -> Progress:
        """What a schedule is told at `step`; `granule` as in `Progress`."""
        return Progress(
            epoch=self.epoch,
            step=step,
            logs=logs,
            sparsity=count.sparsity,
            epochs=self.epochs,
            steps_per_epoch=self.steps,
            weights=count.weights,
            granule=granule,
            events=self._events,
            since=tuple(self._since),
        )


class Agenda:
    """Asks the schedule of a callback, and keeps what cannot be done yet for later.

    `count` returns how many weights are pruned now. Warns where the schedule does nothing, or not
    all, in this fit.
    """

    def __init__(self, schedule: Any, clock: Clock, count: Callable[[], Count]) -> None:
        self.schedule, self.clock, self.count = schedule, clock, count
        self.granule = 1  # by how many weights a target must rise to prune something more
        self._owed: Any = None
        self._took, self._said = False, False  # any weight by events; that they take none
        message = schedule.unreachable(clock.epochs, clock.steps)
        self._told = bool(message)
        if message:
            warnings.warn(message, stacklevel=3)

    @property
    def end(self) -> int | None:
        """When the schedule, or else the fit, ends; None if unknown."""
        end = getattr(self.schedule, "end", None)
        return self.clock.end if end is None else end

    def resume(self, step: int) -> Any:
        """A fit goes on with an older one: the target that the schedule has now, or None.

        The weights may have been saved just before the event of their epoch; it is made up for
        when the schedule is asked next and activity is counted. Not where a schedule takes from
        what is there: it would take it a second time.
        """
        if self.clock.lost:
            warnings.warn(
                f"this fit goes on after {self.clock.epoch} epochs, but nobody knows how many "
                f"steps they had: the events of {self.schedule} in its first epoch come at the end "
                "of that, when its steps have been counted. Give fit steps_per_epoch=, or the "
                "dataset its length: data.apply(tf.data.experimental.assert_cardinality(...)).",
                stacklevel=3,
            )
        elif not self.schedule.relative:
            asked = self.schedule.target if self.schedule.releases else self.schedule
            self._owed = self._ask({}, step, asked)
        return self._owed

    def targets(self, logs: dict, steps: Sequence[int]) -> Iterator[Any]:
        """To prune to now, one after the other: the last of what the schedule says at `steps`."""
        if self.schedule.relative and len(steps) > 1:
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

    def _ask(self, logs: dict, step: int, asked: Any = None) -> Any:
        progress = self.clock.progress(step, logs, self.count(), self.granule)
        return (asked or self.schedule)(progress)

    def falls(self, target: Any) -> bool:
        """Whether `target` gives weights back that are pruned now."""
        if not self.schedule.releases or amounts.is_amount(target):
            return False
        return rounded(target, self.count().weights) < self.count().pruned

    def lacks(self, target: Any) -> bool:
        """Whether `target` is further off than whole weights, units or blocks can explain."""
        if amounts.is_amount(target):
            return True
        return target * self.count().weights - self.count().pruned >= self.granule

    def note(self, target: Any, before: Count) -> None:
        """There was an event with that target, which may have taken nothing."""
        now = self.count()
        self._took |= now != before
        if now != before or self._said or not self.schedule.relative or amounts.is_amount(target):
            return
        wanted = rounded(target, now.weights) - now.pruned
        if wanted >= self.granule:  # what kept them has been said
            return
        self._said = True
        warnings.warn(
            f"{self.schedule} took nothing after {self.clock.time} {self.schedule.by}s, and never "
            f"will: it comes to {wanted:,} weights, fewer than what goes as one. Give a larger "
            f"amount, such as amounts.Number({self.granule}), or a finer granularity.",
            stacklevel=4,
        )

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
        if events and self.schedule.relative and not self._took and not self._said:
            warnings.warn(
                f"{self.schedule} took nothing at any of its {events} events; give a larger amount",
                stacklevel=3,
            )
        final = self.schedule.final_sparsity
        if self._told and self.clock.epoch >= self.clock.epochs:
            return  # as it was said when the fit began
        if isinstance(final, amounts.Budget):  # whose cost is known to the event only
            return
        if final is not None and self.lacks(final):
            warnings.warn(
                f"training ended after {self.clock.epoch} epochs at sparsity "
                f"{self.count().sparsity:.4f}, before the schedule reached {final:.4f} ({events} "
                "events fired). Train longer, let the schedule end earlier, or give EarlyStopping "
                "more patience.",
                stacklevel=3,
            )
