"""Allocations: how one sparsity target is shared among the sites.

An allocation is `f(sites, items, sparsity) -> {site name: number of items to prune}`: how many of
the lowest by `ranking`, counting those already pruned. Fewer than those, such as -1, say that the
site has lost more than its share. `amounts.bounds` brings nothing back and protects the last item
of a site: it asks again for the others with what is left. To add an allocation, write it with the
arguments and results of `class_blind` and name it in `ALLOCATIONS`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np

from activation_pruning.support.counts import counted
from activation_pruning.support.cuts import Cut, chunks, cut, filled
from activation_pruning.support.names import chosen
from activation_pruning.support.types import Array, Mask, Named, Scores, Site, Sites


@dataclass(frozen=True)
class Items:
    """What an allocation ranks in one site: weights, units, blocks or groups.

    Args:
        values: 1-D float, one score per item; -inf where nothing is left to prune.
        sizes: 1-D int, how many weights pruning the item adds to those already pruned; or the
            int 1: each item is one weight.
        alive: 1-D bool, False where nothing is left to prune, whatever the value; None: see values.
        sums: 1-D float, what the scores of the weights that it prunes sum to; None: value * size.
        protected: how many items are never pruned.
        round_to: so many items, or a multiple of it, stay alive.

    Example:
        >>> weights = Items(np.array([3.0, 1.0, 2.0]), alive=np.array([True, False, True]))
        >>> weights.scores.tolist(), weights.dead
        ([3.0, -inf, 2.0], 1)
        >>> units = Items(np.array([0.5, 0.1]), sizes=np.array([10, 10]))  # of ten weights each
        >>> ranking(units.scores).tolist()
        [1, 0]
    """

    values: Array
    sizes: Array | int = 1
    alive: Mask | None = None
    sums: Array | None = None
    protected: int = 1
    round_to: int = 1
    # By count, the cuts that an allocation found: the mask need not find them again.
    cuts: dict[int, Cut] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def scores(self) -> Scores:
        """`values`, -inf where not alive: a copy, made when asked for."""
        return filled(self.values, self.alive)

    @cached_property
    def dead(self) -> int:
        """The number of items with nothing left to prune."""
        if self.alive is not None:
            return self.alive.size - int(np.count_nonzero(self.alive))
        parts = chunks(self.values.size)
        return sum(int(np.count_nonzero(self.values[part] == -np.inf)) for part in parts)

    @property
    def most(self) -> int:
        """The number of items that may go, those already gone included."""
        return max(self.values.size - self.protected, self.dead)

    @property
    def staying(self) -> Mask:
        """Which items are protected: those that would go last."""
        found, left = np.zeros(self.values.size, bool), np.array(self.scores)
        for _ in range(self.values.size - self.most):
            best = np.argmax(left)  # the first of equal ones: it goes after them
            found[best], left[best] = True, -np.inf
        return found

    def rounded(self, count: int) -> int:
        """How many of them go so that a multiple of `round_to` stays; half a step is kept."""
        if self.round_to == 1 or count <= self.dead:
            return count
        kept = max(int((self.values.size - count) / self.round_to + 0.5), 1) * self.round_to
        return self.values.size - min(kept, self.values.size - self.dead)


SiteItems: TypeAlias = dict[str, Items]  # by the names of the sites
Allocation: TypeAlias = Callable[[Sites, SiteItems, float], dict[str, int]]


def ranking(scores: Scores) -> Array:
    """Return the indices of `scores`, without NaN, in the order of pruning; see `masks.ties`.

    Example:
        >>> ranking(np.array([2.0, 1.0, 1.0])).tolist()
        [2, 1, 0]
    """
    return scores.size - 1 - np.argsort(scores[::-1], kind="stable")


def rounded(sparsity: float, weights: int) -> int:
    """Return the exact budget k = floor(sparsity * weights + 0.5).

    Example:
        >>> rounded(0.25, 10)
        3
    """
    return int(np.floor(sparsity * weights + 0.5))


def class_blind(sites: Sites, items: SiteItems, sparsity: float) -> dict[str, int]:
    """One ranking over all sites ("global").

    The k = floor(sparsity * n + 0.5) lowest weights of all n; for bigger items the longest prefix
    of the ranking that does not prune more than k. Protected items, which stay, are passed over
    where they do not fit.

    Args:
        sites: in the order of the model.
        items: {site name: Items}.
        sparsity: target over all sites, in [0, 1].

    Returns:
        {site name: number of items to prune}.

    Source: See et al., CoNLL 2016 (class-blind).

    Example:
        >>> from types import SimpleNamespace as Site
        >>> sites = [Site(name=n, mask=np.ones(2, bool)) for n in "ab"]
        >>> class_blind(sites, {"a": Items(np.arange(2.0)), "b": Items(np.arange(2.0) + 2)}, 0.5)
        {'a': 2, 'b': 0}
    """
    names = [site.name for site in sites]
    weights, pruned = counted(site.mask for site in sites)
    budget = rounded(sparsity, weights)
    if all(isinstance(items[name].sizes, int) for name in names):
        return _share_of_lowest({name: items[name] for name in names}, budget)
    own = [items[name] for name in names]
    order = ranking(np.concatenate([one.scores for one in own]))
    sizes = np.concatenate([one.sizes for one in own])[order]
    staying = np.concatenate([one.staying for one in own])[order]
    taken = order[: _passing(sizes, staying, budget - pruned)]
    ends = np.cumsum([one.values.size for one in own])
    counts = np.bincount(np.searchsorted(ends, taken, side="right"), minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))


def uniform(sites: Sites, items: SiteItems, sparsity: float) -> dict[str, int]:
    """The same fraction of every site (class-uniform): floor(sparsity * n_i + 0.5) of n_i weights.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> sites = [Site(name=n, mask=np.ones(2, bool)) for n in "ab"]
        >>> uniform(sites, {"a": Items(np.arange(2.0)), "b": Items(np.arange(2.0) + 2)}, 0.5)
        {'a': 1, 'b': 1}
    """
    return {s.name: _fitting(s, items[s.name], rounded(sparsity, s.mask.size)) for s in sites}


def distributed(sites: Sites, items: SiteItems, sparsity: float) -> dict[str, int]:
    """Global after dividing each site's scores by the standard deviation of its alive weights.

    Where that is zero, the scores stay as they are. Source: See et al. 2016 (class-distributed).

    Raises ValueError for scores so far above the deviation that the quotient is no number.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> w = {"a": np.array([1.0, 3.0]), "b": np.array([10.0, 30.0])}
        >>> sites = [Site(name=n, kernel=w[n], mask=np.ones(2, bool)) for n in "ab"]
        >>> distributed(sites, {n: Items(w[n]) for n in "ab"}, 0.5)
        {'a': 1, 'b': 1}
    """
    scaled = {}
    for site in sites:
        own, deviation = items[site.name], _deviation(site) or 1.0
        try:
            with np.errstate(over="raise"):
                values = np.divide(own.values, deviation, dtype=np.float64)
        except FloatingPointError:
            raise ValueError(
                f"{site.name}: scores up to {own.values.max():.3g} divided by the standard "
                f"deviation of its weights, {deviation:.3g}, are too large for a float; choose "
                "another allocation than 'distributed', or exclude the layer."
            ) from None
        scaled[site.name] = replace(own, values=values)
    return class_blind(sites, scaled, sparsity)


def erk(sites: Sites, items: SiteItems, sparsity: float) -> dict[str, int]:
    """Erdos-Renyi-Kernel: density of a site proportional to sum(shape) / prod(shape).

    Densities over 1 are cut to 1 and the rest is shared among the others, so that the total is met
    exactly (largest remainder).

    Source: Evci et al., ICML 2020 (RigL), section 3; Mocanu et al. 2018.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> sites = [Site(name=n, kernel=np.zeros(s), mask=np.ones(s, bool))
        ...          for n, s in (("wide", (10, 10)), ("thin", (10, 2)))]
        >>> erk(sites, {s.name: Items(np.zeros(s.mask.size)) for s in sites}, 0.6)
        {'wide': 70, 'thin': 2}
    """
    sizes = np.array([site.mask.size for site in sites], float)
    raw = np.array([sum(site.kernel.shape) for site in sites], float) / sizes
    budget = rounded(sparsity, int(sizes.sum()))
    dense = np.zeros(len(sites), bool)
    density = np.ones(len(sites))
    while not dense.all():
        left = sizes.sum() - budget - sizes[dense].sum()
        density = np.where(dense, 1.0, raw * left / (raw * sizes)[~dense].sum())
        if (density <= 1.0).all():
            break
        dense |= density >= 1.0
    exact = np.clip((1.0 - density) * sizes, 0.0, sizes)
    whole = np.floor(exact)
    short = budget - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:short]] += 1
    return {s.name: _fitting(s, items[s.name], int(p)) for s, p in zip(sites, whole, strict=True)}


ALLOCATIONS = {"global": class_blind, "uniform": uniform, "distributed": distributed, "erk": erk}


def get(spec: Named) -> Allocation:
    """Return the allocation for a name in `ALLOCATIONS`; a callable is returned as it is.

    Raises:
        ValueError, TypeError: an unknown name; neither a name nor a callable.

    Example:
        >>> get("global") is class_blind
        True
    """
    return chosen("allocation", spec, ALLOCATIONS, "a function of (sites, items, sparsity)")


def _deviation(site: Site) -> float:
    """Return the standard deviation of the alive weights; 0 where they are all alike."""
    if not site.mask.any():
        return 0.0
    low = np.min(site.kernel, where=site.mask, initial=np.inf)
    high = np.max(site.kernel, where=site.mask, initial=-np.inf)
    if low == high:  # their mean may be a rounding error off
        return 0.0
    # By a power of two, which costs no digit: the squares of 1e200 and 1e-200 are no numbers.
    scale = 2.0 ** (int(np.frexp(max(abs(float(low)), abs(float(high))))[1]) - 1)
    return float(np.std(site.kernel / scale, where=site.mask, dtype=np.float64)) * scale


def _share_of_lowest(items: SiteItems, count: int) -> dict[str, int]:
    """Return how many of the `count` lowest scores lie in each site."""
    if count == 0:
        return dict.fromkeys(items, 0)
    cuts = cut([i.values for i in items.values()], count, [i.alive for i in items.values()])
    ties = count - sum(lower for _, lower, _ in cuts)
    shares = dict.fromkeys(items, 0)
    for name, own in reversed(list(zip(items, cuts, strict=True))):  # ties: the later site first
        _, lower, equal = own
        shares[name] = lower + min(ties, equal)
        ties -= min(ties, equal)
        items[name].cuts[shares[name]] = own
    return shares


def _prefix(sizes: Array, budget: int) -> int:
    """Return the length of the longest prefix of `sizes` that sums to at most `budget`."""
    return int(np.searchsorted(np.cumsum(sizes), budget, side="right"))


def _passing(sizes: Array, staying: Mask, budget: int) -> int:
    """`_prefix` that passes over those that stay anyway, as far as others that fit come after."""
    sizes = sizes.copy()
    length = _prefix(sizes, budget)
    while length < len(sizes) and staying[length]:
        sizes[length] = 0
        length = _prefix(sizes, budget)
    while length and staying[length - 1] and not sizes[length - 1]:
        length -= 1
    return length


def _fitting(site: Site, items: Items, weights: int) -> int:
    """Return how many of the site's lowest items leave at most `weights` of its weights pruned.

    -1 where more than those are pruned already.
    """
    if isinstance(items.sizes, int):
        return weights
    room = weights - counted([site.mask]).pruned
    return -1 if room < 0 else _prefix(items.sizes[ranking(items.scores)], room)
