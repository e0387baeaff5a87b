"""Which weights are found, under which names, and which of them belong to one unit."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from chosen_sites import Mlp, built, names, sequential, skipped
from keras import layers, ops

from activation_pruning import sites
from activation_pruning.evidence import gathering

pytestmark = pytest.mark.lowest

RNG = np.random.default_rng(3)


def noise(*shape):
    return RNG.normal(size=shape).astype("float32")


# -- site kinds ----------------------------------------------------------------------------
# layer, input shape, {attribute: (kernel shape, units, input axis)}

KINDS = {
    "dense": (lambda: layers.Dense(3), (4,), {"kernel": ((4, 3), 3, 0)}),
    "dense_on_sequence": (lambda: layers.Dense(3), (5, 4), {"kernel": ((4, 3), 3, 0)}),
    "einsum_as_dense": (
        lambda: layers.EinsumDense("ab,bc->ac", 3),
        (4,),
        {"kernel": ((4, 3), 3, 0)},
    ),
    "einsum_transposed": (
        lambda: layers.EinsumDense("ab,cb->ac", 3),
        (4,),
        {"kernel": ((3, 4), 3, 1)},
    ),
    "einsum_two_unit_axes": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3)),
        (5, 4),
        {"kernel": ((4, 2, 3), 6, 0)},
    ),
    "einsum_two_inputs": (
        lambda: layers.EinsumDense("abcd,cde->abe", (None, 3)),
        (5, 2, 4),
        {"kernel": ((2, 4, 3), 3, 1)},
    ),
    "einsum_swapped_units": (
        lambda: layers.EinsumDense("abc,cde->aebd", (3, None, 2)),
        (5, 4),
        {"kernel": ((4, 2, 3), 6, 0)},
    ),
    "einsum_per_head": (
        lambda: layers.EinsumDense("abc,bcd->abd", (2, 3)),
        (2, 4),
        {"kernel": ((2, 4, 3), 6, 1)},
    ),
    "einsum_ellipsis": (
        lambda: layers.EinsumDense("...b,bc->...c", 3),
        (5, 4),
        {"kernel": ((4, 3), 3, 0)},
    ),
    "einsum_ellipsis_last": (
        lambda: layers.EinsumDense("ab...,bc->ac...", (3, 5)),
        (4, 5),
        {"kernel": ((4, 3), 3, 0)},
    ),
    "conv1d": (lambda: layers.Conv1D(3, 2), (6, 4), {"kernel": ((2, 4, 3), 3, 1)}),
    "conv2d": (lambda: layers.Conv2D(3, 2), (5, 5, 4), {"kernel": ((2, 2, 4, 3), 3, 2)}),
    "conv2d_grouped": (
        lambda: layers.Conv2D(4, 2, groups=2),
        (5, 5, 4),
        {"kernel": ((2, 2, 2, 4), 4, 2)},
    ),
    "conv3d": (lambda: layers.Conv3D(3, 2), (4, 4, 4, 2), {"kernel": ((2, 2, 2, 2, 3), 3, 3)}),
    "conv1d_transpose": (
        lambda: layers.Conv1DTranspose(3, 2),
        (6, 4),
        {"kernel": ((2, 3, 4), 3, 2)},
    ),
    "conv2d_transpose": (
        lambda: layers.Conv2DTranspose(3, 2),
        (5, 5, 4),
        {"kernel": ((2, 2, 3, 4), 3, 3)},
    ),
    "conv3d_transpose": (
        lambda: layers.Conv3DTranspose(3, 2),
        (3, 3, 3, 2),
        {"kernel": ((2, 2, 2, 3, 2), 3, 4)},
    ),
    "depthwise1d": (
        lambda: layers.DepthwiseConv1D(2, depth_multiplier=2),
        (6, 3),
        {"kernel": ((2, 3, 2), 6, 0)},
    ),
    "depthwise2d": (
        lambda: layers.DepthwiseConv2D(2, depth_multiplier=2),
        (5, 5, 3),
        {"kernel": ((2, 2, 3, 2), 6, 0)},
    ),
    "separable1d": (
        lambda: layers.SeparableConv1D(6, 2, depth_multiplier=2),
        (6, 3),
        {"depthwise_kernel": ((2, 3, 2), 6, 0), "pointwise_kernel": ((1, 6, 6), 6, 1)},
    ),
    "separable2d": (
        lambda: layers.SeparableConv2D(6, 2, depth_multiplier=2),
        (5, 5, 3),
        {"depthwise_kernel": ((2, 2, 3, 2), 6, 0), "pointwise_kernel": ((1, 1, 6, 6), 6, 2)},
    ),
    "embedding": (lambda: layers.Embedding(7, 3), (5,), {"embeddings": ((7, 3), 3, 0)}),
    "lstm": (
        lambda: layers.LSTM(3),
        (1, 4),
        {"kernel": ((4, 12), 3, 0), "recurrent_kernel": ((3, 12), 3, 0)},
    ),
    "gru": (
        lambda: layers.GRU(3),
        (1, 4),
        {"kernel": ((4, 9), 3, 0), "recurrent_kernel": ((3, 9), 3, 0)},
    ),
    "gru_reset_before": (
        lambda: layers.GRU(3, reset_after=False),
        (1, 4),
        {"kernel": ((4, 9), 3, 0)},
    ),
    "simple_rnn": (
        lambda: layers.SimpleRNN(3),
        (1, 4),
        {"kernel": ((4, 3), 3, 0), "recurrent_kernel": ((3, 3), 3, 0)},
    ),
}


def _inputs(layer, shape):
    if isinstance(layer, layers.Embedding):
        return RNG.integers(0, 7, (4, *shape))
    return noise(4, *shape)


def _call(layer, x):
    """The layer's output as an array with its units on the flattened last axis, all seen."""
    arguments = {}
    if isinstance(layer, layers.RNN):  # one step from a state: the recurrent kernel shows as well
        state = [ops.convert_to_tensor(noise_state) for noise_state in _states(layer, len(x))]
        arguments["initial_state"] = state
    return ops.convert_to_numpy(layer(x, **arguments))


def _states(layer, batch):
    sizes = layer.state_size if isinstance(layer.state_size, (list, tuple)) else [layer.state_size]
    generator = np.random.default_rng(0)
    return [generator.normal(size=(batch, size)).astype("float32") for size in sizes]


def _by_unit(output, axes):
    axes = [axis % output.ndim for axis in axes]
    others = [axis for axis in range(output.ndim) if axis not in axes]
    moved = output.transpose(*others, *axes)
    return moved.reshape(-1, int(np.prod([output.shape[axis] for axis in axes])))


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_input_axis(kind):
    make, shape, expected = KINDS[kind]
    layer = make()
    layer.name = "it"
    layer.build((None, *shape))
    found = {site.name: site for site in sites.find(layer, exclude=()).sites}
    for attribute, (kernel_shape, units, input_axis) in expected.items():
        site = found[f"it/{attribute}"]
        assert site.kernel().shape == kernel_shape
        assert site.n_units == units
        assert site.units.shape == np.broadcast_shapes(site.units.shape, (1,) * len(kernel_shape))
        assert np.broadcast_shapes(site.units.shape, kernel_shape) == kernel_shape
        assert input_axis == site.input_axis % len(kernel_shape)
        assert np.unique(site.units).tolist() == list(range(units))


# In a GRU with reset_after=False a unit's reset gate acts on what the other units see of it.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gru_reset_before"])
def test_zeroing_a_unit_changes_that_unit_of_the_output_only(kind):
    make, shape, _ = KINDS[kind]
    layer = make()
    x = _inputs(layer, shape)
    layer(x)
    if hasattr(layer, "pointwise_kernel"):  # let the hidden units of the first half show
        size = layer.pointwise_kernel.shape[-1]
        layer.pointwise_kernel.assign(
            np.eye(size, dtype="float32").reshape(layer.pointwise_kernel.shape)
        )
    for site in sites.find(layer, exclude=()).sites:
        if site.name.endswith("pointwise_kernel"):
            site.variable.assign(noise(*site.variable.shape))
        before = _by_unit(_call(layer, x), site.source.axes)
        kernel = site.kernel()
        for unit in range(site.n_units):
            site.variable.assign(np.where(site.units == unit, 0, kernel))
            after = _by_unit(_call(layer, x), site.source.axes)
            site.variable.assign(kernel)
            others = np.arange(before.shape[1]) != unit
            np.testing.assert_allclose(after[:, others], before[:, others], rtol=1e-4, atol=1e-6)
            assert (np.abs(after[:, unit] - before[:, unit]) > 1e-6).mean() > 0.5, unit
            if not isinstance(layer, layers.RNN):
                assert np.abs(after[:, unit]).max() < 1e-6


def test_channels_first_units_are_found_behind_a_time_axis():
    conv = layers.Conv2D(3, 2, data_format="channels_first", name="conv")
    conv.build((None, 4, 5, 5))
    (site,) = sites.find(conv, exclude=()).sites
    assert site.source.axes == (-3,)
    assert site.n_units == 3


def test_multi_head_attention_projections():
    x = keras.Input((5, 8))
    attended = layers.MultiHeadAttention(2, 4, name="mha")(x, x)
    model = keras.Model(x, layers.Dense(2, name="out")(attended))
    parts = ["query", "key", "value", "attention_output"]
    assert sorted(names(model)) == sorted(f"mha/{part}/kernel" for part in parts)
    by_name = {site.name: site for site in sites.find(model).sites}
    assert by_name["mha/query/kernel"].units.shape == (1, 2, 4)
    assert by_name["mha/attention_output/kernel"].units.shape == (1, 1, 8)
    assert by_name["mha/attention_output/kernel"].input_axis == 1


@pytest.mark.parametrize("cell", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_recurrent_layers_inside_bidirectional(cell):
    model = sequential(
        layers.Bidirectional(cell(3, name="rnn"), name="both"), layers.Dense(2), shape=(5, 4)
    )
    assert names(model) == [
        f"both/{way}_rnn/{kernel}"
        for way in ("forward", "backward")
        for kernel in ("kernel", "recurrent_kernel")
    ]


def test_layers_inside_time_distributed():
    model = sequential(
        layers.TimeDistributed(layers.Dense(3, name="inner"), name="each"),
        layers.Dense(2),
        shape=(5, 4),
    )
    assert names(model) == ["each/inner/kernel"]
    assert skipped(model) == {"dense": "output layer (excluded by default)"}


# -- where the walk goes -------------------------------------------------------------------


def test_nested_sequential_and_functional_have_paths():
    inner = sequential(layers.Dense(5, name="a"), layers.Dense(5, name="b"), shape=(6,))
    inner.name = "inner"
    x = keras.Input((6,))
    model = keras.Model(x, layers.Dense(2, name="out")(layers.Dense(4, name="c")(inner(x))))
    assert names(model) == ["inner/a/kernel", "inner/b/kernel", "c/kernel"]


def test_subclassed_models_are_walked_in_tracking_order():
    assert names(built(Mlp(), 1, 6)) == ["block_0/kernel", "block_1/kernel"]


def test_shared_layers_are_found_once():
    shared = layers.Dense(6, name="shared")
    x = keras.Input((6,))
    model = keras.Model(x, layers.Dense(2)(shared(shared(x))))
    assert names(model) == ["shared/kernel"]


def test_tied_weights_are_found_once():
    class Tied(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = layers.Dense(4, name="first")
            self.second = layers.Dense(4, name="second")
            self.last = layers.Dense(4, name="last")

        def build(self, shape):
            for layer in (self.first, self.second, self.last):
                layer.build(shape)
            object.__setattr__(self.second, "_kernel", self.first.kernel)
            self.built = True

        def call(self, x):
            return self.last(self.second(self.first(x)))

    model = built(Tied(), 1, 4)
    assert model.first.kernel is model.second.kernel
    assert names(model, exclude=()) == ["first/kernel", "last/kernel"]


def test_equal_names_are_told_apart():
    class Twins(keras.Model):
        def __init__(self):
            super().__init__()
            self.pair = [layers.Dense(3, name="twin"), layers.Dense(3, name="twin")]

        def call(self, x):
            return self.pair[1](self.pair[0](x))

    assert names(built(Twins(), 1, 3), exclude=()) == ["twin/kernel", "twin/kernel_2"]


def _three():
    return sequential(
        layers.Dense(5, name="conv_a"), layers.Dense(5, name="conv_b"), layers.Dense(2, name="out")
    )


# -- what is left out ----------------------------------------------------------------------


def test_lora_layers_are_skipped_and_listed():
    model = _three()
    model.layers[0].enable_lora(2)
    assert names(model) == ["conv_b/kernel"]
    assert "LoRA" in skipped(model)["conv_a"]


def test_lora_inside_time_distributed_is_skipped_and_listed():
    model = sequential(
        layers.TimeDistributed(layers.Dense(3, name="inner"), name="each"),
        layers.Dense(4, name="body"),
        layers.Dense(2),
        shape=(5, 4),
    )
    model.layers[0].layer.enable_lora(2)
    assert names(model) == ["body/kernel"]
    assert "LoRA" in skipped(model)["each/inner"]


def test_quantised_layers_are_skipped_and_listed():
    model = _three()
    model.layers[0].quantize("int8")
    assert names(model) == ["conv_b/kernel"]
    assert "quantised to int8" in skipped(model)["conv_a"]


class Table(keras.Layer):
    """A layer class that the package has not heard of."""

    def build(self, shape):
        self.table = self.add_weight(shape=(shape[-1], 3), name="table")

    def call(self, x):
        return ops.matmul(x, self.table)


def test_unknown_layers_with_matrices_are_listed():
    model = sequential(Table(name="mine"), layers.Dense(4, name="a"), layers.Dense(2))
    assert names(model) == ["a/kernel"]
    assert skipped(model)["mine"] == "no site registered for Table; see sites.register"


def test_layers_without_matrices_are_not_mentioned():
    model = sequential(layers.Dense(4, name="a"), layers.BatchNormalization(), layers.Dense(2))
    assert skipped(model) == {"dense": "output layer (excluded by default)"}


def test_custom_rnn_cells_are_listed():
    model = sequential(
        layers.RNN(layers.LSTMCell(3), name="rnn"), layers.Dense(4), layers.Dense(2), shape=(3, 4)
    )
    assert skipped(model)["rnn"] == "no site registered for RNN; see sites.register"


def test_registered_layers_are_found_and_their_subclasses():
    class Mine(Table):
        pass

    class Child(Mine):
        pass

    sites.register(Mine, sites.Kernel("table", input_axis=0))
    model = sequential(Mine(name="mine"), Child(name="child"), layers.Dense(2))
    assert names(model) == ["mine/table", "child/table"]
    sites.register(Child, lambda layer: [])
    assert names(model) == ["mine/table"]


def test_a_second_kernel_is_listed():
    class TwoKernels(layers.Dense):
        def build(self, shape):
            super().build(shape)
            self.gate = self.add_weight(shape=(shape[-1], self.units), name="gate")
            self.inner = layers.Dense(2, name="inner")
            self.inner.build(shape)

        def call(self, x):
            return super().call(x) * ops.sigmoid(x @ self.gate) + ops.sum(self.inner(x))

    class Recurrent(layers.GRU):
        def build(self, shape):
            super().build(shape)
            self.context = self.add_weight(shape=(3, 3), name="context")

    class TwoTables(layers.Layer):
        def build(self, shape):
            self.one = self.add_weight(shape=(shape[-1], 3), name="one")
            self.two = self.add_weight(shape=(shape[-1], 3), name="two")

        def call(self, x):
            return x @ self.one + x @ self.two

    sites.register(TwoTables, sites.Kernel("one"))
    model = sequential(
        Recurrent(3, name="r"), TwoKernels(3, name="d"), TwoTables(name="t"), layers.Dense(2),
        shape=(4, 3),
    )  # fmt: skip
    found = ["r/kernel", "r/recurrent_kernel", "d/kernel", "d/inner/kernel", "t/one"]
    assert names(model) == found
    said = "`{}` is not registered as a kernel of {}; see sites.register"
    assert {path: why for path, why in skipped(model).items() if path != "dense"} == {
        "r": said.format("context", "Recurrent"),
        "d": said.format("gate", "TwoKernels"),
        "t": said.format("two", "TwoTables"),
    }


def test_an_untied_reversible_embedding_lists_its_other_matrix():
    ids = keras.Input((4,), dtype="int32")
    embedding = layers.ReversibleEmbedding(7, 5, tie_weights=False, name="words")
    model = keras.Model(ids, embedding(layers.Dense(5, name="a")(embedding(ids)), reverse=True))
    assert "`reverse_embeddings` is not registered" in str(sites.find(model, exclude=()).skipped), (
        sites.find(model, exclude=()).skipped
    )
    tied = layers.ReversibleEmbedding(7, 5, name="words")
    model = keras.Model(ids, tied(layers.Dense(5, name="a")(tied(ids)), reverse=True))
    assert sites.find(model, exclude=()).skipped == []


def test_register_refuses_what_is_no_layer_class_or_kernel():
    with pytest.raises(TypeError, match=r"subclass of keras\.Layer, received 3"):
        sites.register(3, sites.Kernel("kernel"))
    with pytest.raises(TypeError, match="at least one"):
        sites.register(Table)
    with pytest.raises(TypeError, match=r"sites\.Kernel objects, received 'table'"):
        sites.register(Table, "table")


def test_models_that_cannot_be_pruned_raise():
    with pytest.raises(ValueError, match=r"'raw' is not built.*call it on a batch"):
        sites.find(keras.Sequential([layers.Dense(2)], name="raw"))
    with pytest.raises(ValueError, match="is not built"):
        sites.find(Mlp())
    with pytest.raises(ValueError, match="no prunable layers left"):
        sites.find(sequential(layers.ReLU()))
    with pytest.raises(ValueError, match=r"no prunable layers left \(dense: output layer"):
        sites.find(sequential(layers.Dense(2, name="dense")))
    with pytest.raises(TypeError, match=r"must be a keras\.Model, received 'model'; load a file"):
        sites.find("model")
    with pytest.raises(TypeError, match=r"must be a keras\.Model, received ndarray$"):
        sites.find(np.ones(3))


def test_legacy_models_are_told_how_to_convert():
    pytest.importorskip("tf_keras", reason="tf_keras is an extra")
    program = (
        "import tf_keras, keras\n"
        "from activation_pruning import sites\n"
        "model = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(3,))])\n"
        "try:\n    sites.find(model)\n"
        "except TypeError as error:\n    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        timeout=120,
    )
    assert "legacy tf_keras model" in result.stdout, result.stderr
    assert "set_weights" in result.stdout


# -- which output says "active" --------------------------------------------------------------


def source(model, name):
    (site,) = [site for site in sites.find(model, exclude=()).sites if site.layer.name == name]
    return site.source


def test_fused_activation_is_the_layers_own():
    model = sequential(layers.Dense(4, activation="relu", name="a"), layers.Dense(2, name="b"))
    assert source(model, "a").label == "own activation"
    assert source(model, "b").label == "own output"


@pytest.mark.parametrize("functional", [False, True])
def test_source_follows_batch_norm_dropout_and_reshaping(functional):
    chain = [
        layers.Conv2D(3, 2, name="conv"),
        layers.BatchNormalization(),
        layers.Dropout(0.1),
        layers.Flatten(),
        layers.ReLU(name="relu"),
        layers.Dense(4, name="dense"),
        layers.BatchNormalization(),
        layers.Activation("tanh", name="tanh"),
        layers.Dense(2, name="out"),
    ]
    if functional:
        inputs = x = keras.Input((5, 5, 2))
        for layer in chain:
            x = layer(x)
        model = keras.Model(inputs, x)
    else:
        model = sequential(*chain, shape=(5, 5, 2))
    assert source(model, "conv").label == "relu"
    assert source(model, "dense").label == "tanh"


def test_source_stops_before_flatten_for_activations_in_front_of_it():
    model = sequential(
        layers.Conv2D(3, 2, name="conv"),
        layers.ReLU(name="relu"),
        layers.Flatten(),
        layers.Dense(2),
        shape=(5, 5, 2),
    )
    assert source(model, "conv").label == "relu"
    assert source(model, "conv").layer is model.layers[1]


def test_source_follows_inside_a_nested_model():
    inner = sequential(
        layers.Dense(4, name="a"), layers.BatchNormalization(), layers.ReLU(name="r")
    )
    x = keras.Input((6,))
    model = keras.Model(x, layers.Dense(2)(inner(x)))
    assert source(model, "a").label == "r"


def test_source_follows_behind_time_distributed():
    model = sequential(
        layers.TimeDistributed(layers.Dense(3, name="inner"), name="each"),
        layers.ReLU(name="relu"),
        layers.Dense(2),
        shape=(5, 4),
    )
    assert source(model, "inner").label == "relu"


def test_residual_sums_fall_back_to_the_own_output():
    x = keras.Input((4,))
    model = keras.Model(
        x, layers.Dense(2)(layers.ReLU()(layers.Add()([x, layers.Dense(4, name="a")(x)])))
    )
    assert source(model, "a").label == "own output"


def test_two_consumers_fall_back_to_the_own_output():
    x = keras.Input((4,))
    hidden = layers.Dense(4, name="a")(x)
    model = keras.Model(x, layers.Dense(2)(layers.Add()([layers.ReLU()(hidden), hidden])))
    assert source(model, "a").label == "own output"


def test_shared_activations_fall_back_to_the_own_output():
    x, relu = keras.Input((4,)), layers.ReLU()
    hidden = relu(layers.Dense(4, name="a")(x))
    model = keras.Model(x, layers.Dense(2)(relu(layers.Dense(4, name="b")(hidden))))
    assert source(model, "a").label == source(model, "b").label == "own output"


def test_layers_called_twice_fall_back_to_the_own_output():
    x, shared = keras.Input((4,)), layers.Dense(4, name="a")
    model = keras.Model(x, layers.Dense(2)(layers.ReLU()(shared(layers.ReLU()(shared(x))))))
    assert source(model, "a").label == "own output"


def test_subclassed_models_use_the_own_output():
    class Split(keras.Model):
        def __init__(self):
            super().__init__()
            self.a, self.relu, self.b = layers.Dense(4, name="a"), layers.ReLU(), layers.Dense(2)

        def call(self, x):
            return self.b(self.relu(self.a(x)))

    assert source(built(Split(), 1, 3), "a").label == "own output"


# -- the source, counted -------------------------------------------------------------------


def activity(model, x, **chosen):
    found = sites.find(model, **{"exclude": (), **chosen}).sites
    return gathering.observe(model, found, x)


def output_of(model, layer_name, x):
    return ops.convert_to_numpy(keras.Model(model.inputs, model.get_layer(layer_name).output)(x))


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("sequences", [False, True])
def test_bidirectional_units_are_seen_where_they_are(merge_mode, sequences):
    inputs = keras.Input((5, 4))
    both = layers.Bidirectional(
        layers.LSTM(3, return_sequences=sequences), merge_mode=merge_mode, name="both"
    )
    outputs = both(inputs)
    model = keras.Model(inputs, outputs)
    x = noise(8, 5, 4)
    seen = activity(model, x)
    outputs = keras.tree.map_structure(ops.convert_to_numpy, model(x))
    parts = {
        "concat": lambda: (outputs[..., :3], outputs[..., 3:]),
        None: lambda: (outputs[0], outputs[1]),
    }.get(merge_mode, lambda: (outputs, outputs))()
    for way, part in zip(("forward", "backward"), parts, strict=True):
        positive = (part > 0).reshape(-1, 3).mean(axis=0)
        counted = seen[f"both/{way}_lstm/kernel"]
        np.testing.assert_allclose(counted.frequency, positive, rtol=1e-6)
        assert counted.samples == 8


def test_flattened_activation_is_counted_position_by_position():
    model = sequential(
        layers.Conv2D(3, 2, name="conv"),
        layers.Flatten(),
        layers.ReLU(name="relu"),
        layers.Dense(2),
        shape=(5, 5, 2),
    )
    x = noise(8, 5, 5, 2)
    expected = (output_of(model, "conv", x) > 0).mean(axis=(0, 1, 2))
    counted = activity(model, x)["conv/kernel"]
    np.testing.assert_allclose(counted.frequency, expected, rtol=1e-6)


def test_einsum_units_are_counted_where_they_are():
    model = sequential(
        layers.EinsumDense("abc,cde->aebd", (3, None, 2), name="einsum"),
        shape=(5, 4),
    )
    x = noise(8, 5, 4)
    expected = (output_of(model, "einsum", x) > 0).mean(axis=(0, 2)).T.ravel()  # (d, e)
    counted = activity(model, x)["einsum/kernel"]
    np.testing.assert_allclose(counted.frequency, expected, rtol=1e-6)


def test_hidden_half_of_a_separable_convolution_gets_the_mean_of_what_shows():
    model = sequential(
        layers.SeparableConv2D(4, 2, name="separable"), layers.Flatten(), layers.Dense(2),
        shape=(5, 5, 3),
    )  # fmt: skip
    x = noise(8, 5, 5, 3)
    expected = (output_of(model, "separable", x) > 0).mean(axis=(0, 1, 2))
    seen = activity(model, x)
    np.testing.assert_allclose(seen["separable/pointwise_kernel"].frequency, expected, rtol=1e-6)
    np.testing.assert_allclose(
        seen["separable/depthwise_kernel"].frequency, np.full(3, expected.mean()), rtol=1e-6
    )


def test_time_distributed_units_are_counted_once_for_each_sample():
    model = sequential(
        layers.TimeDistributed(layers.Dense(3, activation="relu", name="inner"), name="each"),
        layers.Flatten(),
        layers.Dense(2),
        shape=(5, 4),
    )
    x = noise(8, 5, 4)
    counted = activity(model, x)["each/inner/kernel"]
    assert counted.samples == 8
    expected = (output_of(model, "each", x) > 0).mean(axis=(0, 1))
    np.testing.assert_allclose(counted.frequency, expected, rtol=1e-6)


def test_attention_heads_are_counted():
    x = keras.Input((5, 8))
    attended = layers.MultiHeadAttention(2, 4, name="mha")(x, x)
    model = keras.Model(x, layers.Dense(2, name="out")(attended))
    data = noise(8, 5, 8)
    seen = activity(model, data)
    query = ops.convert_to_numpy(model.get_layer("mha").query_dense(data))
    expected = (query > 0).mean(axis=(0, 1)).ravel()
    np.testing.assert_allclose(seen["mha/query/kernel"].frequency, expected, rtol=1e-6)
    assert seen["mha/attention_output/kernel"].frequency.shape == (8,)


def test_a_sequential_model_that_grew_is_called_once():
    """Every `add` after an Input calls all layers anew; the source must not depend on it."""
    grown = keras.Sequential([keras.Input((3,))])
    for layer in (layers.Dense(4, name="a"), layers.ReLU(name="after"), layers.Dense(2)):
        grown.add(layer)
    assert sites.find(grown).sites[0].source.label == "after"
