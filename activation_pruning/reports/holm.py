"""Holm's correction of p-values for their number."""

import numpy as np


def corrected(p):
    """Holm's step-down correction: the k-th smallest of m p-values times m - k + 1, at most 1.

    None is smaller than the one before it.

    Args:
        p: array of p-values; NaN stays and does not count.

    Returns:
        Array of the same shape.

    Raises:
        ValueError: a value outside of [0, 1].

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.

    Example:
        >>> corrected(np.array([0.01, 0.04, 0.03])).tolist()
        [0.03, 0.06, 0.06]
    """
    tested = np.flatnonzero(~np.isnan(p))
    if not ((p[tested] >= 0) & (p[tested] <= 1)).all():
        raise ValueError(f"p={p.tolist()}: must lie in [0, 1]; NaN where there was no test")
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    found = np.full(len(p), np.nan)
    found[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return found
