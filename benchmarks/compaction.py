"""What taking units out brings and costs: speed-ups of compacted models, time of `compact`.

    python benchmarks/compaction.py

Prints a table: what is compared, median of the rounds, smallest and largest, limit. Dense and
compacted model take turns within a round, with one thread. The clock is that of the processor,
which other programs do not keep waiting (`--clock wall` for the other one). Weights are random:
what is measured depends on the shapes alone. Theoretical is the ratio of the multiply-adds.
"""

import argparse
import functools
import os
import statistics
import tempfile
import time

import analysis

ONE_THREAD = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
PREDICT, ON_BATCH = "Keras predict", "Keras predict_on_batch"
LITERT, ONNX = "LiteRT", "ONNX Runtime"
SUFFIXES = {LITERT: ".tflite", ONNX: ".onnx"}
CLOCKS = {"processor": time.process_time, "wall": time.perf_counter}


def mlp():
    """784-1000-1000-500-200-10 without biases."""
    import keras

    dense = functools.partial(keras.layers.Dense, activation="relu", use_bias=False)
    hidden = [dense(units) for units in (1000, 1000, 500, 200)]
    return keras.Sequential([keras.Input((784,)), *hidden, dense(10, activation="softmax")])


def lenet():
    """LeNet-5 with ReLU and max pooling."""
    import fit_overhead
    import keras

    return fit_overhead.build(keras, fit_overhead.LENET)


def resnet(blocks):
    """A residual network for images of 32 x 32: (filters, stride) of each block."""
    import keras

    def conv(x, filters, stride=1, size=3):
        x = keras.layers.Conv2D(filters, size, stride, padding="same", use_bias=False)(x)
        return keras.layers.BatchNormalization()(x)

    inputs = keras.Input((32, 32, 3))
    x = keras.layers.ReLU()(conv(inputs, blocks[0][0]))
    for filters, stride in blocks:
        skip = x if stride == 1 else conv(x, filters, stride, size=1)
        x = conv(keras.layers.ReLU()(conv(x, filters, stride)), filters)
        x = keras.layers.ReLU()(keras.layers.Add()([x, skip]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))


def narrow():
    """Three stages of two blocks, 16 to 64 filters."""
    return resnet(((16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)))


def wide():
    """Three stages of one block, 64 to 256 filters."""
    return resnet(((64, 1), (128, 2), (256, 2)))


@functools.cache
def pair(build, share):
    """(the dense model, the one without a share of the units of every layer)."""
    import keras

    import activation_pruning as ap

    keras.utils.set_random_seed(0)
    model = build()
    dense = keras.models.clone_model(model)
    dense.set_weights(model.get_weights())
    ap.prune(model, share, "unit_norm", "uniform", "unit", verbose=0)
    return dense, ap.compact(model)


def way(model, runtime, path, size):
    """The model as a function that predicts in batches of `size`, by one runtime."""
    import activation_pruning as ap

    if runtime == PREDICT:
        return functools.partial(model.predict, batch_size=size, verbose=0)
    run = model.predict_on_batch
    if runtime in SUFFIXES:
        ap.export(model, path + SUFFIXES[runtime], samples=32)
        run = ap.load_exported(path + SUFFIXES[runtime], threads=1)
    return lambda x: [run(x[start : start + size]) for start in range(0, len(x), size)]


def speed_ups(models, runtime, options, images, batch):
    """Time dense / time compacted, of each round; `images` are predicted in batches."""
    import numpy as np

    import activation_pruning as ap

    shape = (images, *models[0].input_shape[1:])
    x = np.random.default_rng(0).random(shape, dtype="float32")
    more = {"rounds": options.rounds, "warmup": 2, "clock": CLOCKS[options.clock]}
    with tempfile.TemporaryDirectory() as folder:
        names = ("dense", "compacted")
        runs = {
            name: way(model, runtime, f"{folder}/{name}", batch)
            for name, model in zip(names, models, strict=True)
        }
        times = ap.analysis.latency_compare(runs, x, images, **more).times
    return (1 / times.loc[times["name"] == "compacted", "ratio"]).tolist()


def predicting(runtime):
    """A measurement of the MLP without 90 % of its units on 10,000 images, batches of 1,000."""
    return lambda options: speed_ups(pair(mlp, 0.9), runtime, options, 10_000, 1000)


def share_of_theory(build, runtime):
    """A measurement of the speed-up at 50 % of the units, as a share of the theoretical one."""

    def measure(options):
        models, reached = pair(build, 0.5), theory(build)
        return [found / reached for found in speed_ups(models, runtime, options, 256, 256)]

    return measure


def theory(build, share=0.5):
    """The speed-up if time were the number of multiply-adds."""
    import activation_pruning as ap

    dense, small = (ap.analysis.cost(m).total["multiply_adds"] for m in pair(build, share))
    return dense / small


def compacting(options):
    """Seconds that `compact` takes for ResNet50 with half of the units pruned."""
    import keras

    import activation_pruning as ap

    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(weights=None)
    ap.prune(model, 0.5, "unit_norm", "uniform", "unit", verbose=0)
    return [
        analysis.seconds(lambda: ap.compact(model)) for _ in range(max(1, options.rounds // 10))
    ]


def rows():
    """What is measured: text, measurement, limit."""
    for runtime in (PREDICT, ON_BATCH, LITERT, ONNX):
        text = f"MLP, 90 % of units, 10,000 images, {runtime}: dense / compacted"
        yield text, predicting(runtime), "at least 8"
    for name, build in (("LeNet-5", lenet), ("ResNet 16-64", narrow), ("ResNet 64-256", wide)):
        for runtime in (ON_BATCH, LITERT, ONNX):
            text = f"{name}, 50 % of units, batch 256, {runtime}: speed-up / theoretical"
            yield f"{text} ({theory(build):.2f})", share_of_theory(build, runtime), "at least 0.70"
    yield "compact of ResNet50, 50 % of units: seconds", compacting, "below 10"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--clock", choices=CLOCKS, default="processor")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # before Keras is imported
    print("| compared | median | min | max | limit |\n|---|---|---|---|---|")
    for text, measure, limit in rows():
        found = measure(options)
        numbers = (statistics.median(found), min(found), max(found))
        shown = " | ".join(f"{number:.2f}" for number in numbers)
        print(f"| {text} | {shown} | {limit} |", flush=True)


if __name__ == "__main__":
    main()
