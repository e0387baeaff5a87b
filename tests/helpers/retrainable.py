"""A small network that is pruned and retrained, and its data."""

import keras
import numpy as np


def samples():
    random = np.random.default_rng(0)
    x = random.normal(size=(96, 8)).astype("float32")
    return x, (x[:, :1] * x[:, 1:2] > 0).astype("float32")


def network(metrics=("accuracy",), seed=0):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, "relu", name="first"),
            keras.layers.Dense(10, "relu", name="second"),
            keras.layers.Dense(1, "sigmoid", name="output"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        "binary_crossentropy",
        metrics=list(metrics),
        jit_compile=False,  # each fit traces its step anew
    )
    return model


WEIGHTS = 8 * 16 + 16 * 10


def alive(model):
    return [int(np.count_nonzero(layer.kernel)) for layer in model.layers[:-1]]


def zeros(model):
    return [np.array(layer.kernel) == 0 for layer in model.layers[:-1]]


def training(data, **options):
    x, y = data
    options["shuffle"] = False  # on JAX a second fit shuffles otherwise, whatever the seed
    return lambda model, **more: model.fit(x, y, batch_size=32, verbose=0, **options, **more)


def scores_of(values):
    """An `evaluate` that returns these, one after the other."""
    left = list(values)
    return lambda model: left.pop(0)
