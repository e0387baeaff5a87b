"""What counting and masking cost in `fit`, against plain `fit`, tfmot and the paper's own way.

Every variant trains in a process of its own, on the same data. The processes wait for each other
and take turns epoch by epoch, so that a drift of the machine's speed meets all of them alike; the
ratios are taken within a turn. Two epochs (tracing, and the pruning event) are not counted. Two
processes that do the same can differ by 3 % for as long as they live (where their memory lies),
so several rounds with fresh processes are made.

    python benchmarks/fit_overhead.py

Prints a table: network, batch size, what is compared, median ratio over all turns, smallest and
largest median of a round, limit.
"""

import argparse
import multiprocessing
import os
import statistics
import time

WARM_UP = 2
SPARSITY = 0.8
LENET, MLP = "LeNet-5", "MLP"
LEGACY = ("tf_keras", "tfmot")
COMPARED = [  # what, ours, peer, limit
    ("counting frequencies / plain fit", "count", "plain", "1.03"),
    ("counting frequency, mean, rms / plain fit", "count all", "plain", "1.03"),
    ("counting and masks at 80 % / plain fit", "prune", "plain", "1.10"),
    ("counting and masks at 80 % / tfmot", "prune", "tfmot", "0.95"),
    ("plain fit, Keras 3 / tf_keras (for reference)", "plain", "tf_keras", "-"),
]


def build(keras, network):
    """The paper's multilayer perceptron, or LeNet-5 with ReLU and max pooling."""
    layers = keras.layers
    if network == MLP:
        model = keras.Sequential([keras.layers.Input((784,))])
        for units in (300, 200, 100, 50):
            model.add(layers.Dense(units, activation="relu"))
    else:
        model = keras.Sequential([keras.layers.Input((28, 28, 1))])
        for filters, padding in ((6, "same"), (16, "valid")):
            model.add(layers.Conv2D(filters, 5, padding=padding, activation="relu"))
            model.add(layers.MaxPooling2D())
        model.add(layers.Flatten())
        for units in (120, 84):
            model.add(layers.Dense(units, activation="relu"))
    model.add(layers.Dense(10, activation="softmax"))
    return model


def ours(variant, network):
    """(model, callbacks) of one of our variants on Keras 3."""
    import keras

    import activation_pruning as ap

    model = build(keras, network)
    everything = ap.ActivationCounter()
    frequency = ap.ActivationCounter(statistics=("frequency",))
    pruner = ap.PruningCallback(ap.schedules.OneShot(SPARSITY, at=1), "activation_magnitude")
    callbacks = {"plain": [], "count": [frequency], "count all": [everything], "prune": [pruner]}
    callbacks["spectra"] = [ap.SpectrumLogger()]
    return model, callbacks[variant]


def tf_keras_plain(network):
    """(model, callbacks) of the same network on tf_keras: what tfmot starts from."""
    import tf_keras

    return build(tf_keras, network), []


def tfmot(network):
    """(model, callbacks) of tfmot's pruning wrapper on tf_keras."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    sparsity = tfmot.sparsity.keras
    schedule = sparsity.ConstantSparsity(SPARSITY, begin_step=1, frequency=10**9)
    model = build(tf_keras, network)
    *hidden, output = model.layers
    wrapped = [
        sparsity.prune_low_magnitude(layer, pruning_schedule=schedule) if layer.weights else layer
        for layer in hidden
    ]
    shape = model.input_shape[1:]
    model = tf_keras.Sequential([tf_keras.layers.Input(shape), *wrapped, output])
    return model, [sparsity.UpdatePruningStep()]


def papers_way(network):
    """(model, callbacks) as the paper's published code goes about it.

    Eager `fit`; after every batch a second model is evaluated for the activations, which are
    counted in Python; gradients are masked in Python.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    plain = build(keras, network)
    hidden = [layer.output for layer in plain.layers[:-1] if layer.weights]
    second = keras.Model(plain.inputs, hidden)
    kernels = [layer.kernel for layer in plain.layers[:-1] if layer.weights]
    rng = np.random.default_rng(0)
    masks = {id(kernel): (rng.random(kernel.shape) > SPARSITY) * 1.0 for kernel in kernels}
    counts = [np.zeros(output.shape[-1]) for output in hidden]

    class Eager(keras.Model):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_weights)
            pairs = zip(gradients, self.trainable_weights, strict=True)
            self.optimizer.apply(
                [g * masks[id(w)].astype("float32") if id(w) in masks else g for g, w in pairs],
                self.trainable_weights,
            )
            for count, output in zip(counts, second(x, training=False), strict=True):
                count += (output.numpy() > 0).sum(axis=0)
            return {"loss": loss}

    return Eager(plain.inputs, plain.outputs), []


def work(variant, network, batch, steps, epochs, pipe):
    """Train one variant; each epoch waits for its turn and reports its time in seconds."""
    others = {"tfmot": tfmot, "tf_keras": tf_keras_plain, "paper": papers_way}
    model, callbacks = others[variant](network) if variant in others else ours(variant, network)
    if variant in LEGACY:
        import tf_keras as keras
    else:
        import keras
    import numpy as np

    class Turns(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            pipe.recv()
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            pipe.send(time.perf_counter() - self.start)

    rng = np.random.default_rng(0)
    x = rng.random((batch * steps, *model.input_shape[1:]), dtype="float32")
    y = rng.integers(0, 10, batch * steps)
    more = {"run_eagerly": True} if variant == "paper" else {"metrics": ["accuracy"]}
    model.compile("sgd", "sparse_categorical_crossentropy", **more)
    model.fit(x, y, batch_size=batch, epochs=epochs, verbose=0, callbacks=[*callbacks, Turns()])


def turns(variants, network, batch, steps, pairs):
    """{variant: [time_s per counted epoch]}, measured in turn."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for variant in variants:
        os.environ.pop("TF_USE_LEGACY_KERAS", None)
        if variant in LEGACY:
            os.environ["TF_USE_LEGACY_KERAS"] = "1"  # what importing tfmot asks for
        pipes[variant], end = context.Pipe()
        arguments = (variant, network, batch, steps, WARM_UP + pairs, end)
        processes.append(context.Process(target=work, args=arguments, daemon=True))
        processes[-1].start()
        end.close()  # a worker that dies then shows as EOFError instead of a wait without end
    times = {variant: [] for variant in variants}
    for turn in range(WARM_UP + pairs):
        for variant, pipe in pipes.items():
            pipe.send("go")
            seconds = pipe.recv()
            if turn >= WARM_UP:
                times[variant].append(seconds)
    for process in processes:
        process.join()
    return times


def compare(compared, network, batch, steps, options):
    """Print one row for each of `compared`, from rounds of fresh processes."""
    variants = list(dict.fromkeys(name for _, mine, peer, _ in compared for name in (mine, peer)))
    rounds = [turns(variants, network, batch, steps, options.pairs) for _ in range(options.rounds)]
    for text, mine, peer, limit in compared:
        ratios = [
            [a / b for a, b in zip(times[mine], times[peer], strict=True)] for times in rounds
        ]
        middles = [statistics.median(one) for one in ratios]
        middle = statistics.median(ratio for one in ratios for ratio in one)
        numbers = [f"{number:.3f}" for number in (middle, min(middles), max(middles))]
        columns = [network, str(batch), text, *numbers, limit]
        print("| " + " | ".join(columns) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="times to start fresh processes")
    parser.add_argument("--pairs", type=int, default=7, help="counted epochs in each round")
    parser.add_argument("--samples", type=int, default=19200, help="training samples per epoch")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print("| network | batch | compared | median | lowest round | highest round | limit |")
    print("|---|---|---|---|---|---|---|")
    for network, batch in ((MLP, 128), (MLP, 32), (LENET, 128)):
        samples = options.samples // (4 if network == LENET else 1)
        compare(COMPARED, network, batch, samples // batch, options)
    paper = ("counting and masks / the paper's way", "prune", "paper", "0.2")
    compare([paper], MLP, 32, 100, options)


if __name__ == "__main__":
    main()
