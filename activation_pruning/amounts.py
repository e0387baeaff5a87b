"""Amounts: how much one pruning event takes, where a fixed sparsity is not what is wanted.

Two kinds. `Fraction` and `Number` follow from how many weights are alive: they have
`sparsity(weights, pruned)`, the target that they come to. The others look at the scores of the
event: they are called with the sites, what the granularity ranks in them, and the allocation, and
return a target and the allocation that shares it.
"""

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from activation_pruning.allocations import Items, class_blind, ranking, rounded
from activation_pruning.support.checks import check_count, check_number, check_sparsity

__all__ = [
    "BelowMean",
    "Bucket",
    "Fraction",
    "InTurn",
    "Number",
    "OneLayer",
    "Threshold",
    "UpTo",
    "get",
]


@dataclass(frozen=True)
class Fraction:
    """A share of the weights still alive: floor(share * alive + 0.5) of them.

    Args:
        share: in (0, 1).

    Raises:
        ValueError: a share out of range.

    Example:
        >>> Fraction(0.5).sparsity(weights=100, pruned=60)
        0.8
    """

    share: float

    def __post_init__(self):
        if not (isinstance(self.share, Real) and 0 < self.share < 1):
            raise ValueError(f"share={self.share!r}; it must be in (0, 1), 0.2 for 20 %.")

    def sparsity(self, weights, pruned):
        """Return the target over all weights, in [0, 1]."""
        return (pruned + rounded(self.share, weights - pruned)) / weights


@dataclass(frozen=True)
class Number:
    """A fixed number of weights; all that are alive if there are fewer.

    Args:
        weights: at least 1.

    Raises:
        ValueError: not a positive integer.

    Example:
        >>> Number(10).sparsity(weights=100, pruned=60)
        0.7
    """

    weights: int

    def __post_init__(self):
        check_count("weights", self.weights, 1)

    def sparsity(self, weights, pruned):
        """Return the target over all weights, in [0, 1]."""
        return min(pruned + self.weights, weights) / weights


@dataclass(frozen=True)
class Bucket:
    """As many as fit into a bucket: the most weights whose scores sum to at most `saliency`.

    Of each item the score counts times its weights; what the allocation would take first goes
    first, under any allocation.

    Args:
        saliency: at least 0, in the unit of the scores.

    Raises:
        ValueError: a saliency below 0; when called with scores below 0, whose sum says nothing.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> from activation_pruning import allocations
        >>> site = Site(name="a", mask=np.ones(4, bool))
        >>> items = {"a": allocations.Items(np.array([1.0, 2.0, 3.0, 4.0]))}
        >>> Bucket(3.5)([site], items, allocations.class_blind)[0]
        0.5
    """

    saliency: float

    def __post_init__(self):
        check_number("saliency", self.saliency, 0)

    def __call__(self, sites, items, allocation):
        """Return (target sparsity, allocation)."""
        sums = {site.name: self._sums(site, items[site.name]) for site in sites}
        weights, pruned = _counted(sites)
        low, high = pruned, weights - 1
        while low < high:  # the largest budget that fits; its sum rises with it
            middle = (low + high + 1) // 2
            counts = allocation(sites, items, middle / weights)
            total = sum(sums[name][min(n, sums[name].size - 1)] for name, n in counts.items())
            low, high = (middle, high) if total <= self.saliency else (low, middle - 1)
        return low / weights, allocation

    def _sums(self, site, items):
        """What the first 0, 1, 2, ... items of the ranking sum to; those pruned before count 0."""
        alive = items.scores > -np.inf
        if (items.scores[alive] < 0).any():
            raise ValueError(
                f"{site.name}: Bucket adds scores up, but some are below 0 (the lowest is "
                f"{items.scores[alive].min():.3g}); choose a criterion with scores of at least 0, "
                "such as 'obd' or 'magnitude', or another amount."
            )
        values = np.where(alive, items.scores, 0).astype(np.float64) * items.sizes
        return np.concatenate([[0.0], np.cumsum(values[ranking(items.scores)])])


@dataclass(frozen=True)
class Threshold:
    """Everything that scores below `score`, in each layer; the allocation has no say.

    Args:
        score: in the unit of the scores.

    Raises:
        ValueError: not a finite number.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> from activation_pruning.allocations import Items
        >>> site = Site(name="a", mask=np.ones(4, bool))
        >>> Threshold(2.0)([site], {"a": Items(np.array([1.0, 2.0, 3.0, 4.0]))}, None)[0]
        0.25
    """

    score: float

    def __post_init__(self):
        check_number("score", self.score)

    def __call__(self, sites, items, allocation):
        """Return (target sparsity, an allocation that takes just these)."""
        return _fixed(sites, items, {s.name: self.score for s in sites})


@dataclass(frozen=True)
class BelowMean:
    """What scores below mean - k * standard deviation of its layer's scores, over what is alive.

    With criterion "activation" and granularity "unit": the units that fire that rarely.

    Args:
        deviations: k, a finite number; negative ones lie above the mean.

    Raises:
        ValueError: not a finite number.

    Source: the layer-wise pruning in the code of Ganguli & Chong, Algorithms 17(1):48, 2024.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> from activation_pruning.allocations import Items
        >>> site = Site(name="a", mask=np.ones(4, bool))
        >>> BelowMean(1.0)([site], {"a": Items(np.array([0.0, 4.0, 4.0, 4.0]))}, None)[0]
        0.25
    """

    deviations: float = 1.0

    def __post_init__(self):
        check_number("deviations", self.deviations)

    def __call__(self, sites, items, allocation):
        """Return (target sparsity, an allocation that takes just these)."""
        return _fixed(sites, items, {s.name: self._level(items[s.name].scores) for s in sites})

    def _level(self, scores):
        alive = scores[scores > -np.inf].astype(np.float64)
        if not alive.size:
            return -np.inf
        # Of equal scores the mean may come out a rounding error above them all.
        return min(alive.mean() - self.deviations * alive.std(), alive.max())


@dataclass(frozen=True)
class OneLayer:
    """An amount of one layer alone; the others stay as they are.

    Args:
        index: of the layer among those pruned, in the order of the model; counted round and round.
        amount: an amount, or a sparsity in [0, 1) of that layer.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> from activation_pruning import allocations
        >>> sites = [Site(name=n, mask=np.ones(2, bool)) for n in "ab"]
        >>> items = {n: allocations.Items(np.array([1.0, 2.0])) for n in "ab"}
        >>> sparsity, share = OneLayer(1, 0.5)(sites, items, allocations.class_blind)
        >>> sparsity, share(sites, items, sparsity)
        (0.25, {'a': 0, 'b': 1})
    """

    index: int
    amount: object

    def __post_init__(self):
        check_count("index", self.index, 0)
        check(self.amount)

    def __call__(self, sites, items, allocation):
        """Return (target sparsity, an allocation that takes from this layer only)."""
        site = sites[self.index % len(sites)]
        counts = {s.name: int(np.count_nonzero(items[s.name].scores == -np.inf)) for s in sites}
        target = resolved(self.amount, *_counted([site]))
        if callable(target):
            target, allocation = target([site], items, allocation)
        counts[site.name] = max(allocation([site], items, target)[site.name], counts[site.name])
        return _exactly(sites, items, counts)


@dataclass(frozen=True)
class InTurn:
    """An amount of one layer per event, each layer in its turn.

    Args:
        amount: an amount, or a sparsity in [0, 1) of each layer.

    Raises:
        ValueError: an amount out of range.

    Example:
        >>> InTurn(0.5).at(3)
        OneLayer(index=3, amount=0.5)
    """

    amount: object

    def __post_init__(self):
        check(self.amount)

    def at(self, event):
        """Return the amount of event 0, 1, 2, ..."""
        return OneLayer(event, self.amount)


@dataclass(frozen=True)
class UpTo:
    """An amount, but no further than a sparsity: what would go beyond it stays, the best first.

    Args:
        amount: any but `InTurn`, of which it goes inside: `InTurn(UpTo(...))`.
        most: the highest sparsity over all sites, in [0, 1).

    Raises:
        TypeError, ValueError: an argument out of range.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> from activation_pruning.allocations import Items
        >>> site = Site(name="a", mask=np.ones(4, bool))
        >>> UpTo(Threshold(9.0), 0.5)([site], {"a": Items(np.array([1.0, 2.0, 3.0, 4.0]))}, None)[0]
        0.5
    """

    amount: object
    most: float

    def __post_init__(self):
        check(self.amount)
        check_sparsity("most", self.most)
        if hasattr(self.amount, "at"):
            raise TypeError(f"UpTo({self.amount!r}, ...): write InTurn(UpTo(...)), not the reverse")

    def __call__(self, sites, items, allocation):
        """Return (target sparsity, allocation)."""
        found = resolved(self.amount, *_counted(sites))
        if not callable(found):
            return min(found, self.most), allocation
        sparsity, share = found(sites, items, allocation)
        if sparsity <= self.most:
            return sparsity, share
        allowed = {}
        for name, count in share(sites, items, sparsity).items():
            scores = np.array(items[name].scores)
            scores[ranking(scores)[count:]] = np.inf
            allowed[name] = Items(scores, items[name].sizes)
        return self.most, lambda sites, items, sparsity: class_blind(sites, allowed, sparsity)


def get(spec):
    """Return an amount: a fraction in (0, 1) is a share of what is alive, an integer a number.

    Raises:
        ValueError: a number that is neither.
        TypeError: anything else.

    Example:
        >>> get(0.2), get(500)
        (Fraction(share=0.2), Number(weights=500))
    """
    check_type(spec)
    if isinstance(spec, Integral):
        return Number(int(spec))
    if isinstance(spec, Real):
        return Fraction(float(spec))
    return spec


def check(amount):
    """Raise unless `amount` is one: an object of this module, its like, or a sparsity.

    Raises:
        ValueError: a number outside [0, 1).
        TypeError: anything else.

    Example:
        >>> check("half")
        Traceback (most recent call last):
            ...
        TypeError: amount='half'; give amounts.Fraction(0.2), amounts.Number(1000) or another one.
    """
    check_type(amount)
    if isinstance(amount, Real) and not 0 <= amount < 1:
        raise ValueError(
            f"amount={amount!r}; a number is a sparsity here, in [0, 1): for a number of weights "
            "give amounts.Number(1000)."
        )


def check_type(amount):
    """Raise unless `amount` is one, or a number.

    Raises:
        TypeError: names what was received.
    """
    if isinstance(amount, bool) or not (isinstance(amount, Real) or is_amount(amount)):
        raise TypeError(
            f"amount={amount!r}; give amounts.Fraction(0.2), amounts.Number(1000) or another one."
        )


def is_amount(value):
    """Return whether a value is an amount; a sparsity is none.

    Example:
        >>> is_amount(Number(5)), is_amount(0.5), is_amount("0.5")
        (True, False, False)
    """
    known = callable(value) or hasattr(value, "sparsity") or hasattr(value, "at")
    schedule = hasattr(value, "final_sparsity")  # says when, too: for callbacks
    return known and not schedule and not isinstance(value, type)


def resolved(amount, weights, pruned, event=0, most=None):
    """Return the target sparsity of an amount, or the amount itself if that needs scores.

    Args:
        amount: an amount, or a sparsity, which is returned as it is.
        weights, pruned: how many there are now.
        event: number of the event, from 0.
        most: the highest sparsity to go to, in [0, 1); None for no limit.

    Example:
        >>> resolved(Number(10), 100, 0), resolved(Bucket(1.0), 100, 0)
        (0.1, Bucket(saliency=1.0))
    """
    if hasattr(amount, "at"):
        amount = amount.at(event)
    found = amount.sparsity(weights, pruned) if hasattr(amount, "sparsity") else amount
    if most is None:
        return found
    return UpTo(found, most) if callable(found) else min(found, most)


def _counted(sites):
    weights = sum(site.mask.size for site in sites)
    return weights, weights - sum(int(np.count_nonzero(site.mask)) for site in sites)


def _fixed(sites, items, levels):
    """What lies below a level in each site, and what is pruned already."""
    counts = {name: int(np.count_nonzero(items[name].scores < at)) for name, at in levels.items()}
    dead = {name: int(np.count_nonzero(items[name].scores == -np.inf)) for name in levels}
    return _exactly(sites, items, {name: max(counts[name], dead[name]) for name in levels})


def _exactly(sites, items, counts):
    """(the sparsity that so many items of each site come to, the allocation that says so)."""
    weights, pruned = _counted(sites)
    for site in sites:
        own = items[site.name]
        taken = ranking(own.scores)[: counts[site.name]]
        alive = own.scores[taken] > -np.inf
        pruned += int(np.broadcast_to(own.sizes, own.scores.shape)[taken][alive].sum())
    return pruned / weights, lambda sites, items, sparsity: {s.name: counts[s.name] for s in sites}
