"""What the statistics of a table mean, in words."""

from __future__ import annotations

import pandas as pd


def family(verdicts: pd.Series) -> list[str]:
    """How the verdicts came about, as a list of one sentence; empty where there was no test."""
    tested = int((verdicts != "too few pairs").sum())
    if not tested:
        return []
    return [
        f"Of {tested} comparisons those are called different (higher, lower, more, less) whose p "
        "is below 0.05 in a paired t test, after Holm's correction for the number of comparisons "
        "in a table. Indistinguishable: these runs do not tell, which is no proof of equality; the "
        "interval, by bootstrap, says how large a difference may be."
    ]


def interval(row, name: str, factor: float = 1.0, digits: int = 2) -> str:
    """The interval beside `name` in words: its <name>_low and <name>_high, times a factor."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if pd.isna(low):
        return "one pair" if row["pairs"] == 1 else "no interval: all differences are equal"
    return f"95 % interval {factor * low:+.{digits}f} to {factor * high:+.{digits}f}"
