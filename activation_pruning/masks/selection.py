"""Exact masks: which weights go at given scores."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from activation_pruning import allocations
from activation_pruning.allocations import Allocation, Items, rounded
from activation_pruning.amounts import ByScores
from activation_pruning.amounts.bounds import counts_within_bounds
from activation_pruning.masks import coupled, granularities
from activation_pruning.masks.granularities import Granularity, Unit
from activation_pruning.masks.ties import marked
from activation_pruning.support.checks import check_sparsity
from activation_pruning.support.counts import counted
from activation_pruning.support.types import Array, Mask, Masks, Named, Scores, Sites


class EmptiedWarning(UserWarning):
    """A layer would have lost its last item, which was kept instead.

    Example:
        >>> import keras, warnings, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> with warnings.catch_warnings(action="error", category=ap.masks.EmptiedWarning):
        ...     try:
        ...         ap.prune(model, 0.9, exclude=())
        ...     except ap.masks.EmptiedWarning:
        ...         print("all four weights would go, so none went")
        all four weights would go, so none went
    """


def check_finite(name: str, values: Array, what: str = "scores") -> None:
    """Raise if an array holds a NaN or an infinity; allocates nothing.

    Args:
        name, what: of the site and the values, for the message of the ValueError.
        values: numeric array.

    Example:
        >>> check_finite("dense/kernel", np.array([1.0, np.nan]))
        Traceback (most recent call last):
            ...
        ValueError: dense/kernel: the scores hold NaN or infinite values; look at the criterion.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(values.sum())  # one pass; but finite numbers may have an infinite sum
    if values.size and not finite and not (np.isfinite(values.min()) and np.isfinite(values.max())):
        cause = (
            "look at the criterion."
            if what.startswith("scores")
            else "the training diverged; lower the learning rate or go back to a checkpoint."
        )
        raise ValueError(f"{name}: the {what} hold NaN or infinite values; {cause}")


def select(
    sites: Sites,
    scores: Mapping[str, Scores],
    sparsity: float | ByScores,
    granularity: Any,
    allocation: Named,
) -> Masks:
    """Return the new masks at a target sparsity; pruned weights stay pruned.

    k = floor(sparsity * n + 0.5) of the n weights of all sites end up pruned, those pruned before
    included: exactly k for weights under "global" and "erk"; for bigger items the longest prefix
    of the ranking that does not prune more. Units that share channels (`Site.channels`) go together
    or not at all, and their sites count as one. The last item of a site is protected, and its
    budget goes to the other sites. If k weights are already pruned, the masks stay as they are.

    Args:
        sites: in the order of the model.
        scores: {site name: array of the kernel's shape}; low scores go first, see `ties`.
        sparsity: target over all sites, in [0, 1), or an object of `amounts` that looks at scores.
        granularity, allocation: see `granularity` and `allocations.get`.

    Returns:
        {site name: new bool mask of the kernel's shape, True = alive}.

    Raises:
        ValueError: sparsity outside [0, 1); no sites; scores of a wrong shape; NaN or infinite
            scores; an unknown name; N:M that does not divide.

    Warns:
        EmptiedWarning: a site was kept from being emptied.
        UserWarning: the target was missed by more than one item of each site.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> w = np.array([[1.0, 4.0], [2.0, 3.0]])
        >>> site = Site(name="a", kernel=w, mask=np.ones((2, 2), bool))
        >>> select([site], {"a": w}, 0.5, "weight", "global")["a"]
        array([[False,  True],
               [False,  True]])
    """
    grain, share = granularities.granularity(granularity), allocations.get(allocation)
    if _coupled(sites, grain):
        return _select_coupled(sites, scores, sparsity, grain, share)
    if not sites:
        raise ValueError("there are no sites to prune; look at include and exclude.")
    scores, items = _checked(sites, scores), None
    if isinstance(sparsity, ByScores):
        items = _items(sites, scores, grain)
        sparsity, share = sparsity(sites, items, share)
    else:
        check_sparsity("sparsity", sparsity)
    weights, pruned = counted(site.mask for site in sites)
    budget = rounded(sparsity, weights)
    if budget <= pruned:
        return {s.name: s.mask.copy() for s in sites}
    items = items or _items(sites, scores, grain)
    counts, guarded = counts_within_bounds(sites, items, sparsity, share)
    masks, rounding = {}, 0
    for site in sites:
        own = items.pop(site.name)  # freed as the mask is made
        chosen = marked(own, counts[site.name])
        rounding += _largest(own, chosen) * own.round_to
        mask = grain.expand(site, scores[site.name], chosen)
        masks[site.name] = np.logical_and(site.mask, np.logical_not(mask, out=mask), out=mask)
    _warn(sites, masks, sparsity, budget, rounding, guarded)
    return masks


def _items(sites: Sites, scores: Mapping[str, Scores], grain: Granularity) -> dict[str, Items]:
    """Return what is ranked in each site."""
    with np.errstate(over="ignore"):  # of finite scores the sum may be infinite
        found = {site.name: grain.items(site, scores[site.name]) for site in sites}
    for name, own in found.items():
        if not isinstance(own.sizes, int):
            check_finite(name, own.values[own.values > -np.inf], "scores of whole items")
    return {name: replace(own, protected=grain.protected) for name, own in found.items()}


def _coupled(sites: Sites, grain: Granularity) -> bool:
    return isinstance(grain, Unit) and coupled.any_shared(sites)


def _select_coupled(
    sites: Sites,
    scores: Mapping[str, Scores],
    sparsity: float | ByScores,
    grain: Granularity,
    share: Allocation,
) -> Masks:
    merged, joined, parts = coupled.merge(sites, scores)
    found = coupled.split(select(merged, joined, sparsity, grain, share), parts)
    found, emptied = coupled.refilled(
        sites, found, lambda s: grain.items(s, np.asarray(scores[s.name]))
    )
    if emptied:
        warnings.warn(
            f"the best unit is kept, so that nothing is emptied, in {emptied}",
            EmptiedWarning,
            stacklevel=3,
        )
    return found


def granule(sites: Sites, granularity: Any) -> int:
    """Return by how many weights, at least 1, a target must rise so that surely more is pruned.

    Under any allocation rounding may leave up to half a weight for each site, or nearly its largest
    item, unpruned: so sites // 2 + 1 for weights, else the sum of the largest items.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> granule([Site(kernel=np.ones((2, 5)), mask=np.ones((2, 5), bool))], "weight")
        1
    """
    grain = granularities.granularity(granularity)
    if _coupled(sites, grain):
        sites = coupled.merge(sites, {site.name: site.kernel for site in sites})[0]
    items = [grain.items(site, site.kernel) for site in sites]
    if all(isinstance(own.sizes, int) for own in items):
        return len(sites) // 2 + 1
    return max(1, sum(int(np.max(own.sizes, initial=0)) for own in items))


def _largest(items: Items, gone: Mask) -> int:
    """Return the size of the largest item that stays."""
    if isinstance(items.sizes, int):
        return int(not gone.all())
    return int(items.sizes.max(where=~gone, initial=0))


def _checked(sites: Sites, scores: Mapping[str, Scores]) -> dict[str, Scores]:
    """Return the scores as arrays of one float dtype, so that all sites compare exactly."""
    arrays = {}
    for site in sites:
        own = np.asarray(scores[site.name])
        if own.shape != site.kernel.shape:
            raise ValueError(
                f"{site.name}: scores of shape {own.shape} for a kernel of shape "
                f"{site.kernel.shape}; a criterion must return one score per weight."
            )
        check_finite(site.name, own)
        arrays[site.name] = own
    # float16 and bfloat16 are widened; -inf has no integer
    dtype = np.result_type(np.float32, *[a.dtype for a in arrays.values()])
    return {name: own.astype(dtype, copy=False) for name, own in arrays.items()}


def _warn(
    sites: Sites, masks: Masks, sparsity: float, budget: int, rounding: int, guarded: Sequence[str]
) -> None:
    count = counted(masks.values())
    if guarded:
        cause = "the best item is kept, so that nothing is emptied, in "
    elif abs(budget - count.pruned) > rounding:
        cause = "the granularity and the weights pruned before leave no other choice in "
    else:
        return
    names = [
        f"{n} (now {counted([m]).sparsity:.4f})"
        for n, m in masks.items()
        if n in guarded or not guarded
    ]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    warnings.warn(
        f"target sparsity {sparsity:.4f}, reached {count.sparsity:.4f}: {cause}"
        f"{', '.join(names[:5])}{more}.",
        EmptiedWarning if guarded else UserWarning,
        stacklevel=3,
    )
