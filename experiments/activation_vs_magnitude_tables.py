"""The tables of activation_vs_magnitude, and its findings in words."""

import pandas as pd

from activation_pruning.reports import statistics
from lab import differences
from lab.comparison import MEASURED, SETTING, missed

PAIRS = (
    ("activation_magnitude", "magnitude"),
    ("activation", "magnitude"),
    ("activation_magnitude", "tfmot"),
    ("magnitude", "tfmot"),
    ("magnitude_gradual", "tfmot"),
    ("activation_magnitude_gradual", "magnitude_gradual"),
    ("activation", "random"),
    ("activation", "inactivity"),
)


def summary_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds by arm, sparsity and events; test accuracy with its 95 % interval.

    test_accuracy_ci95 is the half-width: the interval is test_accuracy plus or minus it.
    """
    table = statistics.summary(runs, SETTING, ["test_accuracy"])
    grouped = runs.groupby(SETTING, sort=False)
    others = [name for name in MEASURED if name != "test_accuracy"]
    reached = grouped["reached"].sum().rename("runs_reached").reset_index()
    table = table.merge(reached, on=SETTING).merge(grouped[others].mean().reset_index(), on=SETTING)
    order = [*SETTING, "runs", "runs_reached", "test_accuracy", "test_accuracy_ci95"]
    return table[[*order, *others]]


def intervals_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean and 95 % t-interval over the seeds of everything measured, one row per metric."""
    names = {"value": "mean", "value_low": "low", "value_high": "high"}
    long = runs.melt([*SETTING, "seed"], list(MEASURED), var_name="metric")
    table = statistics.intervals(long, [*SETTING, "metric"], "value").rename(columns=names)
    return table[[*SETTING, "metric", "mean", "low", "high", "runs"]]


def by_events(runs: pd.DataFrame) -> pd.DataFrame:
    """The pruned runs; those of an arm without events stand beside every number of events."""
    pruned = runs[runs["arm"] != "dense"]
    own, peer = pruned[pruned["events"] > 0], pruned[pruned["events"] == 0]
    if own.empty:
        return peer
    numbers = own["events"].drop_duplicates()
    return pd.concat([own, peer.drop(columns="events").merge(numbers.to_frame(), how="cross")])


def differences_tables(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Differences between arms by sparsity and events, and overall.

    Only runs that reached their sparsity count.
    """
    pairs, by = {}, SETTING[1:]
    for pair in PAIRS:
        used = runs[runs["reached"] & runs["arm"].isin(pair)]
        if (used["events"] > 0).any():
            used = by_events(used)
        pairs[pair] = tuple(used[used["arm"] == arm] for arm in pair)
    return differences.by_setting(pairs, by), differences.overall(pairs, by)


def findings(runs: pd.DataFrame, each: pd.DataFrame, whole: pd.DataFrame) -> list[str]:
    """Say in plain words what the numbers say, whoever wins."""
    lines = []
    pruned = runs[runs["reached"] & (runs["arm"] != "dense")]
    dense = runs.loc[runs["arm"] == "dense", "test_accuracy"]
    if len(dense):
        lines.append(f"The dense network: {dense.mean():.2%} test accuracy on average.")
    for (sparsity, events), rows in pruned[pruned["events"] > 0].groupby(
        ["target_sparsity", "events"]
    ):
        peer = pruned[(pruned["events"] == 0) & (pruned["target_sparsity"] == sparsity)]
        means = pd.concat([rows, peer]).groupby("arm")["test_accuracy"].mean()
        ranking = means.sort_values(ascending=False)
        order = ", ".join(f"{arm} {mean:.2%}" for arm, mean in ranking.items())
        lines.append(f"{sparsity:.0%} sparsity, {events} events, best mean first: {order}.")
    return lines + differences.told(each, whole) + missed(runs)
