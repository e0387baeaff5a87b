"""How many items of each site go, so that none is emptied and none comes back."""

from activation_pruning.allocations import Allocation, Items, SiteItems, rounded
from activation_pruning.masks.ties import marked
from activation_pruning.support.counts import counted
from activation_pruning.support.types import Site, Sites


def counts_within_bounds(
    sites: Sites, items: SiteItems, sparsity: float, protected: int, share: Allocation
) -> tuple[dict[str, int], list[str]]:
    """Ask the allocation; where it goes out of a site's bounds, fix that site and ask again.

    A site's lower bound are the items pruned before, its upper bound all but the protected ones.
    Returns ({site name: how many of its lowest items go}, names of the sites at their upper bound).
    """
    low = {s.name: items[s.name].dead for s in sites}
    high = {s.name: max(items[s.name].values.size - protected, low[s.name]) for s in sites}
    budget = rounded(sparsity, counted(site.mask for site in sites).weights)
    counts: dict[str, int] = {}
    guarded: list[str] = []
    open_sites, target = list(sites), sparsity
    while open_sites:
        wanted = share(open_sites, items, target)
        # What pruned sites hold beyond their share is taken from the others first.
        fixed = {s.name: low[s.name] for s in open_sites if wanted[s.name] < low[s.name]}
        if not fixed:
            fixed = {s.name: high[s.name] for s in open_sites if wanted[s.name] > high[s.name]}
            guarded += fixed
        counts |= {s.name: wanted[s.name] for s in open_sites} | fixed
        if not fixed:
            break
        for site in open_sites:
            if site.name in fixed:
                budget -= _pruned_by(site, items[site.name], fixed[site.name])
        open_sites = [s for s in open_sites if s.name not in fixed]
        weights = counted(site.mask for site in open_sites).weights
        target = min(max(budget, 0) / max(weights, 1), 1.0)
    return counts, guarded


def _pruned_by(site: Site, items: Items, count: int) -> int:
    """Return how many weights of the site are pruned once its `count` lowest items are."""
    if isinstance(items.sizes, int):
        return count
    return counted([site.mask]).pruned + int(items.sizes[marked(items, count)].sum())
