"""How much cheaper does a small vision transformer get, and what does it cost in accuracy?

A transformer that reads images in patches is trained. Whole units and heads go until it has so
many multiply-adds, chosen by one of several criteria (the arms); they are taken out, and the small
network is trained a little more. Each is measured before and after that: accuracy, parameters,
multiply-adds, bytes of the file, and time of a batch beside that of the dense network, in turns.

    python transformer_compaction.py --dataset mnist --jobs 2

Sources: Dosovitskiy et al., ICLR 2021 (the network); Molchanov et al., CVPR 2019 (`taylor`);
Michel et al., NeurIPS 2019 (heads).
"""

import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd

import activation_pruning as ap
from lab import arms_report, command_line, dense, images, publication, study

NAME = "transformer_compaction"
DENSE = "dense"
ARMS = (DENSE, "magnitude", "activation_magnitude", "taylor", "random")
SHARED = ("dataset", "samples", "epochs", "fine_tune", "learning_rate", "batch_size")
NETWORK = ("width", "blocks", "heads")
SCORED = 1000  # training images that criteria look at
QUICK = "--seeds 2 --epochs 3 --fine-tune 1 --blocks 2 --width 24 --budgets 0.5 --rounds 5"


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    about = "Prune a vision transformer to budgets of multiply-adds, take units out, measure."
    parser = command_line.shared_parser(NAME, about, ARMS)
    add, count = parser.add_argument, command_line.count
    told = "multiply-adds that are left, as a share of those of the dense network"
    add("--budgets", nargs="+", type=command_line.share, default=[0.7, 0.5, 0.3], help=told)
    add("--width", type=count, default=64, help="of the residual stream; half of a hidden layer's")
    add("--blocks", type=count, default=4, help="of attention and a hidden layer each")
    add("--heads", type=count, default=4, help="of each attention")
    add("--samples", type=count, help="training images used (default: all)")
    add("--epochs", type=count, default=15, help="of the dense network")
    add("--fine-tune", type=count, default=3, help="epochs of the compacted one")
    add("--learning-rate", type=command_line.positive, default=1e-3, help="of Adam")
    add("--batch-size", type=count, default=64, help="samples in a training step")
    add("--rounds", type=count, default=30, help="timed calls of each network")
    parser.set_defaults(seeds=5)
    return study.run(parser, arguments, grid, work, publish, describe)


def grid(options, data: str) -> list[dict]:
    """One settings dict per seed and arm."""
    images.load(options.dataset, options.samples)  # raises for data that cannot serve
    shared = {name: getattr(options, name) for name in (*SHARED, *NETWORK, "rounds")}
    shared |= study.versions() | {"data": data, "sparsity": 0.0, "events": 0}
    return [
        {"arm": arm, "seed": seed, "budgets": [] if arm == DENSE else options.budgets} | shared
        for seed in range(options.seeds)
        for arm in dict.fromkeys(options.arms)
    ]


def build(shape: tuple, classes: int, width: int, blocks: int, heads: int) -> keras.Model:
    """Patches of a fourth of a side, a learned place for each, blocks with the norm in front."""
    layers, side = keras.layers, max(shape[0] // 4, 1)
    inputs = keras.Input(shape)
    x = layers.Conv2D(width, side, side, name="patches")(inputs)
    x = layers.Reshape((-1, width), name="tokens")(x)
    places = layers.Embedding(x.shape[1], width, name="places")(keras.ops.arange(x.shape[1]))
    x = x + places
    for number in range(1, blocks + 1):
        y = layers.LayerNormalization(name=f"norm_{number}a")(x)
        y = layers.MultiHeadAttention(heads, width // heads, name=f"attention_{number}")(y, y)
        x = layers.Add(name=f"add_{number}a")([x, y])
        y = layers.LayerNormalization(name=f"norm_{number}b")(x)
        y = layers.Dense(2 * width, "gelu", name=f"hidden_{number}")(y)
        x = layers.Add(name=f"add_{number}b")([x, layers.Dense(width, name=f"back_{number}")(y)])
    x = layers.GlobalAveragePooling1D(name="pool")(layers.LayerNormalization(name="norm")(x))
    return keras.Model(inputs, layers.Dense(classes, "softmax", name="output")(x), name="vit")


def work(settings: dict) -> tuple[dict, dict]:
    """Train or read the dense network, and prune it to each budget; runs in a worker process."""
    arrays, begun = images.load(settings["dataset"], settings["samples"], settings["seed"]), _now()
    model = _trained(settings, arrays)
    weights, points = model.get_weights(), []
    if not settings["budgets"]:
        points.append(_point(1.0, model, arrays) | {"accuracy_compacted": None, "speedup": 1.0})
    for budget in settings["budgets"]:
        model.set_weights(weights)
        points.append(_pruned(budget, model, arrays, settings))
    model.set_weights(weights)
    return {"points": points, "time_s": _now() - begun}, {}


def describe(result: dict) -> str:
    """Say in a few words how a run ended."""
    told = [f"{p['test_accuracy']:.4f} at {p['budget']:.0%}" for p in result["points"]]
    return f"test accuracy {', '.join(told)}; {result['time_s']:.0f} s"


@publication.publishing
def publish(records: list[dict], out: Path, options: dict) -> publication.Publication:
    """What there is to show."""
    runs = publication.rows(records, "points", {})
    whole = runs[runs["arm"] == DENSE]
    pruned = runs[runs["arm"] != DENSE]
    baseline = "random" if "random" in set(pruned["arm"]) else str(pruned["arm"].iloc[0])
    return arms_report.compared(
        pruned, NAME, "A vision transformer within budgets", baseline,
        by=("budget",),
        metrics=("accuracy_compacted", "parameters", "multiply_adds", "file_bytes", "speedup"),
        about="accuracy_compacted is that before the compacted network is trained any further; "
        "speedup the median ratio of times of a batch of 256 to the dense network.",
        told=_told(whole),
        where=lambda budget: f"{budget:.0%} of the multiply-adds",
    )  # fmt: skip


def _told(whole: pd.DataFrame) -> list[str]:
    if whole.empty:
        return []
    size = whole[["parameters", "multiply_adds", "file_bytes"]].mean()
    return [
        f"The dense networks: {whole['test_accuracy'].mean():.2%} test accuracy on average, "
        f"{size['parameters']:,.0f} parameters, {size['multiply_adds']:,.0f} multiply-adds, "
        f"{size['file_bytes']:,.0f} bytes."
    ]


def _now():
    return time.perf_counter()


def _trained(settings, arrays):
    keras.backend.clear_session()
    keras.utils.set_random_seed(settings["seed"])
    shape, classes = arrays["x_train"].shape[1:], int(arrays["y_train"].max()) + 1
    model = build(shape, classes, *(settings[name] for name in NETWORK))
    images.compiled(model, settings["learning_rate"])
    decide = ("dataset", "data", "samples", "seed", "epochs", "learning_rate", "batch_size")
    decide += (*NETWORK, "backend", "keras")
    return dense.kept(
        model, settings, decide, lambda: images.fit(model, arrays, settings, settings["epochs"])
    )


def _pruned(budget, model, arrays, settings):
    scored = arrays["x_train"][:SCORED], arrays["y_train"][:SCORED]
    target = ap.budgets.MultiplyAdds(budget)
    report = ap.prune(
        model, target, settings["arm"],
        granularity="unit", data=scored, seed=settings["seed"], verbose=0,
    )  # fmt: skip
    small = ap.compact(model)
    before = _accuracy(small, arrays)
    small.optimizer.learning_rate = settings["learning_rate"] / 10
    images.fit(small, arrays, settings, settings["fine_tune"])
    point = _point(budget, small, arrays) | {"accuracy_compacted": before}
    compared = ap.analysis.latency_compare(
        {"dense": model, "small": small}, arrays["x_test"], 256, rounds=settings["rounds"]
    ).summary
    spent = report.spending
    point |= {"asked": spent.asked, "predicted": spent.predicted}
    return point | {"speedup": 1 / float(compared.set_index("name").loc["small", "ratio"])}


def _point(budget, model, arrays):
    cost = ap.analysis.cost(model).total
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        images.copy(model).save(path)
        size = path.stat().st_size
    found = {"budget": budget, "test_accuracy": _accuracy(model, arrays), "file_bytes": size}
    return found | {name: int(cost[name]) for name in ("parameters", "multiply_adds")}


def _accuracy(model, arrays):
    found = model.predict(arrays["x_test"], batch_size=256, verbose=0)
    return float(np.mean(found.argmax(axis=1) == arrays["y_test"]))


if __name__ == "__main__":
    sys.exit(main())
