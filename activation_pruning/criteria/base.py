"""What every criterion is made with: the registry, and values of a unit spread over its weights."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from activation_pruning.support.names import chosen
from activation_pruning.support.types import Array, Criterion, Scores, Site

Function: TypeAlias = Callable[[Site], Scores]
CRITERIA: dict[str, Function] = {}


def criterion(
    needs: Iterable[str] = (), rounds: int = 1, not_for: Sequence[str] = ()
) -> Callable[[Function], Function]:
    """Register the decorated function under its own name and declare what it needs.

    Args:
        needs: what the caller must gather first: statistics of `site.activity` ("frequency",
            "mean", "rms") and of `site.statistics` (see `evidence.statistic`).
        rounds: in how many steps `prune` goes to a target that is one number, scoring anew before
            each; for criteria that are no good in one step.
        not_for: the granularities ("unit", "block", "nm") whose items it cannot tell apart.

    Returns a decorator that sets these on the function, `needs` as a frozenset.

    Example:
        >>> from activation_pruning import criteria
        >>> criteria.magnitude.needs, sorted(criteria.activation.needs)
        (frozenset(), ['frequency'])
    """

    def register(function: Any) -> Function:
        function.needs, function.rounds, function.not_for = frozenset(needs), rounds, not_for
        CRITERIA[function.__name__] = function
        return function

    return register


def get(spec: Criterion) -> Function:
    """The criterion of a name in `CRITERIA`, or the callable `site -> scores` that is given.

    A callable without a `needs` attribute needs nothing.
    Raises ValueError for an unknown name, TypeError for neither a name nor a callable.

    Example:
        >>> from activation_pruning import criteria
        >>> get("magnitude") is criteria.magnitude
        True
    """
    hint = "a function that takes a site and returns an array of scores"
    return chosen("criterion", spec, CRITERIA, hint)


def unit_sums(site: Site, values: Array) -> Array:
    """Sum `values`, of the kernel's shape, over the alive weights of each unit, in float64.

    Axes along which `site.units` does not vary are summed first, so that the unit ids are never
    spread to the size of the kernel.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> site = Site(units=np.array([[0, 1]]), mask=np.array([[True, True], [False, True]]))
        >>> unit_sums(site, np.array([[1.0, 2.0], [4.0, 8.0]]))
        array([ 1., 10.])
    """
    ids, axes = _units(site)
    sums = np.sum(values, axis=axes, keepdims=True, dtype=np.float64, where=site.mask)
    return np.bincount(ids.ravel(), weights=sums.ravel())


def unit_largest(site: Site, values: Array) -> Array:
    """The largest of `values`, at least 0, over the alive weights of each unit.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> site = Site(units=np.array([[0, 1]]), mask=np.array([[True, True], [False, True]]))
        >>> unit_largest(site, np.array([[1.0, 2.0], [4.0, 8.0]]))
        array([1., 8.])
    """
    ids, axes = _units(site)
    largest = np.max(values, axis=axes, keepdims=True, where=site.mask, initial=0.0)
    found = np.zeros(int(ids.max()) + 1)
    np.maximum.at(found, ids.ravel(), largest.ravel())
    return found


def _units(site: Site) -> tuple[Array, tuple[int, ...]]:
    """Return the unit ids with as many axes as the kernel, and those along which they are alike."""
    missing = site.mask.ndim - site.units.ndim
    ids = site.units.reshape((1,) * missing + site.units.shape)
    return ids, tuple(axis for axis, size in enumerate(ids.shape) if size == 1)


def needed(site: Site, name: str) -> Any:
    """One of the statistics that a criterion declares in `needs`: of the activity or the site.

    Raises ValueError, which says what to give, if it was not gathered.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> needed(Site(name="a", statistics={"gradient": np.ones(2)}), "gradient")
        array([1., 1.])
    """
    if name in ("frequency", "mean", "rms"):
        found = getattr(site.activity, name, None)
        missing = f"the activity of the units ({name}), which was not counted; prune during fit "
        missing += "with PruningCallback, or give prune(..., data=) the inputs"
    else:
        found = site.statistics.get(name)
        missing = f"{name!r}, which was not gathered; give prune(..., data=) or "
        missing += "PruningCallback(..., data=) what it takes"
    if found is None:
        raise ValueError(
            f"{site.name}: this criterion needs {missing}. One of your own declares it by "
            f"@criterion(needs=({name!r},))."
        )
    return found


def by_weight(site: Site, per_unit: ArrayLike) -> Array:
    """The value of each weight's unit, in the (broadcastable) shape of `site.units`.

    `per_unit` has shape (units,); ValueError for fewer values than units.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> by_weight(Site(name="a", units=np.array([[1, 0]])), [5.0, 7.0])
        array([[7., 5.]])
    """
    values, units = np.asarray(per_unit), int(site.units.max()) + 1
    if len(values) < units:
        raise ValueError(
            f"{site.name}: activity of {len(values)} units for a kernel with {units} units; "
            "count the layer's own output."
        )
    return values[site.units]
