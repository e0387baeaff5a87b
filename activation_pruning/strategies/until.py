"""Where iterative pruning stops."""

import dataclasses
from numbers import Integral, Real

from activation_pruning.support.checks import check_count, check_number, check_sparsity


@dataclasses.dataclass(frozen=True)
class Until:
    """Where iterative pruning stops: at the first of these that is reached.

    It stops as well where a layer would be emptied, and where the amount takes nothing more.

    Args:
        weights: alive, at least 1; the last step is cut so that no fewer stay.
        sparsity: in [0, 1); the last step is cut, too.
        metric: floor; the step after which the metric is below it is the last.
        steps: how many, at least 1.

    Raises:
        ValueError: an argument out of range; none given.

    Example:
        >>> Until(weights=500, metric=0.9)
        Until(weights=500, sparsity=None, metric=0.9, steps=None)
    """

    weights: int | None = None
    sparsity: float | None = None
    metric: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        given = {n: v for n, v in dataclasses.asdict(self).items() if v is not None}
        if not given:
            raise ValueError("Until() stops nowhere; give weights=, sparsity=, metric= or steps=")
        for name in given.keys() & {"weights", "steps"}:
            check_count(name, given[name], 1)
        if "sparsity" in given:
            check_sparsity("sparsity", self.sparsity)
        if "metric" in given:
            check_number("metric", self.metric)

    def most(self, weights: int) -> float:
        """Return the highest sparsity of a network with so many prunable weights."""
        found = [(weights - 1) / weights]
        found += [] if self.sparsity is None else [self.sparsity]
        found += [] if self.weights is None else [max(weights - self.weights, 0) / weights]
        return min(found)


def limits(spec: Until | float) -> Until:
    """Return an `Until`: a number in (0, 1) is a sparsity, an integer a number of weights alive.

    Raises:
        TypeError: anything else.
    """
    if isinstance(spec, Until):
        return spec
    if isinstance(spec, Real) and not isinstance(spec, bool):
        whole = isinstance(spec, Integral)
        return Until(weights=int(spec)) if whole else Until(sparsity=float(spec))
    raise TypeError(
        f"until={spec!r}; give a sparsity, a number of weights alive, or strategies.Until(...)"
    )
