"""Criteria that look at the inputs of a layer."""

import numpy as np

from activation_pruning.criteria.base import criterion, needed
from activation_pruning.support.types import Scores, Site


@criterion(needs=("input_norm",), not_for=("unit",))
def wanda(site: Site) -> Scores:
    """|w| times the norm of its input, compared within the unit: score = rank / weights of unit.

    The rank is that of |w_ij| * ||x_i||_2 among the weights of unit j, in (0, 1], so that every
    unit loses the same share of its weights, whatever the allocation; ||x_i||_2 is taken over all
    rows of the inputs. Of equal products the earlier input ranks higher and is kept. Ranks within
    units say nothing about whole units, for which it is refused.

    Args:
        site: a Site; `kernel`, `mask` and `units` are read, and the statistic "input_norm".

    Returns float64 scores in (0, 1], shape of the kernel.
    Source: Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", ICLR
    2024, equation 1 and section 3.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> site = Site(name="a", kernel=np.array([[1.0, -6.0], [2.0, 4.0]]),
        ...             mask=np.ones((2, 2), bool), units=np.array([[0, 1]]),
        ...             statistics={"input_norm": np.array([[3.0], [1.0]])})
        >>> wanda(site)
        array([[1. , 1. ],
               [0.5, 0.5]])
    """
    products = np.abs(site.kernel) * needed(site, "input_norm")
    # Pruned weights rank lowest: what is left is compared among itself, from where it stands.
    products = np.where(site.mask, products, -1.0)
    units = np.broadcast_to(site.units, products.shape).ravel()
    # Sorted from the end, so that of equal products the higher index has the lower rank.
    backwards = np.lexsort((products.ravel()[::-1], units[::-1]))
    order = products.size - 1 - backwards
    sizes = np.bincount(units)
    starts = np.cumsum(sizes) - sizes
    sorted_units = units[order]
    ranks = np.empty(products.size)
    ranks[order] = (np.arange(products.size) - starts[sorted_units] + 1) / sizes[sorted_units]
    return ranks.reshape(products.shape)
