"""Heads of Keras's attention layers leave the model whole, and its outputs stay the same."""

import inspect

import keras
import numpy as np
import pruned_graphs
import pytest
from compacted import assert_same, noise
from keras import layers as L

import activation_pruning as ap

pytestmark = pytest.mark.backend

STEPS, WIDTH, SIZE = 5, 8, 3


def grouped(query_heads=6, key_heads=3, **settings):
    """A residual block around grouped-query attention, and what reads it."""
    x = keras.Input((STEPS, WIDTH))
    h = L.Dense(WIDTH, name="before")(x)
    own = L.GroupQueryAttention(SIZE, query_heads, key_heads, name="attention", **settings)
    model = keras.Model(x, L.Dense(2)(L.Add()([h, own(h, h, use_causal_mask=True)])))
    return pruned_graphs.randomised(model)


def part(model, name, layer="attention"):
    """A projection inside the attention."""
    inside = model.get_layer(layer)
    return next(one for one in inside._flatten_layers() if one.name == name)


def silence(model, name, *heads, layer="attention"):
    """Zero the weights of heads of one projection, and their biases."""
    dense = part(model, name, layer)
    kernel, *bias = dense.get_weights()
    kernel[:, heads] = 0
    for own in bias:
        own[list(heads)] = 0
    dense.set_weights([kernel, *bias])


def sizes(model):
    attention = model.get_layer("attention")
    return attention.num_query_heads, attention.num_key_value_heads


@pytest.mark.parametrize("use_bias", [True, False])
def test_a_group_goes_with_its_query_heads(use_bias, tmp_path):
    model = grouped(use_bias=use_bias)
    silence(model, "value", 1)
    small = ap.compact(model)
    assert sizes(small) == (4, 2)
    assert_same(model, small, noise(4, STEPS, WIDTH), 1e-6)
    # Query heads 2 and 3 read the key and value that went.
    expected = np.delete(keras.ops.convert_to_numpy(part(model, "query").kernel), [2, 3], axis=1)
    found = keras.ops.convert_to_numpy(part(small, "query").kernel)
    np.testing.assert_array_equal(found, expected)
    small.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert_same(small, again, noise(4, STEPS, WIDTH), 1e-6)


def test_half_of_the_groups_go_in_one_event():
    model = grouped(query_heads=8, key_heads=4)
    ap.prune(model, 0.5, "magnitude", granularity="unit", allocation="uniform")
    small = ap.compact(model)
    assert sizes(small) == (4, 2)
    assert_same(model, small, noise(4, STEPS, WIDTH), 1e-5)


@pytest.mark.parametrize("dead", ["query", "key"])
def test_a_group_whose_values_speak_stays(dead):
    model = grouped()
    silence(model, dead, 0, 1)
    with pytest.warns(UserWarning, match="no unit can be removed"):
        small = ap.compact(model)
    assert sizes(small) == (6, 3)
    assert_same(model, small, noise(4, STEPS, WIDTH), 1e-6)


def test_query_heads_that_share_one_key_go_by_themselves():
    model = grouped(query_heads=4, key_heads=1)
    dense = part(model, "attention_output")
    kernel, bias = dense.get_weights()
    kernel[[0, 2]] = 0  # nobody reads these two heads
    dense.set_weights([kernel, bias])
    small = ap.compact(model)
    assert sizes(small) == (2, 1)
    assert_same(model, small, noise(4, STEPS, WIDTH), 1e-6)


def test_what_goes_from_the_query_goes_from_the_output():
    """The layer makes as many outputs as its query has channels, and wants as many values."""
    x = keras.Input((STEPS, WIDTH))
    h, other = L.Dense(6, name="before")(x), L.Dense(6, name="other")(x)
    y = L.GroupQueryAttention(SIZE, 4, 2, name="attention")(h, other)
    model = pruned_graphs.randomised(keras.Model(x, L.Dense(2)(y)))
    for name in ("before", "other"):
        kernel, bias = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([kernel * [1, 1, 1, 0, 0, 1], bias * 0])
    with pytest.warns(UserWarning, match="no unit can be removed"):
        assert_same(model, ap.compact(model), noise(4, STEPS, WIDTH), 1e-6)
    output = part(model, "attention_output")
    kernel, bias = output.get_weights()
    output.set_weights([kernel * [1, 1, 1, 0, 0, 1], bias * [1, 1, 1, 0, 0, 1]])
    small = ap.compact(model)
    assert small.get_layer("before").units == small.get_layer("other").units == 4
    assert_same(model, small, noise(4, STEPS, WIDTH), 1e-6)


@pytest.mark.parametrize("kind", [L.MultiHeadAttention, L.GroupQueryAttention])
def test_the_gate_of_a_head_goes_with_it(kind):
    if "use_gate" not in inspect.signature(kind.__init__).parameters:
        pytest.skip("Keras 3.13 brought gates")
    x = keras.Input((STEPS, WIDTH))
    heads = (4, SIZE) if kind is L.MultiHeadAttention else (SIZE, 4, 4)
    y = kind(*heads, use_gate=True, name="attention")(x, x)
    model = pruned_graphs.randomised(keras.Model(x, L.Dense(2)(y)))
    silence(model, "value", 0, 3)
    small = ap.compact(model)
    assert part(small, "gate").kernel.shape[1] == 2
    assert_same(model, small, noise(4, STEPS, WIDTH), 1e-6)
    rows = ap.removable(model).query("kind == 'heads'")
    assert rows[["layer", "removed"]].values.tolist() == [["attention", 2]]
