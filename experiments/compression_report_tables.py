"""The files of compression_report: ten tables with their charts, pictures, and one page."""

from pathlib import Path

import pandas as pd

from activation_pruning.reports import figures
from activation_pruning.reports.workbook import Chart
from lab import publication
from lab.publication import Picture

NAME = "compression_report"
ABOUT = (
    "dense: as trained. pruned: single weights at zero, step by step with training in between, "
    "shapes as before. units gone: whole units pruned in one step and taken out, then trained a "
    "little. Both have been trained more than the dense network, by what the iterations say. All "
    "accuracies are measured on all images of their part."
)
TRADE = ["network", "test_accuracy", "accuracy_change_points", "median_ms", "time_change_percent"]
TRADE += ["parameters", "nonzeros", "multiply_adds"]
SHOWN = {"pruned": "accuracy_pruned", "fine-tuned": "accuracy_fine_tuned"}


@publication.publishing
def publish(records: list[dict], out: Path, options: dict) -> publication.Publication:
    """What there is to show."""
    result = records[0]["result"]
    found = tables(result)
    return publication.Publication(
        name=NAME,
        title=f"Compression of {Path(options['network']).stem} on {options['dataset']}",
        findings=findings(result, options),
        about=ABOUT,
        tables=found,
        charts=charts(found),
        pictures=_pictures(found, options),
        on_page=tuple(list(found)[1:-1]),
    )


def tables(result: dict) -> dict[str, pd.DataFrame]:
    """The sheets, by title."""
    return {
        "Accuracy": pd.DataFrame(result["accuracy"]),
        "Size": size(result),
        "Against random": _both(_table(result, "criteria"), "criterion"),
        "Accuracy and time": accuracy_and_time(result)[TRADE],
        "Connections by layer": connections(result),
        "Pruning iterations": _both(_table(result, "iterations"), "state"),
        "Sparsity and size": _table(result, "sparsity_size"),
        "Pruning and training time": times(result),
        "Inference time": inference(result),
        "Thresholds": pd.DataFrame(result["thresholds"]),
        "Warnings": pd.DataFrame({"warning": result["warnings"]}),
    }  # fmt: skip


def charts(tables: dict[str, pd.DataFrame]) -> list[Chart]:
    """A native chart for every sheet."""
    found = [
        Chart("Accuracy", "network", "test_accuracy", kind="bar", title="test accuracy"),
        Chart("Accuracy", "network", "train_accuracy", kind="bar", title="training accuracy"),
        Chart("Size", "encoding", "size_bytes", "network", kind="bar", title="bytes by encoding"),
        Chart("Against random", "target_sparsity", "test_accuracy", "criterion",
              title="test accuracy against sparsity"),
        Chart("Accuracy and time", "network", "accuracy_change_points", kind="bar",
              title="change of the test accuracy in percentage points"),
        Chart("Accuracy and time", "network", "time_change_percent", kind="bar",
              title="change of the inference time in percent, batch of 256"),
        Chart("Connections by layer", "layer", "connections", "state", kind="bar",
              title="connections by layer, before and after"),
        Chart("Pruning iterations", "iteration", "test_accuracy", "state",
              title="test accuracy by pruning iteration"),
        Chart("Sparsity and size", "target_sparsity", "size_bytes", "encoding",
              title="bytes against sparsity"),
        Chart("Pruning and training time", "phase", "time_s", kind="bar", title="seconds by phase"),
        Chart("Inference time", "network", "median_ms", "batch", kind="bar",
              title="milliseconds for a batch, median"),
        Chart("Thresholds", "threshold", "test_accuracy", title="test accuracy against threshold"),
        Chart("Thresholds", "threshold", "csr_bytes", title="bytes (csr) against threshold"),
    ]  # fmt: skip
    return [chart for chart in found if len(tables[chart.sheet])]


def accuracy_and_time(result: dict) -> pd.DataFrame:
    """What each network loses in accuracy and gains in time; the dense one is the measure."""
    accuracy = pd.DataFrame(result["accuracy"])[["network", "test_accuracy"]]
    times = pd.DataFrame(result["inference"])
    times = times[times["batch_size"] == times["batch_size"].max()]
    table = accuracy.merge(times[["network", "batch_size", "median_ms", "ratio", "ratio_low",
                                  "ratio_high"]], on="network")  # fmt: skip
    first = table["test_accuracy"].iloc[0]
    table["accuracy_change_points"] = 100 * (table["test_accuracy"] - first)
    table["time_change_percent"] = 100 * (table["ratio"] - 1)
    return table.merge(pd.DataFrame(result["cost"]), on="network")


def size(result: dict) -> pd.DataFrame:
    """Bytes by network and encoding, compression against the dense weights in float32."""
    table = pd.DataFrame(result["sizes"]).astype({"size_bytes": int})
    dense = table.loc[table["encoding"] == "float32", "size_bytes"].iloc[0]
    return table.assign(compression=dense / table["size_bytes"])


def connections(result: dict) -> pd.DataFrame:
    """Weights that are not zero by layer and state, with the share that stays."""
    table = pd.DataFrame(result["connections"])
    table["share"] = table["connections"] / table["weights"]
    return table


def times(result: dict) -> pd.DataFrame:
    """Seconds by phase, each with its share of the training time where that is known."""
    table = pd.DataFrame(result["times"])
    training = table.loc[table["phase"] == "training", "time_s"]
    if len(training):
        table["ratio_to_training"] = table["time_s"] / training.iloc[0]
    return table


def inference(result: dict) -> pd.DataFrame:
    """Times of a batch by network and size."""
    table = pd.DataFrame(result["inference"])
    table.insert(1, "batch", "batch of " + table["batch_size"].astype(str))
    return table.drop(columns="batch_size")


def findings(result: dict, options: dict) -> list[str]:
    """Say in plain words what the numbers say."""
    found = tables(result)
    accuracy = found["Accuracy"].set_index("network")["test_accuracy"]
    sizes = found["Size"].pivot(index="network", columns="encoding", values="size_bytes")
    changes = accuracy_and_time(result).set_index("network")
    lines = [f"dense: {accuracy['dense']:.2%} test accuracy, {sizes.loc['dense', 'float32']:,} "
             "bytes of weights (float32)."]  # fmt: skip
    for name in accuracy.index[1:]:
        row, own = changes.loc[name], sizes.loc[name]
        least = min(own["csr"], own["bitmask"])
        base = sizes.loc["dense", "float32"]
        lines.append(
            f"{name}: {accuracy[name]:.2%} ({row['accuracy_change_points']:+.2f} points); "
            f"{row['nonzeros']:,.0f} of {changes.loc['dense', 'weights']:,} weights; "
            f"{own['float32']:,} bytes as they are ({base / own['float32']:.1f} x smaller), "
            f"{least:,} in a sparse encoding ({base / least:.1f} x), {own['int8_huffman']:,} in "
            f"8 bits with a Huffman code ({base / own['int8_huffman']:.1f} x); a batch of "
            f"{row['batch_size']:.0f} takes {row['ratio']:.2f} times as long as dense "
            f"[{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]."
        )
    lines += _random_lines(_table(result, "criteria"))
    spent = found["Pruning and training time"].set_index("phase")["time_s"]
    told = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in spent.items())
    lines += [f"Time spent: {told}.", _threshold_line(found["Thresholds"], accuracy["dense"])]
    return [*lines, "One seed: no intervals; a repetition may differ by some tenths of a point."]


def _random_lines(table):
    lines = []
    for name, column in SHOWN.items():
        wide = table.pivot(index="target_sparsity", columns="criterion", values=column)
        best = wide.loc[wide.index.max()]
        told = ", ".join(f"{key} {best[key]:.2%}" for key in dict.fromkeys(table["criterion"]))
        lines.append(f"In one step to {wide.index.max():.0%}, {name}: {told}.")
    return lines


def _threshold_line(table, dense):
    kept = table[table["test_accuracy"] >= dense - 0.01].iloc[-1]
    return (
        f"The highest threshold tried at which less than a point is lost, without training: "
        f"{kept['threshold']:.3f}, {kept['sparsity']:.1%} sparsity, {kept['csr_bytes']:,.0f} bytes."
    )


def _table(result, key):
    return publication.as_target(pd.DataFrame(result[key]))


def _both(table, column):
    """Accuracy before and after fine-tuning below each other, named in `column`."""
    fixed = [name for name in table.columns if name not in SHOWN.values()]
    parts = []
    for name, values in SHOWN.items():
        part = table[fixed].assign(test_accuracy=table[values])
        part[column] = [f"{own}, {name}" for own in part[column]] if column in part else name
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _pictures(tables, options):
    title = f"{Path(options['network']).stem}, {options['dataset']}"
    against = figures.mean_curves(
        tables["Against random"], "target_sparsity", "test_accuracy", "criterion",
        title=f"{title}: pruned in one step", y_label="test accuracy (%)",
    )  # fmt: skip
    iterations = figures.mean_curves(
        tables["Pruning iterations"], "target_sparsity", "test_accuracy", "state",
        title=f"{title}: pruned step by step", y_label="test accuracy (%)",
    )  # fmt: skip
    threshold = figures.mean_curves(
        tables["Thresholds"].assign(arm="no training again"), "threshold", "test_accuracy",
        title=f"{title}: weights below a threshold", y_label="test accuracy (%)",
    )  # fmt: skip
    kilobytes = tables["Sparsity and size"].assign(
        size_kilobytes=tables["Sparsity and size"]["size_bytes"] / 1000
    )
    size = figures.mean_curves(
        kilobytes, "target_sparsity", "size_kilobytes", "encoding",
        title=f"{title}: size by encoding", y_label="size (kB)",
    )  # fmt: skip
    return {
        f"{NAME}_random": Picture("Against random pruning", against),
        f"{NAME}_iterations": Picture("Accuracy by pruning iteration", iterations),
        f"{NAME}_size": Picture("Sparsity against size", size),
        f"{NAME}_threshold": Picture("Threshold against accuracy", threshold),
    }
