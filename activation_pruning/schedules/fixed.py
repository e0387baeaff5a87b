"""Schedules whose events and sparsities are fixed before training."""

from dataclasses import dataclass

from activation_pruning.amounts import Budget, check_final
from activation_pruning.schedules.when import Progress, Recurring, Schedule, check_unit
from activation_pruning.support.checks import check_count, check_number, check_sparsity
from activation_pruning.support.shown import shown


@dataclass(frozen=True)
class OneShot(Schedule):
    """Prune once, to `final_sparsity`, when `at` epochs (or steps) are completed.

    Args:
        final_sparsity: in [0, 1), or a budget, see `ap.budgets`.
        at: when; 0 is before training.
        by: "epoch" or "step".

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> OneShot(0.8, at=2)(Progress(epoch=2, step=20, logs={}, sparsity=0.0, epochs=5))
        0.8
    """

    final_sparsity: float | Budget
    at: int = 1
    by: str = "epoch"
    times = ("at",)

    def __post_init__(self) -> None:
        check_final("final_sparsity", self.final_sparsity)
        check_count("at", self.at, 0)
        check_unit(self.by)

    def due(self, progress: Progress) -> bool:
        return self.now(progress) == self.at


class _Asserting(Recurring):
    """Recurring, and an event at `end`, on the beat or not."""

    def due(self, progress: Progress) -> bool:
        return super().due(progress) or self.now(progress) == self.end


@dataclass(frozen=True)
class Constant(_Asserting):
    """Prune to `final_sparsity` at `begin`, and assert it again every `frequency` until `end`.

    Args:
        final_sparsity: in [0, 1), or a budget.
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

    final_sparsity: float | Budget
    begin: int = 0
    end: int | None = None
    frequency: int = 1
    by: str = "epoch"

    def __post_init__(self) -> None:
        check_final("final_sparsity", self.final_sparsity)
        self.check_times()


@dataclass(frozen=True)
class Linear(_Asserting):
    """Sparsity rises by equal steps: s = initial + (final - initial) * x.

    x = (t - begin) / (end - begin). Events fall on begin, begin + frequency, ... and on end, which
    asks for exactly `final_sparsity`.

    Args:
        final_sparsity: at `end`, in [0, 1); or a budget, to which the cost falls in its place.
        begin, end: first and last event; 0 is before training.
        initial_sparsity: at `begin`, in [0, final_sparsity]; 0 with a budget.
        frequency, by: as in `Constant`.

    Raises:
        ValueError: an argument out of range; `end` before `begin`.

    Example:
        >>> at = lambda epoch: Progress(epoch, step=0, logs={}, sparsity=0.0, epochs=5)
        >>> [Linear(0.5, begin=1, end=3)(at(epoch)) for epoch in range(5)]
        [None, 0.0, 0.25, 0.5, None]
    """

    final_sparsity: float | Budget
    begin: int
    end: int
    initial_sparsity: float = 0.0
    frequency: int = 1
    by: str = "epoch"
    times = ("begin", "end")

    def __post_init__(self) -> None:
        check_final("final_sparsity", self.final_sparsity)
        check_sparsity("initial_sparsity", self.initial_sparsity)
        if isinstance(self.final_sparsity, Budget):
            self._check_way()
        elif self.initial_sparsity > self.final_sparsity:
            raise ValueError(
                f"initial_sparsity={shown(self.initial_sparsity)} is above final_sparsity="
                f"{self.final_sparsity!r}; sparsity can only rise."
            )
        check_count("end", self.end, 0)
        self.check_times()

    def target(self, progress: Progress) -> float | Budget:
        now = self.now(progress)
        if now == self.end:
            return self.final_sparsity  # exact, whatever the rounding of the curve
        x = (now - self.begin) / (self.end - self.begin)
        if isinstance(self.final_sparsity, Budget):
            return self.final_sparsity.after(self._way(x))
        return self._curve(x, self.final_sparsity)

    def _curve(self, x: float, final: float) -> float:
        return self.initial_sparsity + (final - self.initial_sparsity) * x

    def _way(self, x: float) -> float:
        """The share of the way to a budget."""
        return self._curve(x, 1.0)

    def _check_way(self) -> None:
        if self.initial_sparsity:
            raise ValueError(
                f"initial_sparsity={shown(self.initial_sparsity)} does not go with a budget, "
                "which is approached from the dense model; leave it at 0."
            )
        if self._way(1e-9) == 1:
            raise TypeError(
                f"{type(self).__name__} multiplies a density, and a budget has none; use "
                "schedules.Linear or schedules.Polynomial."
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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("power", self.power, above=0)

    def _curve(self, x: float, final: float) -> float:
        return final + (self.initial_sparsity - final) * (1.0 - x) ** self.power


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

    def _curve(self, x: float, final: float) -> float:
        density = (1.0 - self.initial_sparsity) ** (1.0 - x) * (1.0 - final) ** x
        return 1.0 - density
