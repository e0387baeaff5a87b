"""What a statistic is: declared where it is made, as criteria are, and looked up when gathered.

Functions that gather one all take the built model (compiled, where they look at the loss), the
`live_sites` from `sites.find`, `data` as for `prune`, the `batch_size` where data is not batched
already, and, where they take long, `progress`: called with (work done, work in all or None).
They give {site name: value}, a float64 array of the kernel's shape unless they say otherwise, and
raise ValueError for data, models and losses that they cannot do with.
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any, Literal, TypeAlias, TypeVar

from activation_pruning.hooks.counting import STATISTICS as COUNTED
from activation_pruning.hooks.tracking import TRACKED

Of: TypeAlias = Literal["activity", "training", "inputs", "labels", "weights"]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Statistic:
    """What criteria can ask for by `name`, and what it takes to gather it.

    of: "activity" (counted, over data or in training), "training" (tracked in training steps only),
        "inputs" of data, its "labels" (and inputs), or "weights" (no data).
    gather: f(model, live_sites, data) -> {site name: value}; None where hooks do it.
    by_unit: whether there is one value for each unit, not one for each weight.
    passes: how often `gather` reads the data.
    seeded, slow: whether it takes a `seed`, and a function of the `progress`.
    shared: whether it takes several names, `needs`, and gives {site name: {name: value}}.
    """

    name: str
    of: Of
    gather: Callable[..., dict[str, Any]] | None = None
    by_unit: bool = False
    passes: int = 1
    seeded: bool = False
    slow: bool = False
    shared: bool = False


STATISTICS = {name: Statistic(name, "activity", by_unit=True) for name in COUNTED}
STATISTICS |= {name: Statistic(name, "training") for name in TRACKED}


def statistic(*names: str, of: Of = "inputs", **options: Any) -> Callable[[Function], Function]:
    """Register the decorated function as what gathers a statistic of its own name.

    Args:
        *names: of the statistics, where it gathers several in one pass over the data.
        of, **options: see `Statistic`.

    Example:
        >>> STATISTICS["hutchinson"].of, STATISTICS["hutchinson"].seeded
        ('labels', True)
    """

    def register(function: Function) -> Function:
        for name in names or (function.__name__,):
            STATISTICS[name] = Statistic(name, of, function, shared=bool(names), **options)
        return function

    return register


def look_up(needs: Collection[str], *of: Of) -> list[Statistic]:
    """The statistics among `needs`, of all kinds or those given, in the order of `STATISTICS`."""
    return [one for one in STATISTICS.values() if one.name in needs and (not of or one.of in of)]
