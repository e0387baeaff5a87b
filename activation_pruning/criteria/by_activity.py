"""Criteria that look at what flows through a layer: its inputs, and how its units fire."""

import numpy as np

from activation_pruning.criteria.base import by_weight, criterion, needed
from activation_pruning.support.types import Array, Scores, Site


@criterion(needs=("frequency",))
def activation(site: Site) -> Scores:
    """Activation frequency of the weight's unit; equal frequencies are ordered by |w|.

    score = f + d * |w| / max|w|, with d half of the smallest gap between two frequencies of the
    site (at most half of 1/samples): the order is (f, |w|). Two weights of one unit are told apart
    when their |w| / max|w| differ by more than about 1e-16 / d (1e-9 at a million samples).

    Returns float64 scores in [0, 1.5), shape of the kernel.
    Source: Ganguli & Chong, Algorithms 17(1):48, 2024 ("neuron").

    Example:
        >>> from types import SimpleNamespace as Site
        >>> seen = Site(frequency=np.array([0.5, 0.25]), samples=4)
        >>> activation(Site(name="a", kernel=np.array([[1.0, 4.0]]), units=np.array([[0, 1]]),
        ...                 activity=seen))
        array([[0.53125, 0.375  ]])
    """
    return _ordered_by_magnitude(site, needed(site, "frequency"))


@criterion(needs=("frequency",))
def activation_magnitude(site: Site) -> Scores:
    """Activation frequency times magnitude: score = f * |w|.

    Returns scores >= 0, shape and dtype of the kernel.
    Source: Ganguli & Chong, Algorithms 17(1):48, 2024 ("neuron + weights").

    Example:
        >>> from types import SimpleNamespace as Site
        >>> seen = Site(frequency=np.array([0.5, 0.25]), samples=4)
        >>> activation_magnitude(Site(name="a", kernel=np.array([[1.0, -4.0]]),
        ...                           units=np.array([[0, 1]]), activity=seen))
        array([[0.5, 1. ]])
    """
    return _times_magnitude(site, needed(site, "frequency"))


@criterion(needs=("mean",))
def mean_activation(site: Site) -> Scores:
    """Mean output of the unit times magnitude: score = |mean| * |w|.

    The absolute value, because units with a linear, tanh or leaky activation may have a negative
    mean, and an output that is far below zero matters as much as one far above.

    Returns scores >= 0, shape and dtype of the kernel.
    Source: Molchanov et al., ICLR 2017, section 2.2 (mean activation), here times |w|.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> seen = Site(mean=np.array([2.0, -0.5]), samples=4)
        >>> mean_activation(Site(name="a", kernel=np.array([[1.0, -4.0]]),
        ...                      units=np.array([[0, 1]]), activity=seen))
        array([[2., 2.]])
    """
    return _times_magnitude(site, np.abs(needed(site, "mean")))


@criterion(needs=("frequency",))
def inactivity(site: Site) -> Scores:
    """The inverted count, for the ablation only: the most active units are pruned first.

    score = (1 - f) + d * |w| / max|w|, with d and the limits as in `activation`. The code published
    with the paper counts zeros at its newest commit; the paper counts activations, and so does
    `activation`. Use this one to see the difference, not to prune.

    Returns float64 scores in [0, 1.5), shape of the kernel.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> seen = Site(frequency=np.array([0.5, 0.25]), samples=4)
        >>> inactivity(Site(name="a", kernel=np.array([[1.0, 4.0]]), units=np.array([[0, 1]]),
        ...                 activity=seen))
        array([[0.53125, 0.875  ]])
    """
    return _ordered_by_magnitude(site, 1.0 - needed(site, "frequency"))


@criterion(needs=("outgoing", "sigmoid"))
def n2ps(site: Site) -> Scores:
    """Significance of the node: score = mean sigmoid of its pre-activation * sum of |w| leaving it.

    All weights of a unit get the same score; it is meant for unit granularity. `ap.n2ps` removes
    by threshold instead of to a target, and inputs, too.

    Returns scores >= 0, shape of the kernel.
    Source: Augasta & Kathirvalavakumar, Neural Processing Letters 34, 2011; see `ap.n2ps` for what
    of it could be checked.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> n2ps(Site(name="a", kernel=np.ones((1, 2)), units=np.array([[0, 1]]),
        ...           statistics={"sigmoid": np.array([0.5, 0.25]), "outgoing": np.array([2, 8])}))
        array([[1., 2.]])
    """
    significance = np.asarray(needed(site, "sigmoid")) * needed(site, "outgoing")
    return np.array(np.broadcast_to(by_weight(site, significance), site.kernel.shape))


@criterion(needs=("input_norm",), not_for=("unit",))
def wanda(site: Site) -> Scores:
    """|w| times the norm of its input, compared within the unit: score = rank / weights of unit.

    The rank is that of |w_ij| * ||x_i||_2 among the weights of unit j, in (0, 1], so that every
    unit loses the same share of its weights, whatever the allocation; ||x_i||_2 is taken over all
    rows of the inputs. Of equal products the earlier input ranks higher and is kept. Ranks within
    units say nothing about whole units, for which it is refused.

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
    norms = needed(site, "input_norm")
    products = np.multiply(np.abs(site.kernel), norms, dtype=np.float64)
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
    # A rank would hide what is no number from those who look for it.
    return np.where(np.isfinite(products), ranks.reshape(products.shape), np.nan)


def _times_magnitude(site: Site, per_unit: Array) -> Scores:
    scores = np.abs(site.kernel)
    # Cast the few unit values, not the kernel: a float32 kernel keeps float32 scores.
    return np.multiply(scores, by_weight(site, per_unit).astype(scores.dtype), out=scores)


def _ordered_by_magnitude(site: Site, per_unit: Array) -> Scores:
    first = by_weight(site, np.asarray(per_unit, np.float64))
    gaps = np.diff(np.unique(first))
    delta = 0.5 * min([1.0 / max(site.activity.samples, 1), *gaps])
    scores = np.abs(site.kernel).astype(np.float64)
    largest = scores.max(initial=0.0)
    if largest > 0:
        scores /= largest  # first: the inverse of a tiny one is no number
        scores *= delta
    scores += first
    return scores
