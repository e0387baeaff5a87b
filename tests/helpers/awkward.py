"""Models whose layers no configuration makes again, or whose layers share what they hold.

Each function returns a model and inputs for it. What they compute is plain Keras.
"""

import dataclasses
import functools

import keras
import numpy as np
from keras import layers, ops


def data(*shape, samples=5):
    return np.random.default_rng(0).normal(size=(samples, *shape)).astype("float32")


def ids(*shape, high=7, samples=5):
    return np.random.default_rng(0).integers(0, high, (samples, *shape)).astype("int32")


class DenseTranspose(layers.Layer):
    """The decoder of a tied autoencoder: reads the kernel of another layer."""

    def __init__(self, dense, **kwargs):
        super().__init__(**kwargs)
        self.dense = dense

    def build(self, shape):
        self.bias = self.add_weight(shape=(self.dense.kernel.shape[0],), name="bias")
        super().build(shape)

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.dense.kernel)) + self.bias


class Reader(layers.Layer):
    """Uses a variable that another layer has made, and does not own it."""

    def __init__(self, variable, **kwargs):
        super().__init__(**kwargs)
        self.kernel = variable

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.kernel))


class Block(layers.Layer):
    """Takes layers and functions, and says nothing of them in a configuration."""

    def __init__(self, inner, function, factor, **kwargs):
        super().__init__(**kwargs)
        self.inner, self.function, self.factor = inner, function, factor
        self.norm = layers.LayerNormalization(name="norm")

    def build(self, shape):
        if not self.inner.built:
            self.inner.build(shape)
        self.norm.build(self.inner.compute_output_shape(shape))
        super().build(shape)

    def call(self, x, training=None):
        return self.factor * self.function(self.norm(self.inner(x)))


class Forgetful(layers.Layer):
    """Its configuration leaves an argument out: another layer comes back, without an error."""

    def __init__(self, factor=1.0, units=3, **kwargs):
        super().__init__(**kwargs)
        self.factor, self.units = factor, units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        super().build(shape)

    def call(self, x):
        return self.factor * ops.matmul(x, self.kernel)

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@dataclasses.dataclass
class Toolbox:
    """No layer itself; holds some."""

    dense: layers.Layer
    scale: float


class Holder(layers.Layer):
    """Keeps its layers where Keras does not look for them, or not in the open."""

    def __init__(self, dense, **kwargs):
        super().__init__(**kwargs)
        self.stack = [{"first": dense}, (layers.Dense(4, name="second"),)]
        self.box = Toolbox(dense, 0.5)
        self.post = functools.partial(ops.multiply, 2.0)
        self.again = self.run

    def build(self, shape):
        if not self.stack[0]["first"].built:
            self.stack[0]["first"].build(shape)
        self.stack[1][0].build((None, self.stack[0]["first"].units))
        super().build(shape)

    def run(self, x):
        return self.stack[1][0](self.stack[0]["first"](x)) + self.box.scale

    def call(self, x):
        return self.post(self.again(x)) + ops.sum(self.box.dense(x), axis=-1, keepdims=True)


class Cell(layers.Layer):
    """A cell of one's own, without a configuration."""

    def __init__(self, units, function, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = units
        self.function = function

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        super().build(shape)

    def call(self, x, states, training=None):
        new = self.function(ops.matmul(x, self.kernel) + 0.5 * states[0])
        return new, [new]


def tied_autoencoder():
    inputs = keras.Input((6,))
    dense = layers.Dense(4, "relu", name="encoder")
    hidden = dense(inputs)
    return keras.Model(inputs, DenseTranspose(dense, name="decoder")(hidden)), data(6)


def tied_before():
    """The layer that reads the kernel stands in the graph before the one that made it."""
    inputs = keras.Input((6,))
    dense = layers.Dense(6, name="made")
    dense.build((None, 6))
    first = DenseTranspose(dense, name="reader")(inputs)
    return keras.Model(inputs, layers.Dense(2, name="out")(dense(first))), data(6)


def reader():
    inputs = keras.Input((6,))
    dense = layers.Dense(4, "relu", name="a")
    hidden = dense(inputs)
    return keras.Model(inputs, Reader(dense.kernel, name="reader")(hidden)), data(6)


def closure():
    inputs = keras.Input((6,))
    dense = layers.Dense(4, "relu", name="a")
    hidden = dense(inputs)
    tied = layers.Lambda(lambda x: ops.matmul(x, ops.transpose(dense.kernel)), name="tied")
    return keras.Model(inputs, tied(hidden)), data(6)


def blocks():
    scale = 3.0
    return keras.Sequential(
        [
            keras.Input((6,)),
            Block(layers.Dense(5, name="inner"), lambda x: scale * x, 0.5, name="block"),
            layers.Dense(2, name="out"),
        ]
    ), data(6)


def twice_in_blocks():
    inputs = keras.Input((6,))
    dense = layers.Dense(6, name="shared")
    x = Block(dense, ops.tanh, 0.5, name="one")(inputs)
    x = Block(dense, lambda x: ops.relu(x), 2.0, name="two")(x)
    return keras.Model(inputs, layers.Dense(2, name="out")(dense(x))), data(6)


def forgetful():
    return keras.Sequential(
        [keras.Input((6,)), Forgetful(7.0, 4, name="own"), layers.Dense(2, name="out")]
    ), data(6)


def lambdas():
    shift = 0.25
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, lambda x: ops.relu(x) - shift, name="a"),
            layers.Lambda(lambda x: x * shift, name="scaled"),
            layers.Dense(4, lambda x: ops.tanh(x) + shift, name="b"),
            layers.Dense(2, name="out", kernel_regularizer=lambda w: 0.01 * ops.sum(w * w)),
        ]
    ), data(6)


def holder():
    inputs = keras.Input((6,))
    dense = layers.Dense(3, name="dense")
    x = Holder(dense, name="holder")(inputs)
    return keras.Model(inputs, layers.Concatenate()([x, dense(inputs)])), data(6)


def recurrent():
    inputs = keras.Input((4, 6))
    x = layers.RNN(Cell(5, lambda x: ops.tanh(x)), return_sequences=True, name="own")(inputs)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True, name="lstm"), name="both")(x)
    x = layers.TimeDistributed(Forgetful(2.0, 4, name="inner"), name="each")(x)
    return keras.Model(inputs, layers.GRU(2, activation=lambda x: ops.tanh(2 * x))(x)), data(4, 6)


def stateful():
    inputs = keras.Input(batch_shape=(5, 4, 6))
    x = layers.LSTM(3, stateful=True, name="state")(inputs)
    return keras.Model(inputs, layers.Dense(2, name="out")(x)), data(4, 6)


def normalised():
    inputs = keras.Input((6,))
    x = layers.SpectralNormalization(layers.Dense(5, name="dense"), name="spectral")(inputs)
    x = layers.Dropout(0.4)(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(2, name="out")(x)), data(6)


def submodels():
    encoder = keras.Sequential([keras.Input((6,)), layers.Dense(6, "relu", name="e")], name="enc")
    inputs = keras.Input((6,))
    x = Block(encoder, ops.tanh, 1.0, name="block")(encoder(encoder(inputs)))
    return keras.Model(inputs, layers.Dense(2, name="out")(x)), data(6)


def reversible():
    embedding = layers.ReversibleEmbedding(7, 4, name="embedding")
    start = keras.Input((3,), dtype="int32")
    backbone = keras.Model(start, layers.Dense(4, name="a")(embedding(start)), name="backbone")
    inputs = keras.Input((3,), dtype="int32")
    return keras.Model(inputs, embedding(backbone(inputs), reverse=True)), ids(3)


def policies():
    inputs = keras.Input((6,))
    x = Block(layers.Dense(5, dtype="mixed_float16", name="half"), ops.tanh, 0.5, name="b")(inputs)
    x = layers.Dense(4, dtype="float64", name="double")(x)
    return keras.Model(inputs, layers.Dense(2, name="out")(x)), data(6)


MODELS = [
    tied_autoencoder, tied_before, reader, closure, blocks, twice_in_blocks, forgetful, lambdas,
    holder, recurrent, stateful, normalised, submodels, policies,
]  # fmt: skip
if hasattr(layers, "ReversibleEmbedding"):  # new in Keras 3.13
    MODELS.append(reversible)
