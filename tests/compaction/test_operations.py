"""Channels through `keras.ops`: what transformers are made of, once they are written as a graph."""

import keras
import numpy as np
import pruned_graphs
import pytest
from compacted import noise
from keras import layers as L
from keras import ops

import activation_pruning as ap

pytestmark = pytest.mark.backend

HEADS, SIZE, STEPS, WIDTH = 4, 3, 5, 8


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def compacted(model, x):
    """The compacted model, which computes what the model does."""
    before, small = outputs(model, x), ap.compact(model)
    np.testing.assert_allclose(outputs(small, x), before, atol=1e-6 * max(1, np.abs(before).max()))
    return small


def kill(layer, *units, bias=0.0):
    """Zero the weights of these entries of the first axis that a kernel makes."""
    kernel, *rest = layer.get_weights()
    kernel[:, units] = 0
    for own in rest:
        own[list(units)] = bias
    layer.set_weights([kernel, *rest])


def between(function, dead=(1, 4), bias=0.0, units=6):
    """A graph with `function` between a layer with dead units and one that reads them."""
    x = keras.Input((STEPS, WIDTH))
    model = keras.Model(x, L.Dense(3, name="b")(function(L.Dense(units, name="a")(x))))
    pruned_graphs.randomised(model)
    kill(model.get_layer("a"), *dead, bias=bias)
    return model


def swish(x):
    return x * ops.sigmoid(1.5 * x)


def centred(x):
    return x - ops.mean(x, axis=-1, keepdims=True)


class Turning(L.Layer):
    """As rotary embeddings are: no weights, numbers by position, each channel by itself."""

    def call(self, x):
        angle = ops.arange(STEPS, dtype="float32")[:, None]
        return x * ops.cos(angle) + ops.sin(angle)


class Dropping(L.Layer):
    """Stochastic depth: drops samples at random, in training alone."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(1)

    def call(self, x, training=False):
        if not training:
            return x
        kept = keras.random.uniform((ops.shape(x)[0], 1, 1), seed=self.generator)
        return x * ops.cast(kept > 0.5, x.dtype)


class Reversing(L.Layer):
    def call(self, x):
        return ops.flip(x, axis=-1)


FOLLOWED = {
    "number": lambda x: (x + 3.0) * 0.5 - 1,
    "from a number": lambda x: 2.0 - x,
    "hard swish": lambda x: x * (ops.relu6(x + 3.0) / 6.0),
    "quotient": lambda x: x / 4.0,
    "power": lambda x: ops.power(x, 2.0),
    "clipped": lambda x: ops.minimum(ops.maximum(x, -0.5), 0.5),
    "array of one number": lambda x: x * np.full((1, STEPS, 1), 2.0, "float32"),
    "array by position": lambda x: x + np.arange(STEPS, dtype="float32")[:, None],
    "spread over positions": lambda x: x * ops.mean(x, axis=1, keepdims=True),
    "of another rank": lambda x: x[:, :1] * x,
    "one for all channels": lambda x: x * ops.sigmoid(L.Dense(1)(x)),
    "where": lambda x: ops.where(x > 0, x, 0.1 * x),
    "numbers": lambda x: ops.cast(ops.square(x) + ops.exp(ops.negative(ops.abs(x))), "float32"),
    "root": lambda x: x * ops.rsqrt(1.0 + ops.square(x)),
    "own activation": L.Activation(swish),
    "own layer": Turning(),
    "Lambda": L.Lambda(lambda x: x * 2),
    "turned around": lambda x: ops.transpose(ops.transpose(x, (0, 2, 1)), (0, 2, 1)),
    "swapped": lambda x: ops.swapaxes(ops.swapaxes(x, 1, 2), 2, 1),
    "one axis more": lambda x: ops.squeeze(ops.expand_dims(x, 2), 2),
    "some positions": lambda x: x[:, 1:4],
    "one position": lambda x: x[:, 0],
    "a new axis": lambda x: x[:, None],
    "over positions": lambda x: ops.concatenate([ops.max(x, axis=1), ops.sum(x, 1)], axis=-1),
    "softmax": lambda x: ops.softmax(x, axis=1) * x,
    "repeated": lambda x: ops.repeat(x, 2, axis=-1),
    "repeated positions": lambda x: ops.repeat(x, 2, axis=1),
    "flat": lambda x: ops.reshape(x, (-1, STEPS * 6)),
    "split positions": lambda x: ops.split(x, [2], axis=1)[1],
    "split channels": lambda x: ops.concatenate(ops.split(x, 2, axis=-1)[::-1], axis=-1),
    "swish of a half": lambda x: ops.silu(ops.split(x, 2, axis=-1)[0]) * ops.split(x, 2, -1)[1],
    "glu": lambda x: ops.glu(x, axis=-1),
    "stacked": lambda x: ops.stack([x, 2.0 * x], axis=2),
    "stacked in front": lambda x: ops.sum(ops.stack([x, x], axis=-2), axis=-2),
    "broadcast": lambda x: ops.broadcast_to(x[:, :1], (3, STEPS, 6)),
    "dropped in training": Dropping(),
    "where or zero": lambda x: ops.where(ops.sum(x, -1, keepdims=True) > 0, x, ops.zeros_like(x)),
    "where two agree": lambda x: ops.where(x[:, :1] > 0, x, x * ops.ones_like(x)),
    "with itself": lambda x: ops.einsum("abc,adc->abdc", x, x),
}
PINNED = {
    "own activation": L.Activation(centred),
    "own layer": Reversing(),
    "Masking": L.Masking(),
    "array by channel": lambda x: x * np.arange(6, dtype="float32"),
    "softmax": lambda x: ops.softmax(x, axis=-1),
    "some channels": lambda x: x[..., 1:5],
    "split at a place": lambda x: ops.split(x, [2], axis=-1)[1],
    "one channel spread": lambda x: ops.broadcast_to(x[..., 1:2], (3, STEPS, 6)),
    "over channels": lambda x: x + ops.mean(x, axis=-1, keepdims=True),
    "outer product": lambda x: ops.einsum("abc,abd->acd", x, x),
}


# Where a channel without weights varies, or is no longer known to be constant, and where only zeros
# are still known.
UNKNOWN = ("array by position", "own layer")
ZEROS = (
    "one for all channels", "softmax", "with itself", "over positions", "glu", "stacked",
    "stacked in front", "where or zero", "where",
)  # fmt: skip


@pytest.mark.parametrize("kind", FOLLOWED)
@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_channels_are_followed(kind, bias):
    model = between(FOLLOWED[kind], bias=bias)
    small = compacted(model, noise(3, STEPS, WIDTH))
    left = 6 if kind in UNKNOWN or (bias and kind in ZEROS) else 4
    assert small.get_layer("a").units == left


@pytest.mark.parametrize("kind", PINNED)
def test_channels_that_cannot_be_followed_stay(kind):
    model = between(PINNED[kind])
    with pytest.warns(UserWarning, match="no unit can be removed"):
        small = compacted(model, noise(3, STEPS, WIDTH))
    assert small.get_layer("a").units == 6
    assert ap.removable(model).set_index("layer").loc["a", "reason"]


def projection(name, heads=HEADS, use_bias=True):
    bias = {"bias_axes": "de"} if use_bias else {}
    return L.EinsumDense("abc,cde->abde", (STEPS, heads, SIZE), name=name, **bias)


def attention(key_heads=HEADS, use_bias=True):
    """Heads as keras-hub's layers have them; fewer for keys and values where these are shared."""
    x = keras.Input((STEPS, WIDTH))
    mask = keras.Input((STEPS, STEPS), dtype="bool")
    query = projection("query", use_bias=use_bias)(x)
    key, value = (projection(name, key_heads, use_bias)(x) for name in ("key", "value"))
    if key_heads < HEADS:
        query, key = Turning4()(query), Turning4()(key)
        key, value = (ops.repeat(one, HEADS // key_heads, axis=2) for one in (key, value))
    scores = ops.einsum("aecd,abcd->acbe", key, query) * (1.0 / np.sqrt(SIZE))
    scores = L.Softmax()(scores, mask=ops.expand_dims(mask, 1))
    found = ops.einsum("acbe,aecd->abcd", L.Dropout(0.1)(scores), value)
    y = L.EinsumDense("abcd,cde->abe", (None, WIDTH), bias_axes="e", name="output")(found)
    y = L.LayerNormalization()(x + y)
    hidden = L.Dense(10, swish, name="up")(y) * L.Dense(10, name="gate")(y)
    model = keras.Model([x, mask], L.Dense(2)(y + L.Dense(WIDTH, name="down")(hidden)))
    return pruned_graphs.randomised(model)


class Turning4(L.Layer):
    """A rotary embedding."""

    def call(self, x):
        angle = ops.arange(STEPS, dtype="float32")[:, None, None]
        return x * ops.cos(angle) + ops.flip(x, axis=-1) * ops.sin(angle)


def inputs():
    return [noise(3, STEPS, WIDTH), np.tril(np.ones((3, STEPS, STEPS), bool))]


@pytest.mark.parametrize("key_heads", [HEADS, 2])
@pytest.mark.parametrize("use_bias", [True, False])
def test_heads_of_attention_made_of_operations_go(key_heads, use_bias, tmp_path):
    model, x = attention(key_heads, use_bias), inputs()
    ap.prune(model, 0.5, "magnitude", granularity="unit", allocation="uniform")
    small = compacted(model, x)
    shapes = {layer.name: layer.kernel.shape for layer in small.layers if hasattr(layer, "kernel")}
    assert tuple(shapes["query"]) == (WIDTH, HEADS // 2, SIZE)
    assert tuple(shapes["key"]) == tuple(shapes["value"]) == (WIDTH, key_heads // 2, SIZE)
    assert tuple(shapes["output"]) == (HEADS // 2, SIZE, WIDTH)
    assert shapes["up"][1] == shapes["gate"][1] == shapes["down"][0] == 5
    if key_heads == HEADS:
        small.save(tmp_path / "small.keras")
        again = keras.saving.load_model(tmp_path / "small.keras", custom_objects={"swish": swish})
        np.testing.assert_allclose(outputs(again, x), outputs(small, x), atol=1e-6)


def open_lengths():
    """Texts of any length; heads are split and joined by reshapes with one open size."""
    x = keras.Input((None, WIDTH))
    parts = [L.Dense(HEADS * SIZE, name=name)(x) for name in ("query", "key", "value")]
    query, key, value = (L.Reshape((-1, HEADS, SIZE))(one) for one in parts)
    scores = ops.softmax(ops.einsum("aecd,abcd->acbe", key, query))
    y = L.Reshape((-1, HEADS * SIZE))(ops.einsum("acbe,aecd->abcd", scores, value))
    return pruned_graphs.randomised(keras.Model(x, L.Dense(2, name="output")(y)))


def test_heads_go_where_the_length_of_a_text_is_open(tmp_path):
    model = open_lengths()
    ap.prune(model, 0.5, "magnitude", granularity="unit", allocation="uniform")
    small = compacted(model, noise(3, STEPS, WIDTH))
    np.testing.assert_allclose(*(outputs(one, noise(2, 9, WIDTH)) for one in (model, small)), 1e-5)
    for name in ("query", "key", "value"):
        assert small.get_layer(name).units == HEADS * SIZE // 2
    small.save(tmp_path / "small.keras")
    again = keras.saving.load_model(tmp_path / "small.keras")
    np.testing.assert_allclose(*(outputs(one, noise(2, 7, WIDTH)) for one in (small, again)), 1e-5)


@pytest.mark.parametrize("target", [(-1, 4), (7, -1), (-1, 2 * WIDTH)])
def test_a_reshape_that_joins_open_lengths_with_channels_is_refused(target):
    x = keras.Input((None, WIDTH))
    y = L.Reshape(target)(L.Dense(6, name="a")(x))
    model = pruned_graphs.randomised(keras.Model(x, ops.sum(y, axis=(1, 2), keepdims=True)))
    kill(model.get_layer("a"), 1)
    with pytest.warns(UserWarning, match="no unit can be removed"):
        compacted(model, noise(3, 8 if 4 in target else 28 if 7 in target else 8, WIDTH))


def by_hand(fused):
    """Heads as many write them: Dense, reshape, transpose, matmul."""
    x = keras.Input((STEPS, WIDTH))
    size = (-1, STEPS, HEADS, SIZE)
    if fused:
        made = ops.reshape(L.Dense(3 * HEADS * SIZE, name="fused")(x), (-1, STEPS, 3, HEADS, SIZE))
        query, key, value = (made[:, :, part] for part in range(3))
    else:
        query, key, value = (
            ops.reshape(L.Dense(HEADS * SIZE, name=name)(x), size)
            for name in ("query", "key", "value")
        )
    query, key, value = (ops.transpose(one, (0, 2, 1, 3)) for one in (query, key, value))
    scores = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) / 2.0)
    y = ops.reshape(
        ops.transpose(ops.matmul(scores, value), (0, 2, 1, 3)), (-1, STEPS, HEADS * SIZE)
    )
    return pruned_graphs.randomised(keras.Model(x, L.Dense(2, name="output")(y)))


@pytest.mark.parametrize("fused", [False, True])
def test_heads_of_attention_written_by_hand_go(fused, tmp_path):
    model, x = by_hand(fused), noise(3, STEPS, WIDTH)
    ap.prune(model, 0.5, "magnitude", granularity="unit", allocation="uniform")
    small = compacted(model, x)
    assert tuple(small.get_layer("output").kernel.shape) == (HEADS // 2 * SIZE, 2)
    for name in ["fused"] if fused else ["query", "key", "value"]:
        assert small.get_layer(name).units == model.get_layer(name).units // 2
    small.save(tmp_path / "small.keras")
    again = keras.saving.load_model(tmp_path / "small.keras")
    np.testing.assert_allclose(outputs(again, x), outputs(small, x), atol=1e-6)


def test_heads_of_attention_that_is_one_operation_go():
    x, mask = keras.Input((STEPS, WIDTH)), keras.Input((1, STEPS, STEPS), dtype="bool")
    parts = [projection(name)(x) for name in ("query", "key", "value")]
    y = ops.dot_product_attention(*parts, mask=mask)
    y = L.EinsumDense("abcd,cde->abe", (None, WIDTH), name="output")(y)
    model = pruned_graphs.randomised(keras.Model([x, mask], y))
    ap.prune(model, 0.5, "magnitude", granularity="unit", allocation="uniform")
    small = compacted(model, [noise(3, STEPS, WIDTH), inputs()[1][:, None]])
    assert tuple(small.get_layer("output").kernel.shape) == (HEADS // 2, SIZE, WIDTH)


@pytest.mark.parametrize("dead", ["query", "key", "value"])
@pytest.mark.parametrize("single", [True, False])
def test_a_head_goes_only_where_its_values_are_zeros(dead, single):
    x = keras.Input((STEPS, WIDTH))
    query, key, value = (projection(name)(x) for name in ("query", "key", "value"))
    if single:
        y = ops.dot_product_attention(query, key, value)
    else:
        scores = ops.softmax(ops.einsum("aecd,abcd->acbe", key, query))
        y = ops.einsum("acbe,aecd->abcd", scores, value)
    y = L.EinsumDense("abcd,cde->abe", (None, WIDTH), name="output")(y)
    model = pruned_graphs.randomised(keras.Model(x, y))
    kill(model.get_layer(dead), 1)
    if dead == "value":
        small = compacted(model, noise(3, STEPS, WIDTH))
        assert small.get_layer("query").kernel.shape[1] == HEADS - 1
        return
    with pytest.warns(UserWarning, match="no unit can be removed"):
        compacted(model, noise(3, STEPS, WIDTH))


def test_numbers_of_a_head_that_are_only_summed_over_go():
    x = keras.Input((STEPS, WIDTH))
    query, key = (L.Dense(6, name=name)(x) for name in ("query", "key"))
    scores = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 2, 1))))
    y = ops.matmul(scores, L.Dense(7, name="value")(x))
    model = pruned_graphs.randomised(keras.Model(x, L.Dense(2)(y)))
    kill(model.get_layer("query"), 0, 3)
    kill(model.get_layer("key"), 5)
    kill(model.get_layer("value"), 2)
    small = compacted(model, noise(3, STEPS, WIDTH))
    assert small.get_layer("query").units == small.get_layer("key").units == 3


def test_a_mask_for_each_head_keeps_the_heads():
    x, mask = keras.Input((STEPS, WIDTH)), keras.Input((HEADS, STEPS, STEPS), dtype="bool")
    query, key = (projection(name)(x) for name in ("query", "key"))
    scores = L.Softmax()(ops.einsum("aecd,abcd->acbe", key, query), mask=mask)
    y = ops.einsum("acbe,aecd->abcd", scores, projection("value")(x))
    y = L.EinsumDense("abcd,cde->abe", (None, WIDTH))(y)
    model = pruned_graphs.randomised(keras.Model([x, mask], y))
    for name in ("query", "key", "value"):
        kill(model.get_layer(name), 1)
    masks = np.random.default_rng(1).random((3, HEADS, STEPS, STEPS)) < 0.7
    with pytest.warns(UserWarning, match="no unit can be removed"):
        compacted(model, [noise(3, STEPS, WIDTH), masks])


def test_a_mask_for_each_head_keeps_the_heads_of_a_layer():
    x, mask = keras.Input((STEPS, WIDTH)), keras.Input((HEADS, STEPS, STEPS), dtype="bool")
    layer = L.MultiHeadAttention(HEADS, SIZE, name="attention")
    y = L.Dense(2)(layer(x, x, attention_mask=mask))
    model = pruned_graphs.randomised(keras.Model([x, mask], y))
    for dense in (layer.query_dense, layer.key_dense, layer.value_dense):
        kill(dense, 1)
    masks = np.random.default_rng(1).random((3, HEADS, STEPS, STEPS)) < 0.7
    with pytest.warns(UserWarning, match="heads of its own"):
        compacted(model, [noise(3, STEPS, WIDTH), masks])
