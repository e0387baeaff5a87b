"""Small models of every kind, each with the NumPy oracle of what its units do on a batch."""

import os
import pathlib

import keras
import numpy as np
from keras import layers

from activation_pruning.evidence.statistic import STATISTICS

CLASSES = 3
HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]


def environment(package=True, **variables):
    """For a process of its own: the same backend; this package can be left out of its path."""
    path = [str(HERE), str(ROOT)] if package else []
    known = {**os.environ, "KERAS_BACKEND": keras.backend.backend(), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return {**known, "PYTHONPATH": os.pathsep.join(path), **variables}


def data(shape=(6,), samples=22, seed=1):
    """Inputs and integer labels; 22 samples leave a partial last batch of 8."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(samples, *shape)).astype("float32")
    return x, generator.integers(0, CLASSES, samples)


# Names of functions below; what each takes, where it is not six numbers a sample.
KINDS = ["convolutional", "recurrent", "attention", "embedded", "shared", "nested", "subclassed"]
_SHAPES = {"convolutional": (8, 8, 2), "recurrent": (4, 3), "attention": (4, 6)}


def data_for(kind):
    """Inputs and integer labels for a model of that kind."""
    x, y = data(_SHAPES.get(kind, (6,)))
    if kind == "embedded":
        x = np.random.default_rng(0).integers(0, 7, (22, 4)).astype("int32")
    return ([x, x[::-1].copy()] if kind == "shared" else x), y


def mlp(hidden=(8, 5), features=6, activation="relu"):
    """Dense layers a, b, ... and the output `out`."""
    model = keras.Sequential([keras.Input((features,))])
    for name, units in zip("abcdef", hidden, strict=False):
        model.add(layers.Dense(units, activation, name=name))
    model.add(layers.Dense(CLASSES, "softmax", name="out"))
    return model


def compiled(model, optimizer=None, **kwargs):
    """`model` compiled for integer labels."""
    kwargs.setdefault("metrics", ["accuracy"])
    optimizer = keras.optimizers.SGD(0.1) if optimizer is None else optimizer
    model.compile(optimizer, "sparse_categorical_crossentropy", **kwargs)
    return model


def functional():
    inputs = keras.Input((6,))
    left = layers.Dense(4, "relu", name="left")(inputs)
    right = layers.Dense(4, "tanh", name="right")(inputs)
    joined = layers.Concatenate()([left, right])
    return keras.Model(inputs, layers.Dense(CLASSES, "softmax", name="out")(joined))


def normalised():
    inputs = keras.Input((6,))
    x = layers.Dense(5, use_bias=False, name="a")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.0)(x)
    x = layers.Activation("relu", name="after")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, "softmax", name="out")(x))


def nested():
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, "relu", name="a"), layers.Dense(4, "relu", name="b")],
        name="inner",
    )
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(CLASSES, "softmax", name="out")(inner(inputs)))


def shared():
    first, second = keras.Input((6,)), keras.Input((6,))
    layer = layers.Dense(5, "relu", name="both")
    joined = layers.Add()([layer(first), layer(second)])
    out = layers.Dense(CLASSES, "softmax", name="out")(joined)
    return keras.Model([first, second], out)


class Subclassed(keras.Model):
    """Two hidden layers, the second in a list."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.a = layers.Dense(5, "relu", name="a")
        self.more = [layers.Dense(4, "relu", name="b")]
        self.out = layers.Dense(CLASSES, "softmax", name="out")

    def call(self, x):
        return self.out(self.more[0](self.a(x)))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 6), "float32"))
    return model


def convolutional():
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, padding="same", activation="relu", name="conv"),
            layers.DepthwiseConv2D(3, padding="same", strides=2, name="depth"),
            layers.ReLU(name="depth_relu"),
            layers.SeparableConv2D(6, 3, padding="same", activation="relu", name="sep"),
            layers.Conv2DTranspose(3, 2, strides=2, activation="relu", name="up"),
            layers.Flatten(),
            layers.Dense(CLASSES, "softmax", name="out"),
        ]
    )


def one_dimensional():
    return keras.Sequential(
        [
            keras.Input((8, 3)),
            layers.Conv1D(4, 3, padding="causal", activation="relu", name="conv"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(CLASSES, "softmax", name="out"),
        ]
    )


def recurrent():
    inputs = keras.Input((4, 3))
    x = layers.LSTM(4, return_sequences=True, name="lstm")(inputs)
    x = layers.GRU(3, return_sequences=True, name="gru")(x)
    x = layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="both_ways")(x)
    x = layers.TimeDistributed(layers.Dense(4, "relu", name="step"), name="each")(x)
    x = layers.SimpleRNN(3, name="simple")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, "softmax", name="out")(x))


def attention():
    inputs = keras.Input((4, 6))
    x = layers.MultiHeadAttention(2, 3, name="mha")(inputs, inputs)
    x = layers.EinsumDense("abc,cd->abd", (4, 5), activation="relu", name="einsum")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES, "softmax", name="out")(x))


def embedded():
    inputs = keras.Input((4,), dtype="int32")
    x = layers.Embedding(7, 4, name="words")(inputs)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(CLASSES, "softmax", name="out")(x))


def statistics(shape, units, seed=5):
    """Every statistic that a site can hold for a kernel, of seeded numbers."""
    generator = np.random.default_rng(seed)
    held = [one for one in STATISTICS.values() if one.of != "activity"]
    found = {one.name: generator.normal(size=shape) for one in held}
    for name in ("input_norm", "gauss_newton", "squared_gradient", "synaptic_flow"):
        found[name] = np.abs(found[name])
    for one in held:
        if one.by_unit:
            found[one.name] = np.abs(generator.normal(size=units))
    return found


# -- the oracle ---------------------------------------------------------------------------------


def outputs(model, names, *inputs):
    """Outputs of named layers in training mode, from a plain sub-model of `model`."""
    wanted = [model.get_layer(name).output for name in names]
    found = keras.Model(model.inputs, wanted)(
        list(inputs) if len(inputs) > 1 else inputs[0], training=True
    )
    found = keras.tree.flatten(found)
    return dict(zip(names, map(keras.ops.convert_to_numpy, found), strict=True))


def batches(arrays, size=8):
    """What `fit(shuffle=False, batch_size=size)` feeds, in order."""
    for start in range(0, len(arrays[0]), size):
        yield [array[start : start + size] for array in arrays]


def activity(values, threshold=0.0):
    """Sums over the samples of (share active, mean, mean square), units last."""
    flat = values.reshape(len(values), -1, values.shape[-1]).astype("float64")
    parts = [(flat > threshold).mean(1), flat.mean(1), (flat**2).mean(1)]
    return np.stack([part.sum(0) for part in parts]), len(values)


def expected(observe, arrays, epochs=1, threshold=0.0, size=8):
    """{layer: (sums, samples)} over `epochs` passes, where observe(*batch) -> {layer: outputs}."""
    totals = {}
    for batch in batches(arrays, size):
        for layer, values in observe(*batch).items():
            for part in values if isinstance(values, list) else [values]:
                sums, samples = activity(part, threshold)
                known = totals.get(layer, (0.0, 0))
                totals[layer] = known[0] + sums * epochs, known[1] + samples * epochs
    return totals


def gradients(x, y, kernels, biases):
    """[(of the kernel, of the bias)] of the mean cross-entropy of an `mlp`, by hand."""
    inputs = [x.astype("float64")]
    for kernel, bias in zip(kernels, biases, strict=True):
        inputs.append(np.maximum(inputs[-1] @ kernel + bias, 0))
    scores = np.exp(inputs[-2] @ kernels[-1] + biases[-1])
    back = (scores / scores.sum(1, keepdims=True) - np.eye(CLASSES)[y]) / len(x)
    found = []
    for kernel, seen in zip(kernels[::-1], inputs[-2::-1], strict=True):
        found.append((seen.T @ back, back.sum(0)))
        back = (back @ kernel.T) * (seen > 0)
    return found[::-1]


# -- after a fit --------------------------------------------------------------------------------


def kernels(model, *names):
    """The kernels of named layers of a flat model, as NumPy arrays."""
    return [keras.ops.convert_to_numpy(model.get_layer(name).kernel) for name in names]


def pruned(model, *names):
    """Share of exact zeros among the kernels of named layers, and nothing else."""
    found = kernels(model, *names)
    return sum((k == 0).sum() for k in found) / sum(k.size for k in found)
