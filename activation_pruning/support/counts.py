"""How many weights there are, and how many of them are pruned."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from activation_pruning.support.types import Mask


class Count(NamedTuple):
    """Weights, and those of them that are pruned."""

    weights: int
    pruned: int

    @property
    def alive(self) -> int:
        """Weights that are not pruned."""
        return self.weights - self.pruned

    @property
    def sparsity(self) -> float:
        """Pruned weights / weights."""
        return 1 - self.alive / self.weights


def counted(masks: Iterable[Mask]) -> Count:
    """The `Count` of some masks, True where a weight is alive.

    Example:
        >>> counted([np.array([True, False, True, True])])
        Count(weights=4, pruned=1)
    """
    masks = list(masks)
    weights = sum(mask.size for mask in masks)
    return Count(weights, weights - sum(int(np.count_nonzero(mask)) for mask in masks))
