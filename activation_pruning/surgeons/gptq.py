"""GPTQ: weights go to a grid of few values in one pass; pruned ones stay zeros."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from activation_pruning.support.checks import check_count, check_flags, is_integer
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Array, Mask, Masks, Site, Sites
from activation_pruning.surgeons.base import Kernels, Selection
from activation_pruning.surgeons.problems import Problem
from activation_pruning.surgeons.sparsegpt import Factored, Order, SparseGPT, solve

BITS = (2, 3, 4, 8)  # those that Keras stores


@dataclasses.dataclass(frozen=True)
class GPTQ(SparseGPT):
    """Prune as `SparseGPT` does and, in the same pass, round what stays to a grid of few values.

    For the weights w of an input that stay, with the scale s and zero point z of their group,

        w' = s * (clip(round(w / s + z), 0, 2^bits - 1) - z),

    and both errors, w - w' of what stays and w of what goes, move the later inputs by
    -error / U_ii * U_i,later. Zero is a value of every grid, so pruned weights are exact zeros.
    With sparsity 0 nothing more is pruned: this is GPTQ that keeps zeros. `ap.quantize` stores what
    comes out in few bits; `prune` leaves it in the kernel as floats.

    Args:
        bits: of a weight: 2, 3, 4 or 8.
        group_size: consecutive inputs of a unit that share a grid, at least 1; -1 for all of them.
        symmetric: whether grids reach as far below zero as above; else as far as the weights do.
        activation_order: go through the inputs from the largest to the smallest diagonal element
            of the Hessian, which often helps; not with N:M granularity.
        block_size, damping: as for `SparseGPT`.

    Raises:
        ValueError: for bad arguments; when pruning, as `SparseGPT`.

    Source: Frantar et al., "GPTQ", ICLR 2023; Frantar & Alistarh, "SparseGPT", ICML 2023,
    section 3.5, for both at once.

    Example:
        >>> import keras, numpy as np, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, name="a")])
        >>> x = np.random.default_rng(0).normal(size=(32, 8))
        >>> gptq = ap.surgeons.GPTQ(bits=2, group_size=-1)
        >>> report = ap.prune(model, 0.5, gptq, data=x, exclude=(), verbose=0)
        >>> [len(np.unique(unit)) <= 4 for unit in model.get_weights()[0].T]
        [True, True, True]
    """

    bits: int = 4
    group_size: int = 128
    symmetric: bool = False
    activation_order: bool = False
    # {site name: the grid of each of its blocks}, as the last event left them.
    grids: dict[str, list["Grid"]] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    rewrites: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (is_integer(self.bits) and self.bits in BITS):
            raise ValueError(f"bits={shown(self.bits)}; it must be one of {BITS}")
        if self.group_size != -1:
            check_count("group_size", self.group_size, 1)
        check_flags(symmetric=self.symmetric, activation_order=self.activation_order)

    def operate(self, sites: Sites, selection: Selection) -> tuple[Masks, Kernels]:
        """See `Surgeon.operate`; `grids` has the grids of these sites afterwards."""
        self.grids.update({site.name: [] for site in sites})
        return super().operate(sites, selection)

    def _order(self, problem: Problem) -> Order:
        if not self.activation_order:
            return Order()
        return Order(np.argsort(-np.diagonal(problem.hessian), kind="stable"))

    def _solved(
        self, site: Site, block: Factored, wanted: Mask, group: int | None
    ) -> tuple[Array, Mask]:
        inputs = block.weights.shape[1]
        size = inputs if self.group_size == -1 else min(self.group_size, inputs)
        if group and (self.activation_order or (size % group and size != inputs)):
            raise ValueError(
                f"group_size={self.group_size}, activation_order={self.activation_order}: with "
                f"groups of {group} inputs (N:M), group_size must be a multiple of {group}, or -1, "
                "and activation_order False"
            )
        wanted, step = block.order.there(wanted), _block_size(self.block_size, size, group or 1)

        def ahead(own: slice, weights: Array, kept: Mask) -> Array:
            # What is left of a group when its pruning is made up for: that is what gets rounded.
            # Which of its weights go is known where they have been chosen already.
            chosen = kept[own].T, kept[own].T
            if group or size > step:
                chosen = block.alive[:, own], wanted[:, own]
            found, _ = solve(
                weights[own].T, chosen[0], block.factor[own, own], chosen[1], step, group
            )
            return found.T

        prunes = not np.array_equal(wanted, block.alive)
        grid = Grid(
            block.weights.shape, self.bits, size,
            symmetric=self.symmetric, order=block.order, ahead=ahead if prunes else None,
        )  # fmt: skip
        weights, alive = solve(
            block.weights, block.alive, block.factor, wanted, step, group, rounded=grid
        )
        self.grids[site.name].append(grid)
        return block.order.back(weights), block.order.back(alive)


class Grid:
    """The values that weights are rounded to, and the codes of those that were.

    A group of inputs has, for each unit, scale = (high - low) / (2^bits - 1) and an integer zero
    point, round(-low / scale), where low <= 0 <= high are the ends of its weights; with `symmetric`
    high = -low and the zero point 2^(bits - 1).

    Args:
        shape: (units, inputs).
        size: inputs of a group.
        order: in which inputs come; the arrays are given in the order that they have.
        ahead: (inputs of a group, all weights as they are now, alive mask of them) -> those of the
            group that its grid shall hold; None: as they are now.

    Example:
        >>> grid = Grid((1, 2), bits=2, size=2, symmetric=False)
        >>> w, kept = np.array([[-1.0], [2.2]]), np.ones((2, 1), bool)
        >>> [float(grid(i, w, kept)[0].round(2)) for i in range(2)], grid.codes.tolist()
        ([-1.07, 2.13], [[0, 3]])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        bits: int,
        size: int,
        symmetric: bool,
        order: Order = Order(),  # noqa: B008 (it cannot be changed)
        ahead: Callable[[slice, Array, Mask], Array] | None = None,
    ) -> None:
        self.bits, self.size, self.symmetric, self.order = bits, size, symmetric, order
        self._ahead = ahead or _alive
        units, inputs = shape
        self._codes = np.zeros((inputs, units), np.uint8)
        self._scales: list[Array] = []
        self._zeros: list[Array] = []

    def __call__(self, index: int, weights: Array, kept: Mask) -> Array:
        """The new weights of one input, see `sparsegpt.solve`; inputs come one after the other."""
        if index % self.size == 0:
            self._open(self._ahead(slice(index, index + self.size), weights, kept))
        scale, zero, most = self._scales[-1], self._zeros[-1], 2**self.bits - 1
        codes = np.clip(np.rint(weights[index] / scale + zero), 0, most)
        self._codes[index] = np.where(kept[index], codes, zero)
        return scale * (codes - zero)

    def _open(self, weights: Array) -> None:
        """Begin a group with these weights, of shape (inputs of the group, units)."""
        low, high = weights.min(axis=0, initial=0), weights.max(axis=0, initial=0)
        if self.symmetric:
            high = np.maximum(-low, high)
            low = -high
        empty = low == high  # nothing but zeros: any grid has it
        low, high = np.where(empty, low - 1, low), np.where(empty, high + 1, high)
        most = weights.dtype.type(2**self.bits - 1)
        scale = (high - low) / most
        # Weights of next to nothing: a scale must not vanish.
        scale = np.maximum(scale, np.finfo(weights.dtype).tiny / np.finfo(weights.dtype).eps)
        zero = np.full_like(scale, (most + 1) / 2) if self.symmetric else np.rint(-low / scale)
        self._scales.append(scale)
        self._zeros.append(np.clip(zero, 0, most))

    @property
    def codes(self) -> Array:
        """uint8 of shape (units, inputs)."""
        return self.order.back(self._codes.T)

    @property
    def scales(self) -> Array:
        """Of shape (units, groups)."""
        return np.stack(self._scales, axis=1)

    @property
    def zeros(self) -> Array:
        """The codes of zero, uint8 of shape (units, groups)."""
        return np.stack(self._zeros, axis=1).astype(np.uint8)

    @property
    def groups(self) -> Array:
        """The group of each input."""
        return self.order.back(np.arange(len(self._codes)) // self.size)


def _alive(own: slice, weights: Array, kept: Mask) -> Array:
    return np.where(kept[own], weights[own], weights.dtype.type(0))


def _block_size(wanted: int, group: int, multiple: int) -> int:
    """Inputs that are gone through before later ones are updated: groups begin where blocks do.

    >>> [_block_size(128, group, 1) for group in (32, 48, 128, 200, 784)]
    [128, 96, 128, 100, 112]
    """
    if group <= wanted:
        return wanted // group * group
    sizes = range(max(wanted, multiple), 0, -1)
    return next(size for size in sizes if group % size == 0 and size % multiple == 0)
