"""How small does Deep Compression make a network at no loss of accuracy?

LeNet-300-100 and LeNet-5 (Caffe's: 20 and 50 filters of 5 x 5, max pooling, 500 units) are trained
with Adam, pruned by magnitude while they train on, from one sparsity to the next, and compressed:
weights shared by k-means with a number of bits, distances and codes Huffman-coded. The shared
weights are then trained on. Ratio: bytes of all float32 parameters / bytes of the file. Published,
with no loss: 40 for LeNet-300-100 (8 % of the weights kept) and 39 for LeNet-5 (8 %).

    python deep_compression.py --dataset mnist --jobs 2

Source: Han, Mao & Dally, Deep Compression: Compressing Deep Neural Networks with Pruning, Trained
Quantization and Huffman Coding, ICLR 2016.
"""

import itertools
import math
import sys
import time

import deep_compression_report as report
import keras
import numpy as np

import activation_pruning as ap
from activation_pruning import compression
from lab import command_line, datasets, images, network, study

ARMS = ("lenet_300_100", "lenet_5")
SMALLEST = 16  # pixels to a side that two convolutions and two poolings leave something of
OPTIONS = ("dataset", "epochs", "pruning_epochs", "tuning_epochs", "sparsities", "bits")
OPTIONS += ("batch_size", "learning_rate", "tuning_rate", "l2")
QUICK = (
    "--dataset digits --arms lenet_300_100 --seeds 2 --epochs 10 "
    "--pruning-epochs 8 --tuning-epochs 2 --sparsities 0.8 0.9"
)


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    about = "How small Deep Compression makes LeNets."
    parser = command_line.shared_parser(report.NAME, about, ARMS)
    parser.set_defaults(dataset="mnist")
    add, count = parser.add_argument, command_line.count
    add("--epochs", type=count, default=15, help="of the dense network")
    add("--pruning-epochs", type=count, default=20, help="for each sparsity; half of them prune")
    add("--tuning-epochs", type=count, default=5, help="of the shared weights")
    share = command_line.share
    add("--sparsities", nargs="+", type=share, default=[0.92, 0.95, 0.97], help="rising")
    add("--bits", nargs="+", type=count, default=[3, 5], help="of a shared weight")
    add("--batch-size", type=count, default=128, help="samples in a training step")
    add("--learning-rate", type=command_line.positive, default=1e-3, help="of Adam, falling to 0")
    add("--tuning-rate", type=command_line.positive, default=3e-4, help="of the shared weights")
    add("--l2", type=float, default=1e-4, help="strength of the L2 regularizer of the kernels")
    return study.run(parser, arguments, grid, work, report.publish, describe)


def grid(options, data: str) -> list[dict]:
    """One settings dict per network and seed: each run goes through all sparsities and bits.

    Raises ValueError for images that a network cannot take, and sparsities that do not rise.
    """
    options.arms = list(dict.fromkeys(options.arms))
    if options.sparsities != sorted(set(options.sparsities)):
        raise ValueError(f"--sparsities {options.sparsities} must rise")
    side = math.isqrt(datasets.load(options.dataset)["x_train"].shape[1])
    if "lenet_5" in options.arms and side < SMALLEST:
        raise ValueError(
            f"--arms lenet_5 needs images of at least {SMALLEST} x {SMALLEST} pixels, and those "
            f"of {options.dataset} are {side} x {side}: leave it out, or take mnist"
        )
    shared = {name: getattr(options, name) for name in OPTIONS}
    shared |= {"data": data} | study.versions()
    return [
        {"arm": arm, "seed": seed, "sparsity": 0.0, "events": 0} | shared
        for seed in range(options.seeds)
        for arm in options.arms
    ]


def work(settings: dict) -> tuple[dict, dict]:
    """One network from dense to compressed; runs in a worker process."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(settings["seed"])
    arrays, begun = datasets.load(settings["dataset"]), time.perf_counter()
    model = build(settings["arm"], arrays, settings["l2"])
    _fit(model, arrays, settings, settings["epochs"], settings["learning_rate"])
    raw = 4 * model.count_params()
    rows, tensors = [_row("dense", model, arrays, raw, raw)], []
    for before, sparsity in itertools.pairwise([0.0, *settings["sparsities"]]):
        _prune(model, arrays, settings, before, sparsity)
        for bits in settings["bits"]:
            named = {"target_sparsity": sparsity, "bits": bits}
            found, table = _compressed(model, arrays, settings, bits, raw)
            rows += [row | named for row in found]
            table = table.assign(**named).astype(object).replace({np.nan: None})
            tensors += table.to_dict("records")
    return {"stages": rows, "tensors": tensors, "time_s": time.perf_counter() - begun}, {}


def build(arm: str, arrays: dict, l2: float = 0.0) -> keras.Model:
    """The untrained network of an arm, for flat pixels."""
    kept = {"kernel_regularizer": keras.regularizers.L2(l2)} if l2 else {}
    inputs, classes = arrays["x_train"].shape[1], int(arrays["y_train"].max()) + 1
    if arm == "lenet_300_100":
        return images.lenet_300_100((inputs,), classes, "fc{}", **kept)
    layers, side = keras.layers, math.isqrt(inputs)
    inner = [
        layers.Reshape((side, side, 1)),
        layers.Conv2D(20, 5, name="conv1", **kept),
        layers.MaxPooling2D(),
        layers.Conv2D(50, 5, name="conv2", **kept),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(500, "relu", name="fc1", **kept),
        layers.Dense(classes, "softmax", name="output", **kept),
    ]
    return keras.Sequential([keras.Input((inputs,)), *inner], name=arm)


def describe(result: dict) -> str:
    """Say in a few words how a run ended."""
    first, last = result["stages"][0], result["stages"][-1]
    return (
        f"test accuracy {first['test_accuracy']:.4f} dense, {last['test_accuracy']:.4f} at a ratio "
        f"of {last['ratio']:.1f}; {result['time_s']:.0f} s"
    )


def _prune(model, arrays, settings, before, sparsity):
    epochs = settings["pruning_epochs"]
    end = {"begin": 0, "end": max(1, epochs // 2)}
    schedule = ap.schedules.Polynomial(sparsity, initial_sparsity=before, **end)
    pruner = ap.PruningCallback(schedule, "magnitude", exclude=(), seed=settings["seed"])
    _fit(model, arrays, settings, epochs, settings["learning_rate"], [pruner])


def _compressed(model, arrays, settings, bits, raw):
    """(rows of the network pruned, with shared weights, and those trained; table of the tensors)"""
    compressed = compression.compress(model, bits)

    def row(stage, model):
        size = compressed.size_bytes, compressed.ratio_of_weights
        return _row(stage, model, arrays, raw, *size)

    shared = compressed.model()
    rows = [_row("pruned", model, arrays, raw, None), row("shared", shared)]
    callbacks = [ap.SharedWeights(compressed)]
    _fit(shared, arrays, settings, settings["tuning_epochs"], settings["tuning_rate"], callbacks)
    rows.append(row("trained", compression.compressed.read(compressed.to_bytes()).model()))
    return rows, compressed.table()


def _fit(model, arrays, settings, epochs, rate, callbacks=()):
    steps = math.ceil(len(arrays["x_train"]) / settings["batch_size"])
    falling = keras.optimizers.schedules.CosineDecay(rate, epochs * steps)
    optimizer = keras.optimizers.Adam(falling)
    model.compile(optimizer, "sparse_categorical_crossentropy", steps_per_execution=16)
    images.fit(model, arrays, settings, epochs, callbacks)


def _row(stage, model, arrays, raw, size, ratio_of_weights=None):
    """What the network is and does at one stage; bytes where it is a file."""
    kernels = [np.asarray(w) for w in model.get_weights() if w.ndim > 1]
    alive = sum(int(np.count_nonzero(kernel)) for kernel in kernels)
    found = network.scores(model, arrays["x_test"], arrays["y_test"])
    return {
        "stage": stage,
        "target_sparsity": 0.0,
        "bits": 32,
        "sparsity": 1 - alive / sum(kernel.size for kernel in kernels),
        "test_accuracy": found["accuracy"],
        "test_loss": found["loss"],
        "size_bytes": size,
        "ratio": raw / size if size else None,
        "ratio_of_weights": ratio_of_weights,
    }


if __name__ == "__main__":
    sys.exit(main())
