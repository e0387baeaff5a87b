"""Means with intervals, and differences paired by seed, with a verdict in words."""

from __future__ import annotations

import pandas as pd

from activation_pruning.reports import figures

ALONE = "no interval"


def summary(table: pd.DataFrame, by: list[str], metrics: list[str]) -> pd.DataFrame:
    """Mean over the runs of each metric, with the half-width of its 95 % t-interval beside it.

    Columns: by, runs, and for each metric its name and <metric>_ci95.
    """
    if table.empty:
        return pd.DataFrame(columns=[*by, "runs", *metrics])
    parts = [table.groupby(by, sort=False).size().rename("runs")]
    for metric in metrics:
        part = figures.intervals(table, by, metric).set_index(by)
        part[f"{metric}_ci95"] = part[f"{metric}_high"] - part[metric]
        parts.append(part[[metric, f"{metric}_ci95"]])
    return pd.concat(parts, axis=1).reset_index()


def differences(
    first: pd.DataFrame,
    second: pd.DataFrame,
    on: list[str],
    by: list[str],
    metric: str,
    name: str = "difference",
) -> pd.DataFrame:
    """Mean of first - second over the pairs of rows that agree in `on`, with its 95 % interval.

    on: what makes a pair, the seed among it. by: what makes a group, a part of `on`; [] for one
    group. Columns: by, pairs, <name>, <name>_low, <name>_high, verdict: "higher" or "lower" where
    the interval excludes 0, else "indistinguishable".
    """
    columns = [*by, "pairs", *bounds(name), "verdict"]
    pairs = first.merge(second, on=on)
    pairs["change"], pairs["all"] = pairs[f"{metric}_x"] - pairs[f"{metric}_y"], 0
    if pairs.empty:
        return pd.DataFrame(columns=columns)
    table = figures.intervals(pairs, by or ["all"], "change")
    ends = zip(table["change_low"], table["change_high"], strict=True)
    table["verdict"] = [verdict(low, high) for low, high in ends]
    names = {"change": name, "change_low": f"{name}_low", "change_high": f"{name}_high"}
    return table.rename(columns=names | {"runs": "pairs"})[columns]


def bounds(name: str) -> list[str]:
    """The columns of a difference of that name: the mean and the two ends of its interval."""
    return [name, f"{name}_low", f"{name}_high"]


def verdict(low: float, high: float) -> str:
    """What the 95 % interval of a difference says."""
    if low > 0:
        return "higher"
    if high < 0:
        return "lower"
    return "indistinguishable" if low <= 0 <= high else ALONE


def chance(verdicts: pd.Series) -> list[str]:
    """The warning about many intervals, as a list of one sentence; empty where there is none."""
    count = int((verdicts != ALONE).sum())
    if not count:
        return []
    return [
        "Higher and lower mean that the 95 % t-interval of the paired differences excludes 0; "
        f"of {count} such intervals about {0.05 * count:.1f} do so by chance alone."
    ]


def interval(row, name: str, factor: float = 1.0, digits: int = 2) -> str:
    """The interval beside `name` in words: its <name>_low and <name>_high, times a factor."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if pd.isna(low):
        return "one pair"
    return f"95 % interval {factor * low:+.{digits}f} to {factor * high:+.{digits}f}"
