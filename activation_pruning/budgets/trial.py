"""What a model costs once units have left it: tried out, and put back."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping

import keras
import numpy as np

from activation_pruning.compaction import compact
from activation_pruning.graph.channels import Coupling
from activation_pruning.sites import LiveSites
from activation_pruning.support.types import Array, Mask, Model


@contextlib.contextmanager
def without(
    model: Model, coupling: Coupling, live_sites: LiveSites, gone: Mapping[str, Mask]
) -> Iterator[Model]:
    """The model compacted, as if these units were pruned; `model` is as before afterwards.

    Args:
        gone: {site name: bool array, True for a unit that goes}.
    """
    alive = {}
    for site in live_sites:
        stays = np.broadcast_to(~gone[site.name][site.units], site.variable.shape)
        alive[site.name] = stays & (site.kernel() != 0)
    changes = [(site.variable, alive[site.name]) for site in live_sites]
    changes += [(offset.variable, mask) for offset, mask in coupling.silenced(alive)]
    before: list[tuple[keras.Variable, Array]] = []
    try:
        for variable, mask in changes:
            values = np.array(keras.ops.convert_to_numpy(variable))  # it may be a view of it
            before.append((variable, values))
            variable.assign(np.where(mask, values, np.zeros((), values.dtype)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what can't go is no news here
            smaller = compact(model)
        yield smaller
    finally:
        for variable, values in reversed(before):
            variable.assign(values)


def fewest(costs: Array, limit: float, measure: Callable[[int], float]) -> int:
    """The smallest number of steps whose measured cost is within the limit; all if there is none.

    Looks where the prediction says so first, and then further off, as far as needed.

    Args:
        costs: predicted after 0, 1, 2, ... steps.
        limit: of the cost.
        measure: function of a number of steps; what it returns falls with it.

    Example:
        >>> fewest(np.array([9.0, 7, 5, 3, 1]), 5.0, lambda steps: [10, 8, 6, 4, 2][steps])
        3
    """
    last = len(costs) - 1
    within = int(np.argmax(costs <= limit)) if costs[-1] <= limit else last
    above, stride = -1, 1
    while measure(within) > limit:
        if within == last:
            return last
        above, within, stride = within, min(within + stride, last), 2 * stride
    stride = 1
    while above < 0 < within:  # nothing is known to be too much yet
        lower = max(within - stride, 0)
        if measure(lower) > limit:
            above = lower
        else:
            within, stride = lower, 2 * stride
    while within - above > 1:
        middle = (within + above) // 2
        above, within = (above, middle) if measure(middle) <= limit else (middle, within)
    return within
