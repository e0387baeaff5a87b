import gzip
import heapq

import keras
import models
import numpy as np
import pytest
from keras import layers

import activation_pruning as ap
from activation_pruning.analysis.sizes import bitmask, csr, int8_huffman, quantised
from activation_pruning.compression import huffman


def row(model, layer, input_shape=None):
    return ap.analysis.cost(model, input_shape).table().set_index("layer").loc[layer]


def sequential(shape, *parts):
    return keras.Sequential([keras.Input(shape), *parts])


def multiply_adds(shape, layer):
    return row(sequential(shape, layer), layer.name)["multiply_adds"]


# -- multiply-adds ------------------------------------------------------------------------------

_EINSUM = layers.EinsumDense

# With ones for inputs and for the weights that are alive, every multiply-add puts 1 into the sum
# of all outputs, as long as nothing is padded or cropped: Keras itself is the oracle.
PLAIN = {
    "dense": ((5, 7, 4), layers.Dense, {"units": 3}),
    "einsum": ((5, 4), _EINSUM, {"equation": "abc,cde->abde", "output_shape": (5, 2, 3)}),
    "einsum_two": ((2, 3, 4), _EINSUM, {"equation": "abcd,cde->abe", "output_shape": (2, 5)}),
    "einsum_dots": ((3, 5, 4), _EINSUM, {"equation": "...x,xy->...y", "output_shape": 6}),
    "einsum_alone": ((3, 4), _EINSUM, {"equation": "abc,cd->ad", "output_shape": 6}),
    "conv1d": ((11, 4), layers.Conv1D, {"filters": 3, "kernel_size": 4, "strides": 2}),
    "conv2d": ((9, 8, 4), layers.Conv2D, {"filters": 6, "kernel_size": (3, 2), "strides": (2, 1)}),
    "dilated": ((9, 8, 4), layers.Conv2D, {"filters": 6, "kernel_size": 3, "dilation_rate": 2}),
    "groups": ((9, 8, 4), layers.Conv2D, {"filters": 6, "kernel_size": 3, "groups": 2}),
    "conv3d": ((5, 4, 6, 2), layers.Conv3D, {"filters": 3, "kernel_size": 2, "strides": 2}),
    "up1d": ((5, 4), layers.Conv1DTranspose, {"filters": 3, "kernel_size": 3, "strides": 2}),
    "up2d": ((5, 4, 2), layers.Conv2DTranspose, {"filters": 3, "kernel_size": 3, "strides": 2}),
    "up3d": ((3, 2, 4, 2), layers.Conv3DTranspose, {"filters": 3, "kernel_size": 2, "strides": 3}),
    "depthwise1d": ((9, 4), layers.DepthwiseConv1D, {"kernel_size": 3, "depth_multiplier": 2}),
    "depthwise2d": ((9, 8, 4), layers.DepthwiseConv2D, {"kernel_size": 3, "strides": 2}),
}  # fmt: skip


@pytest.mark.parametrize(("shape", "kind", "options"), PLAIN.values(), ids=PLAIN)
def test_multiply_adds_are_those_that_reach_the_outputs(shape, kind, options):
    unbiased = {} if kind is _EINSUM else {"use_bias": False}
    layer = kind(**options, **unbiased, name="it")
    model = sequential(shape, layer)

    def summed(kernel):
        layer.kernel.assign(kernel)
        return float(keras.ops.sum(model(np.ones((1, *shape), "float32"))))

    dense = summed(np.ones(layer.kernel.shape))
    mask = np.random.default_rng(0).random(layer.kernel.shape) < 0.3
    sparse = summed(mask)
    found = row(model, "it")
    assert found["multiply_adds"] == dense
    assert found["sparse_multiply_adds"] == sparse
    assert found["weights"] == mask.size
    assert found["nonzeros"] == mask.sum()
    assert found["sparsity"] == pytest.approx(1 - mask.mean())


BY_HAND = {
    # padding decides how many positions there are; each of them counts whole
    "same": ((7, 7, 3), layers.Conv2D(4, 3, strides=2, padding="same"), 4 * 4 * 9 * 3 * 4),
    "causal": ((7, 3), layers.Conv1D(4, 3, dilation_rate=2, padding="causal"), 7 * 3 * 3 * 4),
    "up_same": ((4, 4, 3), layers.Conv2DTranspose(5, 3, 2, padding="same"), 16 * 9 * 3 * 5),
    "separable": ((6, 6, 3), layers.SeparableConv2D(5, 3), 16 * (9 * 3 + 3 * 5)),
    "separable_multiplied": (
        (6, 6, 3), layers.SeparableConv2D(5, 3, depth_multiplier=2), 16 * (9 * 6 + 6 * 5)
    ),
    "simple_rnn": ((6, 3), layers.SimpleRNN(5), 6 * (3 * 5 + 5 * 5)),
    "lstm": ((6, 3), layers.LSTM(5), 6 * 4 * (3 * 5 + 5 * 5)),
    "gru": ((6, 3), layers.GRU(5, return_sequences=True), 6 * 3 * (3 * 5 + 5 * 5)),
    "stacked": (
        (6, 3),
        layers.RNN([layers.LSTMCell(5), layers.GRUCell(2)]),
        6 * (4 * (3 * 5 + 5 * 5) + 3 * (5 * 2 + 2 * 2)),
    ),
    "conv_lstm": ((6, 5, 5, 2), layers.ConvLSTM2D(3, 2), 6 * 16 * 4 * 4 * (2 * 3 + 3 * 3)),
    "embedding": ((5,), layers.Embedding(10, 3), 0),
    "batchnorm": ((5, 3), layers.BatchNormalization(), 15),
    "layernorm": ((5, 3), layers.LayerNormalization(), 30),
    "rescaling": ((5, 3), layers.Rescaling(2.0), 15),
    "max_pooling": ((8, 8, 3), layers.MaxPooling2D(), 0),
    "average_pooling": ((8, 8, 3), layers.AveragePooling2D((2, 4)), 4 * 2 * 3 * 8),
    "average_pooling_1d": ((9, 3), layers.AveragePooling1D(3, strides=2), 4 * 3 * 3),
    "global_average": ((8, 8, 3), layers.GlobalAveragePooling2D(), 192),
    "relu": ((8,), layers.ReLU(), 0),
}  # fmt: skip


@pytest.mark.parametrize(("shape", "layer", "expected"), BY_HAND.values(), ids=BY_HAND)
def test_multiply_adds_by_hand(shape, layer, expected):
    layer = type(layer).from_config(layer.get_config())
    assert multiply_adds(shape, layer) == expected


def test_channels_first_counts_alike():
    layer = layers.BatchNormalization(axis=1, name="it")
    assert multiply_adds((3, 4, 5), layer) == 60
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow's convolutions on CPUs take channels last only")
    conv = layers.Conv2D(4, 3, data_format="channels_first", name="conv")
    assert multiply_adds((2, 6, 5), conv) == 4 * 3 * 9 * 2 * 4


def test_attention_has_projections_and_two_products():
    query, value = keras.Input((5, 6)), keras.Input((7, 4))
    size = 3 if keras.backend.backend() == "jax" else 8  # there Keras wants that of the keys
    attend = layers.MultiHeadAttention(2, 3, value_dim=size, output_shape=9, name="mha")
    model = keras.Model([query, value], attend(query, value=value))
    table = ap.analysis.cost(model).table().set_index("layer")
    assert table["multiply_adds"].to_dict() == {
        "mha": 2 * 5 * 7 * (3 + size),
        "mha/query": 5 * 6 * 2 * 3,
        "mha/key": 7 * 4 * 2 * 3,
        "mha/value": 7 * 4 * 2 * size,
        "mha/attention_output": 5 * 2 * size * 9,
    }
    assert table.loc["mha", "activation_bytes"] == 4 * 2 * 5 * (7 + size)
    assert table["parameters"].sum() == model.count_params()


def test_attention_over_chosen_axes():
    x = keras.Input((5, 7, 6))
    model = keras.Model(x, layers.MultiHeadAttention(2, 3, attention_axes=1, name="mha")(x, x))
    assert row(model, "mha")["multiply_adds"] == 2 * (5 * 7) * 5 * (3 + 3)


def test_grouped_and_plain_attention():
    query, value = keras.Input((5, 6)), keras.Input((7, 6))
    grouped = layers.GroupQueryAttention(4, 8, 2, name="grouped")(query, value)
    plain = layers.Attention(name="plain")([query, value])
    crossed = layers.Dot(axes=(2, 2), name="dot")([query, value])
    table = ap.analysis.cost(keras.Model([query, value], [grouped, plain, crossed])).table()
    found = table.set_index("layer")["multiply_adds"]
    assert found["grouped"] == 8 * 5 * 7 * (4 + 4)
    assert found["grouped/key"] == 7 * 6 * 2 * 4
    assert found["plain"] == 5 * 7 * (6 + 6)
    assert found["dot"] == 5 * 7 * 6


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's own profiler")
def test_tensorflows_profiler_finds_the_same():
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2 as frozen,
    )

    model = sequential(
        (12, 12, 3),
        layers.Conv2D(8, 3, strides=2, padding="same"),
        layers.DepthwiseConv2D(3),
        layers.Conv2D(6, 1),
        layers.Flatten(),
        layers.Dense(10),
    )
    traced = tf.function(lambda x: model(x, training=False))
    graph = frozen(traced.get_concrete_function(tf.TensorSpec((1, 12, 12, 3)))).graph
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    profile = tf.compat.v1.profiler.profile(graph, cmd="op", options=options)
    products = {"Conv2D", "DepthwiseConv2dNative", "MatMul"}
    flops, left = 0, [profile]
    while left:
        node = left.pop()
        left.extend(node.children)
        flops += node.float_ops if node.name in products else 0
    assert flops == 2 * ap.analysis.cost(model).total["multiply_adds"] > 0


# -- models of every kind -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        models.mlp,
        models.functional,
        models.normalised,
        models.convolutional,
        models.recurrent,
        models.attention,
        models.embedded,
        models.subclassed,
    ],
)
def test_every_parameter_is_counted_once(build):
    model = build()
    cost = ap.analysis.cost(model)
    assert cost.total["parameters"] == model.count_params()
    assert cost.table()["layer"].is_unique


def test_shared_layers_count_every_call_and_their_weights_once():
    shared = layers.Dense(4, name="shared")
    first, second = keras.Input((4,)), keras.Input((4,))
    nested = sequential((4,), shared, layers.Dense(3, name="inner"))
    nested.name = "nested"
    outputs = layers.Concatenate()([nested(first), nested(second), shared(first)])
    model = keras.Model([first, second], outputs)
    table = ap.analysis.cost(model).table().set_index("layer")
    name = next(path for path in table.index if path.endswith("shared"))
    assert table.loc[name, ["calls", "parameters", "multiply_adds"]].tolist() == [3, 20, 48]
    assert table.loc["nested/inner", ["calls", "multiply_adds"]].tolist() == [2, 24]
    assert table["parameters"].sum() == model.count_params()


def test_bidirectional_and_time_distributed():
    model = models.recurrent()
    table = ap.analysis.cost(model).table().set_index("layer")
    each_way = 4 * 4 * (3 * 2 + 2 * 2)
    assert table.loc["both_ways/forward_lstm", "multiply_adds"] == each_way
    assert table.loc["both_ways/backward_lstm", "multiply_adds"] == each_way
    assert table.loc["both_ways/backward_lstm", "activation_bytes"] == 4 * 4 * 2
    assert table.loc["each/step", ["calls", "multiply_adds"]].tolist() == [4, 4 * 4 * 4]


def test_directions_that_run_past_their_calls_are_counted():
    model = sequential((4, 3), layers.Bidirectional(layers.LSTM(2), name="both"))
    both = model.layers[0]
    both.call = lambda sequences, **rest: keras.ops.zeros((1, 4))
    found = row(model, "both/backward_lstm")
    assert found["multiply_adds"] == 4 * 4 * (3 * 2 + 2 * 2)
    assert found["activation_bytes"] == 4 * 2


def test_masks_of_wrappers_count_as_zeros():
    model = models.mlp()
    ap.prune(model, 0.5, verbose=0)
    plain = ap.analysis.cost(model).total
    wrapped = ap.wrap(model)
    for layer in wrapped.layers[:2]:
        layer.layer.kernel.assign(np.ones(layer.layer.kernel.shape))  # as momentum would
    cost = ap.analysis.cost(wrapped)
    assert cost.total.to_dict() == plain.to_dict()
    assert cost.table()["layer"].tolist() == ["pruned_a", "pruned_b", "out"]
    assert plain["sparse_multiply_adds"] == 44 + 15


def test_tied_kernels_are_sparse_wherever_they_are_used():
    class Tied(layers.Dense):
        def build(self, shape):
            super().build(shape)
            self._kernel = first._kernel

    first = layers.Dense(4, name="first")
    model = sequential((4,), first, Tied(4, name="second"))
    first.kernel.assign(np.eye(4))
    assert row(model, "second")["sparse_multiply_adds"] == 4


# -- what is not known --------------------------------------------------------------------------


class Scale(keras.Layer):
    def build(self, shape):
        self.table = self.add_weight(shape=(shape[-1], 2), name="table")

    def call(self, x):
        return x * keras.ops.sum(self.table, axis=1)


class OwnCall(layers.Dense):
    def call(self, x):
        return super().call(super().call(x))


def test_unknown_layers_are_listed_not_refused():
    model = sequential((4,), Scale(name="scale"), OwnCall(4, name="own"), layers.Dense(2, name="d"))
    cost = ap.analysis.cost(model)
    table = cost.table().set_index("layer")
    assert table["multiply_adds"].isna().tolist() == [True, True, False]
    assert table.loc["scale", ["parameters", "weights"]].tolist() == [8, 8]
    assert "Scale" in table.loc["scale", "note"]
    assert cost.total["multiply_adds"] == 8
    assert "scale, own" in cost.total["note"]
    assert "scale" in str(cost)


def test_operations_in_a_graph_are_listed():
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2, name="d")(x * 2.0 + 1.0))
    table = ap.analysis.cost(model).table()
    unknown = table[table["note"].str.contains("operation")]
    assert len(unknown) == 2
    assert table.loc[table["layer"] == "d", "multiply_adds"].tolist() == [8]


def test_subclassed_models_are_run_on_the_shape_they_were_built_with():
    model = models.subclassed()
    table = ap.analysis.cost(model).table().set_index("layer")
    assert table.loc[["a", "b", "out"], "multiply_adds"].tolist() == [30, 20, 12]
    assert "not what else" in table.loc[model.name, "note"]


class Attending(layers.Layer):
    """Attention in the three ways that `keras.ops` has."""

    def __init__(self, way, **kwargs):
        super().__init__(**kwargs)
        self.way = way
        self.parts = [layers.EinsumDense("abc,cde->abde", (None, 2, 3)) for _ in range(3)]

    def call(self, x):
        query, key, value = (part(x) for part in self.parts)
        if self.way == "attention":
            return keras.ops.dot_product_attention(query, key, value)
        if self.way == "einsum":
            scores = keras.ops.softmax(keras.ops.einsum("aecd,abcd->acbe", key, query))
            return keras.ops.einsum("acbe,aecd->abcd", scores, value)
        query, key, value = (keras.ops.transpose(one, (0, 2, 1, 3)) for one in (query, key, value))
        scores = keras.ops.softmax(keras.ops.matmul(query, keras.ops.swapaxes(key, 2, 3)))
        return keras.ops.transpose(keras.ops.matmul(scores, value), (0, 2, 1, 3))


@pytest.mark.parametrize("way", ["attention", "einsum", "matmul"])
def test_products_of_operations_count_in_a_layer_and_in_a_graph(way):
    x = keras.Input((5, 4))
    model = keras.Model(x, Attending(way, name="own")(x))
    projections, products = 3 * 5 * 4 * 2 * 3, 2 * (5 * 5 * 2 * 3)
    cost = ap.analysis.cost(model)
    assert cost.table().set_index("layer").loc["own", "multiply_adds"] == products
    assert cost.total["multiply_adds"] == projections + products
    graph = ap.analysis.cost(ap.inline(model))
    assert graph.total["multiply_adds"] == projections + products


class Lookup(keras.Model):
    def __init__(self):
        super().__init__()
        self.out, self.spare = layers.Dense(3, name="out"), layers.Dense(2, name="spare")

    def call(self, x, training=False):
        y = keras.ops.one_hot(x["words"], 5)
        if training:
            self.spare(y)
        return self.out(y)


def test_subclassed_models_with_a_dict_of_integers():
    model = Lookup()
    model({"words": np.zeros((2, 7), "int32")}, training=True)
    specs = {"words": keras.Input((9,), dtype="int32")}
    table = ap.analysis.cost(model, specs).table().set_index("layer")
    assert table.loc["out", "multiply_adds"] == 9 * 5 * 3
    assert table.loc["spare", ["calls", "multiply_adds"]].tolist() == [0, 0]
    assert "not called" in table.loc["spare", "note"]


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_quantised_layers_are_seen(mode):
    model = sequential((4, 8), layers.Dense(6), layers.EinsumDense("abc,cd->abd", (4, 4)))
    plain = ap.analysis.cost(model).table()["multiply_adds"].tolist()
    model.quantize(mode)
    found = ap.analysis.cost(model)
    if mode == "int8":
        assert found.table()["multiply_adds"].tolist() == plain == [4 * 8 * 6, 4 * 6 * 4]
    else:  # two weights lie in one number
        assert found.table()["multiply_adds"].isna().all()
        assert found.table()["note"].str.contains("quantised to int4, are not known").all()
        assert "without the multiply-adds of dense" in found.total["note"]


def test_open_sizes_must_be_given():
    model = sequential((None, None, 3), layers.Conv2D(4, 3, name="conv"))
    with pytest.raises(ValueError, match="input_shape="):
        ap.analysis.cost(model)
    assert row(model, "conv", (6, 5, 3))["multiply_adds"] == 4 * 3 * 27 * 4
    with pytest.raises(ValueError, match="cannot be run"):
        ap.analysis.cost(model, (6, 5, 2))


def test_bad_shapes():
    model = models.functional()
    with pytest.raises(TypeError, match="without the batch axis"):
        ap.analysis.cost(model, "6")
    with pytest.raises(TypeError, match="without the batch axis"):
        ap.analysis.cost(model, (None, 6))
    with pytest.raises(ValueError, match="2 shapes"):
        ap.analysis.cost(model, [(6,), (6,)])
    with pytest.raises(TypeError, match=r"keras\.Model"):
        ap.analysis.cost("model")


def test_several_inputs_by_order_and_by_name():
    left, right = keras.Input((None, 2), name="left"), keras.Input((None, 3), name="right")
    parts = [layers.Dense(4, name="l")(left), layers.Dense(5, name="r")(right)]
    model = keras.Model([left, right], parts)
    for shapes in ([(6, 2), (7, 3)], {"right": (7, 3), "left": (6, 2)}):
        table = ap.analysis.cost(model, shapes).table().set_index("layer")
        assert table["multiply_adds"].to_dict() == {"l": 6 * 8, "r": 7 * 15}
    with pytest.raises(ValueError, match="left"):
        ap.analysis.cost(model, {"right": (7, 3), "lft": (6, 2)})


def test_a_fixed_batch_counts_for_one_sample():
    inputs = keras.Input(batch_shape=(8, 4, 3))
    model = keras.Model(inputs, layers.LSTM(2, stateful=True, name="lstm")(inputs))
    found = row(model, "lstm")
    assert found["multiply_adds"] == 4 * 4 * (3 * 2 + 2 * 2)
    assert found["activation_bytes"] == 8


def test_nothing_is_changed():
    inputs = keras.Input(batch_shape=(2, 4, 3))
    model = keras.Model(inputs, layers.LSTM(2, stateful=True, name="lstm")(inputs))
    model(np.ones((2, 4, 3)))
    layer = model.layers[-1]
    before = [keras.ops.convert_to_numpy(state) for state in layer.states]
    ap.analysis.cost(model)
    after = [keras.ops.convert_to_numpy(state) for state in layer.states]
    assert np.abs(before).sum() > 0
    np.testing.assert_array_equal(before, after)
    assert "call" not in vars(layer)


def test_calls_are_restored_when_the_model_fails():
    model = sequential((None, 3), layers.Dense(4, name="d"), layers.Flatten())
    with pytest.raises(ValueError, match="cannot be run"):
        ap.analysis.cost(model, (4, 5))
    assert all("call" not in vars(layer) for layer in model.layers)


def test_half_precision_halves_the_activations():
    full = sequential((4,), layers.Dense(8, name="d"))
    half = sequential((4,), layers.Dense(8, dtype="mixed_bfloat16", name="d"))
    assert row(full, "d")["activation_bytes"] == 32
    assert row(half, "d")["activation_bytes"] == 16


def test_it_prints_a_total():
    text = str(ap.analysis.cost(models.mlp()))
    assert text.splitlines()[-1].split()[:3] == ["total", "119", "103"]


# -- sizes --------------------------------------------------------------------------------------


def size_of(model):
    return ap.analysis.sizes(model).set_index("encoding")["size_bytes"]


def test_sizes_by_hand():
    model = sequential((32,), layers.Dense(10, name="d"))
    kernel = np.zeros((32, 10), "float32")
    kernel[:20, 0] = np.linspace(0.1, 1, 20)
    model.layers[0].set_weights([kernel, np.ones(10)])
    found = size_of(model)
    assert found["float32"] == 4 * 330
    # Columns are fewer than rows, so columns are compressed: 11 positions.
    assert found["csr"] == 40 + 20 * (4 + 1) + 11
    assert found["bitmask"] == 40 + 40 + 80
    assert found["int8"] == 40 + 320 + 4
    raw = kernel.tobytes() + np.ones(10, "float32").tobytes()
    assert found["float32_gzip"] == len(gzip.compress(raw, 6, mtime=0))
    assert found["keras_file"] > found["keras_file_gzip"] > 0
    table = ap.analysis.sizes(model).set_index("encoding")
    assert table.loc["int8", "compression"] == pytest.approx(1320 / 364)


@pytest.mark.parametrize(
    ("shape", "nonzeros", "expected"),
    [
        ((300, 200), 0, 201),  # a position takes a byte: nothing to count
        ((300, 200), 255, 255 * (4 + 1) + 301),  # rows: columns' numbers fit into a byte
        ((300, 200), 256, 256 * (4 + 1) + 301 * 2),  # positions need two
        ((300, 256), 300, 300 * (4 + 1) + 301 * 2),  # the last of 256 columns is number 255
        ((300, 400), 70_000, 70_000 * (4 + 2) + 301 * 4),
    ],
)
def test_csr_takes_the_narrowest_indices(shape, nonzeros, expected):
    matrix = np.zeros(shape)
    matrix.ravel()[:nonzeros] = 1.0
    assert csr(matrix) == expected


def test_bitmask_rounds_bits_up():
    assert bitmask(np.ones((3, 3))) == 2 + 36
    assert bitmask(np.zeros((2, 4))) == 1


def code_lengths(counts):
    """Bits of each symbol, by building the tree."""
    heap = [(count, symbol, [symbol]) for symbol, count in enumerate(counts)]
    heapq.heapify(heap)
    lengths = [0] * len(counts)
    while len(heap) > 1:
        (n, key, first), (m, _, second) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in first + second:
            lengths[symbol] += 1
        heapq.heappush(heap, (n + m, key, first + second))
    return lengths


@pytest.mark.parametrize("seed", range(5))
def test_huffman_bits_are_those_of_the_tree_and_near_the_entropy(seed):
    counts = np.random.default_rng(seed).integers(1, 1000, 1 + 17 * (seed + 1))
    lengths = code_lengths(counts)
    assert sum(2.0**-n for n in lengths) == 1  # Kraft: a complete prefix code
    bits, share = huffman.bits(counts), counts / counts.sum()
    assert bits == np.dot(lengths, counts)
    entropy = -(share * np.log2(share)).sum() * counts.sum()
    assert entropy <= bits < entropy + counts.sum()


def test_huffman_of_few_symbols():
    assert huffman.bits([]) == 0
    assert huffman.bits([7]) == 7
    assert huffman.bits([7, 0, 1]) == 8
    assert huffman.bits([1, 1, 1, 1]) == 8


def test_quantised_keeps_zeros_and_ends():
    assert quantised(np.array([[-1.0, 0.0], [0.5, 1.0]])).tolist() == [[-127, 0], [64, 127]]
    assert quantised(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]
    # All zeros: a bit each, the scale, a code of one symbol.
    assert int8_huffman(np.zeros((8, 8))) == 8 + 4 + 3


def test_sizes_shrink_with_pruning_where_they_can():
    model = sequential((64,), layers.Dense(64, name="d"), layers.Dense(4, name="out"))
    before = size_of(model)
    ap.prune(model, 0.9, exclude=(), verbose=0)
    after = size_of(model)
    assert after["float32"] == before["float32"]
    assert after["int8"] == before["int8"]
    for encoding in ("float32_gzip", "keras_file_gzip", "csr", "bitmask", "int8_huffman"):
        assert after[encoding] < before[encoding] / 2, encoding


def test_sizes_see_masks_and_say_what_the_file_holds():
    model = models.compiled(models.mlp(), keras.optimizers.Adam())
    ap.prune(model, 0.5, verbose=0)
    plain = size_of(model)
    assert size_of(ap.wrap(model))["bitmask"] == plain["bitmask"]
    model.fit(*models.data(), verbose=0)
    note = ap.analysis.sizes(model).set_index("encoding")["note"]
    assert "optimizer state" in note["keras_file"]
    assert note["csr"] == ""


def test_sizes_of_what_cannot_be_saved_or_encoded():
    class Refuses(models.Subclassed):
        def get_config(self):
            raise NotImplementedError("no config")

    model = Refuses()
    model(np.zeros((1, 6), "float32"))
    table = ap.analysis.sizes(model).set_index("encoding")
    assert table["size_bytes"].isna().tolist() == [True, True] + [False] * 6
    assert "no config" in table.loc["keras_file", "note"]
    model.a.kernel.assign(np.full((6, 5), np.nan))
    with pytest.raises(ValueError, match="'a' has NaN"):
        ap.analysis.sizes(model)


@pytest.mark.parametrize("shape", [[(None, 4)], [(2, 4)], (None, 4)])
def test_a_subclassed_model_that_was_built_with_one_shape(shape):
    """In a list or alone: it is one input of four numbers."""

    class Own(keras.Model):
        def build(self, shape):
            self.inner = keras.layers.Dense(3, name="inner")
            self.inner.build(shape[0] if isinstance(shape, list) else shape)
            self.built = True

        def call(self, x):
            return self.inner(x[0] if isinstance(x, list) else x)

    model = Own()
    model.build(shape)
    assert row(model, "inner")["multiply_adds"] == 12
