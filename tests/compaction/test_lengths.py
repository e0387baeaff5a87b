"""RMS norms that people write, embeddings that are read backwards, sums along channels."""

import keras
import numpy as np
import pruned_graphs
import pytest
from compacted import assert_same, noise
from keras import layers as L
from keras import ops

import activation_pruning as ap

pytestmark = pytest.mark.backend


class Norm(L.Layer):
    """scale (or 1 + scale) times x by its root mean square."""

    def __init__(self, epsilon=0.1, offset=0.0, power=2, **kwargs):
        super().__init__(**kwargs)
        self.epsilon, self.offset, self.power = epsilon, offset, power

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        squares = ops.mean(ops.abs(x) ** self.power, axis=-1, keepdims=True)
        return x * ops.rsqrt(squares + self.epsilon) * (self.scale + self.offset)

    def get_config(self):
        own = {"epsilon": self.epsilon, "offset": self.offset, "power": self.power}
        return {**super().get_config(), **own}


class Silent(Norm):
    """Says nothing of its epsilon."""

    def get_config(self):
        return L.Layer.get_config(self)


def residual(norm):
    """Two layers add to a stream that norms read; half of its width is pruned."""
    keras.utils.set_random_seed(2)
    x = inputs = keras.Input((5,))
    x = L.Dense(8, name="a")(x)
    x = L.Add()([x, L.Dense(8, name="b")(L.Dense(6, "relu", name="wide")(norm(x)))])
    model = keras.Model(inputs, L.Dense(2, name="out")(norm(x)))
    pruned_graphs.randomised(model)
    ap.prune(model, 0.5, granularity="unit", allocation="uniform")
    return model


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_the_width_that_an_rms_norm_of_ones_own_reads_shrinks(offset):
    model = residual(Norm(offset=offset, name="norm"))
    small = ap.compact(model)
    assert [small.get_layer(name).units for name in ("a", "b", "wide")] == [4, 4, 3]
    assert small.get_layer("norm").epsilon == pytest.approx(0.2)
    assert_same(model, small, noise(6, 5), 1e-5)
    assert_same(model, small, 0.01 * noise(6, 5), 1e-5)  # where epsilon counts


@pytest.mark.parametrize("norm", [Norm(power=3, name="norm"), Norm(offset=0.5, name="norm")])
def test_what_is_no_rms_norm_keeps_them(norm):
    model = residual(norm)
    row = ap.removable(model).set_index("layer").loc["a"]
    assert row["left"] == 4
    assert "'norm' (Norm): not known to compaction" in row["reason"]
    assert_same(model, ap.compact(model), noise(6, 5), 1e-5)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_a_norm_that_does_not_say_its_epsilon_becomes_one_of_keras(offset, tmp_path):
    model = residual(Silent(offset=offset, name="norm"))
    small = ap.compact(model)
    assert [small.get_layer(name).units for name in ("a", "b", "wide")] == [4, 4, 3]
    assert type(small.get_layer("norm")) is L.RMSNormalization
    assert_same(model, small, noise(6, 5), 1e-5)
    small.save(tmp_path / "m.keras")  # which loads without its class
    assert_same(small, keras.models.load_model(tmp_path / "m.keras"), noise(6, 5), 1e-6)


def test_a_norm_of_each_head_lets_heads_go():
    """Gemma3 and Qwen3 normalise the numbers of each head of the queries and keys."""
    x = keras.Input((5, 8))
    made = L.EinsumDense("abc,cde->abde", (5, 4, 3), name="heads")(x)
    y = L.EinsumDense("abcd,cde->abe", (5, 2))(Norm(offset=1.0)(made))
    model = pruned_graphs.randomised(keras.Model(x, y))
    layer = model.get_layer("heads")
    layer.set_weights([layer.get_weights()[0] * np.array([1, 0, 0, 1])[:, None]])
    small = ap.compact(model)
    assert small.get_layer("heads").kernel.shape == (8, 2, 3)
    assert_same(model, small, noise(4, 5, 8), 1e-6)


@pytest.mark.skipif(not hasattr(L, "ReversibleEmbedding"), reason="Keras before 3.13")
@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_that_is_read_backwards_shrinks_with_the_stream(tied):
    class Mine(L.ReversibleEmbedding):
        pass  # a class that adds nothing

    keras.utils.set_random_seed(2)
    inputs, table = keras.Input((4,), dtype="int32"), Mine(9, 8, tie_weights=tied, name="words")
    x = table(inputs)
    x = L.RMSNormalization()(L.Add()([x, L.Dense(8, name="b")(L.Dense(6, "relu")(x))]))
    model = keras.Model(inputs, table(x, reverse=True))
    pruned_graphs.randomised(model)
    ap.prune(model, 0.5, granularity="unit", allocation="uniform", exclude=())
    small = ap.compact(model)
    assert small.get_layer("words").output_dim == small.get_layer("b").units == 4
    assert_same(model, small, np.arange(12).reshape(3, 4) % 9, 1e-5)


def test_zeros_leave_a_sum_and_constants_a_maximum():
    x = inputs = keras.Input((5,))
    x = L.Dense(8, name="a", activation="relu")(x)
    top = ops.max(ops.ones_like(x), axis=-1, keepdims=True)  # of ones, however many there are
    total = ops.sum(x, axis=-1, keepdims=True)
    model = keras.Model(inputs, L.Concatenate()([top, total, L.Dense(2)(x)]))
    pruned_graphs.randomised(model)
    ap.prune(model, 0.5, granularity="unit", include="a")
    small = ap.compact(model)
    assert small.get_layer("a").units == 4
    assert_same(model, small, noise(6, 5), 1e-5)
