"""Retraining policies: how long a network trains between two pruning events.

A policy is asked at the end of each epoch with the metrics of the epochs since the event, and
answers whether that was enough. `at_most` is the most epochs it ever takes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from activation_pruning.support.checks import check_count, check_number, is_integer
from activation_pruning.support.shown import shown

Logs: TypeAlias = Sequence[Mapping[str, Any]]  # metrics of each epoch since the event


class Policy(Protocol):
    """What a retraining policy is.

    Example:
        >>> import activation_pruning as ap
        >>> class UntilGood:
        ...     at_most = 10
        ...     def __call__(self, logs):
        ...         return len(logs) >= 10 or any(epoch["accuracy"] > 0.9 for epoch in logs)
        >>> schedule = ap.schedules.Iterative(0.2, retrain=UntilGood())
        >>> schedule.retrain([{"accuracy": 0.8}]), schedule.retrain([{"accuracy": 0.95}])
        (False, True)
    """

    @property
    def at_most(self) -> int: ...
    def __call__(self, logs: Logs) -> bool: ...


@dataclass(frozen=True)
class Epochs:
    """A fixed number of epochs, `at_most`, at least 0.

    Example:
        >>> Epochs(2)([{}]), Epochs(2)([{}, {}])
        (False, True)
    """

    at_most: int = 2

    def __post_init__(self) -> None:
        check_count("at_most", self.at_most, 0)

    def __call__(self, logs: Logs) -> bool:
        return len(logs) >= self.at_most


@dataclass(frozen=True)
class UntilFlat:
    """Until an epoch improves the metric by less than `improvement` over the best one before it.

    Two epochs at least, as the first has nothing to be compared with.

    Args:
        improvement: in the metric's unit, at least 0: 0.001 is 0.1 point of accuracy.
        at_most: epochs, at least 1.
        monitor: name in the logs of `fit`; one with "loss" in it improves when it falls.

    Raises:
        TypeError, ValueError: an argument out of range; when called with logs that lack `monitor`.

    Example:
        >>> UntilFlat(0.01)([{"val_accuracy": 0.9}, {"val_accuracy": 0.905}])
        True
    """

    improvement: float = 0.001
    at_most: int = 20
    monitor: str = "val_accuracy"

    def __post_init__(self) -> None:
        check_count("at_most", self.at_most, 1)
        check_number("improvement", self.improvement, 0, "0.001 is 0.1 point of accuracy")
        if not isinstance(self.monitor, str):
            raise TypeError(
                f"monitor={shown(self.monitor)}; give the name of a metric in the logs."
            )

    def __call__(self, logs: Logs) -> bool:
        if logs and self.monitor not in logs[-1]:
            raise ValueError(
                f"monitor={shown(self.monitor)} is not among the metrics of this fit: "
                f"{sorted(logs[-1])}; give fit validation data, add it to compile(metrics=[...]), "
                "or watch one of these."
            )
        if len(logs) >= self.at_most:
            return True
        sign = -1 if "loss" in self.monitor else 1
        values = [sign * float(found[self.monitor]) for found in logs]
        # Not "improved by less": a metric that is NaN has not improved either.
        return len(values) > 1 and not values[-1] - max(values[:-1]) >= self.improvement


def get(spec: Policy | int) -> Policy:
    """Return a policy; an integer is that many epochs.

    Raises:
        ValueError, TypeError: an integer below 0; anything else that is no policy.

    Example:
        >>> get(3)
        Epochs(at_most=3)
    """
    if is_integer(spec):
        return Epochs(int(spec))
    if callable(spec) and hasattr(spec, "at_most") and not isinstance(spec, type):
        return spec
    raise TypeError(
        f"retrain={shown(spec)}; give a number of epochs, retraining.UntilFlat(), or a function "
        "of the logs since the event with an attribute at_most"
    )
