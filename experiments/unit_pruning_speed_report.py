"""The files of unit_pruning_speed: time, size and accuracy of compacted networks."""

from pathlib import Path

import numpy as np
import pandas as pd

from activation_pruning.analysis.latency import bootstrap_median
from activation_pruning.reports import figures, statistics, workbook
from activation_pruning.reports.figures import style
from lab import publication
from lab.publication import Picture

NAME = "unit_pruning_speed"
TIMING = "timing"  # the arm of the run that measures time
KERAS, LITERT, ONNX = FORMATS = ("keras", "litert", "onnx")
ON_BATCH = "on_batch"
SPEED_UP = ("speed_up", "speed_up_low", "speed_up_high")
SHOWN = {KERAS: "Keras predict", ON_BATCH: "Keras predict_on_batch"}
SHOWN |= {LITERT: "LiteRT", ONNX: "ONNX Runtime"}
FILES = {KERAS: ".keras", LITERT: "LiteRT", ONNX: "ONNX"}
CLOCKS = {"": "time on the wall", "cpu_": "processor time"}
# Of such a network on another machine: ms to predict 10,000 images by share of the units pruned.
PUBLISHED = {0.0: 361.0, 0.5: 142.0, 0.9: 25.5}
LOSS = 0.02  # of accuracy, that the findings take for small
ELSEWHERE, THEORY = "published, another machine", "multiply-adds"
MEASURED = ["test_accuracy", "accuracy_compacted", "largest_difference"]
COUNTED = ["parameters", "multiply_adds"]
BYTES = [f"{runtime}_bytes" for runtime in FORMATS]
ABOUT = (
    "test_accuracy is that of the pruned network, accuracy_compacted that of the one without the "
    "pruned units, mean over the seeds; _ci95 is the half-width of the 95 % t-interval. "
    "target_sparsity is the share of the units pruned in every hidden layer. _speed_up is the time "
    "of the dense network / that of the compacted one, on the wall, by the same runtime in the "
    "same round: the median over the rounds. Times has its interval, and processor times (cpu_), "
    "which other programs on the machine disturb less. The times are of one arm and "
    "seed: networks of the same widths take equally long."
)


@publication.publishing
def publish(records: list[dict], out: Path, options: dict) -> publication.Publication:
    """What there is to show."""
    runs = publication.rows(records, "curve", {})
    rounds, sizes = rounds_table(records), sizes_table(records, runs)
    times = times_table(rounds, sizes)
    published = published_table() if options["dataset"] == "mnist" else times[:0]
    summary = summary_table(runs, times, sizes)
    tables = {
        "Summary": summary,
        # An empty table would make the columns of the other one columns of objects.
        "Times": pd.concat([t for t in (times, published) if len(t)] or [times]),
        "Sizes": sizes,
        "Runs": runs,
        "Rounds": rounds,
        "Warnings": publication.warnings_table(records),
    }
    return publication.Publication(
        name=NAME,
        title="Units pruned and taken out: time, size, accuracy",
        findings=findings(runs, times, sizes, published, options),
        about=ABOUT,
        tables=tables,
        charts=[
            workbook.Chart("Summary", "target_sparsity", "accuracy_compacted", "arm"),
            workbook.Chart("Times", "target_sparsity", "speed_up", "runtime"),
        ],
        pictures=_pictures(runs, times, sizes, published),
        on_page=("Times", "Sizes"),
        packages=("ai-edge-litert", "onnxruntime"),
    )


def rounds_table(records: list[dict]) -> pd.DataFrame:
    """Every time measured, and its ratio to that of the dense network in the same round."""
    table = publication.as_target(publication.rows(records, "times", {}))
    if table.empty:
        return pd.DataFrame(columns=["round", "runtime", "target_sparsity", "time_ms", "ratio"])
    table = table.drop(columns=["arm", "seed"])
    dense = table[table["target_sparsity"] == 0].set_index(["runtime", "round"])
    dense = dense.loc[pd.MultiIndex.from_frame(table[["runtime", "round"]])]
    table["ratio"] = table["time_ms"].to_numpy() / dense["time_ms"].to_numpy()
    table["cpu_ratio"] = table["cpu_ms"].to_numpy() / dense["cpu_ms"].to_numpy()
    return table


def sizes_table(records: list[dict], runs: pd.DataFrame) -> pd.DataFrame:
    """Parameters, multiply-adds and bytes of the files of each network that was timed."""
    sizes = publication.as_target(publication.rows(records, "sizes", {}))
    if sizes.empty:
        return pd.DataFrame(columns=["target_sparsity", "units", *COUNTED])
    network = ["target_sparsity", "units"]
    counted = runs.drop_duplicates(network)[[*network, *COUNTED]]
    table = counted.merge(sizes[[*network, *BYTES]], on=network)
    dense = table[table["target_sparsity"] == 0].iloc[0]
    for name in (*COUNTED, *BYTES):
        table[f"{name.removesuffix('_bytes')}_compression"] = dense[name] / table[name]
    return table


def times_table(rounds: pd.DataFrame, sizes: pd.DataFrame) -> pd.DataFrame:
    """Median time and ratio to the dense network, with its interval, by runtime and share.

    Columns: runtime, target_sparsity, rounds, theory (speed-up by multiply-adds); on the wall
    and, with `cpu_` in front, of the processor: median_ms, ratio (median over the rounds),
    ratio_low, ratio_high (bootstrap, 95 %), speed_up (1 / ratio), speed_up_low, speed_up_high.
    """
    random, rows = np.random.default_rng(0), []
    for (runtime, sparsity), own in rounds.groupby(["runtime", "target_sparsity"], sort=False):
        row = {"runtime": SHOWN[runtime], "target_sparsity": sparsity, "rounds": len(own)}
        row["theory"] = sizes.set_index("target_sparsity")["multiply_adds_compression"][sparsity]
        for clock in CLOCKS:
            taken = own["cpu_ms" if clock else "time_ms"]
            row |= {f"{clock}median_ms": taken.median()} | _ratios(own, clock, random)
        rows.append(row)
    columns = ["runtime", "target_sparsity", "rounds", "speed_up", "cpu_speed_up"]
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    order = {name: place for place, name in enumerate(SHOWN.values())}
    return table.sort_values(["runtime", "target_sparsity"], key=lambda c: c.replace(order))


def _ratios(own, clock, random):
    ratio = float(own[f"{clock}ratio"].median())
    low, high = bootstrap_median(own[f"{clock}ratio"].to_numpy(), random)
    ends = {"ratio": ratio, "ratio_low": low, "ratio_high": high}
    ends |= {"speed_up": 1 / ratio, "speed_up_low": 1 / high, "speed_up_high": 1 / low}
    return {f"{clock}{name}": value for name, value in ends.items()}


def published_table() -> pd.DataFrame:
    """What was published for such a network, measured elsewhere: no interval, nothing of ours."""
    rows = [
        {"runtime": ELSEWHERE, "target_sparsity": share, "median_ms": taken}
        | {"ratio": taken / PUBLISHED[0.0], "speed_up": PUBLISHED[0.0] / taken}
        for share, taken in PUBLISHED.items()
    ]
    return pd.DataFrame(rows)


def summary_table(runs, times, sizes) -> pd.DataFrame:
    """One row per arm and share: accuracies over the seeds, counts, bytes, speed-ups."""
    table = statistics.summary(runs, ["arm", "target_sparsity", "units", *COUNTED], MEASURED)
    if len(times):
        files = sizes[["target_sparsity", "units", *BYTES]]
        wide = times.pivot_table("speed_up", "target_sparsity", "runtime", sort=False)
        wide.columns = [f"{name.lower().replace(' ', '_')}_speed_up" for name in wide.columns]
        files = files.merge(wide.reset_index(), on="target_sparsity")
        table = table.merge(files, on=["target_sparsity", "units"], how="left")
    return table.drop(columns="units")


def findings(runs, times, sizes, published, options) -> list[str]:
    """Say in plain words what the numbers say."""
    gaps = (runs["accuracy_compacted"] - runs["test_accuracy"]).abs()
    lines = [
        f"Taking the pruned units out changed the accuracy of {int((gaps > 0).sum())} of "
        f"{len(runs)} networks (by at most {100 * gaps.max():.2f} points); outputs differ by at "
        f"most {runs['largest_difference'].max():.1g}."
    ]
    for arm, own in runs.groupby("arm", sort=False):
        means = own.groupby("target_sparsity")["accuracy_compacted"].mean()
        told = ", ".join(f"{mean:.2%} at {style.share(share)}" for share, mean in means.items())
        lines.append(f"Mean test accuracy, {arm}: {told}.")
        lines += _affordable(arm, means, times)
    if len(times):
        count = int(times["rounds"].iloc[0])
        lines.append(
            f"Times are of 10,000 images in batches of {options['predict_batch']}, one thread, "
            f"all networks and runtimes in turn, {count} rounds; brackets hold 95 % bootstrap "
            "intervals of the median of the ratios to the dense network."
        )
    for runtime, own in times.groupby("runtime", sort=False):
        lines += [f"{runtime}, {told}: {_told(own, clock)}." for clock, told in CLOCKS.items()]
    if len(published):
        told = ", ".join(
            f"{row.median_ms:g} ms at {style.share(row.target_sparsity)} ({row.speed_up:.1f} x)"
            for row in published.itertuples()
        )
        lines.append(f"Published, on another machine: {told}; only the ratios can be compared.")
    for row in sizes[sizes["target_sparsity"].isin((0.0, 0.5, 0.9))].itertuples():
        lines.append(
            f"{style.share(row.target_sparsity)}: {row.parameters:,} parameters, "
            f"{row.multiply_adds:,} multiply-adds; files of {row.keras_bytes:,} (.keras), "
            f"{row.litert_bytes:,} (LiteRT) and {row.onnx_bytes:,} (ONNX) bytes."
        )
    return lines


def _affordable(arm, means, times):
    """The largest share that costs little accuracy, and what it brings, in a sentence."""
    cheap = means[means >= means[0.0] - LOSS].index.max()
    own = times[times["target_sparsity"] == cheap] if cheap else times[:0]
    if own.empty:
        return []
    told = ", ".join(f"{row.runtime} {row.cpu_speed_up:.1f} x" for row in own.itertuples())
    loss = 100 * (means[0.0] - means[cheap])
    return [
        f"{style.share(cheap)} of the units is the most that costs {arm} less than "
        f"{100 * LOSS:g} points ({loss:.1f}); speed-up there, processor time: {told}."
    ]


def _told(own, clock):
    dense, pruned = own[own["target_sparsity"] == 0].iloc[0], own[own["target_sparsity"] > 0]
    parts = [
        f"{speed_up:.1f} x [{low:.1f}, {high:.1f}] at {style.share(share)}"
        for share, speed_up, low, high in zip(
            pruned["target_sparsity"], *(pruned[f"{clock}{name}"] for name in SPEED_UP), strict=True
        )
    ]
    return f"{dense[f'{clock}median_ms']:.0f} ms dense, {', '.join(parts)}"


def _pictures(runs, times, sizes, published):
    accuracy = figures.mean_curves(
        runs, "target_sparsity", "accuracy_compacted", title="Accuracy of the compacted networks",
        note="no training after pruning", x_label="units pruned in every hidden layer",
        y_label="test accuracy (%)",
    )  # fmt: skip
    pictures = {f"{NAME}_accuracy": Picture("Test accuracy against units pruned", accuracy)}
    if times.empty:
        return {f"{NAME}_times": None, f"{NAME}_sizes": None} | pictures
    caption = "multiply-adds: the speed-up if time were their number."
    if len(published):
        caption += " The published ratios were measured on another machine."
    speed = Picture("Speed-up against units pruned", _speeds(times, sizes, published), caption)
    names = {f"{name}_bytes": f"{shown} file" for name, shown in FILES.items()}
    files = sizes.rename(columns=names).melt(
        "target_sparsity", list(names.values()), "file", "size_bytes"
    )
    files["size_kB"] = files["size_bytes"] / 1000
    files["panel"] = ""
    size = _on_logarithm(files, "size_kB", "file", "Size of the files", "kB", "one network each")
    return {
        f"{NAME}_times": speed,
        **pictures,
        f"{NAME}_sizes": Picture("Size of the files against units pruned", size),
    }


def _speeds(times, sizes, published):
    """Speed-up by runtime on both clocks, beside the theoretical and the published one."""
    theory = sizes.rename(columns={"multiply_adds_compression": "speed_up"}).assign(runtime=THEORY)
    parts = []
    for clock, panel in CLOCKS.items():
        names = {f"{clock}{name}": name for name in SPEED_UP}
        ours = times[["runtime", "target_sparsity", *names]].rename(columns=names)
        parts += [part.assign(panel=panel) for part in (ours, theory, published)]
    return _on_logarithm(
        pd.concat(parts), "speed_up", "runtime", "Speed-up by taking out units",
        "time dense / compacted", "median over the rounds, band: its 95 % bootstrap interval",
    )  # fmt: skip


@style.styled
def _on_logarithm(table, y, by, title, y_label, note):
    """One line per value of `by` against the share of units, on a logarithmic scale."""
    names = list(dict.fromkeys(table["panel"]))
    figure, grid = style.panels(names, sharey=True)
    looks = style.looks(table[by])
    for panel, ax in zip(names, grid.ravel(), strict=True):
        for name, rows in table[table["panel"] == panel].groupby(by, sort=False):
            rows, look = rows.sort_values("target_sparsity"), looks[name]
            ax.plot(rows["target_sparsity"], rows[y], label=name, **look)
            if f"{y}_low" in rows:
                low, high = rows[f"{y}_low"], rows[f"{y}_high"]
                band = {"color": look["color"], "alpha": 0.15, "linewidth": 0}
                ax.fill_between(rows["target_sparsity"], low, high, **band)
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
        style.percent(ax.xaxis)
        ax.set_xlabel("units pruned in every hidden layer")
    grid[0, 0].set_ylabel(y_label)
    return style.finish(figure, grid[0, 0], title, note)
