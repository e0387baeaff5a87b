"""Means over runs with confidence intervals: Student's t, and one for any distribution."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from activation_pruning.reports.tables import check_numbers, listed, need
from activation_pruning.support.checks import check_number
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Array, Table

_MANY = 1000  # values; a Sobol sequence has no more than 21,201 dimensions anyway


def intervals(results: Table, by: Sequence[str], metric: str, level: float = 0.95) -> Table:
    """Mean and confidence interval of a metric over the runs of each group.

    mean ± t · s / √n, with t the two-sided quantile of Student's t with n - 1 degrees of freedom
    and s the sample standard deviation. One run has a mean and no interval (NaN).

    Args:
        results: tidy, one row per run.
        by: columns that make a group.
        metric: column of numbers; missing ones do not count as runs.
        level: confidence, in (0, 1).

    Returns:
        DataFrame: by, <metric> (the mean), <metric>_low, <metric>_high, runs; groups in order of
        appearance. Raises ValueError for a missing column.

    Example:
        >>> runs = pd.DataFrame({"arm": ["a", "a", "a"], "accuracy": [0.7, 0.8, 0.9]})
        >>> intervals(runs, ["arm"], "accuracy").round(4).values.tolist()
        [['a', 0.8, 0.5516, 1.0484, 3]]
    """
    by = _groups(by)
    need(results, "intervals", *by, metric)
    check_numbers(results, metric, "intervals")
    check_level(level)
    grouped = results.groupby(by, sort=False, observed=True, dropna=False)[metric]
    table = grouped.agg(["mean", "std", "count"]).reset_index()
    mean, runs = table["mean"], table["count"]
    low, high = t_interval(mean, table["std"], runs, level)
    return table[by].assign(
        **{metric: mean, f"{metric}_low": low, f"{metric}_high": high}, runs=runs
    )


def t_interval(mean: Any, deviation: Any, count: Any, level: float = 0.95) -> tuple[Any, Any]:
    """(low, high): mean ± t · s / √n, t of n - 1 degrees of freedom; numbers or columns of them.

    Example:
        >>> low, high = t_interval(0.8, 0.1, 3)
        >>> print(f"{low:.4f} to {high:.4f}")
        0.5516 to 1.0484
    """
    half = stats.t.ppf((1 + level) / 2, count - 1) * deviation / np.sqrt(count)
    return mean - half, mean + half


def summary(table: Table, by: Sequence[str], metrics: Sequence[str], level: float = 0.95) -> Table:
    """Mean over the runs of each metric, with the half-width of its t-interval.

    The arguments are those of `intervals`, with several columns of numbers. Returns a DataFrame:
    by, runs (rows, with or without a number), and for each metric its mean under its name and
    ``<metric>_ci95`` (or as `level` says), the half-width; NaN for one run.

    Example:
        >>> runs = pd.DataFrame({"arm": ["a", "a", "a"], "accuracy": [0.7, 0.8, 0.9]})
        >>> summary(runs, ["arm"], ["accuracy"]).round(4).values.tolist()
        [['a', 3, 0.8, 0.2484]]
    """
    by, metrics = _groups(by), listed("metrics", metrics)
    check_level(level)
    ending = f"_ci{100 * level:g}"
    if table.empty:
        both = [name for metric in metrics for name in (metric, f"{metric}{ending}")]
        return pd.DataFrame(columns=[*by, "runs", *both])
    parts = [table.groupby(by, sort=False, dropna=False).size().rename("runs")]
    for metric in metrics:
        part = intervals(table, by, metric, level).set_index(by)
        half = (part[f"{metric}_high"] - part[metric]).rename(f"{metric}{ending}")
        parts += [part[metric], half]
    return pd.concat(parts, axis=1).reset_index()


def _groups(by):
    by = listed("by", by)
    if not by:
        raise ValueError("by=[]; name a column that says which runs belong together, as ['arm']")
    return by


def check_level(level: float) -> None:
    """Raise ValueError unless it is a level of confidence, in (0, 1)."""
    check_number("level", level, above=0, below=1, hint="0.95 for 95 %")


def bootstrap_t(values: Array | Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of a mean by the bootstrap-t with beta weights.

    mean - q(1 - a/2) s to mean - q(a/2) s, with a = 1 - level, s the standard deviation (divisor
    n), and q the quantiles of (mean* - mean) / s* over bootstrap samples, in which value i has a
    weight drawn from Beta(1/2, 3/2). Unlike draws with replacement such weights never leave one
    value alone, so that it works for three of them, where no other bootstrap does. Simulated
    coverage of the 95 % interval, in %, beside the t-interval and the usual BCa bootstrap (last
    digits uncertain by about 0.4 to 1; t3: Student's t with 3 degrees of freedom)::

        n     normal: this, t, BCa   t3: this, t, BCa       exponential            width / t
        3     94.1   95.3   73.5     95.0   96.1   71.5     87.8   88.4   69.6     1.08
        5     94.5   95.0   85.6     95.2   96.2   81.0     90.9   88.6   81.0     1.06
        10    95.1   95.1   89.2     93.8   95.9   87.6     93.1   89.8   87.3     1.03

    Where a distribution is as skewed as the lognormal, no interval from a few values covers its
    mean: this one 84 % for n = 3, 83 for 4, 86 for 5 (t: 84, 81, 82). Below five pairs
    `differences` takes t, which for n = 3 covers more in each column of the table. Differences of
    two equal methods are symmetric, and are covered: those of two lognormals 97 % by both.

    The common bootstrap-t, with replacement, is 1.3 times as wide for n = 5, and has no finite
    intervals for n = 3. Weights come from a Sobol sequence: the same values, the same interval.
    Beyond 1,000 values, where the two agree, it is the t-interval.

    Args:
        values: at least two numbers.
        level: confidence, in (0, 1).

    Returns:
        (low, high); both the mean where all values are equal but for rounding. Raises ValueError
        for fewer than two values, one that is not finite, or a level out of range.

    Source: Owen, Better bootstrap t confidence intervals for the mean, arXiv:2508.10083, 2025.

    Example:
        >>> low, high = bootstrap_t([1.0, 2.0, 3.0, 4.0, 5.0])
        >>> print(f"{low:.1f} to {high:.1f}")
        1.0 to 5.0
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"values={shown(values)}; give a list of at least two finite numbers")
    check_level(level)
    # Each value has a column of weights: sorted, so that the order they came in does not matter;
    # then shuffled, for neighbouring columns of a long Sobol sequence are alike.
    values = np.random.default_rng(0).permutation(np.sort(values))
    mean, spread = values.mean(), values.std()
    if spread <= 4 * np.finfo(float).eps * np.abs(values).max():
        return mean, mean
    if len(values) > _MANY:
        return t_interval(mean, values.std(ddof=1), len(values), level)
    standard, weights = (values - mean) / spread, _weights(len(values))
    means = weights @ standard
    # Not below zero, and not zero either: a weight may take all but a rounding error.
    variances = np.maximum(weights @ standard**2 - means**2, np.finfo(float).tiny)
    ends = np.quantile(means / np.sqrt(variances), [(1 + level) / 2, (1 - level) / 2])
    low, high = mean - ends * spread
    return low, high


@functools.lru_cache(maxsize=16)
def _weights(count):
    """Bootstrap samples of `count` values, a row of weights each; fewer where they are many."""
    sobol = stats.qmc.Sobol(count, scramble=False)
    sobol.fast_forward(1)  # the first point is the origin, where all weights are 0
    samples = 2 ** int(np.clip(20 - np.log2(count), 10, 14)) - 1
    weights = stats.beta.ppf(sobol.random(samples), 0.5, 1.5)
    return weights / weights.sum(axis=1, keepdims=True)
