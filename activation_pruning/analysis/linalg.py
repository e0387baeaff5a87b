"""Low-rank reconstructions of matrices: arrays in, arrays out."""

import numpy as np

from activation_pruning.support.checks import is_number
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Array


def reconstruct(matrix: Array, rank: int, method: str = "pca", standardize: bool = False) -> Array:
    """Best approximation A_r of a matrix by `rank` directions in float64: see `low_rank`.

    Rows are the samples of the PCA. With `standardize` its columns are divided by their standard
    deviation before and multiplied by it after (scikit-learn's StandardScaler).

    Example:
        >>> reconstruct(np.array([[1.0, 2.0], [3.0, 4.0]]), 0)  # nothing but the means
        array([[2., 3.],
               [2., 3.]])
    """
    mean, scale, (u, values, v) = decompose(matrix, method, standardize)
    return mean + (u[:, :rank] * values[:rank]) @ v[:rank] * scale


def decompose(
    matrix: Array, method: str = "pca", standardize: bool = False
) -> tuple[Array, Array, tuple[Array, Array, Array]]:
    """(mean, scale, (U, sigma, V^T)) of the matrix as `method` sees it; see `reconstruct`."""
    matrix = np.asarray(matrix, np.float64)
    mean, scale = np.zeros(matrix.shape[1]), np.ones(matrix.shape[1])
    if method == "pca":
        mean = matrix.mean(axis=0)
        if standardize:
            scale = matrix.std(axis=0)
            # Of a constant column only rounding is left, which must not be blown up.
            scale[scale <= 10 * np.finfo(np.float64).eps * np.abs(mean)] = 1.0
    return mean, scale, np.linalg.svd((matrix - mean) / scale, full_matrices=False)


def check_energy(energy: float) -> None:
    """Raise unless it is a share in (0, 1]."""
    if not (is_number(energy) and 0 < energy <= 1):
        raise ValueError(f"energy={shown(energy)}; it must be a share in (0, 1], 0.95 for 95 %")


def components_for(values: Array, energy: float) -> int:
    """The fewest components whose squared singular values hold the share `energy` of the sum.

    Example:
        >>> components_for(np.array([3.0, 1.0, 0.0]), 0.9)
        1
    """
    share = np.cumsum(values**2)
    if not share[-1]:
        return 0
    # The last sum may miss 1 by rounding: nothing beyond the last component can be needed.
    return min(int(np.searchsorted(share / share[-1], energy - 1e-12)) + 1, len(values))
