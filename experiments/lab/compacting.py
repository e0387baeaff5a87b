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

import activation_pruning as ap
from lab import command_line, dense, images, storage, study

DENSE, TIMES = "dense", "times"
SHARED = ("dataset", "samples", "epochs", "fine_tune", "learning_rate", "batch_size")
BATCH = 256  # samples in a call that is timed, and in those that grade


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
            group = settings["seed"], settings.get("network", "")
            groups.setdefault(group, {})[settings["arm"]] = record["result"]["points"]
    shared = {"arm": TIMES, "sparsity": 0.0, "events": 0, "dataset": options.dataset}
    shared |= {"rounds": options.rounds} | study.versions()
    found = []
    for (seed, network), arms in groups.items():
        if DENSE in arms and len(arms) > 1:
            points = arms[DENSE] + [p for arm, own in arms.items() if arm != DENSE for p in own]
            files = [p["file"] for p in points]
            kind = {"network": network} if network else {}
            found.append(shared | {"seed": seed, "files": files} | kind)
    return found


def timed(settings: dict, x: np.ndarray) -> dict:
    """The result of a trial that measures time: networks from their files take turns.

    Files are those of Keras, LiteRT or ONNX.
    """
    folder = Path(os.environ[dense.FOLDER])
    models = {name: _loaded(folder / name) for name in settings["files"]}
    compared = ap.analysis.latency_compare(models, x, BATCH, rounds=settings["rounds"])
    return {"times": compared.summary[["name", "median_ms", "ratio"]].to_dict("records")}


def _loaded(path):
    if path.suffix == ".keras":
        return keras.saving.load_model(path, compile=False)
    return ap.load_exported(path)


def describe(result: dict) -> str:
    """Say in a few words how a run ended."""
    if "times" in result:
        return f"{len(result['times'])} networks timed"
    told = [
        f"{p['test_accuracy']:.4f} {'at {:.0%}'.format(p['share']) if p['share'] else DENSE}"
        for p in result["points"]
    ]
    return f"test accuracy {', '.join(told)}; {result['time_s']:.0f} s"
