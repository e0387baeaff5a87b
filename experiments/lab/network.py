"""The network of the experiments and its training, the same code for Keras 3 and legacy tf_keras.

Every function takes the Keras module to work with, so that a peer that needs legacy Keras trains
the same network, from the same starting weights, under the same stopping rules.
"""

import itertools
import time

import numpy as np


def build(
    keras,
    inputs: int,
    hidden: list[int],
    classes: int,
    seed: int,
    regularizer=None,
    biases: bool = True,
    init: str = "glorot",
):
    """Build the multilayer perceptron: ReLU layers, softmax output; weights drawn by NumPy.

    The starting weights are uniform, U(-l, l) with l = sqrt(6 / (inputs + outputs)) of each layer
    ("glorot", Keras's default) or l = sqrt(1 / inputs) ("fan_in", PyTorch's). They depend on the
    seed alone, not on the Keras version or backend. The regularizer is that of the hidden kernels.
    """
    own = {"use_bias": biases, "kernel_regularizer": regularizer}
    layers = [
        keras.layers.Dense(units, "relu", name=f"dense_{i}", **own)
        for i, units in enumerate(hidden, start=1)
    ]
    output = keras.layers.Dense(classes, "softmax", use_bias=biases, name="output")
    model = keras.Sequential([keras.Input((inputs,)), *layers, output])
    random = np.random.default_rng(seed)
    weights = []
    for fan_in, fan_out in itertools.pairwise([inputs, *hidden, classes]):
        limit = np.sqrt(6 / (fan_in + fan_out) if init == "glorot" else 1 / fan_in)
        weights.append(random.uniform(-limit, limit, (fan_in, fan_out)))
        weights += [np.zeros(fan_out)] * biases
    model.set_weights(weights)
    return model


def hidden_kernels(model) -> dict[str, np.ndarray]:
    """Return the prunable kernels by layer name: all but the output layer's."""
    kernels = {}
    for layer in model.layers[:-1]:
        layer = getattr(layer, "layer", layer)  # tfmot wraps each layer
        kernels[layer.name] = np.array(layer.get_weights()[0])
    return kernels


def sparsity(model) -> float:
    """Measure zero weights / weights, over the hidden kernels."""
    kernels = list(hidden_kernels(model).values())
    return sum(int((k == 0).sum()) for k in kernels) / sum(k.size for k in kernels)


def scores(model, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Measure cross-entropy loss (nats), accuracy and top-5 accuracy (shares) on one data set."""
    return graded(model.predict(x, batch_size=1024, verbose=0), y)


def graded(probabilities, y: np.ndarray) -> dict[str, float]:
    """Loss, accuracy and top-5 accuracy of probabilities (samples x classes), as for `scores`."""
    probabilities = np.asarray(probabilities, dtype=np.float64)
    true = probabilities[np.arange(len(y)), y]
    # How many classes beat the true one; a class with an equal probability and a lower index does.
    earlier = np.arange(probabilities.shape[1]) < y[:, None]
    beats = (probabilities > true[:, None]) | (probabilities == true[:, None]) & earlier
    # What a network that diverged says is wrong: no comparison with NaN is ever true.
    ahead = np.where(np.isfinite(probabilities).all(axis=1), beats.sum(axis=1), len(earlier[0]))
    return {
        "loss": float(-np.log(np.maximum(true, 1e-7)).mean()),
        "accuracy": float((ahead == 0).mean()),
        "top_5": float((ahead < 5).mean()),
    }


def train(keras, model, data, settings: dict, callbacks=(), finished=lambda: True):
    """Train with SGD until a stopping rule acts; return the history and the times.

    settings: seed, learning_rate, batch_size, epochs (the most), patience (epochs without a lower
        validation loss), target_accuracy (training accuracy that suffices), steps_per_execution;
        protocol, where it is "paper": stop as Ganguli & Chong (2024) do, see `overfits`.
    finished: tells whether all pruning is done. Neither stopping rule looks at an epoch that did
        not begin fully pruned: the losses before belong to a denser network. (But `overfits` does.)
    """
    compile_as(keras, model, settings)
    observer = _observing(keras, finished)
    callbacks = [*callbacks, observer, *_stopping(keras, observer, settings)]
    more = {"validation_data": (data.x_validation, data.y_validation), "callbacks": callbacks}
    wall, cpu = time.perf_counter(), time.process_time()
    fit(model, (data.x_train, data.y_train), settings, settings["epochs"], **more)
    times = {"time_s": time.perf_counter() - wall, "cpu_time_s": time.process_time() - cpu}
    return observer.epochs, times


def fit(model, data: tuple, settings: dict, epochs: int, seed: int | None = None, **more):
    """Train on (x, y), in an order that a seed decides on; return the history.

    settings: batch_size, and the seed where none is given. more: for `model.fit`.
    """
    feed = batches(*data, settings["batch_size"], settings["seed"] if seed is None else seed)
    return model.fit(feed, epochs=epochs, shuffle=False, verbose=0, **more)  # the feed shuffles


def compile_as(keras, model, settings: dict) -> None:
    """Compile as every arm is: SGD on the cross-entropy."""
    # A regularizer may take an SVD, which TensorFlow's XLA does slower by orders of magnitude.
    regularized = any(getattr(layer, "kernel_regularizer", None) for layer in model.layers)
    slow = regularized and keras.backend.backend() == "tensorflow"
    more = {"jit_compile": False} if slow else {}
    more |= {"steps_per_execution": settings.get("steps_per_execution", 1)}
    optimizer = keras.optimizers.SGD(settings["learning_rate"])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], **more)


def batches(x, y, batch_size: int, seed: int):
    """Make a tf.data.Dataset of batches in an order that is new in each epoch, given by the seed.

    fit(x, y) after set_random_seed will not do: on the TensorFlow backend Keras 3 (3.15) then
    repeats one order in every epoch, while legacy Keras, JAX and PyTorch draw new ones.
    """
    import tensorflow as tf

    x, y = tf.constant(x), tf.constant(y)
    order = tf.data.Dataset.range(len(x)).shuffle(len(x), seed, reshuffle_each_iteration=True)
    picked = order.batch(batch_size).map(lambda i: (tf.gather(x, i), tf.gather(y, i)))
    return picked.prefetch(2)


def measured(model, data) -> dict[str, float]:
    """Measure the trained network: loss and accuracies on the three parts, and its sparsity."""
    parts = {
        "train": scores(model, data.x_train, data.y_train),
        "validation": scores(model, data.x_validation, data.y_validation),
        "test": scores(model, data.x_test, data.y_test),
    }
    result = {f"{part}_{key}": parts[part][key] for part in parts for key in ("accuracy", "loss")}
    return result | {"test_top_5": parts["test"]["top_5"], "sparsity": sparsity(model)}


def overfits(losses: list[float], delta: float = 0.1, rises: int = 3) -> bool:
    """Whether the paper's early stopping would have ended a training with these validation losses.

    It counts epochs whose loss is above 1 + delta times the least so far and above that of the
    epoch before, and forgets them where a loss comes below that bound without being the least.

    >>> overfits([1.0, 1.2, 1.15, 1.3, 1.4]), overfits([1.0, 1.2, 1.05, 1.3, 1.4])
    (True, False)
    """
    least, before, seen = float("inf"), 0.0, 0
    for loss in losses:
        if loss < least:
            least = loss
        elif loss > (1 + delta) * least and loss > before:
            seen += 1
        elif loss < (1 + delta) * least:
            seen = 0
        if seen == rises:
            return True
        before = loss
    return False


def _observing(keras, finished):
    class Observer(keras.callbacks.Callback):
        """Keep the history, and whether the present epoch began with all pruning done."""

        def __init__(self):
            super().__init__()
            self.epochs = []
            self.pruned = False

        def on_epoch_begin(self, epoch, logs=None):
            self.pruned = finished()

        def on_epoch_end(self, epoch, logs=None):
            row = {"epoch": epoch + 1}
            for part, prefix in (("train", ""), ("validation", "val_")):
                row |= {f"{part}_{n}": float(logs[f"{prefix}{n}"]) for n in ("accuracy", "loss")}
            self.epochs.append(row | {"sparsity": sparsity(self.model)})

    return Observer()


def _stopping(keras, observer, settings):
    class EarlyStoppingOncePruned(keras.callbacks.EarlyStopping):
        """EarlyStopping that looks only at epochs of the fully pruned network."""

        def on_epoch_end(self, epoch, logs=None):
            if observer.pruned:
                super().on_epoch_end(epoch, logs)

        def on_train_end(self, logs=None):
            # Legacy Keras restores only where this rule itself ended the training.
            if self.best_weights is not None:
                self.model.set_weights(self.best_weights)

    class StopWhenPruned(keras.callbacks.Callback):
        """Stop once the fully pruned network has reached the training accuracy target."""

        def on_epoch_end(self, epoch, logs=None):
            if observer.pruned and logs["accuracy"] >= settings["target_accuracy"]:
                self.model.stop_training = True

    class StopOverfitting(keras.callbacks.Callback):
        """Stop as the paper does, pruned or not; the weights stay as they are."""

        def on_epoch_end(self, epoch, logs=None):
            if overfits([row["validation_loss"] for row in observer.epochs]):
                self.model.stop_training = True

    if settings.get("protocol") == "paper":
        return StopOverfitting(), StopWhenPruned()
    patience = settings["patience"]
    more = {"monitor": "val_loss", "restore_best_weights": True}
    return EarlyStoppingOncePruned(patience=patience, **more), StopWhenPruned()
