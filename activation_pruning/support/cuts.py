"""Cuts: where the lowest of millions of scores, at several sites, end.

Where `alive` of a site is False, the score counts as -inf, whatever it is, so that pruned weights
are ranked without a copy of all scores. None: all are alive.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np

from activation_pruning.support.types import Array, Mask

Cut: TypeAlias = tuple[np.floating, int, int]  # a score, how many are lower, how many equal it

_FEW = 1 << 18  # scores that are partitioned at once
_CHUNK = 1 << 16  # scores looked at together: fits a core's cache


def chunks(size: int) -> list[slice]:
    """Return the slices that cover so many scores, each small enough for a core's cache.

    Example:
        >>> chunks(70_000)
        [slice(0, 65536, None), slice(65536, 131072, None)]
    """
    return [slice(start, start + _CHUNK) for start in range(0, size, _CHUNK)]


def filled(scores: Array, alive: Mask | None) -> Array:
    """Return the scores, -inf where not alive.

    Example:
        >>> filled(np.array([1.0, 2.0]), np.array([True, False])).tolist()
        [1.0, -inf]
    """
    return scores if alive is None else np.where(alive, scores, scores.dtype.type(-np.inf))


def cut(
    arrays: Sequence[Array], count: int, alive: Sequence[Mask | None] | None = None
) -> list[Cut]:
    """Find where the `count` lowest scores of several sites end, without copying the scores.

    A random sample brackets the score; one pass counts what lies below and gathers what lies
    inside the bracket, about a hundredth; only that is partitioned. The answer is exact: if the
    bracket missed, everything is partitioned. Ties at its ends are counted, not gathered, so that
    millions of equal scores need no memory.

    Args:
        arrays: one 1-D array of scores for each site, all of one float dtype, no NaN.
        count: 0 < count <= total number of scores.
        alive: for each site a 1-D bool array or None; None: all are alive.

    Returns:
        For each site (the count-th lowest score of all, how many of the site's scores are lower,
        how many equal it).

    Example:
        >>> [(float(s), *n) for s, *n in cut([np.array([3.0, 1.0]), np.array([2.0, 4.0])], 2)]
        [(2.0, 1, 0), (2.0, 0, 1)]
    """
    sites = list(zip(arrays, alive or [None] * len(arrays), strict=True))
    total = sum(scores.size for scores in arrays)
    if total > _FEW:
        low, high = _bracket(sites, count / total, total)
        parts = [_between(*site, low, high) for site in sites]
        rest = count - sum(lower for lower, _ in parts)
        inside = np.concatenate([scores for _, scores in parts])
        if 0 < rest <= inside.size:
            inside.partition(rest - 1)
            at = inside[rest - 1]
            return [(at, lower + _count(own < at), _count(own == at)) for lower, own in parts]
        for end in (low, high):
            cuts = [_cut_at(*site, end) for site in sites]
            if 0 < count - sum(lower for _, lower, _ in cuts) <= sum(equal for *_, equal in cuts):
                return cuts
    everything = np.concatenate([filled(*site) for site in sites])
    everything.partition(count - 1)
    return [_cut_at(*site, everything[count - 1]) for site in sites]


def _bracket(
    sites: Sequence[tuple[Array, Mask | None]], share: float, total: int
) -> tuple[np.floating, np.floating]:
    """Return two scores between which the cut lies but for about one case in a million."""
    # Drawn at random (fixed seed), not with a stride: kernels have a period, that of their columns.
    # 2 * total ** (2 / 3) in all: the sample then costs about what gathering the bracket costs.
    draw, drawn = np.random.default_rng(0), []
    for scores, alive in sites:
        size = int(np.ceil(2 * scores.size / total ** (1 / 3)))
        where = draw.integers(0, max(scores.size, 1), size)
        drawn.append(filled(scores[where], None if alive is None else alive[where]))
    sample = np.sort(np.concatenate(drawn))
    centre = int(share * sample.size)
    margin = 10 + int(5 * np.sqrt(share * (1 - share) * sample.size))  # 5 standard deviations
    inf = sample.dtype.type(np.inf)
    low = sample[centre - margin] if centre >= margin else -inf
    high = sample[centre + margin] if centre + margin < sample.size else inf
    return low, high


def _alive_where(
    compare: Callable[..., Mask], scores: Array, alive: Mask | None, at: np.floating
) -> Iterator[tuple[Array, Mask]]:
    """Give, by chunks, the scores and where one is alive and compare(score, at) holds."""
    for part in chunks(scores.size):
        holds = compare(scores[part], at)
        if alive is not None:
            holds &= alive[part]
        yield scores[part], holds


def _between(
    scores: Array, alive: Mask | None, low: np.floating, high: np.floating
) -> tuple[int, Array]:
    """Return how many scores are at most `low`, and those between `low` and `high`."""
    above, inside = 0, [scores[:0]]
    for values, holds in _alive_where(np.greater, scores, alive, low):
        above += _count(holds)
        holds &= values < high
        inside.append(values[holds])
    return scores.size - above, np.concatenate(inside)


def _cut_at(scores: Array, alive: Mask | None, at: np.floating) -> Cut:
    """Return the cut of one site at a known score."""
    above = sum(_count(holds) for _, holds in _alive_where(np.greater, scores, alive, at))
    least = sum(_count(holds) for _, holds in _alive_where(np.greater_equal, scores, alive, at))
    lower = scores.size - least if at > -np.inf else 0
    return at, lower, scores.size - lower - above


def _count(holds: Mask) -> int:
    return int(np.count_nonzero(holds))
