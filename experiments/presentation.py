"""The files of activation_vs_magnitude: workbook, pictures, HTML page."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import comparison
import pandas as pd
import runner

from activation_pruning.reports import figures, page, workbook

NAME = "activation_vs_magnitude"
MASKED = ("activation", "activation_magnitude", "magnitude", "random")
PICTURES = (
    "test_accuracy",
    "test_accuracy_closeup",
    "training_curves",
    "activation_frequency",
    "masks",
)
CLOSE = 0.10  # the close-up shows arms that stay within this much of the best accuracy

ABOUT = (
    "Means over the seeds; test_accuracy_ci95 is the half-width of the 95 % t-interval. sparsity "
    "is the target, measured_sparsity what the weights say; both leave the output layer out. "
    "time_s is the wall time of the training, one thread each, with other runs at its side; "
    "cpu_time_s is its processor time."
)


def report(records: list[dict], out: Path, options: dict, notes: list[str]) -> None:
    """Print the summary and the findings; write workbook, pictures and page; print their paths."""
    records = [record for record in records if "result" in record]
    runs = comparison.runs_table(records)
    tables = {
        "Summary": comparison.summary_table(runs),
        "Differences": comparison.differences_table(runs),
        "Runs": runs,
        "Intervals": comparison.intervals_table(runs),
    }
    said = comparison.findings(runs, tables["Differences"]) + notes
    print("\n" + readable(tables["Summary"]) + "\n\n" + "\n".join(said) + "\n")
    shown = _shown_setting(records)
    pictures = _pictures(runs, shown, out)
    book = out / f"{NAME}.xlsx"
    settings = _settings(records, options, notes)
    tables |= {
        "Findings": pd.DataFrame({"finding": said}),
        "Test accuracy": _chart_data(runs, tables["Summary"]),
        "Curves": _rows([r for r in shown if r["settings"]["seed"] == 0], "history"),
        "Events": _rows(records, "events"),
        "Training": _rows(records, "history"),
        "Activity": _rows(shown, "activity"),
    }
    tables = {title: _without_zero_events(table) for title, table in tables.items() if len(table)}
    workbook.write(book, tables, _charts(tables), settings)
    html = out / f"{NAME}.html"
    page.write(
        html, "Activation-based against magnitude pruning", _page(said, tables, pictures, settings)
    )
    for path in (book, *(path for path, *_ in pictures), html):
        print(path)
    for name in PICTURES:  # of an earlier run with other arms: no longer what the workbook says
        if out / f"{name}.png" not in [path for path, *_ in pictures]:
            (out / f"{name}.png").unlink(missing_ok=True)


def readable(summary: pd.DataFrame) -> str:
    """Lay the summary out for a terminal."""
    table = summary.copy()
    percent = "{:.2%}".format
    table["test accuracy"] = [
        f"{mean:.2%}" + (f" ± {half:.2%}" if half == half else "")
        for mean, half in zip(table["test_accuracy"], table["test_accuracy_ci95"], strict=True)
    ]
    columns = ["arm", "sparsity", "events", "runs", "runs_reached", "measured_sparsity"]
    columns += ["test accuracy", "test_top_5", "test_loss", "epochs", "time_s"]
    formats = {"sparsity": "{:.0%}".format, "measured_sparsity": percent, "test_top_5": percent}
    formats |= {"test_loss": "{:.3f}".format, "epochs": "{:.1f}".format, "time_s": "{:.1f}".format}
    formats |= {"events": lambda events: str(events or "-")}
    return table[columns].to_string(index=False, formatters=formats)


def _shown_setting(records):
    """The records of one setting for curves, activity and masks: most sparse, fewest events."""
    pruned = [r["settings"] for r in records if r["settings"]["sparsity"]]
    sparsity = max((s["sparsity"] for s in pruned), default=0.0)
    events = min((s["events"] for s in pruned if s["events"]), default=0)
    return [
        r
        for r in records
        if (r["settings"]["sparsity"], r["settings"]["events"])
        in {(0.0, 0), (sparsity, 0), (sparsity, events)}
    ]


def _rows(records, key):
    """The rows kept under `key` in each record's result, as one table with the run in front."""
    parts = [
        pd.DataFrame(record["result"][key]).assign(
            **{name: record["settings"][name] for name in ("arm", "seed")},
            run_sparsity=record["settings"]["sparsity"],
            run_events=record["settings"]["events"],
        )
        for record in records
        if record["result"][key]
    ]
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, ignore_index=True)
    front = ["arm", "run_sparsity", "run_events", "seed"]
    return table[front + [name for name in table.columns if name not in front]]


def _without_zero_events(table):
    """Leave the number of events empty for the arms that have none."""
    names = [name for name in ("events", "run_events") if name in table]
    return table.assign(**{name: table[name].where(table[name] > 0) for name in names})


def _close_arms(runs):
    means = runs.groupby(comparison.SETTING)["test_accuracy"].mean()
    worst = means.groupby("arm").min()
    return set(worst[worst >= means.max() - CLOSE].index)


def _by_events(runs):
    """The pruned runs; those of an arm without events stand beside every number of events."""
    pruned = runs[runs["arm"] != "dense"]
    own, peer = pruned[pruned["events"] > 0], pruned[pruned["events"] == 0]
    if own.empty:
        return peer
    numbers = own["events"].drop_duplicates()
    return pd.concat([own, peer.drop(columns="events").merge(numbers.to_frame(), how="cross")])


def _pictures(runs, shown, out):
    """Draw and save; return (path, title, caption) of each picture."""
    pictures = []

    def add(name, title, figure, caption):
        pictures.append((figures.save(figure, out / f"{name}.png"), title, caption))

    pruned, dense = _by_events(runs), runs.loc[runs["arm"] == "dense", "test_accuracy"]
    dense = dense if len(dense) else None
    pruned, short = pruned[pruned["reached"]], sorted(set(pruned.loc[~pruned["reached"], "arm"]))
    if len(pruned):
        draw = figures.accuracy_against_sparsity
        title = "Test accuracy against sparsity"
        add("test_accuracy", title, draw(pruned, reference=dense), _said_of(short))
        close = _close_arms(runs)
        left_out = sorted(set(pruned["arm"]) - close)
        part = pruned[pruned["arm"].isin(close)]
        if left_out and len(part):
            caption = f"Left out, since far below: {', '.join(left_out)}. {_said_of(short)}"
            add("test_accuracy_closeup", f"{title}, close", draw(part, reference=dense), caption)
    where = _where(shown)
    history, events = _rows(shown, "history"), _rows(shown, "events")
    if events.empty:
        events = pd.DataFrame(columns=["arm", "seed", "epoch", "total_sparsity"])
    curves = figures.training_curves(history, events)
    add("training_curves", "Training with pruning events", curves, where)
    activity, masks = _rows(shown, "activity"), _masks(shown, out)
    if len(activity):
        figure = figures.activation_frequency(activity[activity["arm"].isin(MASKED)])
        caption = f"{where} Counted over the whole training of the first seed."
        add("activation_frequency", "How often units fire", figure, caption)
    if masks:
        add("masks", "Masks", figures.mask_heatmap(masks), f"{where} First seed.")
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
        record["settings"]["arm"]: runner.arrays_of(out / "runs", record)
        for record in shown
        if record["has_arrays"] and record["settings"]["arm"] in MASKED
    }


def _chart_data(runs, summary):
    """What the native chart of test accuracy draws: the fewest events, the arms close together."""
    events = summary.loc[summary["events"] > 0, "events"].min()
    table = summary[summary["arm"].isin(_close_arms(runs)) & (summary["arm"] != "dense")]
    table = table[table["events"].isin([0, events])]
    return table[["arm", "sparsity", "test_accuracy", "test_accuracy_ci95", "events"]]


def _charts(tables):
    charts = []
    if "Test accuracy" in tables:
        charts.append(workbook.Chart("Test accuracy", "sparsity", "test_accuracy", "arm"))
    if "Curves" in tables:
        for value in ("validation_accuracy", "train_accuracy", "sparsity"):
            charts.append(workbook.Chart("Curves", "epoch", value, "arm"))
    return charts


def _settings(records, options, notes):
    seeds = sorted({record["settings"]["seed"] for record in records})
    shown = {key: value for key, value in options.items() if value is not None and key != "seeds"}
    backend = records[0]["settings"]["backend"]
    note = " ".join(notes) or "none"
    table = workbook.settings_table(seeds=seeds, **shown, backend=backend, notes=note)
    if not any(record["settings"]["arm"] == "tfmot" for record in records):
        return table
    peers = ("tensorflow-model-optimization", "tf-keras")
    rows = [(f"version of {name}", importlib.metadata.version(name), "") for name in peers]
    return pd.concat([table, pd.DataFrame(rows, columns=table.columns)], ignore_index=True)


def _page(said, tables, pictures, settings):
    return [
        page.Section("Findings", text="\n\n".join(said)),
        page.Section("Summary", text=ABOUT, table=tables["Summary"]),
        *(page.Section(title, figure=path, caption=caption) for path, title, caption in pictures),
        *(
            page.Section(title, table=tables[title])
            for title in ("Differences",)
            if title in tables
        ),
        page.Section("Runs", table=tables["Runs"]),
        page.Section("Settings", table=settings),
    ]
