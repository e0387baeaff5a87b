"""The schedule that the metrics set: an event when the accuracy reaches the next level."""

from dataclasses import dataclass

import numpy as np

from activation_pruning.schedules.when import Progress, Schedule
from activation_pruning.support.checks import SHARE, check_count, check_number, check_sparsity
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Array


@dataclass(frozen=True)
class AccuracyTriggered(Schedule):
    """Prune at an epoch's end when the watched metric has reached a rising level.

    Event i = 0 .. events-1 waits for start + i * (stop - start) / (events - 1), one event for
    `start`, and prunes the share final * decay**i / sum_j decay**j. At most one fires per epoch.
    For a metric that falls (a name with "loss", or start > stop) it fires at or below its level;
    accuracies, and what else is a share of right answers, rise.

    The next event is read from the measured sparsity: the first whose cumulated target lies
    `progress.granule` weights or more above it, or, when the number of weights is unknown, by more
    than half of the event's share.

    Args:
        start, stop: first and last level, in the metric's unit: 0.8 is an accuracy of 80 %.
        events: number of events, at least 1.
        final_sparsity: after the last event, in [0, 1).
        monitor: name in the logs of `fit`.
        decay: in (0, 1], share of an event relative to the one before.

    Raises:
        ValueError: an argument out of range; a loss with levels that rise, an accuracy with
            levels that fall; when called with logs that lack `monitor`.

    Source: Ganguli & Chong, Algorithms 17(1):48, 2024 (decay 0.8).

    Example:
        >>> schedule = AccuracyTriggered(start=0.8, stop=0.9, events=2, final_sparsity=0.9)
        >>> schedule(Progress(epoch=1, step=10, logs={"accuracy": 0.85}, sparsity=0.0, epochs=5))
        0.5
    """

    start: float
    stop: float
    events: int
    final_sparsity: float
    monitor: str = "accuracy"
    decay: float = 0.8

    def __post_init__(self) -> None:
        check_sparsity("final_sparsity", self.final_sparsity)
        check_count("events", self.events, 1)
        check_number("start", self.start)
        check_number("stop", self.stop)
        check_number("decay", self.decay, above=0, most=1)
        if _is_share(self.monitor):
            check_number("start", self.start, 0, SHARE, most=1)
            check_number("stop", self.stop, 0, SHARE, most=1)
        falls, rises = "loss" in self.monitor, _is_share(self.monitor)
        if (falls and self.start < self.stop) or (rises and self.start > self.stop):
            raise ValueError(
                f"start={shown(self.start)} is {'below' if falls else 'above'} "
                f"stop={shown(self.stop)}, but monitor={shown(self.monitor)} "
                f"{'falls' if falls else 'rises'} during training; give the "
                f"{'higher' if falls else 'lower'} level as start."
            )

    @property
    def levels(self) -> Array:
        """Return the metric's level that each event waits for."""
        return np.linspace(self.start, self.stop, self.events)

    @property
    def targets(self) -> Array:
        """Return the cumulated target sparsity of each event."""
        shares = np.cumsum(float(self.decay) ** np.arange(self.events))
        return self.final_sparsity * (shares / shares[-1])

    def due(self, progress: Progress) -> bool:
        if not progress.logs:  # before training
            return False
        if self.monitor not in progress.logs:
            if self.monitor.startswith("val_"):  # validation_freq: not in every epoch
                return False
            raise ValueError(
                f"monitor={shown(self.monitor)} is not among the metrics of this fit: "
                f"{sorted(progress.logs)}; add it to compile(metrics=[...]) or watch one of these."
            )
        pending = self._pending(progress)
        if not pending.any():
            return False
        value, level = float(progress.logs[self.monitor]), self.levels[np.argmax(pending)]
        falls = "loss" in self.monitor or self.start > self.stop
        return bool(value <= level if falls else value >= level)

    def target(self, progress: Progress) -> float:
        return float(self.targets[np.argmax(self._pending(progress))])

    def _pending(self, progress: Progress) -> Array:
        """Which events are still to come, by the sparsity measured."""
        targets = self.targets
        if progress.weights is None:
            return targets - progress.sparsity > np.diff(targets, prepend=0.0) / 2
        # In whole weights, as the budget itself is rounded.
        budgets = np.floor(targets * progress.weights + 0.5)
        return budgets - round(progress.sparsity * progress.weights) >= progress.granule

    def unreachable(self, epochs: int | None, steps_per_epoch: int | None) -> str | None:
        if epochs is not None and self.events > epochs:
            return (
                f"{self}: {self.events} events need at least {self.events} epochs, but this fit "
                f"has {epochs}; final_sparsity will not be reached. Train longer or give fewer "
                "events."
            )
        return None


def _is_share(monitor: str) -> bool:
    """Whether a metric of this name is a share of right answers, in [0, 1]."""
    return not {"acc", "accuracy", "auc", "precision", "recall"}.isdisjoint(monitor.split("_"))
