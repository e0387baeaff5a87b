"""What the statistics of a table mean, in words."""

import pandas as pd

from activation_pruning.reports.statistics import ALIKE, FEW


def family(*tables: pd.DataFrame) -> list[str]:
    """How the verdicts of tables came about: a list of one text, empty where there was no test."""
    tested = [int(table["p"].notna().sum()) for table in tables if len(table)]
    if not any(tested):
        return []
    counts = " and ".join(str(count) for count in tested if count)
    kinds = " or ".join(dict.fromkeys(kind for t in tables if len(t) for kind in t["interval"]))
    return [
        f"Of {counts} comparisons those are called different (higher, lower, more, less) whose p "
        "is below 0.05 in a paired t test, after Holm's correction for the number of comparisons "
        f"in a table, and whose 95 % interval ({kinds}) leaves out 0. {ALIKE.capitalize()}: these "
        "runs do not tell, which is no proof of equality; the interval says how large a "
        f"difference may be. {FEW.capitalize()}: not even a difference of three times its standard "
        "deviation over the seeds would be told, or there is one pair."
    ]


def order(runs: pd.DataFrame) -> str:
    """The arms with their mean test accuracies, the best first."""
    means = runs.groupby("arm")["test_accuracy"].mean().sort_values(ascending=False)
    return ", ".join(f"{arm} {mean:.2%}" for arm, mean in means.items())


def interval(row, name: str, factor: float = 1.0, digits: int = 2) -> str:
    """The interval beside `name` in words: its <name>_low and <name>_high, times a factor."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if pd.isna(low):
        return "one pair" if row["pairs"] == 1 else "no interval: all differences are equal"
    return f"95 % interval {factor * low:+.{digits}f} to {factor * high:+.{digits}f}"
