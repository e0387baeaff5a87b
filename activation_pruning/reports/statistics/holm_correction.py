"""Holm's correction of p-values for their number, and the verdicts that follow."""

from __future__ import annotations

import numpy as np

from activation_pruning.reports.statistics.confidence import check_level
from activation_pruning.reports.tables import need
from activation_pruning.support.types import Array, Table

ALIKE, FEW = "indistinguishable", "too few pairs"


def holm(table: Table, name: str = "difference", level: float = 0.95) -> Table:
    """The table with p_holm, its p-values corrected for their number, and a verdict in words.

    The k-th smallest of m p-values is multiplied by m - k + 1 (and is at least the one before):
    with probability `level` no difference of the table is called higher or lower by chance alone.
    Nor is one whose own interval holds 0, so that verdict and interval never speak against each
    other: with few pairs the bootstrap can be wider than what the t test goes by.

    Args:
        table: differences, all that are looked at together, with p (NaN counts as no test), and
            with <name>_low and <name>_high if there are intervals.
        name: column of the mean differences.
        level: 1 - level is the largest p_holm that tells a difference.

    Returns:
        DataFrame: the same rows with p_holm and verdict: "higher", "lower"; "indistinguishable"
        where these pairs do not tell, which is no proof that there is no difference (the interval
        says how large it may be); "too few pairs" where there was no test.

    Raises:
        ValueError: no column p, or a p outside of [0, 1].

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"difference": [3, -2, 1], "p": [0.01, 0.02, 0.1]})
        >>> holm(table)[["p_holm", "verdict"]].values.tolist()
        [[0.03, 'higher'], [0.04, 'lower'], [0.1, 'indistinguishable']]
    """
    need(table, "holm", name, "p", empty=True)
    check_level(level)
    p = corrected(table["p"].to_numpy(float))
    ends = (table.get(f"{name}_{side}", table[name]) for side in ("low", "high"))
    low, high = (end.to_numpy(float) for end in ends)
    # An interval that cannot be had (NaN) holds nothing.
    alike = (p > 1 - level) | ((low <= 0) & (high >= 0))
    verdicts = np.select([np.isnan(p), alike, table[name] > 0], [FEW, ALIKE, "higher"], "lower")
    return table.assign(p_holm=p, verdict=verdicts.tolist())


def corrected(p: Array) -> Array:
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
