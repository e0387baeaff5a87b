"""Schedules: when to prune, and to which sparsity.

A schedule is a small frozen dataclass, called with a `Progress`; it answers the target sparsity, an
object of `amounts` that looks at the scores, or None when nothing is to be done now. Its `by` says
when it is asked: after each completed "epoch" or training "step", and once before training, at 0.
Schedules keep no state, so a resumed run goes on where it was; their fields are what rebuilds them.
Times are counted in `by`'s unit.
"""

from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from activation_pruning.schedules.accuracy_triggered import AccuracyTriggered
from activation_pruning.schedules.by_amount import Every, Iterative
from activation_pruning.support.checks import check_count, check_sparsity

__all__ = [
    "SCHEDULES",
    "AccuracyTriggered",
    "Constant",
    "Every",
    "Exponential",
    "FromTfmot",
    "Iterative",
    "Linear",
    "OneShot",
    "Polynomial",
    "Progress",
    "get",
]

_UNITS = ("epoch", "step")


@dataclass(frozen=True)
class Progress:
    """Where the training is, as a schedule is told.

    Args:
        epoch: completed epochs.
        step: completed training steps.
        logs: metrics of the epoch or step just completed; empty before training.
        sparsity: measured over all prunable weights, in [0, 1).
        epochs: epochs planned in this fit.
        steps_per_epoch: steps in an epoch, None when unknown.
        weights: number of prunable weights, None when unknown.
        granule: the least rise of the target, in weights, that surely prunes something; 1 for
            single weights under "global" (see `masks.granule`).
        events: pruning events in this fit so far.
        since: the metrics of the epochs since the last event, a dict each; since the start, when
            there was none.
    """

    epoch: int
    step: int
    logs: dict
    sparsity: float
    epochs: int
    steps_per_epoch: int | None = None
    weights: int | None = None
    granule: int = 1
    events: int = 0
    since: tuple = ()


@dataclass(frozen=True)
class OneShot:
    """Prune once, to `final_sparsity`, when `at` epochs (or steps) are completed.

    Args:
        final_sparsity: in [0, 1).
        at: when; 0 is before training.
        by: "epoch" or "step".

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> OneShot(0.8, at=2)(Progress(epoch=2, step=20, logs={}, sparsity=0.0, epochs=5))
        0.8
    """

    final_sparsity: float
    at: int = 1
    by: str = "epoch"

    def __post_init__(self):
        check_sparsity("final_sparsity", self.final_sparsity)
        check_count("at", self.at, 0)
        _check_unit(self.by)

    def __call__(self, progress):
        """Return the target sparsity, or None for nothing now."""
        return self.final_sparsity if _now(self, progress) == self.at else None

    def unreachable(self, epochs, steps_per_epoch):
        """Return why this schedule does nothing, or not all, in such a fit; None if it is fine."""
        return _too_late(self, "at", self.at, epochs, steps_per_epoch)


@dataclass(frozen=True)
class Constant:
    """Prune to `final_sparsity` at `begin`, and assert it again every `frequency` until `end`.

    Args:
        final_sparsity: in [0, 1).
        begin: first time; 0 is before training.
        end: last time, None for the whole training.
        frequency: time between two events, at least 1.
        by: "epoch" or "step".

    Raises:
        ValueError: an argument out of range; `end` before `begin`.

    Example:
        >>> at = lambda epoch: Progress(epoch, step=0, logs={}, sparsity=0.0, epochs=5)
        >>> [Constant(0.5, begin=1, frequency=2)(at(epoch)) for epoch in range(5)]
        [None, 0.5, None, 0.5, None]
    """

    final_sparsity: float
    begin: int = 0
    end: int | None = None
    frequency: int = 1
    by: str = "epoch"

    def __post_init__(self):
        check_sparsity("final_sparsity", self.final_sparsity)
        _check_period(self)

    def __call__(self, progress):
        """Return the target sparsity, or None for nothing now."""
        return self.final_sparsity if _due(self, _now(self, progress)) else None

    def unreachable(self, epochs, steps_per_epoch):
        """Return why this schedule does nothing, or not all, in such a fit; None if it is fine."""
        return _too_late(self, "begin", self.begin, epochs, steps_per_epoch)


@dataclass(frozen=True)
class Linear:
    """Sparsity rises by equal steps: s = initial + (final - initial) * x.

    x = (t - begin) / (end - begin). Events fall on begin, begin + frequency, ... and on end, which
    always asks for exactly `final_sparsity`; none after it.

    Args:
        final_sparsity: at `end`, in [0, 1).
        begin: first event; 0 is before training.
        end: last event, not before `begin`.
        initial_sparsity: at `begin`, in [0, final_sparsity].
        frequency: time between two events, at least 1.
        by: "epoch" or "step".

    Raises:
        ValueError: an argument out of range; `end` before `begin`.

    Example:
        >>> at = lambda epoch: Progress(epoch, step=0, logs={}, sparsity=0.0, epochs=5)
        >>> [Linear(0.5, begin=1, end=3)(at(epoch)) for epoch in range(5)]
        [None, 0.0, 0.25, 0.5, None]
    """

    final_sparsity: float
    begin: int
    end: int
    initial_sparsity: float = 0.0
    frequency: int = 1
    by: str = "epoch"

    def __post_init__(self):
        check_sparsity("final_sparsity", self.final_sparsity)
        check_sparsity("initial_sparsity", self.initial_sparsity)
        if self.initial_sparsity > self.final_sparsity:
            raise ValueError(
                f"initial_sparsity={self.initial_sparsity!r} is above final_sparsity="
                f"{self.final_sparsity!r}; sparsity can only rise."
            )
        _check_period(self)

    def __call__(self, progress):
        """Return the target sparsity, or None for nothing now."""
        now = _now(self, progress)
        if not _due(self, now):
            return None
        if now == self.end:
            return self.final_sparsity  # exact, whatever the rounding of the curve
        return self._curve((now - self.begin) / (self.end - self.begin))

    def _curve(self, x):
        return self.initial_sparsity + (self.final_sparsity - self.initial_sparsity) * x

    def unreachable(self, epochs, steps_per_epoch):
        """Return why this schedule does nothing, or not all, in such a fit; None if it is fine."""
        return _too_late(self, "begin", self.begin, epochs, steps_per_epoch) or _too_late(
            self, "end", self.end, epochs, steps_per_epoch
        )


@dataclass(frozen=True)
class Polynomial(Linear):
    """Fast at first, slower at the end: s = final + (initial - final) * (1 - x)**power.

    x = (t - begin) / (end - begin); the rest as in `Linear`.

    Args:
        power: greater than 0; 1 is `Linear`.

    Source: Zhu & Gupta 2017, arXiv:1710.01878, equation 1 (power 3).

    Example:
        >>> at = lambda epoch: Progress(epoch, step=0, logs={}, sparsity=0.0, epochs=5)
        >>> [Polynomial(0.8, begin=1, end=3)(at(epoch)) for epoch in range(5)]
        [None, 0.0, 0.7000000000000001, 0.8, None]
    """

    power: float = 3.0

    def __post_init__(self):
        super().__post_init__()
        if not (isinstance(self.power, Real) and 0 < self.power < np.inf):
            raise ValueError(f"power={self.power!r}; it must be a number greater than 0.")

    def _curve(self, x):
        fall = (self.initial_sparsity - self.final_sparsity) * (1.0 - x) ** self.power
        return self.final_sparsity + fall


@dataclass(frozen=True)
class Exponential(Linear):
    """The density decays geometrically: s = 1 - (1 - initial)**(1 - x) * (1 - final)**x.

    x = (t - begin) / (end - begin); each event keeps the same share of what was left before it.
    The rest as in `Linear`.

    Source: the iterative pruning of Frankle & Carbin, ICLR 2019.

    Example:
        >>> at = lambda epoch: Progress(epoch, step=0, logs={}, sparsity=0.0, epochs=5)
        >>> [Exponential(0.75, begin=1, end=3)(at(epoch)) for epoch in range(5)]
        [None, 0.0, 0.5, 0.75, None]
    """

    def _curve(self, x):
        density = (1.0 - self.initial_sparsity) ** (1.0 - x) * (1.0 - self.final_sparsity) ** x
        return 1.0 - density


@dataclass(frozen=True)
class FromTfmot:
    """Ask a schedule object of tensorflow_model_optimization, by step; `get` wraps them.

    Args:
        schedule: callable, step -> (whether to prune, target sparsity), scalars or tensors.

    Example:
        >>> FromTfmot(lambda step: (step == 3, 0.5))(Progress(0, 3, {}, 0.0, epochs=1))
        0.5
    """

    schedule: Any
    by: ClassVar[str] = "step"

    @property
    def final_sparsity(self):
        """Return the wrapped schedule's last target, None when it doesn't say."""
        last = getattr(self.schedule, "final_sparsity", None)
        return getattr(self.schedule, "target_sparsity", None) if last is None else last

    def __call__(self, progress):
        """Return the target sparsity, or None for nothing now."""
        due, sparsity = self.schedule(progress.step)
        return float(sparsity) if bool(due) else None

    def unreachable(self, epochs, steps_per_epoch):
        """Return why this schedule does nothing, or not all, in such a fit; None if it is fine."""
        begin = getattr(self.schedule, "begin_step", 0)
        end = getattr(self.schedule, "end_step", -1)  # -1 is tfmot's word for "no end"
        return _too_late(self, "begin_step", begin, epochs, steps_per_epoch) or (
            _too_late(self, "end_step", end, epochs, steps_per_epoch)
            if hasattr(self.schedule, "final_sparsity")
            else None
        )


SCHEDULES = {
    kind.__name__: kind
    for kind in (
        OneShot, Constant, Linear, Polynomial, Exponential, AccuracyTriggered, Every, Iterative
    )
}  # fmt: skip


def get(schedule):
    """Return a schedule; objects of tensorflow_model_optimization are wrapped.

    Args:
        schedule: an object of this module, any callable `progress -> sparsity or None` with a `by`
            attribute, or a tfmot `PruningSchedule`, which is recognised without importing tfmot.

    Returns:
        The schedule, a callable with `by`.

    Raises:
        TypeError: anything else.

    Example:
        >>> get(OneShot(0.5))
        OneShot(final_sparsity=0.5, at=1, by='epoch')
    """
    if callable(schedule) and not isinstance(schedule, type):
        if getattr(schedule, "by", None) in _UNITS:
            return schedule
        if any(kind.__name__ == "PruningSchedule" for kind in type(schedule).__mro__):
            return FromTfmot(schedule)
    raise TypeError(
        f"schedule={schedule!r} is not a schedule; give an object such as schedules.OneShot(0.8), "
        f"one of {', '.join(SCHEDULES)}, or a tfmot schedule object."
    )


def _now(schedule, progress):
    return progress.epoch if schedule.by == "epoch" else progress.step


def _due(schedule, now):
    if now < schedule.begin or (schedule.end is not None and now > schedule.end):
        return False
    return (now - schedule.begin) % schedule.frequency == 0 or now == schedule.end


def _too_late(schedule, name, time, epochs, steps_per_epoch):
    """Return a message if `time` lies after the end of a fit of this length."""
    per_epoch = 1 if schedule.by == "epoch" else steps_per_epoch
    if epochs is None or per_epoch is None or time <= epochs * per_epoch:
        return None
    lost = "it will not reach its final sparsity" if name.startswith("end") else "it never prunes"
    return (
        f"{schedule}: {name}={time} lies after the last {schedule.by} of this fit, "
        f"{epochs * per_epoch}; {lost}. Train longer or give a smaller {name}."
    )


def _check_unit(by):
    if by not in _UNITS:
        raise ValueError(f"by={by!r}; it must be 'epoch' or 'step'.")


def _check_period(schedule):
    check_count("begin", schedule.begin, 0)
    if schedule.end is not None or not isinstance(schedule, Constant):
        check_count("end", schedule.end, 0)
        if schedule.end < schedule.begin:
            raise ValueError(
                f"end={schedule.end} is before begin={schedule.begin}; end must not be smaller."
            )
    check_count("frequency", schedule.frequency, 1)
    _check_unit(schedule.by)
