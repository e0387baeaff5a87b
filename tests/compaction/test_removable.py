"""The table of what can go, row by row."""

import keras

import activation_pruning as ap


def kill(layer, *units):
    """Zero what enters these units, and what is added to them."""
    kernel, bias = layer.get_weights()
    kernel[..., units] = 0
    bias[list(units)] = 0
    layer.set_weights([kernel, bias])


def rows(model):
    return [tuple(row) for row in ap.removable(model).itertuples(index=False)]


def test_layers_inside_models_are_named_by_their_path():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a")], name="inner")
    middle = keras.Sequential([keras.Input((4,)), inner], name="middle")
    model = keras.Sequential([keras.Input((4,)), middle, keras.layers.Dense(2, name="b")])
    kill(inner.layers[0], 1)
    assert rows(model) == [
        ("middle/inner/a", "units", 3, 1, 1, 0, "", ""),
        ("b", "units", 2, 0, 0, 0, "", ""),
    ]


def test_what_stays_has_its_reason():
    inputs = keras.Input((8, 8, 1))
    conv = keras.layers.Conv2D(4, 3, name="conv")
    same = keras.layers.Conv2D(2, 3, padding="same", name="same")
    out = keras.layers.Dense(3, name="out")
    x = same(conv(inputs))
    model = keras.Model(inputs, out(keras.layers.Flatten()(x)))
    kill(conv, 0, 2)
    conv.bias.assign([0.0, 0.0, 1.5, 0.0])  # what is constant, but not zero, differs at borders
    kill(out, 1)
    first, second, last = rows(model)
    assert first[:6] == ("conv", "filters", 4, 2, 1, 1)
    assert first[6] == (
        "'same' takes no constants but zeros into its bias: sums differ at its borders"
    )
    assert first[7] == "prune them with their biases: ap.prune(..., granularity='unit') does"
    assert second == ("same", "filters", 2, 0, 0, 0, "", "")
    assert last[:6] == ("out", "units", 3, 1, 0, 1)
    assert "output" in last[6]
    assert last[7] == "leave the layer out of unit pruning: exclude='out'"
