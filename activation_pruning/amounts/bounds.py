"""How many items of each site go, so that none is emptied and none comes back."""

from activation_pruning.allocations import Allocation, Items, SiteItems, ranking, rounded
from activation_pruning.support.counts import counted
from activation_pruning.support.types import Site, Sites


def counts_within_bounds(
    sites: Sites, items: SiteItems, sparsity: float, share: Allocation
) -> tuple[dict[str, int], list[str]]:
    """Ask an allocation; where it goes out of a site's bounds, fix that site and ask again.

    A site's lower bound are the items pruned before, its upper bound all but the protected ones.
    Returns ({site name: how many of its lowest items go}, names of the sites at their upper bound).

    Example:
        >>> import numpy as np
        >>> from activation_pruning.allocations import class_blind
        >>> from types import SimpleNamespace as Site
        >>> sites = [Site(name=n, mask=np.ones(2, bool)) for n in "ab"]
        >>> items = {"a": Items(np.arange(2.0)), "b": Items(np.arange(2.0) + 2)}
        >>> counts_within_bounds(sites, items, 0.5, class_blind)
        ({'a': 1, 'b': 1}, ['a'])
    """
    budget = rounded(sparsity, counted(site.mask for site in sites).weights)
    full: dict[str, int] = {}
    left, target = sites, sparsity
    while True:
        counts = _none_back(left, items, target, budget, share)
        over = {name: items[name].most for name in counts if counts[name] > items[name].most}
        if not over:
            break
        full |= over  # for good: the others have to take more, so that their target can only rise
        left, budget, target = _without(over, left, items, budget)
    counts = {site.name: (full | counts)[site.name] for site in sites}
    return {name: items[name].rounded(count) for name, count in counts.items()}, list(full)


def _none_back(
    sites: Sites, items: SiteItems, target: float, budget: int, share: Allocation
) -> dict[str, int]:
    """Ask an allocation; what a site has lost beyond its share is taken from the others first."""
    counts: dict[str, int] = {}
    while sites:
        wanted = share(sites, items, target)
        below = {s.name: items[s.name].dead for s in sites if wanted[s.name] < items[s.name].dead}
        counts |= {site.name: wanted[site.name] for site in sites} | below
        if not below:
            break
        sites, budget, target = _without(below, sites, items, budget)
    return counts


def _without(
    fixed: dict[str, int], sites: Sites, items: SiteItems, budget: int
) -> tuple[Sites, int, float]:
    """The other sites, what those fixed leave of the budget, and which sparsity that comes to."""
    for site in sites:
        if site.name in fixed:
            budget -= _pruned_by(site, items[site.name], fixed[site.name])
    sites = [site for site in sites if site.name not in fixed]
    weights = counted(site.mask for site in sites).weights
    return sites, budget, min(max(budget, 0) / max(weights, 1), 1.0)


def _pruned_by(site: Site, items: Items, count: int) -> int:
    """Return how many weights of the site are pruned once its `count` lowest items are."""
    if isinstance(items.sizes, int):
        return count
    return counted([site.mask]).pruned + int(items.sizes[ranking(items.scores)[:count]].sum())
