"""The mathematics of Optimal Brain Surgeon for one quadratic error, in float64.

Rows of weights w share a Hessian H; the error of changed weights v is (v - w)^T H (v - w) / 2.
Removing weight p and compensating the others costs w_p^2 / (2 [H^-1]_pp).
"""

from collections.abc import Iterator

import numpy as np
import scipy.linalg

from activation_pruning.masks.ties import first_to_go
from activation_pruning.support.types import Array, Mask

_BLOCK = 48  # removals between two updates of the whole inverse: their vectors stay in the cache


def damped(hessian: Array, damping: float, name: str) -> Array:
    """H + damping * mean(diag H) * I, in float64.

    Raises:
        ValueError: names the site whose Hessian is zero, since its inputs are zeros for all the
            data, or holds what is no number.

    Example:
        >>> damped(np.diag([1.0, 3.0]), 0.5, "a")
        array([[2., 0.],
               [0., 4.]])
    """
    hessian = np.array(hessian, np.float64)
    mean = np.trace(hessian) / len(hessian)
    if not np.isfinite(hessian).all():
        raise ValueError(
            f"{name}: the Hessian holds NaN or infinite values, since inputs of the layer do, or "
            "their squares; look at the data, or at the layers before"
        )
    if not mean > 0:
        raise ValueError(
            f"{name}: the Hessian is zero for all of the data (inputs of nothing but zeros, or a "
            "network that is dead), so that nothing can be learnt about these weights; give other "
            "data or exclude the layer"
        )
    hessian[np.diag_indices_from(hessian)] += damping * mean
    return hessian


def cholesky(hessian: Array, name: str, overwrite: bool = False) -> Array:
    """The lower triangular L with L L^T = H; with `overwrite` in the memory of a Fortran array.

    Raises:
        ValueError: names the site whose H is singular to working precision.

    Example:
        >>> cholesky(np.diag([4.0, 9.0]), "a")
        array([[2., 0.],
               [0., 3.]])
    """
    factor, info = scipy.linalg.lapack.dpotrf(
        hessian, lower=True, clean=True, overwrite_a=overwrite
    )
    pivots = np.diagonal(factor)
    # A pivot is the square root of what is left of a diagonal element; below the rounding errors
    # of the sums that led to it, it is noise.
    limit = len(hessian) * np.finfo(np.float64).eps
    if info or (pivots.min() / pivots.max()) ** 2 <= limit:
        raise ValueError(
            f"{name}: the Hessian is singular, since inputs are constant zeros, copies of each "
            "other, or too few; give more data, or damping=0.01 (a share of its mean diagonal)"
        )
    return factor


def inverse(hessian: Array, name: str) -> Array:
    """H^-1 by Cholesky; raises as `cholesky`.

    Example:
        >>> inverse(np.diag([4.0, 2.0]), "a")
        array([[0.25, 0.  ],
               [0.  , 0.5 ]])
    """
    found, _ = scipy.linalg.lapack.dpotri(cholesky(hessian, name), lower=True)
    found += np.tril(found, -1).T  # only the lower triangle was written
    return found


def by_alive(alive: Mask) -> Iterator[tuple[Mask, Array]]:
    """Yield (mask, indices of the rows that have it), so that rows with one mask share their work.

    Example:
        >>> alive = np.array([[True, False], [True, True], [True, False]])
        >>> [(mask.tolist(), rows.tolist()) for mask, rows in by_alive(alive)]
        [([True, False], [0, 2]), ([True, True], [1])]
    """
    masks, which = np.unique(alive, axis=0, return_inverse=True)
    for number, mask in enumerate(masks):
        yield mask, np.flatnonzero(which.ravel() == number)


def removal_errors(inverse_hessian: Array, weights: Array) -> Array:
    """At which error each weight goes, when the least costly is removed again and again.

    After every removal the others are compensated and the inverse is downdated,
    H^-1 <- H^-1 - v v^T with v = [H^-1]_p / sqrt([H^-1]_pp). A weight's error is the largest paid
    up to its removal; no two are alike. Sorted by it, the weights of many rows come in the very
    order in which a search over all rows at once removes them.

    Source: Hassibi & Stork, NIPS 1993, eq. 5; Frantar & Alistarh, NeurIPS 2022, algorithm 1.

    Example:
        >>> removal_errors(np.eye(3), np.array([3.0, -1.0, 2.0])).tolist()
        [4.5, 0.5, 2.0]
    """
    found, largest = np.empty(len(weights)), 0.0
    index, w = np.arange(len(weights)), np.array(weights, np.float64)
    matrix = inverse_hessian
    while len(index):
        count = min(_BLOCK, len(index))
        vectors = np.zeros((count, len(index)))
        diagonal = np.diagonal(matrix).copy()
        gone = []
        for step in range(count):
            errors = w * w / diagonal
            p = first_to_go(errors)
            # Errors of one row must not tie: among equal scores the higher index goes first,
            # whichever was removed earlier.
            largest = max(np.nextafter(largest, np.inf), 0.5 * errors[p])
            found[index[p]] = largest
            gone.append(p)
            row = matrix[p] - vectors[:step, p] @ vectors[:step]
            pivot = row[p]
            if not pivot > 0:
                raise ValueError(
                    f"an entry of the diagonal of the inverse Hessian became {pivot:.3g}: rounding "
                    "has eaten up its digits; give a larger damping"
                )
            w -= row * (w[p] / pivot)
            row /= np.sqrt(pivot)
            vectors[step] = row
            diagonal -= row * row
            w[p], diagonal[p] = np.inf, 1.0  # never the least again
        kept = np.delete(np.arange(len(index)), gone)
        left = vectors[:, kept]
        matrix = matrix[np.ix_(kept, kept)]
        matrix -= left.T @ left
        index, w = index[kept], w[kept]
    return found


def compensated(hessian: Array, weights: Array, alive: Mask, name: str) -> Array:
    """The weights that make the least error with the dead ones at zero; raises as `cholesky`.

    With a the alive and d the dead: v_a = w_a + H_aa^-1 H_ad w_d, or the same by
    v = w - [H^-1]_:d ([H^-1]_dd)^-1 w_d, whichever system is smaller. It is where removing one
    by one with compensation ends, in whatever order.

    Args:
        hessian: array of shape (n, n).
        weights, alive: arrays of shape (rows, n); the result is float64, with exact zeros.

    Source: Hassibi & Stork, NIPS 1993, for several weights at once.

    Example:
        >>> hessian, weights = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[1.0, 2.0]])
        >>> compensated(hessian, weights, np.array([[True, False]]), "a")
        array([[2., 0.]])
    """
    inverted = inverse(hessian, name)
    result = np.where(alive, weights, 0.0)
    for mask, rows in by_alive(alive):
        dead = ~mask
        lost = np.asarray(weights, np.float64)[np.ix_(rows, dead)]
        if not lost.any() or not mask.any():
            continue
        if dead.sum() < mask.sum():
            system, right = inverted[np.ix_(dead, dead)], inverted[np.ix_(dead, mask)]
            change = -_solve(system, lost) @ right
        else:
            system, right = hessian[np.ix_(mask, mask)], hessian[np.ix_(mask, dead)]
            change = _solve(system, lost @ right.T)
        result[np.ix_(rows, mask)] += change
    return result


def _solve(system: Array, rows: Array) -> Array:
    return scipy.linalg.solve(system, rows.T, assume_a="pos", overwrite_a=True).T
