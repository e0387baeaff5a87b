"""Compacted models: the same outputs, fewer parameters, ordinary Keras."""

import keras
import numpy as np
import pruned_graphs
import pytest
from keras import layers

import activation_pruning as ap
from activation_pruning.graph import copies

pytestmark = pytest.mark.backend

L = layers


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def outputs(model, x):
    found = keras.tree.flatten(model(x, training=False))
    return [keras.ops.convert_to_numpy(values) for values in found]


def assert_same(model, small, x, tolerance=1e-5):
    for before, after in zip(outputs(model, x), outputs(small, x), strict=True):
        np.testing.assert_allclose(after, before, atol=tolerance * max(1, np.abs(before).max()))


def mlp():
    """The paper's network."""
    hidden = [L.Dense(units, "relu") for units in (300, 200, 100, 50)]
    return keras.Sequential([keras.Input((784,)), *hidden, L.Dense(10, "softmax")])


def lenet():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            L.Conv2D(6, 5, padding="same", activation="tanh"),
            L.AveragePooling2D(2),
            L.Conv2D(16, 5, activation="tanh"),
            L.AveragePooling2D(2),
            L.Flatten(),
            L.Dense(120, "tanh"),
            L.Dense(84, "tanh"),
            L.Dense(10, "softmax"),
        ]
    )


def residual():
    inputs = keras.Input((16, 16, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding="same", use_bias=False)(inputs)))
    y = L.BatchNormalization()(L.Conv2D(8, 3, padding="same", use_bias=False)(x))
    x = L.ReLU()(L.Add()([x, y]))
    a = L.Conv2D(12, 3, strides=2, padding="same", activation="relu")(x)
    b = L.Conv2D(6, 2, strides=2, padding="same")(x)
    x = L.DepthwiseConv2D(3, depth_multiplier=2)(L.Concatenate()([a, b]))
    x = L.GlobalAveragePooling2D()(L.SeparableConv2D(10, 3, activation="relu")(x))
    return keras.Model(inputs, L.Dense(4)(x))


def nested():
    inner = keras.Sequential([keras.Input((12,)), L.Dense(9, "relu"), L.Dense(7)], name="inner")
    shared = L.Dense(12, "relu", name="shared")
    inputs = keras.Input((5,))
    x = shared(L.Dense(12, "relu")(inputs))
    return keras.Model(inputs, L.Dense(3)(L.Add()([inner(x), inner(shared(x))])))


def sequence():
    inputs = keras.Input((7, 4))
    x = L.LSTM(8, return_sequences=True)(L.Dense(12, "tanh")(inputs))
    x = L.TimeDistributed(L.Dense(6))(L.GRU(6, return_sequences=True)(L.Dense(9)(x)))
    return keras.Model(inputs, L.Dense(2)(L.Bidirectional(L.LSTM(5))(x)))


def attention():
    inputs = keras.Input((7,), dtype="int32")
    x = L.Dense(16, "relu")(L.Embedding(20, 12)(inputs))
    x = L.MultiHeadAttention(3, 5)(x, x)
    x = L.EinsumDense("abc,cd->abd", output_shape=(None, 11), bias_axes="d")(x)
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(x)))


def several():
    one, other = keras.Input((6,)), keras.Input((4, 4, 2))
    x = L.Flatten()(L.Reshape((2, 2, 20))(L.Dense(80)(L.Flatten()(other))))
    x = L.Concatenate()([L.Dense(7, "relu")(one), L.Dense(9, "elu")(x)])
    return keras.Model([one, other], {"a": L.Dense(2)(x), "b": L.Dense(3)(L.LeakyReLU()(x))})


KINDS = {
    "mlp": (mlp, (784,)),
    "lenet": (lenet, (28, 28, 1)),
    "residual": (residual, (16, 16, 3)),
    "nested": (nested, (5,)),
    "sequence": (sequence, (7, 4)),
}


def problem(kind):
    if kind == "attention":
        return attention(), np.random.default_rng(0).integers(0, 20, (6, 7))
    if kind == "several":
        return several(), [noise(5, 6), noise(5, 4, 4, 2)]
    make, shape = KINDS[kind]
    return make(), noise(5, *shape)


EVERY = [*KINDS, "attention", "several"]


@pytest.mark.parametrize("kind", EVERY)
def test_outputs_stay_and_parameters_go(kind):
    model, x = problem(kind)
    pruned_graphs.killed(pruned_graphs.randomised(model), outgoing=0)
    start = model.get_weights()
    small = ap.compact(model)
    assert_same(model, small, x)
    assert small.count_params() < 0.95 * model.count_params()
    assert ap.removable(model)["removed"].sum() > 0
    for before, after in zip(start, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    with pytest.warns(UserWarning, match="no unit can be removed"):
        again = ap.compact(small)
    assert again.count_params() == small.count_params()
    assert_same(small, again, x)


@pytest.mark.parametrize("kind", EVERY)
def test_the_result_trains_saves_and_loads(kind, tmp_path):
    model, x = problem(kind)
    model.compile("sgd", "mse")
    pruned_graphs.killed(pruned_graphs.randomised(model))
    small = ap.compact(model)
    assert small.compiled
    path = tmp_path / "small.keras"
    small.save(path)
    assert_same(small, keras.models.load_model(path), x)
    y = keras.tree.map_structure(np.zeros_like, model.predict(x, verbose=0))
    before = outputs(small, x)[0].copy()
    small.fit(x, y, epochs=2, verbose=0)
    assert np.abs(outputs(small, x)[0] - before).max() > 0


@pytest.mark.parametrize("kind", ["mlp", "lenet", "residual", "attention"])
def test_units_pruned_by_prune_are_all_removed(kind):
    model, x = problem(kind)
    pruned_graphs.randomised(model)
    ap.prune(model, 0.5, allocation="uniform", granularity="unit")
    table = ap.removable(model)
    assert (table["left"] == 0).all(), table.to_string()
    small = ap.compact(model)
    assert_same(model, small, x)
    assert small.count_params() < 0.5 * model.count_params()


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed):
    model = pruned_graphs.randomised(pruned_graphs.image_graph(seed), seed)
    pruned_graphs.killed(model, 0.5, seed)
    with np.errstate(all="raise"):
        small = ap.compact(model) if ap.removable(model)["removed"].any() else model
    x = noise(4, 9, 9, 3, seed=seed)
    # In a group of constants rounding is all that varies: GroupNormalization divides by its size.
    assert_same(model, small, x, tolerance=5e-5)
    if small is not model:
        assert small.count_params() < model.count_params()
        # A convolution in groups may lose groups once they are smaller, or the other way round.
        grouped = any(getattr(layer, "groups", 1) > 1 for layer in model.layers)
        assert grouped or not ap.removable(small)["removed"].any()


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_over_sequences(seed):
    generator = np.random.default_rng(seed)
    model = pruned_graphs.randomised(pruned_graphs.sequence_graph(seed), seed)
    if seed % 3:
        pruned_graphs.killed(model, 0.5, seed)
    else:
        ap.prune(model, 0.5, allocation="uniform", granularity="unit")
    small = ap.compact(model) if ap.removable(model)["removed"].any() else model
    x = [generator.integers(0, 9, (4, 6)), generator.random((4, 6, 6)) < 0.7]
    assert_same(model, small, x)
    if small is not model:
        assert small.count_params() < model.count_params()
        assert not ap.removable(small)["removed"].any()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the same NumPy, slower")
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50", "DenseNet121", "EfficientNetB0"])
def test_published_networks(name):
    make = getattr(keras.applications, name)
    model = pruned_graphs.randomised(make(weights=None, input_shape=(32, 32, 3), classes=10))
    ap.prune(model, 0.5, allocation="uniform", granularity="unit")
    small = ap.compact(model)
    x = np.random.default_rng(0).random((2, 32, 32, 3)) * (255 if "Efficient" in name else 1)
    assert_same(model, small, x)
    assert small.count_params() < 0.35 * model.count_params()


# -- by hand -------------------------------------------------------------------------------------


def test_constants_are_folded_through_activation_and_normalisation():
    model = keras.Sequential(
        [keras.Input((2,)), L.Dense(2, "relu"), L.BatchNormalization(epsilon=0.0), L.Dense(1)]
    )
    eye = np.array([[1.0, 0.0], [1.0, 0.0]])
    batch = [np.array([2.0, 3.0]), np.array([0.0, 1.0]), np.zeros(2), np.array([1.0, 4.0])]
    model.set_weights([eye, np.array([0.0, 5.0]), *batch, np.array([[1.0], [10.0]]), np.zeros(1)])
    small = ap.compact(model)
    assert [w.shape for w in small.get_weights()] == [(2, 1), (1,), *[(1,)] * 4, (1, 1), (1,)]
    # relu(5) = 5, then 3 * 5 / sqrt(4) + 1 = 8.5, then times 10
    np.testing.assert_allclose(small.get_weights()[-1], [85.0], rtol=1e-6)


def test_a_bias_is_made_where_there_is_none():
    model = keras.Sequential([keras.Input((1,)), L.Dense(2), L.Dense(3, use_bias=False)])
    kernel = np.array([[1.0, 1.0, 1.0], [2.0, 3.0, 0.0]])
    model.set_weights([np.array([[1.0, 0.0]]), np.array([0.0, 2.0]), kernel])
    small = ap.compact(model)
    np.testing.assert_allclose(small.layers[1].get_weights()[1], [4.0, 6.0, 0.0])


def test_zeros_around_an_image_make_constants_differ():
    def network(padding, bias):
        model = keras.Sequential(
            [keras.Input((5, 5, 1)), L.Conv2D(2, 1), L.Conv2D(1, 3, padding=padding), L.Flatten()]
        )
        kernel = noise(3, 3, 2, 1)
        first = np.array([1.0, 0.0]).reshape(1, 1, 1, 2)
        model.set_weights([first, np.array([0.0, bias]), kernel, np.zeros(1)])
        return model

    for padding, bias, removed in (("same", 1.0, 0), ("same", 0.0, 1), ("valid", 1.0, 1)):
        table = ap.removable(network(padding, bias))
        assert table["removed"].tolist() == [removed, 0]
        assert table["left"].tolist() == [1 - removed, 0]
    reason = ap.removable(network("same", 1.0))["reason"][0]
    assert reason.endswith("takes no constants but zeros into its bias: sums differ at its borders")


def test_what_nobody_reads_goes_back_to_the_inputs():
    model = keras.Sequential([keras.Input((3,)), L.Dense(4), L.Dense(3), L.Dense(2)])
    pruned_graphs.randomised(model)
    weights = model.get_weights()
    weights[4][1] = 0  # nobody reads unit 1 of the second layer
    weights[2][3, [0, 2]] = 0  # and so nobody reads unit 3 of the first
    model.set_weights(weights)
    small = ap.compact(model)
    assert [layer.units for layer in small.layers] == [3, 2, 2]
    assert_same(model, small, noise(4, 3))


def test_branches_that_meet_go_together_or_not_at_all():
    inputs = keras.Input((3,))
    a, b = L.Dense(2, name="a")(inputs), L.Dense(2, name="b")(inputs)
    model = keras.Model(inputs, L.Dense(1)(L.Add()([a, b])))
    pruned_graphs.randomised(model)
    kernel = model.get_layer("a").get_weights()[0]
    kernel[:, 0] = 0
    model.get_layer("a").kernel.assign(kernel)
    table = ap.removable(model).set_index("layer")
    assert table.loc["a", "left"] == 1
    assert "they meet others that vary" in table.loc["a", "reason"]
    kernel = model.get_layer("b").get_weights()[0]
    kernel[:, 0] = 0
    model.get_layer("b").kernel.assign(kernel)
    small = ap.compact(model)
    assert small.get_layer("a").units == small.get_layer("b").units == 1
    assert_same(model, small, noise(4, 3))


def test_no_layer_loses_its_last_unit():
    model = keras.Sequential([keras.Input((3,)), L.Dense(4), L.Dense(2)])
    pruned_graphs.randomised(model)
    weights = model.get_weights()
    weights[2][:] = np.array([[0.0, 0.0]] * 3 + [[1e-9, 0.0]])
    weights[0][:, 3] = 0
    model.set_weights(weights)
    small = ap.compact(model)
    assert small.layers[0].units == 1
    assert_same(model, small, noise(4, 3))


def test_a_fresh_layer_of_zeros_is_not_pruned():
    model = keras.Sequential(
        [keras.Input((3,)), L.Dense(4), L.Dense(2, kernel_initializer="zeros")]
    )
    with pytest.warns(UserWarning, match="no unit is pruned as a whole"):
        assert ap.compact(model).count_params() == model.count_params()


def test_layers_that_mix_channels_are_left_and_named():
    inputs = keras.Input((6,))
    x = L.LayerNormalization(name="norm")(L.Dense(8, name="a")(inputs))
    x = L.Lambda(lambda t: t[:, ::-1], (5,), name="turned")(L.Dense(5, name="b")(x))
    model = keras.Model(inputs, L.Dense(2)(x))
    pruned_graphs.killed(pruned_graphs.randomised(model), outgoing=0)
    with pytest.warns(UserWarning, match="'norm' normalises over all channels"):
        small = ap.compact(model)
    assert small.count_params() == model.count_params()
    reasons = ap.removable(model).set_index("layer")["reason"]
    assert "not known to compaction" in reasons["b"]
    assert "'turned' (Lambda)" in reasons["b"]


def test_wrapped_models_are_taken_out_of_their_wrappers():
    model = pruned_graphs.randomised(keras.Sequential([keras.Input((6,)), L.Dense(8), L.Dense(2)]))
    wrapped = ap.wrap(model)
    ap.prune(wrapped, 0.5, granularity="unit")
    small = ap.compact(wrapped)
    assert [type(layer).__name__ for layer in small.layers] == ["Dense", "Dense"]
    assert small.layers[0].units == 4
    assert_same(wrapped, small, noise(4, 6))


def test_bad_arguments():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(2)

        def call(self, x):
            return self.dense(x)

    own = Own()
    own(np.ones((1, 3)))
    own.call = lambda x: own.dense(x) if x[0, 0] > 0 else x
    with pytest.raises(
        TypeError, match=r"'own' \(Own\) cannot be written down.*line \d+: own.call"
    ):
        ap.compact(own)
    with pytest.raises(ValueError, match="not built"):
        ap.compact(keras.Sequential([L.Dense(2)]))
    model = keras.Sequential([keras.Input((2,)), L.Dense(2, name="a")])
    model.layers[0].kernel.assign(np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="a/kernel holds NaN"):
        ap.compact(model)


def smaller(model, *shapes, share=0.95):
    """The model with half of its units pruned, compacted and compared."""
    pruned_graphs.randomised(model)
    ap.prune(model, 0.5, allocation="uniform", granularity="unit")
    small, x = ap.compact(model), [noise(3, *shape) for shape in shapes]
    assert_same(model, small, x if len(x) > 1 else x[0])
    assert small.count_params() < share * model.count_params()
    return small


@pytest.mark.parametrize(
    "make",
    [
        lambda: L.Bidirectional(L.LSTM(4)),
        lambda: L.TimeDistributed(L.Dense(4)),
        lambda: L.EinsumDense("...x,xy->...y", 6, bias_axes="y"),
        lambda: L.EinsumDense("abx,yx->aby", (None, 6)),
    ],
    ids=["bidirectional", "distributed", "ellipsis", "einsum"],
)
def test_layers_are_made_anew_behind_fewer_channels(make):
    smaller(keras.Sequential([keras.Input((6, 4)), L.Dense(8, "relu"), make(), L.Dense(2)]), (6, 4))


def test_masks_choose_positions_only():
    x, mask = keras.Input((5, 4)), keras.Input((5, 5))
    h = L.Dense(8)(x)
    h = L.MultiHeadAttention(2, 3, name="mha")(h, h, attention_mask=mask)
    smaller(keras.Model([x, mask], L.Dense(2)(h)), (5, 4), (5, 5), share=0.5)

    tokens = keras.Input((5,))
    h = L.LSTM(4)(L.Dense(8)(L.Embedding(9, 8, mask_zero=True)(tokens)))
    model = pruned_graphs.randomised(keras.Model(tokens, L.Dense(2)(h)))
    ap.prune(model, 0.5, allocation="uniform", granularity="unit")
    small = ap.compact(model)
    assert small.count_params() < 0.7 * model.count_params()
    assert_same(model, small, np.random.default_rng(0).integers(0, 4, (6, 5)))


def test_outputs_of_attention_stay_where_its_queries_shrink():
    """Without an `output_shape` Keras takes that of the queries."""
    x = keras.Input((5, 4))
    h = L.MultiHeadAttention(2, 3, name="heads")(L.Dense(8)(x), x)
    model = keras.Model(x, L.Dense(2)(L.LayerNormalization()(h)))
    pruned_graphs.randomised(model)
    ap.prune(model, 0.5, allocation="uniform", granularity="unit", exclude="heads")
    small = ap.compact(model)
    assert small.layers[1].units == 4
    assert small.get_layer("heads").output.shape[-1] == 8
    assert_same(model, small, noise(3, 5, 4))


def test_attention_with_outputs_of_several_axes_is_left_and_named():
    x = keras.Input((5, 4))
    h = L.Dense(8, name="a")(x)
    model = keras.Model(x, L.Dense(2)(L.MultiHeadAttention(2, 3, output_shape=(3, 4))(h, h)))
    pruned_graphs.killed(pruned_graphs.randomised(model), outgoing=0)
    table = ap.removable(model).set_index("layer")
    assert table.loc["a", "left"] > 0
    assert "its output has several axes" in table.loc["a", "reason"]
    with pytest.warns(UserWarning, match="several axes"):
        assert_same(model, ap.compact(model), noise(3, 5, 4))


def test_a_reshape_shared_by_several_shapes():
    x, reshape = keras.Input((4, 8)), L.Reshape((-1,))
    a = L.Dense(6)(x)
    both = L.Concatenate()([reshape(a), reshape(L.MaxPooling1D(2)(a))])
    smaller(keras.Model(x, L.Dense(2)(both)), (4, 8), share=0.6)

    x, reshape = keras.Input((4, 4)), L.Reshape((4, 4))
    a = L.Dense(4, name="a")(x)
    both = L.Add()([L.Dense(4)(reshape(a)), L.Dense(4)(reshape(L.Permute((2, 1))(a)))])
    model = keras.Model(x, L.Dense(2)(both))
    pruned_graphs.randomised(model)
    ap.prune(model, 0.5, allocation="uniform", granularity="unit")
    assert "along different axes" in ap.removable(model).set_index("layer").loc["a", "reason"]
    assert_same(model, ap.compact(model), noise(3, 4, 4))


@pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="keras.ops.average with weights fails on PyTorch unless it goes along the last axis",
)
def test_operations_are_not_taken_for_layers_of_the_same_name():
    x = keras.Input((4, 8))
    a, b = L.Dense(6, name="a"), L.Dense(6, name="b")
    mean = keras.ops.average(a(x), axis=1, weights=b(x))
    model = keras.Model(x, L.Dense(2)(L.RepeatVector(3)(mean)))
    pruned_graphs.randomised(model)
    for layer in (a, b):
        kernel = np.ones((8, 6))
        kernel[:, 0] = 0
        layer.set_weights([kernel, np.arange(1, 7)])
    table = ap.removable(model).set_index("layer")
    assert table.loc["a", "removed"] == 0
    assert "(Average): not known to compaction" in table.loc["a", "reason"]
    with pytest.warns(UserWarning, match="no unit can be removed"):
        assert_same(model, ap.compact(model), noise(2, 4, 8) + 5)


def test_a_layer_shared_through_a_wrapper_stays_one():
    x, shared = keras.Input((3, 5)), L.Dense(4)
    h = L.Dense(6)(x)
    found = L.Add()([shared(h), L.TimeDistributed(shared)(h)])
    small = smaller(keras.Model(x, L.Dense(2)(found)), (3, 5))
    assert len(small.weights) == 6


def test_what_is_frozen_stays_so():
    x, attention = keras.Input((3, 5)), L.MultiHeadAttention(2, 3)
    inner = keras.Sequential([keras.Input((3, 5)), L.Dense(5)])
    model = keras.Model(x, L.Dense(2)(attention(inner(x), x)))
    attention.query_dense.trainable = False
    inner.trainable = False
    for copy in (copies.copy_model(model), smaller(model, (3, 5), share=1)):
        assert len(copy.trainable_weights) == len(model.trainable_weights) == 8
        assert [layer.trainable for layer in copy.layers] == [True, False, True, True]


def test_a_nested_model_called_at_two_sizes():
    inner = keras.Sequential([keras.Input((None,)), L.ReLU()])
    x = keras.Input((5,))
    both = L.Concatenate()([inner(L.Dense(4)(x)), inner(L.Dense(6)(x))])
    model = keras.Model(x, L.Dense(2)(both))
    pruned_graphs.killed(pruned_graphs.randomised(model), outgoing=0)
    assert "called in several ways" in "".join(ap.removable(model)["reason"])
    assert_same(model, ap.compact(model), noise(3, 5))


# -- coupled units -------------------------------------------------------------------------------


def test_coupled_units_are_ranked_by_what_they_hold_together():
    inputs = keras.Input((1,))
    a, b = L.Dense(3, name="a"), L.Dense(3, name="b")
    model = keras.Model(inputs, L.Dense(1)(L.Add()([a(inputs), b(inputs)])))
    a.set_weights([np.array([[1.0, 5.0, 3.0]]), np.ones(3)])
    b.set_weights([np.array([[6.0, 1.0, 2.0]]), np.ones(3)])
    ap.prune(model, 1 / 3, granularity="unit")  # alone: unit 0 of a and unit 1 of b
    assert a.get_weights()[0].tolist() == [[1.0, 5.0, 0.0]]
    assert b.get_weights()[0].tolist() == [[6.0, 1.0, 0.0]]
    assert a.get_weights()[1].tolist() == b.get_weights()[1].tolist() == [1.0, 1.0, 0.0]


def test_what_meets_the_inputs_is_not_silenced():
    inputs = keras.Input((3,))
    dense, norm = L.Dense(3, name="a"), L.BatchNormalization()
    model = keras.Model(inputs, L.Dense(1)(norm(L.Add()([inputs, dense(inputs)]))))
    pruned_graphs.randomised(model)
    ap.prune(model, 1 / 3, granularity="unit")
    assert (dense.get_weights()[0] == 0).all(axis=0).sum() == 1
    assert (norm.get_weights()[0] != 0).all()


def test_the_report_names_pruned_units_that_have_to_stay():
    inputs = keras.Input((4, 6))
    x = L.Dense(4, name="free")(L.LayerNormalization()(L.Dense(8, name="normed")(inputs)))
    model = keras.Model(inputs, L.Dense(2)(L.LSTM(6, "softmax", name="mixing")(x)))
    report = ap.prune(pruned_graphs.randomised(model), 0.5, "magnitude", "uniform", "unit")
    assert "Pruned units of normed, mixing cannot be taken out" in str(report)
    removed = ap.removable(model).set_index("layer")["removed"]
    assert removed[["normed", "free"]].tolist() == [0, 2]


@pytest.mark.parametrize(("round_to", "kept"), [(1, 10), (4, 12), (8, 8), (16, 16)])
def test_units_left_are_a_multiple(round_to, kept):
    model = pruned_graphs.randomised(keras.Sequential([keras.Input((6,)), L.Dense(20), L.Dense(2)]))
    grain = ap.masks.Unit(round_to=round_to)
    report = ap.prune(model, 0.5, granularity=grain)
    assert (f"a multiple of {round_to} units" in str(report)) == (round_to > 1)
    assert ap.compact(model).layers[0].units == kept


def test_fine_tuning_and_pruning_in_fit_keep_units_silent():
    model = residual()
    model.compile("adam", "mse")
    x, y = noise(16, 16, 16, 3), noise(16, 4)
    pruner = ap.PruningCallback(
        ap.schedules.OneShot(0.4, at=1), "unit_norm", "uniform", ap.masks.Unit()
    )
    model.fit(x, y, epochs=3, verbose=0, callbacks=[pruner])
    model.fit(x, y, epochs=2, verbose=0, callbacks=[ap.KeepPruned()])
    table = ap.removable(model)
    assert (table["left"] == 0).all()
    assert table["removed"].sum() > 10
    small = ap.compact(model)
    assert_same(model, small, x)
    small.fit(x, y, verbose=0)
