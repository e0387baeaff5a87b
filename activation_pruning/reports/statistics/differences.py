"""Paired differences of two methods: mean, interval, effect size, test; and their verdicts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import special, stats

from activation_pruning.reports.statistics.confidence import bootstrap_t, check_level, t_interval
from activation_pruning.reports.statistics.verdicts import verdicts
from activation_pruning.reports.tables import listed, need, refuse_missing
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Array, Table

_FEW = 5  # pairs, below which the bootstrap covers too little of skewed distributions
_T, _BOOTSTRAP = "t", "bootstrap-t"


def columns(name: str = "difference") -> list[str]:
    """The columns of a table of `differences` of that name, once `holm` has judged it.

    Example:
        >>> columns("loss_difference")[:4]
        ['pairs', 'loss_difference', 'loss_difference_low', 'loss_difference_high']
    """
    ends = [f"{name}_low", f"{name}_high", "interval", "deviation"]
    return ["pairs", name, *ends, "effect_size", "p", "p_holm", "verdict"]


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
        DataFrame: by; pairs; <name>, the mean; <name>_low and <name>_high, its interval, and its
        kind, interval: "t" in all rows if one of them has fewer than five pairs, else
        "bootstrap-t" (see `bootstrap_t`, which covers too little of skewed distributions below);
        deviation, the standard deviation of the differences; effect_size, the mean in units of it
        (Cohen's d_z) with Hedges's correction for few pairs; p. To be judged by `holm`, together
        with all others that are reported with it. NaN is what cannot be had: everything but the
        mean of one pair; interval and effect size where all differences are equal but not 0. These
        are tested as if each were rounded to a multiple of itself, with the deviation |mean| / √6
        that this has: p is 0.18 for two pairs, 0.016 for four, 0.005 for five. No rows where the
        tables have no pair in common.

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
    for column in on:
        kinds = {pd.api.types.is_numeric_dtype(table[column]) for table in (first, second)}
        if len(kinds) > 1 and len(first) and len(second):
            raise ValueError(
                f"differences: column {column!r} holds numbers in one table and none in the other, "
                "so that no rows agree; convert one with table.astype"
            )
    pairs = first.merge(second, on=on)
    key = list(dict.fromkeys([*on, *by]))
    need(pairs, "differences", *key, empty=True)
    if pairs.duplicated(key).any():
        raise ValueError(
            f"differences: rows of first and second that agree in on={on} must be one of each; "
            f"here several do: {pairs[pairs.duplicated(key)][key].iloc[0].to_dict()}. Name in `on` "
            "what else makes a run, or take means first."
        )
    # Not list(groupby): that asks for its length, which pandas 2.2 cannot tell with NaN as a group.
    groups = pairs.groupby(by, sort=False, dropna=False) if by else [((), pairs)]
    groups = [(group, rows) for group, rows in groups if len(rows)]
    few = min((len(rows) for _, rows in groups), default=0) < _FEW
    found = [
        {**dict(zip(by, group, strict=True)), **_difference(rows, metric, name, level, few)}
        for group, rows in groups
    ]
    return pd.DataFrame(found, columns=[*by, *columns(name)[:-2]])


def _difference(rows, metric, name, level, few):
    first, second = (rows[f"{metric}{side}"].to_numpy(float) for side in ("_x", "_y"))
    change, count = first - second, len(rows)
    mean, low, high = change.mean(), np.nan, np.nan
    deviation = effect = p = np.nan
    # A spread that float32 makes by itself, as metrics have it, is none.
    noise = np.finfo("float32").eps * max(abs(first).max(), abs(second).max())
    if count > 1 and change.std() > noise:
        deviation = change.std(ddof=1)
        low, high = t_interval(mean, deviation, count, level) if few else bootstrap_t(change, level)
        effect = mean / deviation * _hedges(count)
        p = stats.ttest_1samp(change, 0.0).pvalue
    elif count > 1 and abs(change).max() <= noise:
        low, high, deviation, effect, p = 0.0, 0.0, 0.0, 0.0, 1.0
    elif count > 1:  # the variance that rounding to steps of its size leaves a difference of two
        deviation, p = 0.0, 2 * stats.t.sf(np.sqrt(6 * count), count - 1)
    values = [count, mean, low, high, _T if few else _BOOTSTRAP, deviation, effect, p]
    return dict(zip(columns(name), values, strict=False))


def one_kind(table: Table, name: str = "difference", level: float = 0.95) -> Table:
    """Tables of `differences` that were put together, with intervals of one kind.

    Where they have several it is "t" for all, by the columns pairs, <name> and deviation.

    Example:
        >>> table = pd.DataFrame({"pairs": [3, 6], "difference": 1.0, "deviation": 1.0,
        ...                       "difference_low": [-1.5, 0.1], "difference_high": [3.5, 1.9],
        ...                       "interval": ["t", "bootstrap-t"]})
        >>> one_kind(table)[["difference_low", "difference_high"]].round(2).values.tolist()
        [[-1.48, 3.48], [-0.05, 2.05]]
    """
    if "interval" not in table or table["interval"].nunique() < 2:
        return table
    low, high = t_interval(table[name], table["deviation"], table["pairs"], level)
    known = table[f"{name}_low"].notna()  # not where all differences are equal
    ends = {f"{name}_low": low.where(known), f"{name}_high": high.where(known)}
    return table.assign(**ends, interval=_T)


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
    pairs the bootstrap can be wider than what the t test goes by. Intervals of several kinds
    become t-intervals, see `one_kind`.

    Args:
        table: differences, all that are looked at together, with p (NaN counts as no test); with
            <name>_low and <name>_high if there are intervals, and with pairs if these may be few.
        name: column of the mean differences.
        level: 1 - level is the largest p_holm that tells a difference.

    Returns:
        DataFrame: the same rows with p_holm and verdict: "higher", "lower"; "not told apart", which
        does not prove that there is no difference; "too few seeds to tell", see `verdicts`.
        Raises ValueError for a p outside of [0, 1].

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.

    Example:
        >>> table = pd.DataFrame({"difference": [3, -2, 1], "p": [0.01, 0.02, 0.1]})
        >>> holm(table)[["p_holm", "verdict"]].values.tolist()
        [[0.03, 'higher'], [0.04, 'lower'], [0.1, 'not told apart']]
    """
    need(table, "holm", name, "p", empty=True)
    check_level(level)
    table = one_kind(table, name, level)
    p, change = (table[column].to_numpy(float) for column in ("p", name))
    p = corrected(p)
    ends = (table.get(f"{name}_{side}", table[name]) for side in ("low", "high"))
    low, high = (end.to_numpy(float) for end in ends)
    pairs = table["pairs"].to_numpy(float) if "pairs" in table else None
    return table.assign(p_holm=p, verdict=verdicts(change, p, low, high, pairs, level))


def corrected(p: Array | Sequence[float]) -> Array:
    """Holm's correction of p-values in [0, 1], at most 1; NaN stays and does not count."""
    p = np.asarray(p, dtype=float)
    tested = np.flatnonzero(~np.isnan(p))
    if not ((p[tested] >= 0) & (p[tested] <= 1)).all():
        raise ValueError(
            f"p={shown(p.tolist())}; each must lie in [0, 1]; NaN where there was no test"
        )
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    found = np.full(len(p), np.nan)
    found[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return found
