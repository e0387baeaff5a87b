"""The files of activation_vs_magnitude: tables, findings in words, pictures, HTML page."""

from pathlib import Path

import pandas as pd

from activation_pruning.reports import figures, statistics, workbook
from lab import comparison, differences, publication, storage, words
from lab.comparison import MEASURED, SETTING, missed
from lab.publication import Picture, rows

NAME = "activation_vs_magnitude"
MASKED = ("activation", "activation_magnitude", "magnitude", "random")
CLOSE = 0.10  # the close-up shows arms that stay within this much of the best accuracy
PEERS = ("tensorflow-model-optimization", "tf-keras")
PAIRS = (
    ("activation_magnitude", "magnitude"),
    ("activation", "magnitude"),
    ("activation_magnitude", "tfmot"),
    ("magnitude", "tfmot"),
    ("activation_magnitude", "tfmot_trained"),
    ("magnitude", "tfmot_trained"),
    ("magnitude_gradual", "tfmot"),
    ("activation_magnitude_gradual", "magnitude_gradual"),
    ("activation", "random"),
    ("activation", "inactivity"),
)
ABOUT = (
    "Means over the seeds; test_accuracy_ci95 is the half-width of the 95 % t-interval. "
    "target_sparsity is what was asked for, sparsity what the weights say; both leave the output "
    "layer out. time_s is the wall time of the training, one thread each, with other runs at its "
    "side; cpu_time_s is its processor time."
)


@publication.publishing
def publish(records: list[dict], out: Path, options: dict) -> publication.Publication:
    """What there is to show; the summary is printed at once."""
    runs = comparison.runs_table(records)
    each, whole = differences_tables(runs)
    tables = {
        "Summary": summary_table(runs),
        "Differences": each,
        "Differences overall": whole,
        "Runs": runs,
        "Intervals": intervals_table(runs),
    }
    said = findings(runs, each, whole)
    said += [options["notes"]] if options["notes"] else []
    print("\n" + readable(tables["Summary"]))
    shown = _shown_setting(records)
    tables |= {
        "Test accuracy": _chart_data(runs, tables["Summary"]),
        "Curves": rows([r for r in shown if r["settings"]["seed"] == 0], "history"),
        "Events": rows(records, "events"),
        "Training": rows(records, "history"),
        "Activity": rows(shown, "activity"),
    }
    charts = [workbook.Chart("Test accuracy", "target_sparsity", "test_accuracy", "arm")]
    for value in ("validation_accuracy", "train_accuracy", "sparsity"):
        charts.append(workbook.Chart("Curves", "epoch", value, "arm"))
    tfmot = any(record["settings"]["arm"].startswith("tfmot") for record in records)
    return publication.Publication(
        name=NAME,
        title="Activation-based against magnitude pruning",
        findings=said,
        about=ABOUT,
        tables={title: _without_zero_events(table) for title, table in tables.items()},
        charts=charts,
        pictures=_pictures(runs, shown, out),
        on_page=("Differences overall", "Differences", "Runs"),
        packages=PEERS if tfmot else (),
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
    for (sparsity, events), own in pruned[pruned["events"] > 0].groupby(SETTING[1:]):
        peer = pruned[(pruned["events"] == 0) & (pruned["target_sparsity"] == sparsity)]
        order = words.order(pd.concat([own, peer]))
        lines.append(f"{sparsity:.0%} sparsity, {events} events, best mean first: {order}.")
    return lines + differences.told(each, whole) + missed(runs)


def readable(summary: pd.DataFrame) -> str:
    """Lay the summary out for a terminal."""
    table = summary.copy()
    percent = "{:.2%}".format
    table["test accuracy"] = [
        f"{mean:.2%}" + (f" ± {half:.2%}" if half == half else "")
        for mean, half in zip(table["test_accuracy"], table["test_accuracy_ci95"], strict=True)
    ]
    columns = ["arm", "target_sparsity", "events", "runs", "runs_reached", "sparsity"]
    columns += ["test accuracy", "test_top_5", "test_loss", "epochs", "time_s"]
    formats = {"target_sparsity": "{:.0%}".format, "sparsity": percent, "test_top_5": percent}
    formats |= {"test_loss": "{:.3f}".format, "epochs": "{:.1f}".format, "time_s": "{:.1f}".format}
    formats |= {"events": lambda events: str(events or "-")}
    return table[columns].to_string(index=False, formatters=formats)


def _shown_setting(records):
    """The records of one setting for curves, activity and masks: most sparse, fewest events."""
    pruned = [r["settings"] for r in records if r["settings"]["sparsity"]]
    sparsity = max((s["sparsity"] for s in pruned), default=0.0)
    events = min((s["events"] for s in pruned if s["events"]), default=0)
    shown = {(0.0, 0), (sparsity, 0), (sparsity, events)}
    return [r for r in records if (r["settings"]["sparsity"], r["settings"]["events"]) in shown]


def _without_zero_events(table):
    """Leave the number of events empty for the arms that have none."""
    names = [name for name in ("events", "run_events") if name in table]
    return table.assign(**{name: table[name].where(table[name] > 0) for name in names})


def _close_arms(runs):
    means = runs.groupby(SETTING)["test_accuracy"].mean()
    worst = means.groupby("arm").min()
    return set(worst[worst >= means.max() - CLOSE].index)


def _pictures(runs, shown, out):
    """{file name: Picture, or None where there is nothing to draw}."""
    where, dense = _where(shown), runs.loc[runs["arm"] == "dense", "test_accuracy"]
    history, events = rows(shown, "history"), rows(shown, "events")
    if events.empty:
        events = pd.DataFrame(columns=["arm", "seed", "epoch", "total_sparsity"])
    curves = figures.training_curves(history, events)
    pictures = _accuracies(runs, dense if len(dense) else None)
    pictures["training_curves"] = Picture("Training with pruning events", curves, where)
    activity, masks = rows(shown, "activity"), _masks(shown, out)
    pictures |= {"activation_frequency": None, "masks": None}
    if len(activity):
        figure = figures.activation_frequency(activity[activity["arm"].isin(MASKED)])
        caption = f"{where} Counted over the whole training of the first seed."
        pictures["activation_frequency"] = Picture("How often units fire", figure, caption)
    if masks:
        figure = figures.mask_heatmap(masks)
        pictures["masks"] = Picture("Masks", figure, f"{where} First seed.")
    return pictures


def _accuracies(runs, dense):
    """Accuracy against sparsity: all arms, and those close together."""
    pictures = {"test_accuracy": None, "test_accuracy_closeup": None}
    pruned = by_events(runs)
    pruned, short = pruned[pruned["reached"]], sorted(set(pruned.loc[~pruned["reached"], "arm"]))
    if pruned.empty:
        return pictures
    pruned = pruned.assign(sparsity=pruned["target_sparsity"])
    draw, title = figures.accuracy_against_sparsity, "Test accuracy against sparsity"
    pictures["test_accuracy"] = Picture(title, draw(pruned, reference=dense), _said_of(short))
    close = _close_arms(runs)
    left_out, part = sorted(set(pruned["arm"]) - close), pruned[pruned["arm"].isin(close)]
    if left_out and len(part):
        caption = f"Left out, since far below: {', '.join(left_out)}. {_said_of(short)}"
        figure = draw(part, reference=dense)
        pictures["test_accuracy_closeup"] = Picture(f"{title}, close", figure, caption)
    return pictures


def _said_of(short):
    """Name the arms with runs that have no place on the axis of sparsities."""
    if not short:
        return "All runs reached their sparsity."
    return f"Not drawn: runs of {', '.join(short)} that ended below their sparsity."


def _where(shown):
    pruned = [r["settings"] for r in shown if r["settings"]["events"]]
    if not pruned:
        return "No pruned arm with events."
    return f"At {pruned[0]['sparsity']:.0%} sparsity with {pruned[0]['events']} pruning events."


def _masks(shown, out):
    return {
        record["settings"]["arm"]: storage.arrays_of(out / "runs", record)
        for record in shown
        if record["has_arrays"] and record["settings"]["arm"] in MASKED
    }


def _chart_data(runs, summary):
    """What the native chart of test accuracy draws: the fewest events, the arms close together."""
    events = summary.loc[summary["events"] > 0, "events"].min()
    table = summary[summary["arm"].isin(_close_arms(runs)) & (summary["arm"] != "dense")]
    table = table[table["events"].isin([0, events])]
    return table[["arm", "target_sparsity", "test_accuracy", "test_accuracy_ci95", "events"]]
