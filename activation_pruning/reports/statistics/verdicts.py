"""What a comparison says, in words that have three meanings and no more."""

import numpy as np
from scipy import stats

from activation_pruning.support.checks import SHARE, check_count, check_number
from activation_pruning.support.types import Array

HIGHER, LOWER, ALIKE, FEW = "higher", "lower", "not told apart", "too few seeds to tell"
_LARGE = 3.0  # standard deviations of the differences


def verdicts(
    change: Array, p: Array, low: Array, high: Array, pairs: Array | None = None,
    level: float = 0.95,
) -> list[str]:  # fmt: skip
    """Whether differences are told apart from 0, are not, or have too few pairs to say.

    "higher" or "lower": p <= 1 - level, and the interval leaves out 0. "too few seeds to tell":
    there was no test; or all differences are equal and yet too few; or not even a difference of
    three times its standard deviation s would be told: with m tests that tell nothing,

        t(1 - (1 - level) / (2 m), pairs - 1) / √pairs > 3

    so that one test takes 3 pairs, two to five of them take 4, up to 19 take 5, up to 68 take 6.
    All others are "not told apart", and so are differences that are all 0.

    Args:
        change, p, low, high: mean difference, corrected p-value and interval of each; NaN for what
            cannot be had.
        pairs: how many pairs each has; None for enough.
        level: in (0, 1).

    Example:
        >>> one = np.ones(1)
        >>> verdicts(48 * one, 0.2 * one, -300 * one, 400 * one, pairs=2 * one)
        ['too few seeds to tell']
        >>> verdicts(48 * one, 0.2 * one, -30 * one, 110 * one, pairs=5 * one)
        ['not told apart']
    """
    told = (p <= 1 - level) & ~((low <= 0) & (high >= 0))  # an interval of NaN holds nothing
    few = np.isnan(p) | np.isnan(low)
    if pairs is not None:
        tests = np.count_nonzero(~told & ~np.isnan(p))
        few |= ~_enough(pairs, tests, level) & ~((low == 0) & (high == 0))
    return np.select([told & (change > 0), told, few], [HIGHER, LOWER, FEW], ALIKE).tolist()


def _enough(pairs, tests, level):
    """Whether a large difference would be told by so many pairs, as one of so many tests."""
    quantile = stats.t.ppf(1 - (1 - level) / (2 * max(tests, 1)), np.maximum(pairs - 1, 1))
    return (pairs > 1) & (quantile / np.sqrt(pairs) <= _LARGE)


def of_shares(first: float, second: float, samples: int) -> float:
    """The two-sided p of two shares of so many samples, by Fisher's exact test.

    For accuracies of one run each: what chance in the choice of the test samples could do. Of
    networks that mostly err on the same samples it tells somewhat less than there is.

    Source: Fisher, Journal of the Royal Statistical Society 85, 1922.

    Example:
        >>> round(of_shares(0.90, 0.80, 400), 5), of_shares(363 / 397, 361 / 397, 397) > 0.9
        (0.0001, True)
    """
    check_count("samples", samples, 1)
    for name, share in (("first", first), ("second", second)):
        check_number(name, share, 0, most=1, hint=SHARE)
    right = np.rint([first * samples, second * samples]).astype(int)
    return float(stats.fisher_exact(np.stack([right, samples - right])).pvalue)
