"""How much cheaper does a small transformer get, and what does it cost in accuracy?

A transformer that reads images in patches, or sequences step by step, is trained. Whole units and
heads go until it has so many multiply-adds, chosen by one of several criteria (the arms); they are
taken out, and the small network is trained a little more. Each is measured before and after that:
accuracy, parameters, multiply-adds, bytes of the file, and time of a batch beside that of the dense
network.

    python transformer_compaction.py --dataset mnist --jobs 2

Sources: Vaswani et al., NeurIPS 2017, and Dosovitskiy et al., ICLR 2021 (the networks); Molchanov
et al., CVPR 2019 (`taylor`); Michel et al., NeurIPS 2019 (heads).
"""

import sys
from pathlib import Path

import keras

import activation_pruning as ap
from lab import (
    command_line,
    compacting,
    compacting_report,
    images,
    publication,
    sequences,
    study,
)

NAME = "transformer_compaction"
ARMS = (compacting.DENSE, "magnitude", "activation_magnitude", "taylor", "random")
NETWORK = ("width", "blocks", "heads")
SCORED = 1000  # training samples that criteria look at
QUICK = "--seeds 2 --epochs 3 --fine-tune 1 --blocks 2 --width 24 --budgets 0.5 --rounds 5"


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    about = "Prune a transformer to budgets of multiply-adds, take units out, measure."
    parser = command_line.shared_parser(NAME, about, ARMS)
    parser.by_name["dataset"].help += f", or the sequences {sequences.VOWELS} (package aeon)"
    add, count = parser.add_argument, command_line.count
    told = "multiply-adds that are left, as a share of those of the dense network"
    add("--budgets", nargs="+", type=command_line.share, default=[0.7, 0.5, 0.3], help=told)
    add("--width", type=count, default=64, help="of the residual stream; half of a hidden layer's")
    add("--blocks", type=count, default=4, help="of attention and a hidden layer each")
    add("--heads", type=count, default=4, help="of each attention")
    compacting.add_options(parser, epochs=15, fine_tune=3, rate=1e-3, batch_size=64)
    return study.run(
        parser, arguments, grid, work, publish, compacting.describe,
        alone=compacting.timings, load=load,
    )  # fmt: skip


def load(dataset: str, samples: int | None = None, seed: int = 0) -> dict:
    """The data, as sequences or as images."""
    kind = sequences if dataset == sequences.VOWELS else images
    return kind.load(dataset, samples, seed)


def grid(options, data: str) -> list[dict]:
    """One settings dict per seed and arm."""
    load(options.dataset, options.samples)  # raises for data that cannot serve
    more = {name: getattr(options, name) for name in NETWORK}
    return compacting.grid(options, data, more, options.budgets)


def build(shape: tuple, classes: int, width: int, blocks: int, heads: int) -> keras.Model:
    """Steps, or patches of a fourth of a side; a learned place for each; blocks, norm in front.

    Steps of nothing but zeros, as behind the end of a sequence, are left out.
    """
    layers, inputs = keras.layers, keras.Input(shape)
    x, mask = _sequence(inputs, width) if len(shape) == 2 else (_patches(inputs, width), None)
    number = keras.ops.cumsum(keras.ops.ones_like(x[..., 0], dtype="int32"), axis=1) - 1
    x = layers.Add(name="placed")([x, layers.Embedding(x.shape[1], width, name="places")(number)])
    for number in range(1, blocks + 1):
        y = layers.LayerNormalization(name=f"norm_{number}a")(x)
        attention = layers.MultiHeadAttention(heads, width // heads, name=f"attention_{number}")
        x = layers.Add(name=f"add_{number}a")([x, attention(y, y, key_mask=mask)])
        y = layers.LayerNormalization(name=f"norm_{number}b")(x)
        y = layers.Dense(2 * width, "gelu", name=f"hidden_{number}")(y)
        x = layers.Add(name=f"add_{number}b")([x, layers.Dense(width, name=f"back_{number}")(y)])
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.GlobalAveragePooling1D(name="pool")(x, mask=mask)
    outputs = layers.Dense(classes, "softmax", name="output")(x)
    return keras.Model(inputs, outputs, name="transformer")


def work(settings: dict) -> tuple[dict, dict]:
    """One arm, or what comes last, times; runs in a worker process."""
    if settings["arm"] == compacting.TIMES:
        return compacting.timed(settings, load(settings["dataset"])["x_test"]), {}
    arrays = load(settings["dataset"], settings["samples"], settings["seed"])
    shape, classes = arrays["x_train"].shape[1:], int(arrays["y_train"].max()) + 1
    network = [settings[name] for name in NETWORK]
    model = compacting.trained(lambda: build(shape, classes, *network), NETWORK, settings, arrays)
    prune = lambda budget, model: pruned(budget, model, arrays, settings)  # noqa: E731
    return compacting.trial(settings, model, arrays, prune), {}


def pruned(budget: float, model: keras.Model, arrays: dict, settings: dict) -> tuple:
    """(the network without what was pruned, trained more; what was measured on the way)."""
    report = ap.prune(
        model, ap.budgets.MultiplyAdds(budget), settings["arm"], granularity="unit",
        data=(arrays["x_train"][:SCORED], arrays["y_train"][:SCORED]),
        seed=settings["seed"], verbose=0,
    )  # fmt: skip
    small = ap.compact(model)
    found = {
        "accuracy_untuned": compacting.accuracy(small, arrays),
        "largest_difference": compacting.difference(model, small, arrays),
        "asked": report.spending.asked,
        "predicted": report.spending.predicted,
    }
    compacting.fine_tune(small, arrays, settings)
    return small, found


@publication.publishing
def publish(records: list[dict], out: Path, options: dict) -> publication.Publication:
    """What there is to show."""
    return compacting_report.publish(
        records, NAME, "A transformer within budgets", "budget_share", {},
        lambda budget: f"{budget:.0%} of the multiply-adds",
    )  # fmt: skip


def _patches(inputs, width):
    side = max(inputs.shape[1] // 4, 1)
    x = keras.layers.Conv2D(width, side, side, name="patches")(inputs)
    return keras.layers.Reshape((-1, width), name="tokens")(x)


def _sequence(inputs, width):
    mask = keras.ops.any(keras.ops.not_equal(inputs, 0), axis=-1)
    return keras.layers.Dense(width, name="steps")(inputs), mask


if __name__ == "__main__":
    sys.exit(main())
