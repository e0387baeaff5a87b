"""The files of experiments that compact networks, see `lab.compacting`: what is left of them."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd

from activation_pruning.reports import figures
from lab import arms_report, publication
from lab.compacting import DENSE
from lab.publication import Picture

COSTS = {"parameters": "parameters", "multiply_adds": "multiply-adds", "file_bytes": "bytes"}
LEFT = {f"{name}_share": told for name, told in COSTS.items()} | {"time_share": "time of a batch"}
ABOUT = (
    "accuracy_untuned is that of the pruned network before it is trained any further; speedup the "
    "time of the dense network / that of this one, for a batch of 256: the median over rounds in "
    "which all networks of a seed take turns, with no other run beside."
)
NOTE = "bytes: of the .keras file without an optimizer; all arms together"


def publish(
    records: list[dict], name: str, title: str, share: str, more: dict[str, str],
    where: Callable[..., str],
) -> publication.Publication:  # fmt: skip
    """What there is to show.

    share: what the tables call the share that was pruned to. more: further settings of the runs,
        and what tables call them. where: share and settings -> words.
    """
    by = [share, *more.values()]
    runs = runs_table(records, share, more)
    whole, pruned = (part.reset_index(drop=True) for part in _parts(runs))
    beside = beside_dense(whole, pruned, by)
    left = means(beside, by)
    arms = list(dict.fromkeys(pruned["arm"]))
    shown = arms_report.compared(
        pruned, name, title, "random" if "random" in arms else "".join(arms[:1]),
        by=tuple(by), metrics=[m for m in ("accuracy_untuned", "speedup") if _has(pruned, m)],
        about=ABOUT, told=told(whole, left, pruned, by, where), where=where,
        more={"What is left": left, "Dense networks": whole[["seed", *_known(whole, by)]]},
    )  # fmt: skip
    if left.empty:
        return shown
    cost = Picture("Size, work and time", _figure(beside, by))
    return dataclasses.replace(
        shown,
        pictures=shown.pictures | {f"{name}_cost": cost},
        on_page=("What is left", *shown.on_page),
    )


def runs_table(records: list[dict], share: str, more: dict[str, str]) -> pd.DataFrame:
    """One row per run and share, with the time of its network where that was measured."""
    trials = [record for record in records if "points" in record["result"]]
    table = publication.rows(trials, "points", more).rename(columns={"share": share})
    times = {row["name"]: row for record in records for row in record["result"].get("times", ())}
    none = {"median_ms": np.nan, "ratio": np.nan}
    found = [times.get(file, none) for file in table.pop("file")]
    table["batch_ms"] = [row["median_ms"] for row in found]
    table["speedup"] = [1 / row["ratio"] for row in found]
    return table


def beside_dense(whole: pd.DataFrame, pruned: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The pruned runs whose dense network is there, with what they have of it: see LEFT.

    accuracy_against_dense: test accuracy less that of the dense network of the same seed.
    """
    keys, named = ["seed", *by[1:]], "test_accuracy"
    if whole.empty or pruned.empty:
        return pd.DataFrame()
    table = pruned.merge(whole[[*keys, named, *COSTS]], on=keys, suffixes=("", "_dense"))
    table["accuracy_against_dense"] = table[named] - table[f"{named}_dense"]
    for name in COSTS:
        table[f"{name}_share"] = table[name] / table[f"{name}_dense"]
    return table.assign(time_share=1 / table["speedup"])


def means(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Means over the seeds, by arm and setting."""
    columns = ["test_accuracy", "accuracy_against_dense", *LEFT, "speedup"]
    if table.empty:
        return table
    return table.groupby(["arm", *by], sort=False)[columns].mean().reset_index()


def told(whole, left, pruned, by: list[str], where: Callable[..., str]) -> list[str]:
    """What was pruned from, what is left of it, and that outputs stay."""
    lines = []
    kinds = whole.groupby(by[1:], sort=False) if by[1:] else [((), whole)] if len(whole) else []
    for kind, rows in kinds:
        size = rows[list(COSTS)].mean()
        numbers = ", ".join(f"{size[name]:,.0f} {words}" for name, words in COSTS.items())
        accuracy = f"{rows['test_accuracy'].mean():.2%} test accuracy on average"
        lines.append(
            f"The dense networks{''.join(f' ({k})' for k in kind)}: {accuracy}, {numbers}."
        )
    for key, rows in left.groupby(by, sort=False) if len(left) else ():
        shares = [f"{words} {_range(rows[name])}" for name, words in LEFT.items()]
        lines.append(f"{where(*key)}, what is left of the dense network: {', '.join(shares)}.")
    if _has(pruned, "largest_difference"):
        most = pruned["largest_difference"].max()
        by_much = f"by more than {most:.1g}" if most else "at all"
        lines.append(f"Taking units out changed no output on the test data {by_much}.")
    return lines


def _parts(runs):
    return runs[runs["arm"] == DENSE], runs[runs["arm"] != DENSE]


def _has(table, name):
    return name in table and table[name].notna().any()


def _known(table, by):
    return [*by[1:], *(n for n in ("test_accuracy", *COSTS, "batch_ms") if n in table)]


def _range(values):
    if values.isna().all():
        return "not measured"
    low, high = f"{values.min():.0%}", f"{values.max():.0%}"
    return low if low == high else f"{low} to {high}"


def _figure(beside, by):
    long = beside.melt(["arm", *by], list(LEFT), "measure", "share_of_dense").dropna()
    long["measure"] = long["measure"].map(LEFT)
    long[by[0]] = long[by[0]].map("{:.0%}".format)
    return figures.mean_dots(
        long, "share_of_dense", "measure", by[0], (by[1:] or [None])[0],
        title="What is left of the dense network", note=NOTE,
    )  # fmt: skip
