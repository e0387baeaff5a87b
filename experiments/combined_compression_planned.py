"""The comparisons of combined_compression that were planned before it ran.

All are of the test accuracy of the LiteRT files, paired by seed, at each setting of each network.
Each family is corrected by Holm for its own number of comparisons.
"""

import numpy as np
import pandas as pd
from scipy import stats

from activation_pruning.reports import statistics
from lab import words

MARGIN = 0.003  # of test accuracy: 0.3 points
SAME, NOT_SHOWN = "within the margin", "not shown to be within the margin"
EQUIVALENT = "trained as if quantised, against float"
FAMILIES = {
    EQUIVALENT: [("pruned_qat", "pruned"), ("pruned_distilled_qat", "pruned_distilled")],
    "with a teacher, against without": [
        ("pruned_distilled", "pruned"),
        ("pruned_distilled_qat", "pruned_qat"),
    ],
    "trained as if quantised, against quantised afterwards": [("pruned_qat", "pruned_int8")],
}
METRIC, NAMED = "litert_accuracy", "accuracy_difference"
FRONT = ["family", "first", "second", "network", "setting"]
BY = ["network", "setting"]


def comparisons(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per family, pair of arms, network and setting.

    The first family asks whether two are equivalent: p is that of two one-sided paired t tests
    (TOST, Schuirmann 1987) against the margin, and the interval has 90 %, as belongs to them. The
    others ask whether there is a difference, as all experiments do.

    runs: one row per seed, arm, network and setting.
    """
    columns, parts = [*FRONT, *statistics.columns(NAMED)], []
    for family, pairs in FAMILIES.items():
        found = [_differences(runs, first, second) for first, second in pairs]
        found = [table for table in found if len(table)]
        if found:
            table = pd.concat(found, ignore_index=True).assign(family=family)
            judge = equivalence if family == EQUIVALENT else _difference
            parts.append(judge(table)[columns])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def equivalence(table: pd.DataFrame) -> pd.DataFrame:
    """A table of differences with 90 % intervals, p of the two one-sided tests, and a verdict.

    No test (NaN) where there is one pair, or all differences are the same.
    """
    pairs, spread = table["pairs"], table["deviation"].where(table["deviation"] > 0)
    low, high = statistics.t_interval(table[NAMED], spread, pairs, 0.90)
    step = spread / np.sqrt(pairs)
    nearest = (MARGIN - table[NAMED].abs()) / step
    p = pd.Series(stats.t.sf(nearest, pairs - 1), table.index)
    p_holm = statistics.corrected(p)
    verdict = np.select([np.isnan(p_holm), p_holm <= 0.05], [statistics.FEW, SAME], NOT_SHOWN)
    ends = {f"{NAMED}_low": low, f"{NAMED}_high": high, "interval": "t, 90 %"}
    return table.assign(**ends, p=p, p_holm=p_holm, verdict=verdict)


def told(found: pd.DataFrame) -> list[str]:
    """The comparisons in words, one sentence for each pair of arms."""
    lines = []
    for (family, first, second), rows in found.groupby(FRONT[:3], sort=False):
        each = [
            f"{row['network']}, {row['setting']}: {100 * row[NAMED]:+.2f} "
            f"({_interval(row)}; {row['verdict']})"
            for row in rows.to_dict("records")
        ]
        lines.append(
            f"{family.capitalize()}, {first} less {second}, points of test accuracy of the LiteRT "
            f"file: {'; '.join(each)}."
        )
    same = found[found["family"] == EQUIVALENT]
    if same["p"].notna().any():
        lines.append(
            f"Within the margin: {int(same['p'].notna().sum())} comparisons, each by two one-sided "
            f"paired t tests against {100 * MARGIN:g} points, p below 0.05 after Holm's "
            "correction. What is not shown may still be so."
        )
    others = [rows for name, rows in found.groupby("family", sort=False) if name != EQUIVALENT]
    return lines + words.family(*others)


def _interval(row):
    if pd.isna(row[f"{NAMED}_low"]):
        return words.interval(row, NAMED, 100)
    text = words.interval(row, NAMED, 100)
    return text.replace("95 %", "90 %") if row["interval"] == "t, 90 %" else text


def _differences(runs, first, second):
    one, other = (runs[runs["arm"] == arm] for arm in (first, second))
    table = statistics.differences(one, other, ["seed", *BY], BY, METRIC, NAMED)
    return table.assign(first=first, second=second)


def _difference(table):
    return statistics.holm(table, NAMED)
