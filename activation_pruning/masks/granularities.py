"""Granularities: what is removed as one, a weight, a unit, a block or an N:M group."""

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from activation_pruning.allocations import Items
from activation_pruning.criteria import unit_sums
from activation_pruning.support.checks import check_count
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Array, Mask, Scores, Site


class Granularity:
    """What is removed as one: the base of all granularities.

    protected: items of a site that are never pruned. note: what a report says of it.

    Example:
        >>> import keras, numpy as np, activation_pruning as ap
        >>> class Row(ap.masks.Granularity):  # all that a Dense layer makes of one input
        ...     def items(self, site, scores):
        ...         return ap.allocations.Items(scores.mean(1), site.mask.sum(1), site.mask.any(1))
        ...     def expand(self, site, scores, chosen):
        ...         return np.repeat(chosen[:, None], site.kernel.shape[1], axis=1)
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> report = ap.prune(model, 0.5, granularity=Row(), exclude=())
        >>> int(model.get_weights()[0].any(axis=1).sum())
        2
    """

    protected: int = 1
    note: str = ""

    @property
    def max_sparsity(self) -> float:
        """The sparsity when all items are pruned."""
        return 1.0

    def refusal(self, shape: tuple[int, ...], input_axis: int) -> str:
        """Why kernels of this shape can't be divided into items, "" where they can."""
        return ""

    def items(self, site: Site, scores: Scores) -> Items:
        """Return what is ranked; units and blocks score the mean of their alive weights."""
        raise NotImplementedError

    def expand(self, site: Site, scores: Scores, chosen: Mask) -> Mask:
        """Return the mask, kernel-shaped, of the weights that the chosen items prune."""
        raise NotImplementedError


@dataclass(frozen=True)
class Weight(Granularity):
    """Single weights.

    Example:
        >>> granularity("weight")
        Weight()
    """

    def items(self, site: Site, scores: Scores) -> Items:
        return Items(scores.reshape(-1), alive=None if site.mask.all() else site.mask.reshape(-1))

    def expand(self, site: Site, scores: Scores, chosen: Mask) -> Mask:
        return chosen.reshape(site.kernel.shape)


@dataclass(frozen=True)
class Unit(Granularity):
    """Output units: all weights with the same index in `site.units`.

    In a Sequential or Functional model, units that can only go together (the branches of a residual
    block, a depthwise filter and what it filters, an attention head) are one item.

    Args:
        round_to: each layer keeps the nearest multiple of so many units, as far as it has them.

    Raises:
        ValueError: not a positive integer.

    Example:
        >>> granularity("unit")
        Unit(round_to=1)
    """

    round_to: int = 1

    def __post_init__(self) -> None:
        check_count("round_to", self.round_to, 1)
        if self.round_to > 1:
            kept = f"Each layer keeps a multiple of {self.round_to:,} units, or all that it had."
            object.__setattr__(self, "note", kept)

    def items(self, site: Site, scores: Scores) -> Items:
        alive = unit_sums(site, np.broadcast_to(np.True_, scores.shape))
        return replace(_mean_items(unit_sums(site, scores), alive), round_to=self.round_to)

    def expand(self, site: Site, scores: Scores, chosen: Mask) -> Mask:
        return np.array(np.broadcast_to(chosen[site.units], site.kernel.shape))


@dataclass(frozen=True)
class Block(Granularity):
    """Blocks of `height` x `width`, row by row, over the kernel reshaped to (-1, last axis).

    Those at the lower and right edge may be smaller.

    Args:
        height, width: positive integers.

    Raises:
        ValueError: not positive integers.

    Example:
        >>> granularity((4, 1))
        Block(height=4, width=1)
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        check_count("block height", self.height, 1)
        check_count("block width", self.width, 1)

    def items(self, site: Site, scores: Scores) -> Items:
        sums = self._sums(np.where(site.mask, scores, 0), np.float64)
        return _mean_items(sums, self._sums(site.mask, np.int64))

    def expand(self, site: Site, scores: Scores, chosen: Mask) -> Mask:
        rows, columns = site.kernel.size // site.kernel.shape[-1], site.kernel.shape[-1]
        grid = chosen.reshape(-1, -(-columns // self.width))
        tall = grid.repeat(self.height, axis=0)[:rows]
        return tall.repeat(self.width, axis=1)[:, :columns].reshape(site.kernel.shape)

    def _sums(self, values: Array, dtype: DTypeLike) -> Array:
        matrix = values.reshape(-1, values.shape[-1])
        rows, columns = matrix.shape
        tall = np.add.reduceat(matrix, np.arange(0, rows, self.height), axis=0, dtype=dtype)
        return np.add.reduceat(tall, np.arange(0, columns, self.width), axis=1).reshape(-1)


@dataclass(frozen=True)
class NM(Granularity):
    """N:M groups: of each `m` consecutive weights along the input axis, `n` are kept.

    An item is one group, the input axis innermost; choosing it prunes its m - n lowest weights, so
    that a schedule can ramp up to sparsity 1 - n/m by converting the cheapest groups first.

    Args:
        n, m: integers, 0 < n < m.

    Raises:
        ValueError: otherwise.

    Source: Mishra et al. 2021, arXiv:2104.08378 (2:4).

    Example:
        >>> granularity("2:4").max_sparsity
        0.5
    """

    n: int
    m: int
    protected = 0  # n weights of each group are kept anyway

    def __post_init__(self) -> None:
        if not 0 < self.n < self.m:
            raise ValueError(
                f"N:M granularity {self.n}:{self.m}; it must keep n of m weights with 0 < n < m, "
                "as in '2:4'."
            )

    @property
    def max_sparsity(self) -> float:
        return 1.0 - self.n / self.m

    def refusal(self, shape: tuple[int, ...], input_axis: int) -> str:
        length = shape[input_axis]
        if length % self.m == 0:
            return ""
        return (
            f"{self.n}:{self.m} granularity needs an input axis that {self.m} divides, got {length}"
        )

    def items(self, site: Site, scores: Scores) -> Items:
        """See `Granularity.items`: a group scores the sum over the weights to be pruned."""
        groups = self._groups(site, scores)
        going = np.take_along_axis(groups, self._order(groups), axis=1)
        cost = np.where(np.isfinite(going), going, 0).sum(axis=1, dtype=np.float64)
        sizes = np.isfinite(going).sum(axis=1)
        return Items(np.where(sizes > 0, cost, -np.inf), sizes, sums=cost)

    def expand(self, site: Site, scores: Scores, chosen: Mask) -> Mask:
        groups = self._groups(site, scores)
        pruned = np.zeros(groups.shape, bool)
        picked = np.flatnonzero(chosen)
        pruned[picked[:, None], self._order(groups[picked])] = True
        moved = np.moveaxis(site.kernel, site.input_axis, -1).shape
        return np.moveaxis(pruned.reshape(moved), -1, site.input_axis)

    def _order(self, groups: Array) -> Array:
        """Return the positions, in each group, of its m - n lowest weights."""
        backwards = np.argsort(groups[:, ::-1], axis=1, kind="stable")  # ties: higher index first
        return self.m - 1 - backwards[:, : self.m - self.n]

    def _groups(self, site: Site, scores: Scores) -> Array:
        """Return the scores, a row for each group, -inf where pruned."""
        refused = self.refusal(scores.shape, site.input_axis)
        if refused:
            raise ValueError(f"{site.name}: {refused}; exclude the layer.")
        alive = np.where(site.mask, scores, -np.inf)
        return np.moveaxis(alive, site.input_axis, -1).reshape(-1, self.m)


GRANULARITIES = {"weight": Weight, "unit": Unit}


def granularity(spec: Any) -> Granularity:
    """Return the granularity for "weight", "unit", "n:m", (height, width) or such an object.

    Raises:
        ValueError: anything else.

    Example:
        >>> granularity("2:4")
        NM(n=2, m=4)
    """
    if isinstance(spec, str):
        pair = re.fullmatch(r"(\d+):(\d+)", spec)
        if pair:
            return NM(int(pair[1]), int(pair[2]))
        if spec in GRANULARITIES:
            return GRANULARITIES[spec]()
    elif isinstance(spec, tuple) and len(spec) == 2:
        return Block(*spec)
    elif hasattr(spec, "items") and hasattr(spec, "expand") and not isinstance(spec, type):
        return spec
    raise ValueError(
        f"granularity={shown(spec)}; give 'weight', 'unit', 'n:m' such as '2:4', a tuple "
        "(height, width) for blocks, or a granularity object such as masks.Block(4, 1)."
    )


def _mean_items(sums: Array, alive: Array) -> Items:
    scores = np.divide(sums, alive, out=np.full(alive.size, -np.inf), where=alive > 0)
    return Items(scores, alive.astype(np.int64))
