"""From the records of a pruning comparison to tables, and to findings in words."""

from __future__ import annotations

import pandas as pd

from activation_pruning.reports import statistics
from lab import words

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
DIFFERENCES = (
    "first",
    "second",
    "sparsity",
    "events",
    *statistics.columns("accuracy_difference"),
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


def differences_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Paired differences in test accuracy between arms: the same seed, sparsity and events.

    Only runs that reached their sparsity count.
    """
    used, tables = runs[runs["reached"]], []
    for first, second in PAIRS:
        left, right = (used[used["arm"] == arm] for arm in (first, second))
        keys = ["sparsity", "events", "seed"]
        if (right["events"] == 0).all():  # an arm without events of its own meets every number
            keys, right = ["sparsity", "seed"], right.drop(columns="events")
        by = ["sparsity", "events"]
        table = statistics.differences(
            left, right, keys, by, "test_accuracy", "accuracy_difference"
        )
        tables.append(table.assign(first=first, second=second))
    return statistics.holm(pd.concat(tables, ignore_index=True), "accuracy_difference")[
        list(DIFFERENCES)
    ]


def findings(runs: pd.DataFrame, differences: pd.DataFrame) -> list[str]:
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
    for (first, second), rows in differences.groupby(["first", "second"], sort=False):
        lines.append(_comparison(first, second, rows))
    lines += words.family(differences["verdict"])
    return lines + missed(runs)


def _comparison(first: str, second: str, rows: pd.DataFrame) -> str:
    counts = rows["verdict"].value_counts()
    verdicts = ", ".join(f"{verdict} in {count}" for verdict, count in counts.items())
    low, high = rows["accuracy_difference"].min() * 100, rows["accuracy_difference"].max() * 100
    return (
        f"{first} against {second}: {verdicts} of {len(rows)} settings; mean differences in test "
        f"accuracy from {low:+.2f} to {high:+.2f} percentage points."
    )
