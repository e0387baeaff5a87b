"""Amounts that look at the scores of the event."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from activation_pruning.allocations import Allocation, Items, SiteItems, ranking
from activation_pruning.amounts.base import ByScores, Share
from activation_pruning.amounts.bounds import counts_within_bounds
from activation_pruning.support.checks import check_number
from activation_pruning.support.counts import counted
from activation_pruning.support.types import Array, Scores, Site, Sites


@dataclass(frozen=True)
class Bucket(ByScores):
    """As many as fit into a bucket: the most weights whose scores sum to at most `saliency`.

    An item counts with its score times its weights; what the allocation takes first goes first.

    Args:
        saliency: at least 0, in the unit of the scores.

    Raises:
        ValueError: a saliency below 0; when called with scores below 0, whose sum says nothing.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> from activation_pruning.allocations import class_blind
        >>> site, items = Site(name="a", mask=np.ones(4, bool)), Items(np.array([1.0, 2, 3, 4]))
        >>> Bucket(3.5)([site], {"a": items}, class_blind)[0]
        0.5
    """

    saliency: float

    def __post_init__(self) -> None:
        check_number("saliency", self.saliency, 0)

    def __call__(self, sites: Sites, items: SiteItems, allocation: Allocation) -> Share:
        sums = {site.name: self._sums(site, items[site.name]) for site in sites}
        weights, pruned = counted(site.mask for site in sites)
        low, high = pruned, weights - 1
        while low < high:  # the largest budget that fits; its sum rises with it
            middle = (low + high + 1) // 2
            # Within bounds: what a site keeps as its last item another one pays for.
            counts, _ = counts_within_bounds(sites, items, middle / weights, allocation)
            total = sum(sums[name][count] for name, count in counts.items())
            low, high = (middle, high) if total <= self.saliency else (low, middle - 1)
        return low / weights, allocation

    def _sums(self, site: Site, items: Items) -> Array:
        """What the first 0, 1, 2, ... items of the ranking sum to; those pruned before count 0."""
        scores = items.scores.astype(np.float64)
        alive = scores > -np.inf
        if (scores[alive] < 0).any():
            raise ValueError(
                f"{site.name}: Bucket adds scores up, but some are below 0 (the lowest is "
                f"{scores[alive].min():.3g}); choose a criterion with scores of at least 0, "
                "such as 'obd' or 'magnitude', or another amount."
            )
        values = np.where(alive, scores, 0.0)
        sums = values * items.sizes if items.sums is None else items.sums
        return np.concatenate([[0.0], np.cumsum(sums[ranking(scores)])])


@dataclass(frozen=True)
class Threshold(ByScores):
    """Everything that scores below `score`, in each layer; the allocation has no say.

    With criterion "activation" and granularity "unit": units that fire in a smaller share of the
    samples (of samples and positions in a convolution), as `activation_pruning` in PQuantML has
    it (0.2 or 0.3 there). That counts pre-activations above 0, bias included: so does this after an
    activation that keeps the sign (ReLU, tanh, GELU, SiLU, ELU, none); after a sigmoid give
    `PruningCallback` threshold=0.5; behind a BatchNormalization the activation after it is counted.
    PQuantML takes units exactly at the threshold as well, keeps biases, may empty a layer, and
    decides on all units anew each time; here pruned ones stay pruned.

    Args:
        score: a finite number, else a ValueError, in the unit of the scores.

    Source: PQuantML (pquant-ml 0.1.0), `pruning_methods/activation_pruning.py`, for the share.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> site, items = Site(name="a", mask=np.ones(4, bool)), Items(np.array([1.0, 2, 3, 4]))
        >>> Threshold(2.0)([site], {"a": items}, None)[0]
        0.25
    """

    score: float

    def __post_init__(self) -> None:
        check_number("score", self.score)

    def __call__(self, sites: Sites, items: SiteItems, allocation: Allocation) -> Share:
        return _below(sites, items, {s.name: self.score for s in sites})


@dataclass(frozen=True)
class BelowMean(ByScores):
    """What scores below mean - k * standard deviation of its layer's scores, over what is alive.

    With criterion "activation" and granularity "unit": the units that fire that rarely.

    Args:
        deviations: k, a finite number, else a ValueError; with negative ones above the mean.

    Source: the layer-wise pruning in the code of Ganguli & Chong, Algorithms 17(1):48, 2024.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> site, items = Site(name="a", mask=np.ones(4, bool)), Items(np.array([0.0, 4, 4, 4]))
        >>> BelowMean(1.0)([site], {"a": items}, None)[0]
        0.25
    """

    deviations: float = 1.0

    def __post_init__(self) -> None:
        check_number("deviations", self.deviations)

    def __call__(self, sites: Sites, items: SiteItems, allocation: Allocation) -> Share:
        return _below(sites, items, {s.name: self._level(items[s.name].scores) for s in sites})

    def _level(self, scores: Scores) -> float:
        alive = scores[scores > -np.inf].astype(np.float64)
        if not alive.size:
            return -np.inf
        # Of equal scores the mean may come out a rounding error above them all.
        return min(alive.mean() - self.deviations * alive.std(), alive.max())


def _below(sites: Sites, items: SiteItems, levels: Mapping[str, float]) -> Share:
    """What lies below a level in each site, and what is pruned already."""
    counts = {name: int(np.count_nonzero(items[name].scores < at)) for name, at in levels.items()}
    return exactly(sites, items, {n: max(count, items[n].dead) for n, count in counts.items()})


def exactly(sites: Sites, items: SiteItems, counts: Mapping[str, int]) -> Share:
    """Return (the sparsity that so many items of each site come to, an allocation that says so)."""
    weights, pruned = counted(site.mask for site in sites)
    for site in sites:
        own = items[site.name]
        taken = ranking(own.scores)[: counts[site.name]]
        alive = own.scores[taken] > -np.inf
        pruned += int(np.broadcast_to(own.sizes, own.scores.shape)[taken][alive].sum())
    return pruned / weights, lambda sites, items, sparsity: {s.name: counts[s.name] for s in sites}
