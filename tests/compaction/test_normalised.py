"""Channels leave what normalises over them wherever that changes nothing."""

import keras
import numpy as np
import pruned_graphs
import pytest
from compacted import assert_same, noise
from keras import layers as L

import activation_pruning as ap

pytestmark = pytest.mark.backend


def pruned(model, share=0.5):
    """The model with half of its units pruned, all of which can go."""
    pruned_graphs.randomised(model)
    ap.prune(model, share, allocation="uniform", granularity="unit")
    table = ap.removable(model)
    assert (table["left"] == 0).all(), table.to_string()
    return ap.compact(model)


def silenced(layer, units):
    for variable in layer.weights:
        values = keras.ops.convert_to_numpy(variable).copy()
        values[..., units] = 0
        variable.assign(values)


def test_rms_normalisation_by_hand():
    model = keras.Sequential(
        [keras.Input((2,)), L.Dense(4), L.RMSNormalization(epsilon=0.1, name="rms"), L.Dense(1)]
    )
    kernel = np.array([[1.0, 0.0, 2.0, 0.0], [0.0, 0.0, 1.0, 3.0]])
    scale = np.array([1.0, 5.0, 2.0, 3.0])
    model.set_weights([kernel, np.zeros(4), scale, np.ones((4, 1)), np.zeros(1)])
    small = ap.compact(model)
    norm = small.get_layer("rms")
    np.testing.assert_allclose(norm.epsilon, 0.1 * 4 / 3)
    found = keras.ops.convert_to_numpy(norm.scale)
    np.testing.assert_allclose(found, scale[[0, 2, 3]] * np.sqrt(4 / 3), rtol=1e-6)
    x = noise(5, 2)
    y = x @ kernel
    expected = (scale * y / np.sqrt((y**2).mean(1, keepdims=True) + 0.1)).sum(1, keepdims=True)
    found = keras.ops.convert_to_numpy(small(x))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [L.RMSNormalization, L.UnitNormalization])
@pytest.mark.parametrize(("size", "shape", "axis"), [(1e-4, (4, 6), -1), (1.0, (6,), 1)])
def test_zeros_leave_the_length(kind, size, shape, axis):
    """Also where the numbers are so small that epsilon decides."""
    axis = len(shape) if axis == 1 else axis
    norm = kind(axis=axis, name="norm")
    dense = L.Dense(8, name="a")
    model = keras.Sequential([keras.Input(shape), dense, norm, L.Dense(3)])
    pruned_graphs.randomised(model)
    dense.kernel.assign(keras.ops.convert_to_numpy(dense.kernel) * size)
    dense.bias.assign(np.zeros(8))
    silenced(dense, [0, 5])
    small = ap.compact(model)
    assert small.get_layer("a").units == 6
    assert_same(model, small, noise(4, *shape), 2e-6)


@pytest.mark.parametrize("kind", [L.RMSNormalization, L.UnitNormalization])
def test_what_is_not_zero_stays_though_nobody_reads_it(kind):
    dense, norm = L.Dense(4, name="a"), kind(name="norm")
    model = keras.Sequential([keras.Input((3,)), dense, norm, L.Dense(2)])
    pruned_graphs.randomised(model)
    kernel = keras.ops.convert_to_numpy(dense.kernel).copy()
    kernel[:, 1] = 0  # but it has a bias
    dense.kernel.assign(kernel)
    row = ap.removable(model).set_index("layer").loc["a"]
    assert row[["removed", "left"]].tolist() == [0, 1]
    assert row["reason"].startswith("'norm' normalises over all channels, and they are not zero")
    last = keras.ops.convert_to_numpy(model.layers[-1].kernel).copy()
    last[2] = 0
    model.layers[-1].kernel.assign(last)
    assert ap.removable(model)["removed"].sum() == 0


def test_over_another_axis_zeros_stay_zeros():
    model = keras.Sequential(
        [keras.Input((5, 3)), L.Dense(8, name="a"), L.UnitNormalization(axis=1), L.Dense(2)]
    )
    small = pruned(model)
    assert small.get_layer("a").units == 4
    assert_same(model, small, noise(4, 5, 3), 2e-6)


def test_a_scale_along_another_axis_than_the_norm():
    """Keras doesn't turn the scale, which then fits by chance only."""
    norm = L.RMSNormalization(axis=1, name="norm")
    model = keras.Sequential([keras.Input((8, 3)), L.Dense(8, name="a"), norm, L.Dense(2)])
    pruned_graphs.randomised(model)
    silenced(model.get_layer("a"), [1])
    reason = ap.removable(model).set_index("layer").loc["a", "reason"]
    assert "it normalises over other axes than the last" in reason


def test_over_several_axes():
    model = keras.Sequential(
        [keras.Input((5, 3)), L.Dense(8, name="a"), L.RMSNormalization(axis=[1, 2]), L.Dense(2)]
    )
    small = pruned(model)
    assert small.get_layer("a").units == 4
    assert_same(model, small, noise(4, 5, 3), 2e-6)


def test_a_norm_that_is_shared():
    x, norm = keras.Input((6,)), L.RMSNormalization(name="norm")
    h = norm(L.Dense(8, name="a")(x))
    h = norm(L.Dense(8, name="b")(h))
    model = keras.Model(x, L.Dense(2)(h))
    small = pruned(model)
    assert small.get_layer("a").units == small.get_layer("b").units == 4
    assert_same(model, small, noise(4, 6), 2e-6)


def decoder(width=8, blocks=2):
    """A transformer whose residual stream is RMS-normalised."""
    tokens = keras.Input((7,), dtype="int32")
    x = L.Embedding(20, width, name="words")(tokens)
    for _ in range(blocks):
        y = L.RMSNormalization()(x)
        x = L.Add()([x, L.MultiHeadAttention(4, 3)(y, y, use_causal_mask=True)])
        y = L.RMSNormalization()(x)
        gate, up = L.Dense(16, "silu", use_bias=False)(y), L.Dense(16, use_bias=False)(y)
        x = L.Add()([x, L.Dense(width, use_bias=False)(L.Multiply()([gate, up]))])
    return keras.Model(tokens, L.Dense(20)(L.RMSNormalization()(x)))


def test_the_residual_width_of_a_transformer_shrinks(tmp_path):
    model = decoder()
    small = pruned(model)
    x = np.random.default_rng(0).integers(0, 20, (4, 7))
    assert small.get_layer("words").output_dim == 4
    assert small.count_params() < 0.5 * model.count_params()
    assert_same(model, small, x, 2e-6)
    with pytest.warns(UserWarning, match="no unit can be removed"):
        assert_same(model, ap.compact(small), x, 2e-6)
    small.save(tmp_path / "small.keras")
    assert_same(model, keras.models.load_model(tmp_path / "small.keras"), x, 2e-6)


@pytest.mark.parametrize(("groups", "kept", "left"), [(4, 8, 2), (8, 8, 4), (-1, 8, -1), (2, 8, 1)])
@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False}])
def test_whole_groups_go(groups, kept, left, options):
    norm = L.GroupNormalization(groups, name="norm", **options)
    model = keras.Sequential(
        [keras.Input((6, 6, 3)), L.Conv2D(16, 3, name="a"), norm, L.ReLU(), L.Conv2D(4, 3)]
    )
    small = pruned(model)
    assert small.get_layer("a").filters == kept
    assert small.get_layer("norm").groups == (kept if left == -1 else left)
    assert_same(model, small, noise(3, 6, 6, 3), 2e-6)


def test_constant_groups_are_folded_and_unread_ones_go():
    dense, norm, last = L.Dense(8, name="a"), L.GroupNormalization(4, name="norm"), L.Dense(2)
    model = keras.Sequential([keras.Input((5, 3)), dense, norm, L.ReLU(), last])
    pruned_graphs.randomised(model)
    kernel = keras.ops.convert_to_numpy(dense.kernel).copy()
    kernel[:, [0, 1, 4]] = 0  # a group of two constants, other than zero; and half of one
    dense.kernel.assign(kernel)
    kernel = keras.ops.convert_to_numpy(last.kernel).copy()
    kernel[[6, 7]] = 0
    last.kernel.assign(kernel)
    small = ap.compact(model)
    assert small.get_layer("a").units == 4
    assert small.get_layer("norm").groups == 2
    assert_same(model, small, noise(4, 5, 3), 2e-6)


@pytest.mark.parametrize("norm", [L.LayerNormalization, lambda **k: L.GroupNormalization(1, **k)])
def test_a_mean_over_all_channels_keeps_them(norm):
    model = keras.Sequential(
        [keras.Input((3,)), L.Dense(6, name="a"), norm(name="norm"), L.Dense(2)]
    )
    pruned_graphs.randomised(model)
    silenced(model.get_layer("a"), [1])
    row = ap.removable(model).set_index("layer").loc["a"]
    assert row[["removed", "left"]].tolist() == [0, 1]
    assert "'norm' normalises over all channels" in row["reason"]
