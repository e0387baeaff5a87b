"""Gates to test: layers with scattered ones, and what NumPy makes of them."""

import keras
import numpy as np
from keras import layers, ops

RATE = 10  # log_alpha / its variable, by default


def noise(*shape, seed=5):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def array(x):
    return ops.convert_to_numpy(x)


def outputs(model, x):
    return array(model(x, training=False))


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, float)))


def set_gates(layer, seed=0):
    """Scatter log_alpha so that about a third of the gates are closed, a third fully open."""
    for variable in layer.trainable_variables:
        if variable.name.endswith("log_alpha"):
            variable.assign(noise(*variable.shape, seed=seed) * 5 / RATE)


def mlp():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu", name="a"),
            layers.BatchNormalization(),
            layers.Dense(5, activation="relu", name="b"),
            layers.Dense(3, name="out"),
        ]
    )


def fit(model, x, y, epochs=1, optimizer=None):
    model.compile(optimizer or keras.optimizers.Adam(0.02), "mse")
    return model.fit(x, y, batch_size=32, epochs=epochs, verbose=0, shuffle=False).history["loss"]


def recurrent():
    """A Bidirectional LSTM and a GRU."""
    return keras.Sequential(
        [
            keras.Input((5, 6)),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="both"),
            layers.GRU(4, name="gru"),
            layers.Dense(3, name="out"),
        ]
    )
