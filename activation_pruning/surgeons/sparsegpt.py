"""SparseGPT: one pass over the inputs, for layers too large for one inverse per unit."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import scipy.linalg

from activation_pruning.masks import lowest
from activation_pruning.masks.granularities import NM, Weight
from activation_pruning.support.checks import check_count
from activation_pruning.support.progress import no_progress
from activation_pruning.support.types import Array, Mask, Masks, Progress, Scores, Site, Sites
from activation_pruning.surgeons import obs
from activation_pruning.surgeons.base import Damped, Kernels, Selection
from activation_pruning.surgeons.problems import Problem, join, parts, split

# See `solve`.
Rounded: TypeAlias = Callable[[int, Array, Mask], Array]


@dataclasses.dataclass(frozen=True)
class SparseGPT(Damped):
    """Go through the inputs once, from first to last; each removal is made up for by later inputs.

    All units share H^-1 = U^T U with U upper triangular: [H^-1] of the inputs from i on has
    U_ii^2 at its corner. Weight w_i of a unit costs (w_i / U_ii)^2 and, once removed, moves the
    later weights by -w_i / U_ii * U_i,later. What goes is chosen anew for each block of inputs
    (the same share of every block), and for N:M in each group of M.

    Args:
        block_size: inputs whose weights are chosen together; later ones are updated once for all.
        damping: as for `LayerwiseOBS`.

    Raises:
        ValueError: for bad arguments; when pruning, for too few rows or a singular Hessian.

    Source: Frantar & Alistarh, "SparseGPT", ICML 2023, algorithm 1.

    Example:
        >>> SparseGPT(block_size=64)
        SparseGPT(block_size=64, damping=None)
    """

    block_size: int = 128
    damping: float | None = None

    needs = frozenset({"input_hessian"})
    granularities = (Weight, NM)
    separable = True

    def __post_init__(self) -> None:
        check_count("block_size", self.block_size, 1)
        super().__post_init__()

    def scores(self, sites: Sites, progress: Progress = no_progress) -> dict[str, Scores]:
        """See `Surgeon.scores`: the costs w^2 / (2 [H^-1]_ii) of each weight alone."""
        return {site.name: _costs(site, self._factored(site)) for site in sites}

    def operate(self, sites: Sites, selection: Selection) -> tuple[Masks, Kernels]:
        """See `Surgeon.operate`: the allocation decides how many weights each site loses."""
        factored = {site.name: self._factored(site) for site in sites}
        scores = {site.name: _costs(site, factored[site.name]) for site in sites}
        masks = selection.masks(sites, scores)
        kernels, group = {}, getattr(selection.granularity, "m", None)
        for number, site in enumerate(sites):
            own = zip(factored[site.name], parts(site, masks[site.name]), strict=True)
            found = [self._solved(site, block, wanted, group) for block, wanted in own]
            kernels[site.name] = join(site, [weights for weights, _ in found])
            masks[site.name] = join(site, [alive for _, alive in found])
            selection.progress(number + 1, len(sites))
        return masks, kernels

    def _factored(self, site: Site) -> list["Factored"]:
        """Each block of a site with its factor; the Hessians are not kept beside these."""
        # The factors come from float64, where Hessians are nearly singular; the pass over the
        # weights is stable and goes in their own precision, in half of the time for float32.
        own = site.kernel.dtype.type
        return [self._order(p).of(p, own) for p in split(site, self, own)]

    def _order(self, problem: Problem) -> "Order":
        """In which order the inputs are gone through."""
        return Order()

    def _solved(
        self, site: Site, block: "Factored", wanted: Mask, group: int | None
    ) -> tuple[Array, Mask]:
        """(new weights, alive mask) of one block of a site."""
        found = solve(
            block.weights, block.alive, block.factor, block.order.there(wanted),
            self.block_size, group,
        )  # fmt: skip
        return block.order.back(found[0]), block.order.back(found[1])


@dataclasses.dataclass(frozen=True)
class Order:
    """An order of the inputs, which are the last axis of arrays; None is the order they have."""

    inputs: Array | None = None

    def there(self, values: Array) -> Array:
        """Values of the inputs in this order."""
        return values if self.inputs is None else values[..., self.inputs]

    def back(self, values: Array) -> Array:
        """The inverse of `there`."""
        return values if self.inputs is None else values[..., np.argsort(self.inputs)]

    def of(self, problem: Problem, dtype: Any) -> "Factored":
        """A problem in this order, factored."""
        if self.inputs is not None:
            hessian = problem.hessian[np.ix_(self.inputs, self.inputs)]
            weights, alive = self.there(problem.weights), self.there(problem.alive)
            problem = Problem(problem.name, hessian, weights, alive)
        found = factor(problem, overwrite=True).astype(dtype)
        return Factored(problem.weights, problem.alive, found, self)


@dataclasses.dataclass(frozen=True)
class Factored:
    """The units of one block with the factor U that they share; inputs in the order that is said.

    weights, alive: arrays of shape (units, inputs). factor: of shape (inputs, inputs).
    """

    weights: Array
    alive: Mask
    factor: Array
    order: Order


def _costs(site: Site, factored: list[Factored]) -> Scores:
    # In float64: the squares of tiny float32 weights would all be zero.
    costs = [
        np.square(one.weights, dtype=np.float64)
        / (2 * np.einsum("ij,ij->j", one.factor, one.factor, dtype=np.float64))
        for one in factored
    ]
    return join(site, [one.order.back(own) for one, own in zip(factored, costs, strict=True)])


def factor(problem: Problem, overwrite: bool = False) -> Array:
    """U, upper triangular, with H^-1 = U^T U; with `overwrite` in the memory of H.

    H = R R^T with R upper triangular (Cholesky from the last row up) gives U = R^-1: no inverse of
    H and no second Cholesky are needed.
    """
    matrix = problem.hessian if overwrite else problem.hessian.copy()
    for i in range(-(-len(matrix) // 2)):  # both axes backwards, without a copy of a large one
        row = matrix[i, ::-1].copy()
        matrix[i] = matrix[-1 - i, ::-1]
        matrix[-1 - i] = row
    lower = obs.cholesky(matrix.T, problem.name, overwrite=True)  # it is symmetric
    return scipy.linalg.lapack.dtrtri(lower, lower=True, overwrite_c=True)[0][::-1, ::-1]


def solve(
    weights: Array,
    alive: Mask,
    factor: Array,
    wanted: Mask,
    block_size: int = 128,
    group: int | None = None,
    rounded: Rounded | None = None,
) -> tuple[Array, Mask]:
    """Remove as many weights as `wanted` does, in one pass over the inputs.

    Args:
        weights, alive: arrays of shape (units, inputs); the precision is that of the weights.
        factor: U of shape (inputs, inputs), see `SparseGPT`.
        wanted: a subset of `alive`: how many stay alive and, with groups, in which something goes.
        block_size: inputs chosen together; rounded up to a multiple of `group`.
        group: M of N:M, or None: each unit's groups of M inputs keep as many as in `wanted`.
        rounded: what an input's weights that stay become: (number of the input, all weights as
            they are now, of shape (inputs, units), alive mask of them) -> the new ones; the
            difference is made up for as a removal is. None: they stay as they are.

    Returns (new weights, zeros where not alive; new alive mask).

    Example:
        >>> w, alive = np.array([[1.0, 3.0], [2.0, 4.0]]), np.ones((2, 2), bool)
        >>> solve(w, alive, np.eye(2), np.array([[False, True], [True, True]]), block_size=2)[0]
        array([[0., 3.],
               [2., 4.]])
    """
    block_size = -(-block_size // (group or 1)) * (group or 1)
    w = np.array(weights.T, order="C")  # an input's weights lie side by side
    before, wanted = alive.T, wanted.T
    kept = before.copy()
    quota = _quotas(before, wanted, block_size)
    factor = factor.astype(w.dtype, copy=False)
    for start, count in zip(range(0, len(w), block_size), quota, strict=True):
        block = slice(start, min(start + block_size, len(w)))
        if group is None:
            kept[block] = _choose(w[block], before[block], factor, start, count)
        errors = _pass_block(w, before, wanted, kept, factor, block, group, rounded)
        w[block.stop :] -= factor[block, block.stop :].T @ errors
    return np.where(kept, w, 0).T, kept.T


def _quotas(before: Mask, wanted: Mask, block_size: int) -> Array:
    """How many alive weights go in each block: the same share of every one, exact in the sum."""
    sizes = np.add.reduceat(
        np.count_nonzero(before, axis=1), range(0, len(before), block_size), dtype=np.int64
    )
    going = np.count_nonzero(before) - np.count_nonzero(wanted)
    ends = np.floor(np.cumsum(sizes) * (going / max(sizes.sum(), 1)) + 0.5).astype(np.int64)
    return np.diff(ends, prepend=0)


def _choose(w: Array, before: Mask, factor: Array, start: int, count: int) -> Mask:
    """The mask of one block with its `count` least costly alive weights gone."""
    corner = np.diagonal(factor)[start : start + len(w), None]
    costs = np.where(before, np.abs(w / corner), np.inf)  # the square orders alike
    return before & ~lowest(costs.ravel(), count).reshape(costs.shape)


def _pass_block(
    w: Array,
    before: Mask,
    wanted: Mask,
    kept: Mask,
    factor: Array,
    block: slice,
    group: int | None,
    rounded: Rounded | None,
) -> Array:
    """Remove within one block, input by input; returns what later blocks are to make up for."""
    errors = np.zeros((block.stop - block.start, w.shape[1]), w.dtype)
    for i in range(block.start, block.stop):
        if group and i % group == 0:
            kept[i : i + group] = _choose_in_groups(w, before, wanted, factor, i, group)
        new = np.where(kept[i], rounded(i, w, kept) if rounded else w[i], 0)
        error = (w[i] - new) / factor[i, i]
        errors[i - block.start], w[i] = error, new
        w[i + 1 : block.stop] -= factor[i, i + 1 : block.stop, None] * error
    return errors


def _choose_in_groups(
    w: Array, before: Mask, wanted: Mask, factor: Array, start: int, group: int
) -> Mask:
    """The mask of one group of inputs: each unit keeps as many of them as in `wanted`."""
    own = slice(start, start + group)
    costs = np.where(before[own], np.abs(w[own] / np.diagonal(factor)[own, None]), -np.inf)
    # Sorted backwards so that among equal costs the higher index is ranked, and goes, first.
    ranks = np.argsort(np.argsort(costs[::-1], axis=0, kind="stable"), axis=0)[::-1]
    return ranks >= np.count_nonzero(~wanted[own], axis=0)
