"""How far a fit is: what schedules are told as `Progress`."""

from collections.abc import Mapping
from typing import Any

from activation_pruning.schedules import Progress
from activation_pruning.support.counts import Count


class Clock:
    """Counts the epochs and steps of a fit, also of one that goes on with an older one.

    Args:
        params: what Keras tells a callback: epochs, steps.
        by: "epoch" or "step", the unit of `time` and `end`.

    Raises:
        ValueError: where nobody can tell the time in this fit.

    Example:
        >>> clock = Clock({"epochs": 4, "steps": 10}, by="step")
        >>> clock.start(epoch=2)
        >>> list(clock.end_batch(1)), clock.time, clock.end  # two steps in one execution
        ([21, 22], 22, 40)
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

    def begin_epoch(self) -> None:
        """An epoch begins, whose batches are counted from 0."""
        self._before = self.step

    def end_batch(self, batch: int) -> range:
        """A batch is over, and with steps_per_execution those before it; returns the new steps."""
        done = min(batch + 1, self.steps or batch + 1)  # it may lie beyond the end of the epoch
        before, self.step = self.step, self._before + done
        return range(before + 1, self.step + 1)

    def end_epoch(self, epoch: int, logs: Mapping[str, Any]) -> None:
        """An epoch is over, with these metrics."""
        self.epoch = epoch + 1
        self._since.append(dict(logs))

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
