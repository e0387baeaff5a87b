"""Models of any class, written down as a graph: compared with the models themselves."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import activation_pruning as ap
from activation_pruning.graph.inlining import NotInlined, inline

pytestmark = pytest.mark.backend
RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.normal(size=shape).astype("float32")


class Block(layers.Layer):
    """A residual block, as people write it."""

    def __init__(self, units, rate=0.0, **kwargs):
        super().__init__(**kwargs)
        self.wide = layers.Dense(2 * units, activation="relu", name="wide")
        self.narrow = layers.Dense(units, name="narrow")
        self.drop, self.norm = layers.Dropout(rate, seed=1), layers.BatchNormalization()

    def call(self, x, training=None):
        return self.norm(x + self.drop(self.narrow(self.wide(x))), training=training)


class Net(keras.Model):
    """Blocks in a list, one of them called twice, and a dict of outputs."""

    def __init__(self, rate=0.0):
        super().__init__(name="net")
        self.first = layers.Dense(6, name="first")
        self.blocks = [Block(6, rate, name=f"block_{i}") for i in range(2)]
        self.head = keras.Sequential([layers.Dense(3, name="wide"), layers.Dense(2)], name="head")

    def call(self, x, training=None):
        x = self.first(x)
        for block in [*self.blocks, self.blocks[0]]:
            x = block(x, training=training)
        return {"classes": self.head(x), "mean": ops.mean(x, axis=-1)}


def built(rate=0.0):
    keras.utils.set_random_seed(3)
    model = Net(rate)
    model(noise(2, 4))
    return model


def values(outputs):
    return [ops.convert_to_numpy(one) for one in keras.tree.flatten(outputs)]


def test_outputs_are_equal_to_the_last_bit_and_weights_are_shared():
    model, x = built(), noise(5, 4)
    graph = inline(model)
    for own, expected in zip(values(graph(x)), values(model(x)), strict=True):
        np.testing.assert_array_equal(own, expected)
    assert {id(one) for one in graph.weights} == {id(one) for one in model.weights}
    assert [layer.name for layer in graph.layers if layer.weights] == [
        "first", "block_0-wide", "block_0-narrow", "block_0-batch_normalization",
        "block_1-wide", "block_1-narrow", "block_1-batch_normalization_1", "head-wide",
        "head-dense",
    ]  # fmt: skip


def test_the_model_itself_does_not_change():
    model, x = built(), noise(5, 4)
    before, names = values(model(x)), [layer.name for layer in model._flatten_layers()]
    nodes = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    inline(model)
    assert [layer.name for layer in model._flatten_layers()] == names
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == nodes
    for own, expected in zip(values(model(x)), before, strict=True):
        np.testing.assert_array_equal(own, expected)


def test_files_load_without_the_classes(tmp_path):
    model, x = built(), noise(5, 4)
    inline(model).save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for own, expected in zip(values(loaded(x)), values(model(x)), strict=True):
        np.testing.assert_array_equal(own, expected)


def test_training_is_the_same():
    """Same seed, same losses, BatchNormalization included: dropout does nothing here."""
    losses = []
    x, y = noise(32, 4), {"classes": noise(32, 2), "mean": noise(32)}
    for make in (lambda model: model, inline):
        model = make(built())
        model.compile(keras.optimizers.SGD(0.05), "mse")
        history = model.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0).history
        losses.append(history["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


def test_dropout_is_at_work_in_training_only():
    model, x = built(rate=0.5), noise(64, 4)
    graph = inline(model)
    still, again = graph(x)["mean"], graph(x)["mean"]
    np.testing.assert_array_equal(ops.convert_to_numpy(still), ops.convert_to_numpy(again))
    trained = graph(x, training=True)["mean"]
    assert np.abs(ops.convert_to_numpy(trained) - ops.convert_to_numpy(still)).max() > 1e-3


class Masked(keras.Model):
    """Padding passes through a block that adds, which drops the mask, and back onto its output."""

    def __init__(self):
        super().__init__()
        self.embed = layers.Embedding(9, 4, mask_zero=True)
        self.block = Residual()
        self.pool = layers.GlobalAveragePooling1D()

    def call(self, x):
        return self.pool(self.block(self.embed(x)))


class Residual(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner, self.supports_masking = layers.Dense(4), True

    def call(self, x):
        return x + self.inner(x)


def test_padding_reaches_what_comes_after_a_block():
    model, x = Masked(), np.array([[1, 2, 0, 0], [3, 0, 0, 0], [4, 5, 6, 7]])
    expected = values(model(x))[0]
    graph = inline(model, x)
    np.testing.assert_array_equal(values(graph(x))[0], expected)
    embedded = ops.convert_to_numpy(model.block(model.embed(x)))
    mean = [row[own != 0].mean(axis=0) for row, own in zip(embedded, x, strict=True)]
    np.testing.assert_allclose(expected, mean, rtol=1e-5)


class _Refused(keras.Model):
    def __init__(self, function):
        super().__init__(name="refused")
        self.dense, self.function = layers.Dense(3), function

    def call(self, x, training=None):
        return self.function(self.dense, x, training)


def _branches_on_values(dense, x, training):
    return dense(x) if ops.sum(x) > 0 else x


def _branches_on_training(dense, x, training):
    return dense(x) if training else dense(2 * x)


def _leaves_keras(dense, x, training):
    return np.asarray(dense(x)) + 1


def _fixes_training(dense, x, training):
    return layers.Dropout(0.5)(dense(x), training=True)


@pytest.mark.parametrize(
    "function", [_branches_on_values, _branches_on_training, _leaves_keras, _fixes_training]
)
def test_the_message_names_layer_and_line(function):
    model = _Refused(function)
    model.dense.build((None, 3))
    model.built = True
    with pytest.raises(NotInlined, match=r"'refused' \(_Refused\) cannot .*test_inlining.py, line"):
        inline(model, keras.Input((3,)))


def test_inputs_that_are_not_known():
    with pytest.raises(ValueError, match="is not built"):
        inline(Net())
    assert inline(Net(), noise(1, 4)).input_shape == (None, 4)  # which builds it
    model = Masked()
    model.built = True
    with pytest.raises(ValueError, match="not known; give inputs="):
        inline(model)


def test_a_graph_of_nested_models_becomes_flat():
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="a")], name="inner")
    x = keras.Input((3,))
    model = keras.Model(x, ops.concatenate([inner(x), inner(2 * x)], axis=-1))
    graph, data = inline(model), noise(4, 3)
    assert not any(isinstance(layer, keras.Model) for layer in graph.layers)
    np.testing.assert_array_equal(values(graph(data))[0], values(model(data))[0])


def test_the_graph_can_be_pruned_by_unit_and_compacted():
    model, x = built(), noise(16, 4)
    graph = inline(model)
    ap.prune(graph, 0.5, granularity="unit")
    small = ap.compact(graph)
    assert small.count_params() < graph.count_params()
    for own, expected in zip(values(small(x)), values(model(x)), strict=True):
        np.testing.assert_allclose(own, expected, atol=1e-5)


class Untold(layers.Layer):
    """No weights, and a configuration that its constructor does not take."""

    def __init__(self, factor, opaque=False):
        super().__init__()
        self.factor, self.opaque = factor, opaque

    def call(self, x):
        return np.asarray(x) * self.factor if self.opaque else x * ops.sin(self.factor * x)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)

    def get_config(self):
        return {**super().get_config(), "factors": self.factor}


def test_layers_that_no_file_brings_back_are_taken_apart(tmp_path):
    x = keras.Input((3,))
    model = keras.Model(x, layers.Dense(2, name="b")(Untold(2.0)(layers.Dense(4, name="a")(x))))
    graph, data = inline(model), noise(4, 3)
    assert not any(type(layer) is Untold for layer in graph.layers)
    np.testing.assert_array_equal(values(graph(data))[0], values(model(data))[0])
    small = ap.compact(model)
    small.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(values(again(data))[0], values(model(data))[0], atol=1e-6)


def test_what_cannot_be_taken_apart_stays_whole():
    x = keras.Input((3,))
    model = keras.Model(x, layers.Dense(2)(Untold(2.0, opaque=True)(x)))
    assert any(type(layer) is Untold for layer in inline(model).layers)
