"""From the records of a pruning comparison to tables, and to findings in words."""

from __future__ import annotations

import pandas as pd

from activation_pruning.reports import statistics
from lab import differences

MEASURED = (
    "test_accuracy",
    "test_top_5",
    "test_loss",
    "validation_accuracy",
    "validation_loss",
    "train_accuracy",
    "train_loss",
    "measured_sparsity",
    "events_fired",
    "epochs",
    "time_s",
    "cpu_time_s",
)
SETTING = ["arm", "sparsity", "events"]
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


def runs_table(records: list[dict]) -> pd.DataFrame:
    """One row per finished run.

    sparsity is the target, measured_sparsity what the weights say; reached tells whether they
    agree to within 0.0001. events is what was asked for, 0 for the arms without such events.
    """
    rows = []
    for record in records:
        settings, result = record["settings"], dict(record["result"])
        measured = result.pop("sparsity")
        row = {key: settings[key] for key in (*SETTING, "seed")}
        row |= {"reached": measured >= settings["sparsity"] - 1e-4, "measured_sparsity": measured}
        row |= {key: value for key, value in result.items() if key in MEASURED}
        rows.append(row | {"warnings": "\n".join(result.get("warnings", []))})
    return pd.DataFrame(rows)


def reached(records: list[dict]) -> tuple[list[dict], list[str]]:
    """(the records of runs that reached their sparsity, sentences on the others)."""
    runs = runs_table(records)
    kept = [record for record, whole in zip(records, runs["reached"], strict=True) if whole]
    return kept, missed(runs)


def missed(runs: pd.DataFrame) -> list[str]:
    """A sentence for each setting with runs that ended below their sparsity."""
    short = runs[~runs["reached"]].groupby(SETTING, sort=False)["seed"].count()
    return [
        f"{arm} at {sparsity:.0%} with {events} events: {count} run(s) ended below the target "
        "sparsity and are left out of these comparisons."
        for (arm, sparsity, events), count in short.items()
    ]


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
    pairs, by = {}, ["sparsity", "events"]
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
    for (sparsity, events), rows in pruned[pruned["events"] > 0].groupby(["sparsity", "events"]):
        peer = pruned[(pruned["events"] == 0) & (pruned["sparsity"] == sparsity)]
        means = pd.concat([rows, peer]).groupby("arm")["test_accuracy"].mean()
        ranking = means.sort_values(ascending=False)
        order = ", ".join(f"{arm} {mean:.2%}" for arm, mean in ranking.items())
        lines.append(f"{sparsity:.0%} sparsity, {events} events, best mean first: {order}.")
    return lines + differences.told(each, whole) + missed(runs)
