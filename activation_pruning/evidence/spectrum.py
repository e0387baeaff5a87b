"""Singular values of one kernel, and the norms and ranks that follow from them."""

import dataclasses
import math
from typing import Self

import numpy as np
import pandas as pd
import scipy.linalg

from activation_pruning.sites import LiveSite
from activation_pruning.sites.unfolding import Unfolding, unfolding
from activation_pruning.support.types import Array, Table

_EPS = {"bfloat16": 2.0**-7, "float16": 2.0**-10}
NORMS = (
    "spectral", "frobenius", "nuclear", "rank", "stable_rank", "effective_rank",
    "condition_number", "sparsity",
)  # fmt: skip
# Squares of singular values carry an error of about 1e-13 of the largest square, so a value below
# this share of the largest one would be off by more than 1e-7 of itself when found from squares.
_SMALLEST_FROM_SQUARES = 1e-3


def singular_values(matrix: Array) -> Array:
    """Singular values of a finite matrix, float64, largest first, to about 1e-7 of each.

    sigma_i = sqrt(eigenvalue_i(A^T A)) in float64, of the smaller of A^T A and A A^T, which takes
    a fraction of the time of an SVD; an SVD where a small value would suffer from the squares.
    Rows and columns of nothing but zeros (pruned units) are exact zeros in the result.

    Example:
        >>> singular_values(np.array([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]])).round(6).tolist()
        [4.0, 3.0]
    """
    values = np.zeros(min(matrix.shape))
    alive = matrix[np.any(matrix, axis=1)][:, np.any(matrix, axis=0)].astype(np.float64)
    if alive.size == 0:
        return values
    scale = np.abs(alive).max()
    alive /= scale  # squares must neither overflow nor vanish
    small = alive @ alive.T if alive.shape[0] <= alive.shape[1] else alive.T @ alive
    found = np.sqrt(np.maximum(scipy.linalg.eigvalsh(small, overwrite_a=True)[::-1], 0))
    if found[-1] < _SMALLEST_FROM_SQUARES * found[0]:
        found = scipy.linalg.svdvals(alive)
    values[: len(found)] = found * scale
    return values


def rank(values: Array, shape: tuple[int, int], eps: float) -> int:
    """Numerical rank: singular values above `values[0] * max(shape) * eps`, as in NumPy.

    Example:
        >>> rank(np.array([2.0, 1.0, 1e-9]), (4, 3), np.finfo("float32").eps)
        2
    """
    return int(np.count_nonzero(values > values[0] * max(shape) * eps))


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """The singular values of one kernel at one moment, and all that follows from them.

    layer, site: where it is; unfolding: how it lies in matrices; values: those of each matrix,
    largest first; eps: of the kernel's dtype; sparsity: zero weights / weights.
    """

    layer: str
    site: str
    unfolding: Unfolding
    values: list[Array]
    eps: float
    sparsity: float

    @classmethod
    def of(cls, site: LiveSite, kernel: Array | None = None) -> Self:
        """The spectrum of a `sites.LiveSite`, or of another kernel that lies as its own does."""
        # A short dtype is widened to float32 by now, but its rounding stays that of its own.
        eps = _EPS.get(site.variable.dtype) if kernel is None else None
        kernel = finite_kernel(site) if kernel is None else kernel
        eps = eps or np.finfo(kernel.dtype).eps
        unfolded = unfolding(site)
        values = [singular_values(matrix) for matrix in unfolded.unfold(kernel)]
        zeros = 1 - np.count_nonzero(kernel) / kernel.size
        return cls(site.path, site.name, unfolded, values, eps, zeros)

    @property
    def place(self) -> dict[str, object]:
        """The columns that say where it is."""
        return {"layer": self.layer, "site": self.site, "unfolding": self.unfolding.label}

    def table(self) -> Table:
        """The rows of `analysis.spectra`."""
        values = np.concatenate(self.values)
        order = np.argsort(-values, kind="stable")
        block = np.repeat(np.arange(len(self.values)), [len(part) for part in self.values])
        values = values[order]
        energy = np.cumsum(values**2)
        columns = {
            "block": block[order],
            "index": np.arange(1, len(values) + 1),
            "value": values,
            "relative": values / (values[0] or 1.0),
            "cumulative_energy": energy / (energy[-1] or 1.0),
        }
        return pd.DataFrame(self.place | columns)

    def norms(self) -> dict[str, object]:
        """The row of `analysis.norms`, where all of them are defined."""
        values = np.sort(np.concatenate(self.values))[::-1]
        blocks, rows, columns = self.unfolding.shape
        p = values[values > 0] / (values.sum() or 1.0)
        return self.place | {
            "blocks": blocks,
            "rows": rows,
            "columns": columns,
            "spectral": values[0],
            "frobenius": math.sqrt(np.sum(values**2)),
            "nuclear": values.sum(),
            "rank": sum(rank(part, (rows, columns), self.eps) for part in self.values),
            "stable_rank": float(np.sum((values / (values[0] or 1.0)) ** 2)),
            "effective_rank": float(np.exp(-np.sum(p * np.log(p)))) if len(p) else 0.0,
            "condition_number": values[0] / values[-1] if values[-1] else math.inf,
            "sparsity": self.sparsity,
        }


def finite_kernel(site: LiveSite) -> Array:
    """The weights of a live site; raises where they are not finite."""
    kernel = site.kernel()
    bad = kernel[~np.isfinite(kernel)]
    if bad.size:
        raise ValueError(
            f"layer {site.path!r} holds {bad.size} weights that are not finite ({bad[0]}): it has "
            "no singular values. Load weights from before the training diverged."
        )
    return kernel
