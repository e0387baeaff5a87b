"""How arms differ in test accuracy, paired by seed: in each setting, and in the mean over all.

A table of runs has a row per seed, arm and setting: the columns arm, seed, those of the setting and
test_accuracy. `pairs` are {(arm, other arm): (the runs of one, the runs of the other)}. Each of the
two tables is corrected for its own number of comparisons. Few seeds rarely tell arms apart in one
of many settings; the mean over them is a single question.
"""

import pandas as pd

from activation_pruning.reports import statistics
from lab import words

METRIC, NAMED = "test_accuracy", "accuracy_difference"


def to_baseline(runs: pd.DataFrame, baseline: str) -> dict:
    """The pairs of each arm and one of them."""
    rows = dict(list(runs.groupby("arm", sort=False)))
    second = rows.pop(baseline, runs[:0])
    return {(arm, baseline): (first, second) for arm, first in rows.items()}


def by_setting(pairs: dict, by: list[str]) -> pd.DataFrame:
    """One row per pair of arms and setting that both have."""
    parts = [
        statistics.differences(*rows, ["seed", *by], by, METRIC, NAMED).assign(first=a, second=b)
        for (a, b), rows in pairs.items()
    ]
    return judged(parts, ["first", "second", *by])


def overall(pairs: dict, by: list[str]) -> pd.DataFrame:
    """One row per pair of arms: the mean over the settings that all of its seeds have.

    Pairs with a single setting are left out: `by_setting` answers for them.
    """
    parts = []
    for (a, b), rows in pairs.items():
        *means, settings = means_over_settings(*rows, by)
        if settings > 1:
            found = statistics.differences(*means, ["seed"], [], METRIC, NAMED)
            parts.append(found.assign(first=a, second=b, settings=settings))
    return judged(parts, ["first", "second", "settings"])


def means_over_settings(first: pd.DataFrame, second: pd.DataFrame, by: list[str]) -> tuple:
    """(means of one by seed, means of the other, over how many settings).

    The settings are those that all seeds of both have.
    """
    both = first[["seed", *by]].merge(second[["seed", *by]])
    seeds = both.groupby(by)["seed"].nunique()
    shared = seeds[seeds == both["seed"].nunique()].reset_index()[by]
    means = [
        rows.merge(shared, on=by).groupby("seed")[METRIC].mean().reset_index()
        for rows in (first, second)
    ]
    return *means, len(shared)


def told(each: pd.DataFrame, whole: pd.DataFrame) -> list[str]:
    """Both tables in words, a sentence or two per pair, and how the verdicts came about."""
    lines = []
    means = whole.set_index(["first", "second"])
    for pair, rows in each.groupby(["first", "second"], sort=False):
        counts = rows["verdict"].value_counts()
        verdicts = ", ".join(f"{verdict} in {count}" for verdict, count in counts.items())
        low, high = 100 * rows[NAMED].min(), 100 * rows[NAMED].max()
        line = (
            f"{pair[0]} against {pair[1]}: {verdicts} of {len(rows)} settings; mean differences "
            f"in test accuracy from {low:+.2f} to {high:+.2f} percentage points."
        )
        if pair in means.index:
            row = means.loc[pair]
            line += (
                f" Over {row['settings']} settings {100 * row[NAMED]:+.2f} points "
                f"({words.interval(row, NAMED, 100)}): {row['verdict']}."
            )
        lines.append(line)
    return lines + words.family(each, whole)


def judged(parts: list[pd.DataFrame], front: list[str], named: str = NAMED) -> pd.DataFrame:
    """Tables of `statistics.differences` as one, with verdicts; these columns are in front."""
    columns = [*front, *statistics.columns(named)]
    parts = [part for part in parts if len(part)]
    if not parts:
        return pd.DataFrame(columns=columns)
    return statistics.holm(pd.concat(parts, ignore_index=True), named)[columns]
