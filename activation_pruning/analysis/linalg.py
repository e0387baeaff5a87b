"""Singular values, what they add up to, and low-rank reconstructions: arrays in, arrays out."""

import numpy as np
import scipy.linalg

# Squares of singular values carry an error of about 1e-13 of the largest square, so a value below
# this share of the largest one would be off by more than 1e-7 of itself when found from squares.
_SMALLEST_FROM_SQUARES = 1e-3


def singular_values(matrix):
    """Singular values, largest first, to about 1e-7 of each.

    sigma_i = sqrt(eigenvalue_i(A^T A)) in float64, of the smaller of A^T A and A A^T, which takes
    a fraction of the time of an SVD; an SVD where a small value would suffer from the squares.
    Rows and columns of nothing but zeros (pruned units) are exact zeros in the result.

    Args:
        matrix: array of shape (rows, columns), finite.

    Returns:
        float64 array of shape (min(rows, columns),).

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


def rank(values, shape, eps):
    """Numerical rank: singular values above `values[0] * max(shape) * eps`, as in NumPy.

    Example:

    >>> rank(np.array([2.0, 1.0, 1e-9]), (4, 3), np.finfo("float32").eps)
    2
    """
    return int(np.count_nonzero(values > values[0] * max(shape) * eps))


def stable_rank(values):
    """||A||_F^2 / ||A||_2^2, in [1, rank]; 0 for a matrix of zeros.

    Source: Rudelson & Vershynin, Journal of the ACM 54(4), 2007.

    Example:

    >>> stable_rank(np.array([2.0, 2.0, 1.0]))
    2.25
    """
    return float(np.sum((values / values[0]) ** 2)) if values[0] else 0.0


def effective_rank(values):
    """exp of the entropy of p_i = sigma_i / sum sigma, in [1, rank]; 0 for a matrix of zeros.

    Source: Roy & Vetterli, "The effective rank", EUSIPCO 2007.

    Example:

    >>> round(effective_rank(np.array([1.0, 1.0, 0.0])), 6)
    2.0
    """
    if not values[0]:
        return 0.0
    p = values[values > 0] / values.sum()
    return float(np.exp(-np.sum(p * np.log(p))))


def reconstruct(matrix, rank, method="pca", standardize=False):
    """Best approximation of a matrix by `rank` directions.

    svd: A_r = sum over i <= r of sigma_i u_i v_i^T, the matrix of rank r nearest to A.
    pca: A_r = 1 m^T + (A - 1 m^T) V_r V_r^T with the column means m and the leading right singular
    vectors V_r of A - 1 m^T. It is centred, so its rank is up to r + 1 and it is nearer to A
    than the truncated SVD of the same r. With `standardize` the columns are divided by their
    standard deviation before and multiplied by it after (scikit-learn's StandardScaler).

    Args:
        matrix: array of shape (rows, columns): rows are the samples of the PCA.
        rank: number of components, in [0, min(rows, columns)].
        method: "pca" or "svd".
        standardize: give each column the same weight (pca only).

    Returns:
        float64 array of the same shape.

    Example:

    >>> reconstruct(np.array([[1.0, 2.0], [3.0, 4.0]]), 0)  # nothing but the means
    array([[2., 3.],
           [2., 3.]])
    """
    mean, scale, (u, values, v) = decompose(matrix, method, standardize)
    return mean + (u[:, :rank] * values[:rank]) @ v[:rank] * scale


def decompose(matrix, method="pca", standardize=False):
    """(mean, scale, (U, sigma, V^T)) of the matrix as `method` sees it; see `reconstruct`.

    Example:

    >>> mean, scale, (u, values, v) = decompose(np.array([[0.0, 1.0], [0.0, 3.0]]))
    >>> mean, values.round(6)
    (array([0., 2.]), array([1.414214, 0.      ]))
    """
    matrix = np.asarray(matrix, np.float64)
    mean, scale = np.zeros(matrix.shape[1]), np.ones(matrix.shape[1])
    if method == "pca":
        mean = matrix.mean(axis=0)
        if standardize:
            scale = matrix.std(axis=0)
            # Of a constant column only rounding is left, which must not be blown up.
            scale[scale <= 10 * np.finfo(np.float64).eps * np.abs(mean)] = 1.0
    return mean, scale, np.linalg.svd((matrix - mean) / scale, full_matrices=False)


def components_for(values, energy):
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
