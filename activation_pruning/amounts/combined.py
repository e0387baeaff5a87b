"""Amounts made of others: of one layer, of each layer in its turn, up to a limit."""

from dataclasses import dataclass, replace

import numpy as np

from activation_pruning.allocations import Allocation, SiteItems, class_blind, ranking
from activation_pruning.amounts.base import Amount, ByScores, Share, check
from activation_pruning.amounts.bounds import counts_within_bounds
from activation_pruning.amounts.by_scores import exactly
from activation_pruning.support.checks import check_count, check_sparsity
from activation_pruning.support.counts import counted
from activation_pruning.support.types import Sites


@dataclass(frozen=True)
class OneLayer(ByScores):
    """An amount of one layer alone; the others stay as they are.

    Args:
        index: of the layer among those pruned, in the order of the model; counted round and round.
        amount: an amount, or a sparsity in [0, 1) of that layer.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> from activation_pruning.allocations import Items
        >>> sites = [Site(name=n, mask=np.ones(2, bool)) for n in "ab"]
        >>> items = {n: Items(np.array([1.0, 2.0])) for n in "ab"}
        >>> OneLayer(1, 0.5)(sites, items, class_blind)[0]
        0.25
    """

    index: int
    amount: Amount | float

    def __post_init__(self) -> None:
        check_count("index", self.index, 0)
        check(self.amount)

    def __call__(self, sites: Sites, items: SiteItems, allocation: Allocation) -> Share:
        site = sites[self.index % len(sites)]
        counts = {s.name: items[s.name].dead for s in sites}
        target = resolved(self.amount, *counted([site.mask]))
        if isinstance(target, ByScores):
            target, allocation = target([site], items, allocation)
        counts[site.name] = max(allocation([site], items, target)[site.name], counts[site.name])
        return exactly(sites, items, counts)


@dataclass(frozen=True)
class InTurn(Amount):
    """An amount of one layer per event, each layer in its turn.

    Args:
        amount: an amount, or a sparsity of each layer in [0, 1), else a ValueError.

    Example:
        >>> InTurn(0.5).target(weights=100, pruned=0, event=3)
        OneLayer(index=3, amount=0.5)
    """

    amount: Amount | float

    def __post_init__(self) -> None:
        check(self.amount)

    def target(self, weights: int, pruned: int, event: int = 0) -> OneLayer:
        return OneLayer(event, self.amount)


@dataclass(frozen=True)
class UpTo(ByScores):
    """An amount, but no further than a sparsity: what would go beyond it stays, the best first.

    Args:
        amount: any but `InTurn`, of which it goes inside: `InTurn(UpTo(...))`.
        most: the highest sparsity over all sites, in [0, 1).

    Raises:
        TypeError, ValueError: an argument out of range.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> from activation_pruning.allocations import Items
        >>> from activation_pruning.amounts import Threshold
        >>> site, items = Site(name="a", mask=np.ones(4, bool)), {"a": Items(np.arange(4.0))}
        >>> UpTo(Threshold(9.0), 0.5)([site], items, None)[0]
        0.5
    """

    amount: Amount | float
    most: float

    def __post_init__(self) -> None:
        check(self.amount)
        check_sparsity("most", self.most)
        if isinstance(self.amount, InTurn):
            raise TypeError(f"UpTo({self.amount!r}, ...): write InTurn(UpTo(...)), not the reverse")

    def __call__(self, sites: Sites, items: SiteItems, allocation: Allocation) -> Share:
        found = resolved(self.amount, *counted(site.mask for site in sites))
        if not isinstance(found, ByScores):
            return min(found, self.most), allocation
        sparsity, share = found(sites, items, allocation)
        if sparsity <= self.most:
            return sparsity, share
        counts, full = counts_within_bounds(sites, items, sparsity, share)
        counts |= {name: items[name].values.size for name in full}  # so that a warning names them
        allowed = {}
        for name, count in counts.items():
            scores = np.array(items[name].scores)
            scores[ranking(scores)[count:]] = np.inf
            allowed[name] = replace(items[name], values=scores, alive=None)

        def best_kept(sites: Sites, items: SiteItems, sparsity: float) -> dict[str, int]:
            found = class_blind(sites, allowed, sparsity)
            return {name: min(count, counts[name]) for name, count in found.items()}

        return self.most, best_kept


def resolved(
    amount: Amount | float, weights: int, pruned: int, event: int = 0, most: float | None = None
) -> float | ByScores:
    """Return what an amount comes to now, see `Amount.target`; a sparsity stays as it is.

    A number of weights may be all that are left: not quite 1 then, as the last ones stay anyway.

    Args:
        amount: an amount, or a sparsity.
        weights, pruned, event: as for `Amount.target`.
        most: the highest sparsity to go to, in [0, 1); None for no limit.

    Example:
        >>> from activation_pruning.amounts import Number
        >>> resolved(Number(10), 100, 0, most=0.05)
        0.05
    """
    found = amount.target(weights, pruned, event) if isinstance(amount, Amount) else amount
    if isinstance(amount, Amount) and not isinstance(found, ByScores):
        found = min(found, (weights - 1) / weights)
    if most is None:
        return found
    return UpTo(found, most) if isinstance(found, ByScores) else min(found, most)
