"""What experiments share that train networks, take pruned units out, and measure what is left.

A trial has `points`, one for the dense network or for each share that is pruned, and keeps each
network as a .keras file. Their times are measured at the end, see `timings`.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pandas as pd

import activation_pruning as ap
from lab import arms_report, command_line, dense, images, publication, storage, study

DENSE, TIMES = "dense", "times"
SHARED = ("dataset", "samples", "epochs", "fine_tune", "learning_rate", "batch_size")
BATCH = 256  # samples in a call that is timed, and in those that grade
COSTS = ("parameters", "multiply_adds", "file_bytes")
ABOUT = (
    "accuracy_untuned is that of the pruned network before it is trained any further, file_bytes "
    "the size of the .keras file without an optimizer, speedup the time of the dense network / "
    "that of this one, for a batch of 256: the median over rounds in which all networks of a seed "
    "take turns, with no other run beside."
)


def add_options(parser, epochs: int, fine_tune: int, rate: float, batch_size: int) -> None:
    """Add what training and timing take to a parser, with these defaults."""
    add, count = parser.add_argument, command_line.count
    add("--samples", type=count, help="training samples used (default: all)")
    add("--epochs", type=count, default=epochs, help="of the dense network")
    add("--fine-tune", type=count, default=fine_tune, help="epochs once it is pruned")
    add("--learning-rate", type=command_line.positive, default=rate, help="of Adam")
    add("--batch-size", type=count, default=batch_size, help="samples in a training step")
    add("--rounds", type=count, default=30, help="timed calls of each network, at least 2")
    parser.set_defaults(seeds=5)


def grid(options, data: str, more: dict, shares: list[float]) -> list[dict]:
    """One settings dict per seed and arm; more: settings of the experiment.

    shares: what a trial prunes to, one after the other, from the dense network each time.
    """
    if options.rounds < 2:
        raise ValueError(f"--rounds {options.rounds}: a median ratio needs 2 at least")
    shared = {name: getattr(options, name) for name in SHARED}
    shared |= study.versions() | {"data": data, "sparsity": 0.0, "events": 0} | more
    return [
        {"arm": arm, "seed": seed, "shares": [] if arm == DENSE else shares} | shared
        for seed in range(options.seeds)
        for arm in dict.fromkeys(options.arms)
    ]


def trained(build: Callable[[], keras.Model], names: tuple[str, ...], settings: dict, arrays: dict):
    """The dense network of a seed, trained, or read where it was before.

    build: makes it. names: of the settings that decide on it, besides those of training.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(settings["seed"])
    model = images.compiled(build(), settings["learning_rate"])
    decide = ("dataset", "data", "samples", "seed", "epochs", "learning_rate", "batch_size")
    return dense.kept(
        model,
        settings,
        (*decide, *names, "backend", "keras"),
        lambda: images.fit(model, arrays, settings, settings["epochs"]),
    )


def fine_tune(model: keras.Model, arrays: dict, settings: dict, callbacks=()) -> None:
    """Train a pruned network a little more, at a tenth of the learning rate."""
    model.optimizer.learning_rate = settings["learning_rate"] / 10
    images.fit(model, arrays, settings, settings["fine_tune"], callbacks)


def trial(settings: dict, model: keras.Model, arrays: dict, prune: Callable) -> dict:
    """The result of a trial: the dense network, or what `prune` makes of it at each share.

    prune: (share, model) -> (compacted and fine-tuned network, what else was measured). The model
        has the dense weights each time, and its optimizer starts anew.
    """
    begun, weights, points = time.perf_counter(), model.get_weights(), []
    if settings["arm"] == DENSE:
        points.append(point(model, arrays, settings, 0.0))
    for share in settings["shares"]:
        images.compiled(model, settings["learning_rate"]).set_weights(weights)
        small, found = prune(share, model)
        points.append(point(small, arrays, settings, share) | found)
    return {"points": points, "time_s": time.perf_counter() - begun}


def point(model: keras.Model, arrays: dict, settings: dict, share: float) -> dict:
    """Keep the network in a file, and measure it."""
    stage = f"{100 * share:g}" if share else DENSE
    path = Path(os.environ[dense.FOLDER], f"{storage.name_of(settings)}-{stage}.keras")
    path.parent.mkdir(parents=True, exist_ok=True)
    images.copy(model).save(path)
    cost = ap.analysis.cost(model).total
    found = {"share": share, "file": path.name, "file_bytes": path.stat().st_size}
    found |= {name: int(cost[name]) for name in ("parameters", "multiply_adds")}
    return found | {"test_accuracy": accuracy(model, arrays)}


def accuracy(model: keras.Model, arrays: dict) -> float:
    """The share of the test samples that the network gets right."""
    return float(np.mean(outputs(model, arrays).argmax(axis=1) == arrays["y_test"]))


def outputs(model: keras.Model, arrays: dict) -> np.ndarray:
    """The probabilities of the test samples."""
    return model.predict(arrays["x_test"], batch_size=BATCH, verbose=0)


def difference(model: keras.Model, small: keras.Model, arrays: dict) -> float:
    """The largest difference between any two probabilities of the test samples.

    Raises ValueError above 1e-4: the small network shall do what the one with zeros does.
    """
    found = float(np.abs(outputs(model, arrays) - outputs(small, arrays)).max())
    if not found <= 1e-4:  # NaN as well
        raise ValueError(f"outputs of the compacted network differ by {found:.2g}")
    return found


def timings(options, records: list[dict]) -> list[dict]:
    """The settings of the trials that measure time: one per seed and kind of network."""
    groups = {}
    for record in records:
        if "result" in record:
            settings = record["settings"]
            group = settings["seed"], settings.get("network")
            groups.setdefault(group, {})[settings["arm"]] = record["result"]["points"]
    shared = {"arm": TIMES, "sparsity": 0.0, "events": 0, "dataset": options.dataset}
    shared |= {"rounds": options.rounds} | study.versions()
    found = []
    for (seed, network), arms in groups.items():
        if DENSE in arms and len(arms) > 1:
            points = arms[DENSE] + [p for arm, own in arms.items() if arm != DENSE for p in own]
            files = [p["file"] for p in points]
            found.append(shared | {"seed": seed, "network": network, "files": files})
    return found


def timed(settings: dict, x: np.ndarray) -> dict:
    """The result of a trial that measures time: networks from their files take turns."""
    folder = Path(os.environ[dense.FOLDER])
    models = {
        name: keras.saving.load_model(folder / name, compile=False) for name in settings["files"]
    }
    compared = ap.analysis.latency_compare(models, x, BATCH, rounds=settings["rounds"])
    return {"times": compared.summary[["name", "median_ms", "ratio"]].to_dict("records")}


def describe(result: dict) -> str:
    """Say in a few words how a run ended."""
    if "times" in result:
        return f"{len(result['times'])} networks timed"
    told = [
        f"{p['test_accuracy']:.4f} {'at {:.0%}'.format(p['share']) if p['share'] else DENSE}"
        for p in result["points"]
    ]
    return f"test accuracy {', '.join(told)}; {result['time_s']:.0f} s"


def publish(
    records: list[dict], name: str, title: str, share: str, more: dict[str, str],
    where: Callable[..., str],
) -> publication.Publication:  # fmt: skip
    """What there is to show.

    share: what the tables call the share that was pruned to. more: further settings of the runs,
        and what tables call them. where: share and settings -> words.
    """
    runs = runs_table(records, share, more)
    whole, pruned = runs[runs["arm"] == DENSE], runs[runs["arm"] != DENSE]
    baseline = "random" if "random" in set(pruned["arm"]) else pruned["arm"].iloc[:1].sum()
    metrics = ["accuracy_untuned", *COSTS, "speedup"]
    metrics = [m for m in metrics if len(pruned) and pruned[m].notna().any()]
    columns = [*more.values(), "test_accuracy", *COSTS]
    return arms_report.compared(
        pruned.reset_index(drop=True), name, title, baseline,
        by=(share, *more.values()), metrics=metrics, about=ABOUT,
        more={"Dense networks": whole[["seed", *columns]]} if len(whole) else {},
        told=_told(whole, pruned, list(more.values())), where=where,
    )  # fmt: skip


def runs_table(records: list[dict], share: str, more: dict[str, str]) -> pd.DataFrame:
    """One row per run and share, with the time of its network where that was measured."""
    trials = [record for record in records if "points" in record["result"]]
    table = publication.rows(trials, "points", more).rename(columns={"share": share})
    times = {row["name"]: row for record in records for row in record["result"].get("times", ())}
    none = {"median_ms": np.nan, "ratio": np.nan}
    found = [times.get(file, none) for file in table.pop("file")]
    table["batch_ms"] = [row["median_ms"] for row in found]
    table["speedup"] = [1 / row["ratio"] for row in found]
    return table.reindex(columns=list(dict.fromkeys([*table, "accuracy_untuned"])))


def _told(whole, pruned, by):
    """What was pruned from, what is left of it, and that outputs stay."""
    lines = []
    for key, rows in whole.groupby(by) if by else [((), whole)] if len(whole) else ():
        kind = " ".join(["dense", *key])
        size = rows[list(COSTS)].mean()
        lines.append(
            f"The {kind} networks: {rows['test_accuracy'].mean():.2%} test accuracy on average, "
            f"{size['parameters']:,.0f} parameters, {size['multiply_adds']:,.0f} multiply-adds, "
            f"{size['file_bytes']:,.0f} bytes."
        )
    if len(pruned):
        lines.append(
            "Taking the pruned units out changed no output on the test data by more than "
            f"{pruned['largest_difference'].max():.1g}."
        )
    return lines
