"""The tie rule, and the mask of exactly so many of the lowest items of a site.

The same everywhere: low scores go first; among equal scores the higher index first (of several
sites, the later site first), so that the lower index is kept. Pruned items score -inf.
"""

import numpy as np

from activation_pruning.allocations import Items
from activation_pruning.support.cuts import chunks, cut
from activation_pruning.support.types import Mask, Scores


def lowest(scores: Scores, count: int) -> Mask:
    """Mark the `count` lowest of `scores`, 1-D float without NaN, exactly, whatever the ties.

    Example:
        >>> lowest(np.array([3.0, 1.0, 1.0, 1.0]), 2).tolist()
        [False, False, True, True]
    """
    return marked(Items(scores), count)


def first_to_go(scores: Scores) -> int:
    """The index of the lowest score: where items are removed one by one.

    Example:
        >>> first_to_go(np.array([3.0, 1.0, 1.0]))
        2
    """
    return len(scores) - 1 - int(np.argmin(scores[::-1]))


def marked(items: Items, count: int) -> Mask:
    """Mark the `count` lowest of the items, and always all that are not alive."""
    scores, alive = items.values, items.alive
    if count <= 0:
        return np.zeros(scores.size, bool)
    threshold, lower, equal = items.cuts.get(count) or cut([scores], count, [alive])[0]
    ties = count - lower
    chosen = scores <= threshold if ties == equal else scores < threshold
    if alive is not None:
        np.greater_equal(chosen, alive, out=chosen)  # chosen, or not alive
    if ties < equal:
        # By chunks: the indices of millions of equal scores would take more memory than these.
        for part in reversed(chunks(scores.size)):
            tied = np.flatnonzero((scores[part] == threshold) > chosen[part])
            last = tied[max(tied.size - ties, 0) :]
            chosen[part.start + last] = True
            ties -= last.size
    return chosen
