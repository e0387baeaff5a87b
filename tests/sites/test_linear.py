"""A layer as one matrix product: X K + b is what the layer computes before its activation."""

import keras
import numpy as np
import pytest
from keras import layers

from activation_pruning import sites
from activation_pruning.evidence import inputs
from activation_pruning.sites import linear

pytestmark = [pytest.mark.backend, pytest.mark.lowest]

LAYERS = {
    "dense": (layers.Dense(4), (5,)),
    "dense_sequence": (layers.Dense(4), (3, 5)),
    "one_unit": (layers.Dense(1), (5,)),
    "one_input": (layers.Dense(3), (1,)),
    "einsum": (layers.EinsumDense("abc,cd->abd", (3, 4), bias_axes="d"), (3, 5)),
    "einsum_heads": (layers.EinsumDense("abc,cde->abde", (None, 2, 3)), (4, 5)),
    "einsum_from_heads": (layers.EinsumDense("abcd,cde->abe", (None, 6)), (4, 2, 3)),
    "einsum_ellipsis": (layers.EinsumDense("...x,xy->...y", 4), (2, 3, 5)),
    "einsum_middle": (layers.EinsumDense("abc,bd->adc", (4, 5)), (3, 5)),
    "conv1d": (layers.Conv1D(4, 3, strides=2, padding="same"), (9, 2)),
    "causal": (layers.Conv1D(4, 3, dilation_rate=2, padding="causal"), (9, 2)),
    "conv2d": (layers.Conv2D(4, (3, 2), padding="same"), (6, 7, 2)),
    "strides": (layers.Conv2D(4, 3, strides=2, padding="same"), (6, 7, 2)),
    "dilation": (layers.Conv2D(4, (2, 3), dilation_rate=(2, 1)), (6, 7, 2)),
    "one_channel": (layers.Conv2D(1, 3), (6, 7, 1)),
    "conv3d": (layers.Conv3D(2, 2, strides=(1, 2, 1)), (4, 5, 3, 2)),
    "groups": (layers.Conv2D(6, 3, groups=2, padding="same"), (5, 5, 4)),
    "depthwise": (layers.DepthwiseConv2D(3, strides=2, padding="same"), (7, 7, 3)),
    "multiplier": (layers.DepthwiseConv2D(2, depth_multiplier=2), (5, 5, 3)),
    "depthwise1d": (layers.DepthwiseConv1D(3, depth_multiplier=2), (7, 3)),
}


def built(kind, samples=7):
    """(live site, inputs, outputs without activation) of one layer of seeded weights."""
    layer, shape = LAYERS[kind]
    layer = type(layer).from_config(layer.get_config())
    x = np.random.default_rng(1).normal(size=(samples, *shape)).astype("float32")
    model = keras.Sequential([keras.Input(shape), layer])
    generator = np.random.default_rng(2)
    layer.set_weights([generator.normal(size=w.shape) for w in layer.get_weights()])
    y = keras.ops.convert_to_numpy(model(x))
    return model, sites.find(model, exclude=()).sites[0], x, y


@pytest.mark.parametrize("kind", LAYERS)
def test_rows_times_kernel_is_the_output(kind, monkeypatch):
    model, site, x, y = built(kind)
    monkeypatch.setattr(linear, "_ROOM", 1)  # a sample at a time
    one = linear.Linear(site)
    parts = list(one.rows(x))
    assert len(parts) == len(x)
    rows = np.concatenate(parts, axis=1)
    products = np.einsum("bri,bui->rbu", rows, one.unfolding.by_unit(site.kernel()))
    bias = model.layers[0].get_weights()[1:]
    expected = one.columns(y - (bias[0] if bias and kind != "einsum_middle" else 0))
    np.testing.assert_allclose(products, expected.swapaxes(0, 1), atol=2e-5)


@pytest.mark.parametrize("kind", LAYERS)
def test_matrices_by_unit_fold_back(kind):
    _, site, _, _ = built(kind)
    found = linear.Linear(site).unfolding
    np.testing.assert_array_equal(found.from_units(found.by_unit(site.kernel())), site.kernel())


@pytest.mark.parametrize("kind", LAYERS)
def test_norms_and_hessians_are_those_of_the_rows(kind):
    model, site, x, _ = built(kind)
    one = linear.Linear(site)
    rows = np.concatenate(list(one.rows(x)), axis=1).astype("float64")
    found = inputs.gather(model, [site], x, (inputs.NORM, inputs.HESSIAN), batch_size=3)[site.name]
    hessian = found["input_hessian"]
    assert hessian.rows == rows.shape[1]
    expected = np.einsum("bri,brj->bij", rows, rows) / rows.shape[1]
    np.testing.assert_allclose(hessian.hessian, expected, atol=1e-5)
    norms = one.unfolding.by_unit(found["input_norm"])
    for unit in range(norms.shape[1]):
        np.testing.assert_allclose(norms[:, unit], np.sqrt((rows**2).sum(1)), rtol=1e-5)
    alone = inputs.gather(model, [site], x, ["input_norm"])[site.name]
    np.testing.assert_allclose(alone["input_norm"], found["input_norm"], rtol=1e-5)


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="needs channels_first on CPU")
def test_channels_first():
    layer = layers.Conv2D(4, 3, padding="same", data_format="channels_first")
    model = keras.Sequential([keras.Input((2, 6, 7)), layer])
    x = np.random.default_rng(1).normal(size=(3, 2, 6, 7)).astype("float32")
    site = sites.find(model, exclude=()).sites[0]
    one = linear.Linear(site)
    rows = np.concatenate(list(one.rows(x)), axis=1)
    products = (rows[0] @ one.unfolding.by_unit(site.kernel())[0].T).reshape(3, 6, 7, 4)
    y = keras.ops.convert_to_numpy(model(x)).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(products, y, atol=2e-5)


def test_inputs_are_seen_wherever_the_layer_is():
    inner = keras.Sequential([keras.Input((5,)), layers.Dense(4, "relu", name="a")], name="inner")
    shared = layers.Dense(3, name="both")
    first = keras.Input((5,))
    steps = keras.Input((2, 5))
    spread = layers.TimeDistributed(layers.Dense(2, name="step"))(steps)
    joined = layers.Concatenate()(
        [shared(first), shared(inner(first) @ np.ones((4, 5), "float32")), layers.Flatten()(spread)]
    )
    model = keras.Model([first, steps], joined)
    x = [np.ones((6, 5), "float32"), np.full((6, 2, 5), 2.0, "float32")]
    live = sites.find(model, exclude=()).sites
    found = inputs.gather(model, live, x, ["input_norm", "input_hessian"])
    by_end = {name.split("/")[-2]: own for name, own in found.items()}
    assert by_end["both"]["input_hessian"].rows == 12  # called twice
    assert by_end["step"]["input_hessian"].rows == 12  # two steps
    np.testing.assert_allclose(by_end["a"]["input_norm"], np.sqrt(6.0), rtol=1e-6)
    np.testing.assert_allclose(by_end["step"]["input_norm"], np.sqrt(48.0), rtol=1e-6)
    assert all("call" not in vars(layer) for layer in (inner.layers[0], shared))


def test_hooks_are_gone_after_an_error():
    model, site, _, _ = built("dense")
    width = site.variable.shape[0]
    batches = [np.ones((3, width)), np.ones((3, width - 1))]
    with pytest.raises(ValueError, match="where the model takes"):
        inputs.gather(model, [site], batches, ["input_norm"])
    assert "call" not in vars(site.layer)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.LSTM(2), (3, 4)),
        (layers.SeparableConv2D(2, 3), (5, 5, 3)),
        (layers.Conv2DTranspose(2, 3), (5, 5, 3)),
        (layers.EinsumDense("abc,bcd->abd", (3, 4)), (3, 5)),
    ],
)
def test_layers_that_are_no_such_product_are_named(layer, shape):
    model = keras.Sequential([keras.Input(shape), layer])
    site = sites.find(model, exclude=()).sites[0]
    with pytest.raises(ValueError, match=f"{site.name}: the inputs of {type(layer).__name__}"):
        linear.Linear(site)


def test_a_subclass_with_a_call_of_its_own_is_named():
    class Doubled(layers.Dense):
        def call(self, x):
            return 2 * super().call(x)

    model = keras.Sequential([keras.Input((3,)), Doubled(2)])
    with pytest.raises(ValueError, match="has a `call` of its own"):
        linear.Linear(sites.find(model, exclude=()).sites[0])


def test_bad_data():
    model, site, x, _ = built("dense")
    with pytest.raises(ValueError, match="data is empty"):
        inputs.gather(model, [site], x[:0], ["input_norm"])
    x[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        inputs.gather(model, [site], x, ["input_norm"])
