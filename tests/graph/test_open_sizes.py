"""Models that ask for sizes which are open: of a batch, of a text."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from activation_pruning.graph.inlining import NotInlined, inline

pytestmark = pytest.mark.backend


class Asks(keras.Model):
    def __init__(self, function):
        super().__init__(name="asks")
        self.dense, self.function = layers.Dense(6), function

    def call(self, x):
        return self.function(self.dense(x), x)


def positions(y, x):
    return y + ops.expand_dims(ops.arange(ops.shape(x)[1], dtype="float32"), -1)


def causal(y, x):
    batch, length, _ = ops.shape(y)
    i, j = ops.arange(length)[:, None], ops.arange(0, length)[None, :]
    mask = ops.broadcast_to(ops.expand_dims(i >= j, 0), (batch, length, length))
    return ops.matmul(ops.cast(mask, "float32"), y)


def heads(y, x):
    batch, length, _ = ops.shape(x)
    split = ops.reshape(y, (batch, length, 2, 3))
    return ops.reshape(ops.square(split), (batch, -1, 6))


def filled(y, x):
    shape = ops.shape(y)
    return y * ops.ones(shape) + ops.zeros((1, shape[1], 1))


MODELS = {one.__name__: one for one in (positions, causal, heads, filled)}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_equal_for_any_size(name, tmp_path):
    model = Asks(MODELS[name])
    generator = np.random.default_rng(0)
    model(generator.normal(size=(2, 5, 4)).astype("float32"))
    inline(model, keras.Input((None, 4))).save(tmp_path / "m.keras")
    graph = keras.models.load_model(tmp_path / "m.keras")
    assert graph.input_shape == (None, None, 4)
    for batch, length in ((1, 1), (3, 5), (2, 7)):
        x = generator.normal(size=(batch, length, 4)).astype("float32")
        own, expected = (ops.convert_to_numpy(one(x)) for one in (graph, model))
        np.testing.assert_allclose(own, expected, rtol=1e-6, atol=1e-6)


def folded(y, x):
    """Windows of two steps, taken apart and put together again."""
    batch, length, _ = ops.shape(x)
    windows = ops.square(ops.reshape(y, (-1, 2, 6)))
    return ops.reshape(windows, (batch, length, 6))


def halved(y, x):
    return y[:, : ops.shape(x)[1] // 2]


def compared(y, x):
    return y if ops.shape(x)[1] == 7 else -y


@pytest.mark.parametrize("function", [folded, halved, compared])
def test_what_is_computed_with_an_open_size_is_refused(function):
    model = Asks(function)
    model(np.ones((2, 4, 4), "float32"))
    with pytest.raises(NotInlined, match="size"):
        inline(model, keras.Input((None, 4)))
    assert inline(model, keras.Input(batch_shape=(2, 4, 4))).output_shape[0] == 2
