"""What a model would cost without some of its channels, from the widths of its layers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Set
from typing import NamedTuple

from activation_pruning.support.types import Array


class Term(NamedTuple):
    """A part of the cost that follows from how wide some axes are.

    axes: the channel of each entry along each axis, arrays of int.
    cost: function of the widths that are left, one for each axis.

    Example:
        >>> import numpy as np
        >>> kernel = Term((np.arange(3), np.arange(3, 7)), product(1.0))
        >>> kernel.cost(2, 4)
        8.0
    """

    axes: tuple[Array, ...]
    cost: Callable[..., float]


def product(factor: float) -> Callable[..., float]:
    """Cost of so much for each combination of the entries of all axes.

    Example:
        >>> product(2.0)(3, 4)
        24.0
    """
    return lambda *widths: factor * math.prod(widths)


class Prediction:
    """The cost of a model, as channels leave it one after the other.

    Args:
        terms: what follows from widths.
        can_go: the channels that can leave; without the others nothing gets cheaper. None: all.

    Example:
        >>> import numpy as np
        >>> terms = [Term((np.array([0, 1, 2]), np.array([3, 4])), product(1.0))]
        >>> left = Prediction(terms)
        >>> left.total, left.saving([3]), left.remove([3]), left.total
        (6.0, 3.0, None, 3.0)
    """

    def __init__(self, terms: Iterable[Term], can_go: Set[int] | None = None) -> None:
        self._terms = list(terms)
        numbers: dict[bytes, int] = {}  # axes with the same channels are one
        self._axes = [
            tuple(numbers.setdefault(axis.tobytes(), len(numbers)) for axis in term.axes)
            for term in self._terms
        ]
        own = {n: axis for t, ns in zip(self._terms, self._axes, strict=True)
               for n, axis in zip(ns, t.axes, strict=True)}  # fmt: skip
        self._widths = [len(own[number]) for number in range(len(numbers))]
        self._places: dict[int, list[tuple[int, int]]] = {}  # channel: (axis, how often)
        for number, axis in own.items():
            for channel, times in Counter(axis.tolist()).items():
                if can_go is None or channel in can_go:
                    self._places.setdefault(channel, []).append((number, times))
        self._terms_of: list[list[int]] = [[] for _ in numbers]
        for index, some in enumerate(self._axes):
            for number in set(some):
                self._terms_of[number].append(index)
        self._costs = [self._cost(index, {}) for index in range(len(self._terms))]
        self.total = math.fsum(self._costs)

    def saving(self, channels: Iterable[int]) -> float:
        """What the model would cost less without these channels."""
        return sum(self._costs[index] - cost for index, cost in self._without(channels)[1].items())

    def remove(self, channels: Iterable[int]) -> None:
        """Let these channels go; each only once."""
        fewer, costs = self._without(channels)
        for number, times in fewer.items():
            self._widths[number] -= times
        for index, cost in costs.items():
            self.total -= self._costs[index] - cost
            self._costs[index] = cost

    def _without(self, channels):
        fewer: Counter[int] = Counter()
        for channel in channels:
            for number, times in self._places.get(channel, ()):
                fewer[number] += times
        touched = {index for number in fewer for index in self._terms_of[number]}
        return fewer, {index: self._cost(index, fewer) for index in touched}

    def _cost(self, index, fewer):
        widths = (self._widths[number] - fewer.get(number, 0) for number in self._axes[index])
        return self._terms[index].cost(*widths)
