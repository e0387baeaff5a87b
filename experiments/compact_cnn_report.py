"""The files of compact_cnn: what every stage costs and can do."""

from pathlib import Path

import pandas as pd

from activation_pruning.reports import figures, statistics, workbook
from lab import publication, words
from lab.differences import by_setting
from lab.publication import Picture

NAME = "compact_cnn"
STAGES = ("dense", "pruned", "compact", "fine-tuned", "litert", "onnx")
KERAS = ("dense", "fine-tuned")  # the last stage in Keras
TIMED = {
    "pruned": "Keras, zeros in place",
    "fine-tuned": "Keras, units gone",
    "litert": "LiteRT, units gone",
    "onnx": "ONNX, units gone",
}
COUNTS = ("parameters", "multiply_adds", "file_size_bytes")
ABOUT = (
    "Means over the seeds; _ci95 is the half-width of the 95 % t-interval. dense, pruned, compact "
    "and fine-tuned are .keras files without optimizer state, litert and onnx the exports of the "
    "last of them (float32). largest_difference: of any output (a probability) on any test image, "
    "compact from pruned, exports from the network that was exported. time_ratio: time of a batch "
    "of 256 / that of the dense network in Keras, median over rounds in which all take turns; "
    "time_ratio_same_runtime: / that of the dense network in the same runtime."
)


@publication.publishing
def publish(
    records: list[dict], out: Path, options: dict, timed: list[dict]
) -> publication.Publication:
    """What there is to show, from the records of runs and of times."""
    stages, times = stages_table(records), times_table(timed)
    summary = summary_table(stages, times)
    final, differences = final_table(summary), differences_table(stages)
    by_stage = summary[summary["arm"] != "dense"]
    tables = {
        "Summary": summary,
        "Last network": final,
        "Accuracy by stage": by_stage[["network", "arm", "stage", "test_accuracy"]],
        "Differences": differences,
        "Times": times,
        "Layers": layers_table(records),
        "Runs": stages,
        "Warnings": publication.warnings_table(records),
    }
    return publication.Publication(
        name=NAME,
        title="Convolutional networks whose pruned units are gone",
        findings=findings(summary, differences, records),
        about=ABOUT,
        tables=tables,
        charts=_charts(final),
        pictures=_pictures(stages, final),
        on_page=("Last network", "Differences", "Times"),
    )


def stages_table(records: list[dict]) -> pd.DataFrame:
    """One row per run and stage."""
    return _rows(records, "stages", ["stage", "test_accuracy", "test_loss", *COUNTS])


def layers_table(records: list[dict]) -> pd.DataFrame:
    """Units of every layer before and after, one row per run and layer."""
    table = _rows(records, "layers", ["layer", "kind", "units"])
    if len(table):
        table["kept"] = table["units"] - table["removed"]
    return table


def times_table(timed: list[dict]) -> pd.DataFrame:
    """Times of a batch, one row per network, arm and stage."""
    columns = ["stage", "ratio", "ratio_same_runtime"]
    return _rows(timed, "times", columns).drop(columns="seed")


def summary_table(stages: pd.DataFrame, times: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds by network, arm and stage, the times beside them."""
    by = ["network", "arm", "stage"]
    table = statistics.summary(stages, by, ["test_accuracy"])
    means = stages.groupby(by, sort=False)[[*COUNTS]].mean().reset_index()
    largest = stages.groupby(by, sort=False)["largest_difference"].max().reset_index()
    table = table.merge(means, on=by).merge(largest, on=by)
    names = {"ratio": "time_ratio", "ratio_same_runtime": "time_ratio_same_runtime"}
    found = times.reindex(columns=[*by, *names]).rename(columns=names)
    return table.merge(found, on=by, how="left")


def final_table(summary: pd.DataFrame) -> pd.DataFrame:
    """The last network of every arm, as a share of the dense one where that is there."""
    table = summary[summary["stage"].isin(KERAS)].drop(columns=["stage", "largest_difference"])
    for name, short in zip(COUNTS, ("parameters", "multiply_adds", "file_size"), strict=True):
        dense = table[table["arm"] == "dense"].set_index("network")[name]
        table[f"{short}_share"] = table[name] / table["network"].map(dense)
    wide = ["time_ratio_same_runtime", "test_accuracy_ci95"]  # they are in the summary
    return table.drop(columns=wide).reset_index(drop=True)


def differences_table(stages: pd.DataFrame) -> pd.DataFrame:
    """Paired differences in test accuracy of the last networks: to dense, and to random units."""
    last = stages[stages["stage"].isin(KERAS)]
    arms = dict(list(last.groupby("arm", sort=False)))
    pairs = {
        (arm, baseline): (rows, arms.get(baseline, last[:0]))
        for baseline in ("dense", "random")
        for arm, rows in arms.items()
        if arm not in ("dense", baseline)
    }
    found = by_setting(pairs, ["network"])
    return found[["network", *found.columns.drop("network")]]


def findings(summary: pd.DataFrame, differences: pd.DataFrame, records: list[dict]) -> list[str]:
    """Say in plain words what the numbers say, whoever wins."""
    lines = []
    for name, rows in summary.groupby("network", sort=False):
        lines += _dense_line(name, rows)
        last = rows[rows["stage"] == "fine-tuned"]
        if last.empty:
            continue
        lines += _sizes_line(name, rows, last)
        order = last.sort_values("test_accuracy", ascending=False, kind="stable")
        told = ", ".join(f"{r.arm} {r.test_accuracy:.2%}" for r in order.itertuples())
        lines.append(f"{name}, compact and fine-tuned, best mean first: {told}.")
        lines += _differences_line(name, rows) + _times_line(name, rows)
    for (name, second), rows in differences.groupby(["network", "second"], sort=False):
        told = "; ".join(_difference(row) for row in rows.to_dict("records"))
        lines.append(f"{name}, points of test accuracy less {second}: {told}.")
    samples = records[0]["settings"]["samples"]
    if samples:
        lines.append(f"Trained on {samples:,} images only, drawn anew for each seed.")
    return lines + words.family(differences)


def _difference(row):
    told = words.interval(row, "accuracy_difference", 100)
    return f"{row['first']} {100 * row['accuracy_difference']:+.2f} ({told}, {row['verdict']})"


def _dense_line(name, rows):
    found = rows[rows["stage"] == "dense"]
    return [
        f"{name}, dense: {r.test_accuracy:.2%} test accuracy, {r.parameters:,.0f} parameters, "
        f"{r.multiply_adds:,.0f} multiply-adds."
        for r in found.itertuples()
    ]


def _sizes_line(name, rows, last):
    dense = rows[rows["stage"] == "dense"]
    pruned = rows[rows["stage"] == "pruned"]
    base = dense if len(dense) else pruned
    parts = []
    for column, told in zip(COUNTS, ("parameters", "multiply-adds", "file"), strict=True):
        shares = last[column] / base[column].iloc[0]
        low, high = f"{shares.min():.0%}", f"{shares.max():.0%}"
        parts.append(f"{told} {low if low == high else f'{low} to {high}'}")
    return [f"{name}, what stays of the dense network once units are gone: {', '.join(parts)}."]


def _differences_line(name, rows):
    largest = rows.groupby("stage")["largest_difference"].max().dropna()
    told = ", ".join(f"{stage} {largest[stage]:.1e}" for stage in STAGES if stage in largest)
    return [f"{name}, largest difference of any probability: {told}."]


def _times_line(name, rows):
    lines = []
    timed = rows[rows["time_ratio_same_runtime"].notna() & (rows["arm"] != "dense")]
    for stage, told in TIMED.items():
        ratios = timed.loc[timed["stage"] == stage, "time_ratio_same_runtime"]
        if len(ratios):
            lines.append(f"{told} {ratios.min():.2f} to {ratios.max():.2f}")
    if not lines:
        return []
    return [f"{name}, time of a batch of 256 / dense in the same runtime: {', '.join(lines)}."]


def _rows(records, key, front):
    """The rows kept under `key` as one table; what a row does not say is that of its run."""
    columns = ["network", "arm", "seed", *front]
    parts = [pd.DataFrame(record["result"][key]) for record in records]
    for part, record in zip(parts, records, strict=True):
        for name in columns[:3]:
            if name not in part:
                part[name] = record["settings"][name]
    parts = [part for part in parts if len(part)]
    if not parts:
        return pd.DataFrame(columns=columns)
    table = pd.concat(parts, ignore_index=True)
    return table[columns + [name for name in table.columns if name not in columns]]


def _charts(final):
    charts = [
        workbook.Chart(
            "Accuracy by stage", "stage", "test_accuracy", "arm", panel="network",
            title="test accuracy by stage",
        )
    ]  # fmt: skip
    told = {"test_accuracy": "test accuracy", "parameters": "parameters"}
    told |= {"multiply_adds": "multiply-adds", "file_size_bytes": "bytes of the .keras file"}
    told |= {"time_ratio": "time of a batch / dense"}
    return charts + [
        workbook.Chart("Last network", "arm", y, kind="bar", panel="network", title=title)
        for y, title in told.items()
        if final[y].notna().any()
    ]


def _pictures(stages, final):
    pictures = {f"{NAME}_accuracy": None, f"{NAME}_cost": None}
    shown = stages[stages["stage"].isin(["dense", "pruned", "fine-tuned"])]
    figure = figures.mean_dots(
        shown, "test_accuracy", "stage", "arm", "network",
        title="Test accuracy, zeros in place and units gone",
        note="fine-tuned: units taken out, trained a little more",
    )  # fmt: skip
    pictures[f"{NAME}_accuracy"] = Picture(
        "Test accuracy", figure, "LiteRT and ONNX files: see the table."
    )
    names = {"parameters_share": "parameters", "multiply_adds_share": "multiply-adds",
             "file_size_share": "bytes of the file", "time_ratio": "time of a batch"}  # fmt: skip
    long = final[final["arm"] != "dense"].melt(
        ["network", "arm"], list(names), "measure", "relative_to_dense"
    ).dropna()  # fmt: skip
    if len(long):
        long["measure"] = long["measure"].map(names)
        figure = figures.mean_dots(
            long, "relative_to_dense", "measure", "arm", "network",
            title="What stays of the dense network once units are gone", note="Keras",
        )  # fmt: skip
        pictures[f"{NAME}_cost"] = Picture("Size, work and time", figure)
    return pictures
