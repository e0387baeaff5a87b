"""Schedules: when to prune, and to which sparsity.

A schedule is a frozen dataclass that derives from `when.Schedule`: `due` says when an event falls,
`target` what it goes to. `when` also says what recurs and comes too late; `fixed` holds curves,
`alternating` falls as well, `accuracy_triggered` waits for a metric, `by_amount` takes shares or
numbers of what is alive, `foreign` asks the schedules of others. To add one, write it in one of
these files and list it here.
"""

from typing import Any

from activation_pruning.schedules.accuracy_triggered import AccuracyTriggered
from activation_pruning.schedules.alternating import Alternating
from activation_pruning.schedules.by_amount import Every, Iterative
from activation_pruning.schedules.fixed import Constant, Exponential, Linear, OneShot, Polynomial
from activation_pruning.schedules.foreign import FromFunction, FromTfmot, is_tfmot
from activation_pruning.schedules.when import UNITS, Progress, Schedule
from activation_pruning.support.shown import shown

__all__ = [
    "SCHEDULES",
    "AccuracyTriggered",
    "Alternating",
    "Constant",
    "Every",
    "Exponential",
    "FromFunction",
    "FromTfmot",
    "Iterative",
    "Linear",
    "OneShot",
    "Polynomial",
    "Progress",
    "Schedule",
    "get",
]

_KINDS = (
    OneShot, Constant, Linear, Polynomial, Exponential, Alternating, AccuracyTriggered, Every,
    Iterative,
)  # fmt: skip
SCHEDULES = {kind.__name__: kind for kind in _KINDS}


def get(schedule: Any) -> Schedule:
    """Return a schedule; those of others are wrapped.

    Args:
        schedule: a `Schedule`, any callable `progress -> sparsity or None` with a `by` attribute,
            or a tfmot `PruningSchedule`, which is recognised without importing tfmot.

    Raises:
        TypeError: anything else.

    Example:
        >>> get(OneShot(0.5))
        OneShot(final_sparsity=0.5, at=1, by='epoch')
    """
    if isinstance(schedule, Schedule):
        return schedule
    if callable(schedule) and not isinstance(schedule, type):
        if getattr(schedule, "by", None) in UNITS:
            return FromFunction(schedule)
        if is_tfmot(schedule):
            return FromTfmot(schedule)
    raise TypeError(
        f"schedule={shown(schedule)} is not a schedule; give an object such as "
        f"schedules.OneShot(0.8), one of {', '.join(SCHEDULES)}, or a tfmot schedule object."
    )
