"""What taking units out brings and costs: speed-ups of compacted models, time of `compact`.

    python benchmarks/compaction.py

Prints a table: what is compared, median of the rounds, smallest and largest, limit. Dense and
compacted model take turns within a round, everything with one thread. Weights are random: what is
measured depends on the shapes alone. The theoretical speed-up is the ratio of the multiply-adds.
"""

import argparse
import functools
import os
import statistics
import tempfile

import analysis

ONE_THREAD = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
KERAS, LITERT, ONNX = "Keras", "LiteRT", "ONNX Runtime"
SUFFIXES = {LITERT: ".tflite", ONNX: ".onnx"}


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


def resnet():
    """A residual network for images of 32 x 32: three stages of two blocks, 16 to 64 filters."""
    import keras

    def conv(x, filters, stride=1, size=3):
        x = keras.layers.Conv2D(filters, size, stride, padding="same", use_bias=False)(x)
        return keras.layers.BatchNormalization()(x)

    inputs = keras.Input((32, 32, 3))
    x = keras.layers.ReLU()(conv(inputs, 16))
    for filters, stride in ((16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)):
        skip = x if stride == 1 else conv(x, filters, stride, size=1)
        x = conv(keras.layers.ReLU()(conv(x, filters, stride)), filters)
        x = keras.layers.ReLU()(keras.layers.Add()([x, skip]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))


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


def ways(models, runtime, folder):
    """The models as functions of a batch by one runtime: {name: function}."""
    import activation_pruning as ap

    if runtime == KERAS:
        return {str(number): model for number, model in enumerate(models)}
    runs = {}
    for number, model in enumerate(models):
        path = f"{folder}/{number}{SUFFIXES[runtime]}"
        ap.export(model, path, samples=32)
        runs[str(number)] = ap.load_exported(path, threads=1)
    return runs


def speed_ups(models, runtime, rounds, images, batch):
    """Time dense / time compacted, of each round; `images` are predicted in batches."""
    import numpy as np

    import activation_pruning as ap

    shape = (images, *models[0].input_shape[1:])
    x = np.random.default_rng(0).random(shape, dtype="float32")
    with tempfile.TemporaryDirectory() as folder:
        runs = ways(models, runtime, folder)
        if images > batch:
            runs = {name: in_batches(run, batch) for name, run in runs.items()}
        times = ap.analysis.latency_compare(runs, x, images, rounds).times
    return (1 / times.loc[times["name"] == "1", "ratio"]).tolist()


def in_batches(run, size):
    """A function that predicts in batches, by `predict` where it is a Keras model."""
    if hasattr(run, "predict"):
        return functools.partial(run.predict, batch_size=size, verbose=0)
    return lambda x: [run(x[start : start + size]) for start in range(0, len(x), size)]


def predicting(runtime):
    """A measurement of the MLP without 90 % of its units on 10,000 images, batches of 1,000."""
    return lambda rounds: speed_ups(pair(mlp, 0.9), runtime, rounds, 10_000, 1000)


def share_of_theory(build, runtime):
    """A measurement of the speed-up at 50 % of the units, as a share of the theoretical one."""

    def measure(rounds):
        import activation_pruning as ap

        models = pair(build, 0.5)
        dense, small = (ap.analysis.cost(model).total["multiply_adds"] for model in models)
        found = speed_ups(models, runtime, rounds, 256, 256)
        return [speed_up / (dense / small) for speed_up in found]

    return measure


def compacting(rounds):
    """Seconds that `compact` takes for ResNet50 with half of the units pruned."""
    import keras

    import activation_pruning as ap

    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(weights=None)
    ap.prune(model, 0.5, "unit_norm", "uniform", "unit", verbose=0)
    return [analysis.seconds(lambda: ap.compact(model)) for _ in range(max(1, rounds // 10))]


def theory(build, share):
    """The theoretical speed-up, in words."""
    import activation_pruning as ap

    dense, small = (ap.analysis.cost(m).total["multiply_adds"] for m in pair(build, share))
    return f"{dense / small:.2f} x"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # before Keras is imported
    rows = [
        (f"MLP, 90 % of units, 10,000 images, {runtime}: time dense / compacted",
         predicting(runtime), "at least 8")
        for runtime in (KERAS, LITERT, ONNX)
    ]  # fmt: skip
    for name, build in (("LeNet-5", lenet), ("small ResNet", resnet)):
        text = f"{name}, 50 % of units, batch 256, {{}}: speed-up / theoretical ({{}})"
        rows += [
            (text.format(runtime, theory(build, 0.5)), share_of_theory(build, runtime),
             "at least 0.70")
            for runtime in (KERAS, LITERT, ONNX)
        ]  # fmt: skip
    rows.append(("compact of ResNet50, 50 % of units: seconds", compacting, "below 10"))
    print("| compared | median | min | max | limit |\n|---|---|---|---|---|")
    for text, measure, limit in rows:
        found = measure(options.rounds)
        numbers = (statistics.median(found), min(found), max(found))
        shown = " | ".join(f"{number:.2f}" for number in numbers)
        print(f"| {text} | {shown} | {limit} |", flush=True)


if __name__ == "__main__":
    main()
