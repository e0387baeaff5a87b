"""Paired differences of two methods: mean, interval, effect size, test; and their verdicts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import special, stats

from activation_pruning.reports.statistics.confidence import bootstrap_t, check_level
from activation_pruning.reports.tables import listed, need, refuse_missing
from activation_pruning.support.types import Array, Table

ALIKE, FEW = "indistinguishable", "too few pairs"
_ENOUGH = 6  # pairs of equal differences: 2 / 2**6 is the first p-value below 0.05


def columns(name: str = "difference") -> list[str]:
    """The columns of a table of `differences` of that name, once `holm` has judged it.

    Example:
        >>> columns("loss_difference")[:4]
        ['pairs', 'loss_difference', 'loss_difference_low', 'loss_difference_high']
    """
    return ["pairs", name, f"{name}_low", f"{name}_high", "effect_size", "p", "p_holm", "verdict"]


def differences(
    first: Table, second: Table, on: Sequence[str], by: Sequence[str], metric: str,
    name: str = "difference", level: float = 0.95,
) -> Table:  # fmt: skip
    """Mean of first - second over the pairs of rows that agree in `on`, with interval and test.

    The test is the paired t test. Tests that assume no distribution (sign-flip, Wilcoxon) cannot
    give a p below 2 / 2**n, 0.25 for three seeds. Simulated at n = 3 to 10, the t test called 2 to
    7 % of differences significant at 5 % where there was none, for symmetric distributions, as
    differences of two equal methods have; for skewed ones 10 to 12 %.

    Args:
        first, second: tidy tables, one row per run.
        on: columns that make a pair, the seed among them. With a setting in `on` as well each
            setting of each seed is a pair; they are then taken for independent.
        by: columns that make a group; `[]` for one group.
        metric, name: column of numbers in both, and name of the difference.
        level: confidence of the interval, in (0, 1).

    Returns:
        DataFrame: by; pairs; <name>, the mean; <name>_low and <name>_high, its interval by
        `bootstrap_t`; effect_size, the mean in standard deviations of the differences (Cohen's
        d_z) with Hedges's correction for few pairs; p. To be judged by `holm`, together with all
        others that are reported with it. NaN is what cannot be had: everything but the mean of
        one pair; interval and effect size where all differences are equal but not 0, and p where
        these are fewer than six (from there it is 2 / 2**pairs, the sign-flip test). No rows where
        the tables have no pair in common.

    Raises:
        ValueError: a missing column, a number not finite, or rows that pair with several others.

    Source: Student 1908; Lakens, Frontiers in Psychology 4:863, 2013 (effect sizes).

    Example:
        >>> runs = pd.DataFrame({"arm": ["a"] * 4 + ["b"] * 4, "seed": [0, 1, 2, 3] * 2,
        ...                      "accuracy": [0.84, 0.86, 0.85, 0.88, 0.81, 0.84, 0.82, 0.84]})
        >>> a, b = runs[runs["arm"] == "a"], runs[runs["arm"] == "b"]
        >>> table = holm(differences(a, b, ["seed"], [], "accuracy"))
        >>> table[["pairs", "difference", "p", "verdict"]].round(3).values.tolist()
        [[4, 0.03, 0.005, 'higher']]
    """
    on, by = listed("on", on), listed("by", by)
    check_level(level)
    if not on or metric in on:
        raise ValueError(f"on={on}; name what runs share and metrics do not, such as ['seed']")
    for table in (first, second):
        need(table, "differences", *on, metric, empty=True)
        refuse_missing(table, metric, "differences")
    pairs = first.merge(second, on=on)
    key = list(dict.fromkeys([*on, *by]))
    need(pairs, "differences", *key, empty=True)
    if pairs.duplicated(key).any():
        raise ValueError(
            f"differences: rows of first and second that agree in on={on} must be one of each; "
            f"here several do: {pairs[pairs.duplicated(key)][key].iloc[0].to_dict()}. Name in `on` "
            "what else makes a run, or take means first."
        )
    found = [
        {**dict(zip(by, group, strict=True)), **_difference(rows, metric, name, level)}
        for group, rows in (pairs.groupby(by, sort=False, dropna=False) if by else [((), pairs)])
        if len(rows)
    ]
    return pd.DataFrame(found, columns=[*by, *columns(name)[:-2]])


def _difference(rows, metric, name, level):
    first, second = (rows[f"{metric}{side}"].to_numpy(float) for side in ("_x", "_y"))
    change = first - second
    low = high = effect = p = np.nan
    # A spread that float32 makes by itself, as metrics have it, is none.
    noise = np.finfo("float32").eps * max(abs(first).max(), abs(second).max())
    if len(change) > 1 and change.std() > noise:
        low, high = bootstrap_t(change, level)
        effect = change.mean() / change.std(ddof=1) * _hedges(len(change))
        p = stats.ttest_1samp(change, 0.0).pvalue
    elif len(change) > 1 and abs(change).max() <= noise:
        low, high, effect, p = 0.0, 0.0, 0.0, 1.0
    elif len(change) >= _ENOUGH:
        p = 2.0 ** (1 - len(change))
    values = [len(change), change.mean(), low, high, effect, p]
    return dict(zip(columns(name), values, strict=False))


def _hedges(pairs):
    """What makes d_z unbiased, from the gamma function: 0.56 for 3 pairs, 0.92 for 10."""
    freedom = pairs - 1
    if freedom < 2:
        return np.nan
    logarithm = special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2)
    return np.exp(logarithm) / np.sqrt(freedom / 2)


def holm(table: Table, name: str = "difference", level: float = 0.95) -> Table:
    """The table with p_holm, its p-values corrected for their number, and a verdict in words.

    The k-th smallest of m p-values is multiplied by m - k + 1 (and is at least the one before):
    with probability `level` no difference of the table is called higher or lower by chance alone.
    Nor is one whose own interval holds 0, so that verdict and interval never disagree: with few
    pairs the bootstrap can be wider than what the t test goes by.

    Args:
        table: differences, all that are looked at together, with p (NaN counts as no test), and
            with <name>_low and <name>_high if there are intervals.
        name: column of the mean differences.
        level: 1 - level is the largest p_holm that tells a difference.

    Returns:
        DataFrame: the same rows with p_holm and verdict: "higher", "lower"; "indistinguishable"
        where these pairs do not tell, which does not prove that there is no difference; "too few
        pairs" where there was no test. Raises ValueError for a p outside of [0, 1].

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.

    Example:
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
    """Holm's correction of p-values in [0, 1], at most 1; NaN stays and does not count."""
    tested = np.flatnonzero(~np.isnan(p))
    if not ((p[tested] >= 0) & (p[tested] <= 1)).all():
        raise ValueError(f"p={p.tolist()}: must lie in [0, 1]; NaN where there was no test")
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    found = np.full(len(p), np.nan)
    found[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return found
