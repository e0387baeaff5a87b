"""Weight sharing: k-means in one dimension, from centroids evenly spread over the range."""

import numpy as np

from activation_pruning.support.types import Array


def share(values: Array, most: int, rounds: int = 300) -> tuple[Array, Array]:
    """Group finite numbers around at most `most` centroids, k-means with linear initialisation.

    Minimises sum_i (w_i - c_j(i))^2 from c_j = min + j (max - min) / (k - 1), j = 0 .. k - 1, by
    Lloyd's steps until no weight changes its cluster. On sorted numbers a cluster is an interval:
    a step takes k binary searches and differences of cumulated sums. In place of an empty cluster
    (of a pruned kernel those around zero) the one with the largest squared error is cut in two at
    its mean. Where there are no more than `most` different numbers, they are the centroids.

    Returns:
        (rising float64 centroids, int64 index of the centroid of each number)

    Source: Han, Mao & Dally, Deep Compression, ICLR 2016, section 3 and 3.2.

    Example:
        >>> centroids, index = share(np.array([0.0, 1.0, 9.0, 11.0]), most=2)
        >>> centroids.tolist(), index.tolist()
        ([0.5, 10.0], [0, 0, 1, 1])
    """
    known, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    inverse, known = inverse.ravel(), known.astype(np.float64)
    if len(known) <= most:
        return known, inverse
    line = _Line(known, counts)
    centroids, ends = np.linspace(known[0], known[-1], most), None
    for _ in range(rounds):
        before, ends = ends, line.ends(centroids)
        if before is not None and np.array_equal(before, ends):
            break
        centroids = np.sort(line.filled(ends, most))
    ends = line.ends(centroids)
    kept = np.flatnonzero(np.diff(ends))
    index = np.repeat(np.arange(len(kept)), np.diff(ends)[kept])
    return centroids[kept], index[inverse]


class _Line:
    """Sorted numbers with their counts; clusters are intervals between rising `ends`."""

    def __init__(self, known, counts):
        self.known = known
        parts = counts, known * counts, known**2 * counts
        self.weights, self.sums, self.squares = (
            np.concatenate([[0], np.cumsum(part, dtype=np.float64)]) for part in parts
        )

    def ends(self, centroids):
        """The intervals of what is nearest to each centroid; halfway belongs to the lower one."""
        middles = (centroids[:-1] + centroids[1:]) / 2
        inner = np.searchsorted(self.known, middles, side="right")
        return np.concatenate([[0], inner, [len(self.known)]])

    def filled(self, ends, most):
        """The means of the intervals, the worst cut in two while there are fewer than `most`."""

        def within(cumulated):  # the intervals, as `low` and `high` are at the time
            return cumulated[high] - cumulated[low]

        some = np.diff(ends) > 0
        low, high = ends[:-1][some], ends[1:][some]
        if len(low) < most:
            total, weight = within(self.sums), within(self.weights)
            errors = within(self.squares) - total**2 / weight
            errors[high - low < 2] = -np.inf  # one number cannot be cut
            worst = np.argsort(-errors, kind="stable")[: most - len(low)]
            worst = worst[errors[worst] > -np.inf]
            middle = np.searchsorted(self.known, (total / weight)[worst], side="right")
            middle = np.clip(middle, low[worst] + 1, high[worst] - 1)
            low, high = np.append(low, middle), np.append(high, high[worst])
            high[worst] = middle
        return within(self.sums) / within(self.weights)
