"""Convolutions in groups: whole groups go, or as many filters of each."""

import keras
import numpy as np
import pruned_graphs
import pytest
from compacted import assert_same, noise
from keras import layers as L

import activation_pruning as ap

pytestmark = pytest.mark.backend


def network(*made, inputs=8, shape=(7, 7, 3)):
    first = L.Conv2D(inputs, 1, activation="relu", name="first")
    last = L.Conv2D(4, 3, name="last")
    return pruned_graphs.randomised(keras.Sequential([keras.Input(shape), first, *made, last]))


def pruned(model, share=0.5):
    ap.prune(model, share, allocation="uniform", granularity="unit")
    table = ap.removable(model)
    assert (table["left"] == 0).all(), table.to_string()
    return ap.compact(model)


# inputs, filters, groups; then those of the compacted layer
CASES = [(8, 8, 4, 4, 4, 2), (8, 8, 2, 4, 4, 2), (8, 16, 4, 4, 8, 2), (12, 24, 2, 6, 12, 2)]


@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"padding": "same"}])
@pytest.mark.parametrize("case", CASES)
def test_what_is_pruned_goes(case, options):
    inputs, filters, groups, *left = case
    grouped = L.Conv2D(filters, 3, groups=groups, activation="relu", name="grouped", **options)
    model = network(grouped, inputs=inputs)
    small = pruned(model)
    one = small.get_layer("grouped")
    assert [small.get_layer("first").filters, one.filters, one.groups] == left
    assert one.kernel.shape[-2] == left[0] // left[2]
    assert_same(model, small, noise(3, 7, 7, 3), 2e-6)
    assert not ap.removable(small)["removed"].any()


def test_a_depthwise_convolution_written_in_groups():
    norm = L.BatchNormalization()
    model = network(L.Conv2D(8, 3, groups=8, name="grouped"), norm, L.ReLU())
    small = pruned(model)
    assert small.get_layer("grouped").groups == small.get_layer("first").filters == 4
    assert_same(model, small, noise(3, 7, 7, 3), 2e-6)
    twice = network(L.Conv2D(16, 3, groups=8, name="grouped"))
    small = pruned(twice)
    assert (small.get_layer("grouped").groups, small.get_layer("grouped").filters) == (4, 8)
    assert_same(twice, small, noise(3, 7, 7, 3), 2e-6)


@pytest.mark.parametrize("groups", [2, 4])
def test_constants_are_folded_group_by_group(groups):
    """Dead inputs have biases; no filter of another group may get any of them."""
    model = network(L.Conv2D(8, 3, groups=groups, name="grouped"))
    gone = [0, 4] if groups == 2 else [2, 3]
    kernel = keras.ops.convert_to_numpy(model.get_layer("first").kernel).copy()
    kernel[..., gone] = 0
    model.get_layer("first").kernel.assign(kernel)
    model.get_layer("first").bias.assign(np.linspace(0.5, 1, 8))
    if groups == 4:  # inputs go with their group
        kernel = keras.ops.convert_to_numpy(model.get_layer("last").kernel).copy()
        kernel[..., gone, :] = 0
        model.get_layer("last").kernel.assign(kernel)
    small = ap.compact(model)
    assert small.get_layer("first").filters == 6
    assert_same(model, small, noise(3, 7, 7, 3), 2e-6)


def test_unequal_groups_stay():
    model = network(L.Conv2D(8, 3, groups=2, name="grouped"))
    kernel = keras.ops.convert_to_numpy(model.get_layer("grouped").kernel).copy()
    kernel[..., 1] = 0  # of the first group only
    model.get_layer("grouped").kernel.assign(kernel)
    row = ap.removable(model).set_index("layer").loc["grouped"]
    assert row[["removed", "left"]].tolist() == [0, 1]
    assert row["reason"] == "they meet others that vary before 'last'"


def test_inputs_of_the_model_hold_no_filters_of_other_places():
    model = keras.Sequential(
        [keras.Input((6, 6, 4)), L.Conv2D(8, 3, groups=2, name="x"), L.Conv2D(2, 1)]
    )
    small = pruned(pruned_graphs.randomised(model))
    assert small.get_layer("x").filters == 4
    assert_same(model, small, noise(3, 6, 6, 4), 2e-6)


def resnext(width=16, groups=8):
    x = inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(width, 3, padding="same")(x)
    for _ in range(2):
        y = L.ReLU()(L.BatchNormalization()(L.Conv2D(width, 1, use_bias=False)(x)))
        y = L.Conv2D(width, 3, padding="same", groups=groups, use_bias=False)(y)
        y = L.ReLU()(L.BatchNormalization()(y))
        x = L.Add()([x, L.Conv2D(width, 1)(y)])
    return keras.Model(inputs, L.Dense(4)(L.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("groups", [2, 4, 8, 16])
def test_a_resnext(groups, tmp_path):
    model = pruned_graphs.randomised(resnext(groups=groups))
    small = pruned(model)
    assert small.count_params() < 0.45 * model.count_params()
    x = noise(3, 8, 8, 3)
    assert_same(model, small, x, 2e-6)
    small.save(tmp_path / "small.keras")
    assert_same(model, keras.models.load_model(tmp_path / "small.keras"), x, 2e-6)


@pytest.mark.parametrize("kind", [L.Conv1D, L.Conv3D])
def test_other_ranks(kind):
    shape = {L.Conv1D: (6, 3), L.Conv3D: (4, 4, 4, 3)}[kind]
    layers = [kind(8, 1), kind(8, 2, groups=4, name="grouped"), kind(2, 1)]
    model = pruned_graphs.randomised(keras.Sequential([keras.Input(shape), *layers]))
    small = pruned(model)
    assert small.get_layer("grouped").groups == 2
    assert_same(model, small, noise(3, *shape), 2e-6)
