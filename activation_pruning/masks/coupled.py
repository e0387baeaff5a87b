"""Sites whose units are coupled, such as the branches of a residual block, ranked as one."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from activation_pruning.allocations import Items
from activation_pruning.support.types import Array, Arrays, Masks, Scores, Site, Sites

Parts = dict[str, list[Any]]  # of which Sites one is made; Any: `replace` knows no protocols


def merge(
    sites: Sites, scores: Mapping[str, Scores]
) -> tuple[list[Site], dict[str, Scores], Parts]:
    """One site for all those that share channels; what they share is a unit of it.

    The weights lie flat, one site's after the other's.

    Args:
        sites: `channels` holds the channel of each unit, or None.
        scores: {site name: array of the kernel's shape}.

    Returns:
        (list of Site, {name: scores}, {name: list of the Sites that it is made of}).

    Example:
        >>> from activation_pruning.sites import Site
        >>> kernel, units = np.ones((1, 2)), np.array([[0, 1]])
        >>> some = Site("a", "a", kernel, kernel > 0, units, channels=np.array([4, 5]))
        >>> other = dataclasses.replace(some, name="b", channels=np.array([5, 6]))
        >>> (both,), _, _ = merge([some, other], {"a": kernel, "b": kernel})
        >>> both.name, both.units.tolist()
        ('a + b', [0, 1, 1, 2])
    """
    merged, found, parts = [], {}, {}
    for own in _clusters(sites):
        plain = len(own) == 1 and _apart(own[0])
        one = own[0] if plain else _joined(own)
        merged.append(one)
        parts[one.name] = own
        whole = [np.asarray(scores[site.name]) for site in own]
        found[one.name] = whole[0] if plain else np.concatenate([s.reshape(-1) for s in whole])
    return merged, found, parts


def any_shared(sites: Sites) -> bool:
    """Whether two units, of one site or of two, belong to the same channel."""
    known = [own for site in sites if (own := getattr(site, "channels", None)) is not None]
    channels = np.concatenate(known) if known else np.zeros(0)
    return len(np.unique(channels)) < len(channels)


def split(masks: Masks, parts: Parts) -> Masks:
    """The inverse of `merge` for masks: {site name: mask of the kernel's shape}."""
    return {n: a for name, own in parts.items() for n, a in by_site(own, masks[name]).items()}


def by_site(sites: Sites, values: Array) -> Arrays:
    """{site name: array of the kernel's shape} of values in a row, one site's after the other's."""
    ends = np.cumsum([site.mask.size for site in sites])
    flat = zip(sites, np.split(values.reshape(-1), ends[:-1]), strict=True)
    return {site.name: own.reshape(site.mask.shape) for site, own in flat}


def _clusters(sites: Sites) -> list[list[Any]]:
    """Lists of sites that share channels, directly or through others, in the order given."""
    clusters: list[tuple[list[int], set[int]]] = []  # numbers of sites, and their channels
    for number, site in enumerate(sites):
        own = set() if site.channels is None else set(site.channels.tolist())
        touching = [c for c in clusters if c[1] & own]
        clusters = [c for c in clusters if not c[1] & own]
        numbers = sorted([*(n for c in touching for n in c[0]), number])
        clusters.append((numbers, own.union(*(c[1] for c in touching))))
    return [[sites[n] for n in numbers] for numbers, _ in sorted(clusters, key=lambda c: c[0])]


def _apart(site: Site) -> bool:
    return site.channels is None or len(np.unique(site.channels)) == len(site.channels)


def _joined(sites: list[Any]) -> Any:
    channels = np.unique(np.concatenate([site.channels for site in sites]))
    labels = [np.searchsorted(channels, site.channels)[site.units] for site in sites]
    shapes = [site.kernel.shape for site in sites]
    units = [np.broadcast_to(a, b).reshape(-1) for a, b in zip(labels, shapes, strict=True)]
    return dataclasses.replace(
        sites[0],
        name=" + ".join(site.name for site in sites),
        kernel=np.concatenate([site.kernel.reshape(-1) for site in sites]),
        mask=np.concatenate([site.mask.reshape(-1) for site in sites]),
        units=np.concatenate(units),
        input_axis=0,
        channels=channels,
    )


def refilled(sites: Sites, masks: Masks, items: Callable[[Any], Items]) -> tuple[Masks, list[str]]:
    """Masks in which no site is empty: the best unit of such a one stays, wherever it is.

    A site that shares only some of its units with others may have lost all. `items` gives those of
    a site, its units, with their scores. Returns the masks, and the names of the sites that got a
    unit back.
    """
    emptied = [site for site in sites if site.mask.any() and not masks[site.name].any()]
    for site in emptied:
        channel = np.asarray(site.channels)[np.argmax(items(site).scores)]  # the first among equals
        for other in sites:
            if other.channels is not None:
                masks[other.name] |= other.mask & (other.channels == channel)[other.units]
    return masks, [site.name for site in emptied]
