"""The tables, words and pictures of combined_compression."""

from pathlib import Path

import combined_compression_planned as planned
import numpy as np
import pandas as pd

from activation_pruning.reports import figures, statistics, workbook
from lab import compacting_report, publication
from lab.compacting import DENSE
from lab.publication import Picture

NAME = "combined_compression"
BY = ["network", "setting", "arm"]
FORMATS = ("keras", "litert", "onnx", "container")
WIDE = {
    "test_accuracy": "accuracy",
    "agreement": "agreement",
    "file_bytes": "bytes",
    "gzip_bytes": "gzip_bytes",
    "zero_share": "zero_share",
    "time_ratio": "time_ratio",
    "batch_ms": "batch_ms",
}
IN_RUNS = ["keras_agreement", "keras_time_ratio", "keras_zero_share"]  # not in the summary
IN_RUNS += [f"{kind}_batch_ms" for kind in FORMATS]
IN_RUNS += [f"container_{n}" for n in ("accuracy", "agreement", "gzip_bytes", "zero_share")]
ABOUT = (
    "Means over the seeds; _ci95 is the half-width of the 95 % t-interval. keras_accuracy: of the "
    "network as it was trained, litert_ and onnx_accuracy of the files. _agreement: share of the "
    "test samples to which file and network give the same label. _bytes: of the file, .keras "
    "without an optimizer; _gzip_bytes: gzipped. _zero_share: zeros among the weights of all "
    "kernels (the output layer's too) as they stand in the file. _time_ratio: time of a batch of "
    "256 / that of the dense float file in the same runtime, median over rounds in which all take "
    "turns. smaller: gzipped bytes of the dense "
    "float .tflite file / those of this one; container: the file of ap.compress."
)


@publication.publishing
def publish(records: list[dict], out: Path, options: dict) -> publication.Publication:
    """What there is to show."""
    table = files_table(records)
    if table.empty:
        return publication.nothing(["No trial ended as asked for."])
    runs = wide(table)
    summary, found = summary_table(runs), planned.comparisons(runs)
    return publication.Publication(
        name=NAME,
        title="Pruning, eight bits and distillation together",
        findings=findings(records, table, summary, found),
        about=ABOUT,
        tables={
            "Summary": summary,
            "Planned comparisons": found,
            "Zeros in files": zeros_table(table),
            "Runs": runs,
            "Files": table,
            "Chart": _of_arms(summary),
            "Warnings": publication.warnings_table(records),
        },
        charts=[
            workbook.Chart("Chart", "arm", name, kind="bar", panel="at", title=title)
            for name, title in (
                ("litert_accuracy", "test accuracy of the LiteRT file"),
                ("litert_gzip_bytes", "bytes of the LiteRT file, gzipped"),
            )
        ],
        pictures=pictures(runs),
        on_page=("Planned comparisons", "Zeros in files"),
    )


def files_table(records: list[dict]) -> pd.DataFrame:
    """One row per run, setting and file."""
    table = compacting_report.runs_table(records, "share", {"network": "network"})
    if table.empty:
        return table
    table["zero_share"] = table["zeros"] / table["kernel_weights"]
    table["time_ratio"] = 1 / table.pop("speedup")
    return table


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """One row per run and setting: a column for each format and what was measured of it."""
    found = table.pivot(index=[*BY, "seed"], columns="format", values=list(WIDE))
    kinds = [kind for kind in FORMATS if kind in set(table["format"])]
    columns = {
        f"{kind}_{short}": found[name, kind] for name, short in WIDE.items() for kind in kinds
    }
    known = pd.DataFrame(columns).dropna(axis=1, how="all").astype(float)
    order = list(dict.fromkeys(map(tuple, table[[*BY, "seed"]].to_numpy())))
    known = known.loc[order].reset_index()
    base = known[known["arm"] == DENSE].set_index(["network", "seed"])["litert_gzip_bytes"]
    keys = pd.MultiIndex.from_frame(known[["network", "seed"]])
    known["smaller"] = base.reindex(keys).to_numpy() / known["litert_gzip_bytes"]
    return known


def summary_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds, of accuracies with their intervals, arms below each other."""
    kept = [name for name in runs if name not in (*BY, "seed") and name not in IN_RUNS]
    accuracies = [name for name in kept if name.endswith("_accuracy")]
    means = runs.groupby(BY, sort=False)[[n for n in kept if n not in accuracies]].mean()
    table = statistics.summary(runs, BY, accuracies).merge(means.reset_index(), on=BY)
    places = {at: place for place, at in enumerate(dict.fromkeys(_at(table)))}
    return table.loc[_at(table).map(places).sort_values(kind="stable").index].reset_index(drop=True)


def _at(table):
    return table["network"] + ", " + table["setting"]


def zeros_table(table: pd.DataFrame) -> pd.DataFrame:
    """What became of the zeros in the files: by network, setting, arm and format.

    lost: zeros of the network less those in its file, the most over the seeds; below 0 where
    rounding has made more of them. int8_share: kernels held in int8.
    """
    keys = [*BY, "seed"]
    own = table[table["format"] == "keras"].set_index(keys)[["zeros", "kernel_weights"]]
    files = table[table["format"] != "keras"].copy()
    match = own.reindex(pd.MultiIndex.from_frame(files[keys]))
    files["lost"] = match["zeros"].to_numpy() - files["zeros"]
    files["same_weights"] = match["kernel_weights"].to_numpy() == files["kernel_weights"]
    files["int8_share"] = files["int8_weights"] / files["kernel_weights"]
    named = {"zero_share": "mean", "lost": "max", "int8_share": "mean", "same_weights": "all"}
    return files.groupby([*BY, "format"], sort=False).agg(named).reset_index()


def findings(records, table, summary, found) -> list[str]:
    """Say in plain words what the numbers say."""
    lines = [_split(records[0]["settings"])]
    for (network, setting), rows in summary.groupby(["network", "setting"], sort=False):
        each = [
            f"{row['arm']} {row['litert_accuracy']:.2%}, {row['litert_gzip_bytes']:,.0f} bytes"
            + ("" if np.isnan(row["smaller"]) else f" ({row['smaller']:.1f} times smaller)")
            for row in rows.to_dict("records")
        ]
        lines.append(
            f"{network}, {setting}, LiteRT files and their bytes gzipped: {'; '.join(each)}."
        )
    lines += _zeros(zeros_table(table)) + _agreement(table)
    return lines + planned.told(found)


def _split(settings):
    first, fine, last = (settings[name] for name in ("epochs", "fine_tune", "last"))
    samples = settings["samples"]
    drawn = f" of {samples:,} samples, drawn anew for each seed" if samples else ""
    return (
        f"Every arm is trained for {first + fine + last} epochs{drawn}: {first} dense, then {fine} "
        f"and {last} at a tenth of the learning rate, the last {last} as if quantised or with "
        "shared weights in the arms that do so."
    )


def _zeros(zeros):
    lines = []
    for name, rows in zeros.groupby("format", sort=False):
        integers = rows[rows["int8_share"] > 0]
        most = rows["lost"].max()
        kept = "every zero of the networks is" if most <= 0 else f"all but {most:,.0f} zeros are"
        told = f"In the files of {name} {kept} a zero"
        if len(integers):
            low, high = integers["int8_share"].min(), integers["int8_share"].max()
            shares = "all" if low == 1 else f"{low:.1%} to {high:.1%} of the"
            told += f"; in the quantised ones {shares} weights are int8"
        lines.append(f"{told}.")
    return lines


def _agreement(table):
    files = table[table["format"] != "keras"]
    by = files.assign(kind=np.where(files["int8_weights"] > 0, "int8", "float"))
    told = [
        f"{name}, {kind} {rows['agreement'].min():.2%} to {rows['agreement'].max():.2%}"
        for (name, kind), rows in by.groupby(["format", "kind"], sort=False)
    ]
    return [f"File and network give the same label to so many test samples: {'; '.join(told)}."]


def _of_arms(summary):
    """What the charts show: a chart for each network and setting."""
    names = ["arm", "litert_accuracy", "litert_gzip_bytes"]
    return summary[names].assign(at=_at(summary))


def pictures(runs: pd.DataFrame) -> dict:
    """Accuracy and bytes by arm, settings as dots, a panel for each network."""
    drawn = {}
    for name, title in (
        ("litert_accuracy", "Test accuracy of the LiteRT files"),
        ("smaller", "Times smaller than the dense float file"),
    ):
        shown = runs[runs[name].notna()]
        drawn[f"{NAME}_{name}"] = None
        if len(shown):
            figure = figures.mean_dots(
                shown, name, "setting", "arm", "network", title=title,
                note="LiteRT files" if name != "smaller" else "LiteRT files, gzipped",
            )  # fmt: skip
            drawn[f"{NAME}_{name}"] = Picture(title, figure)
    return drawn
