"""A contract for copies: equal outputs or a refusal by name; the model is left as it was."""

import awkward
import keras
import numpy as np
import pytest

import activation_pruning as ap
from activation_pruning.graph import copies

pytestmark = pytest.mark.backend

WAYS = {
    "copy": copies.copy_model,
    "compact": ap.compact,
    "wrap": lambda model: ap.wrap(model, exclude=()),
    "strip": lambda model: ap.strip(ap.wrap(model, exclude=())),
    "low_rank": lambda model: ap.analysis.low_rank(model, {}, exclude=()),
    "factorize": lambda model: ap.analysis.factorize(model, {}, exclude=()),
}


def outputs(model, x):
    return [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(model(x, training=False))]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", awkward.MODELS, ids=lambda make: make.__name__)
def test_a_copy_is_equal_and_lives_alone(make, way):
    keras.utils.set_random_seed(0)
    model, x = make()
    wanted = outputs(model, x)
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables]  # seeds as well
    copy = WAYS[way](model)
    assert len(copy.trainable_weights) == len(model.trainable_weights)  # ties are kept
    assert not {id(v) for v in copy.variables} & {id(v) for v in model.variables}
    if make is not awkward.stateful:  # calls move its states
        for found, expected in zip(outputs(copy, x), wanted, strict=True):
            np.testing.assert_array_equal(found, expected)
    if make is awkward.stateful and keras.backend.backend() == "torch":
        return  # Keras does not train these there
    copy.compile("sgd", "mse")
    copy.fit(x, np.zeros((5, *copy.output_shape[1:])), batch_size=5, verbose=0)
    if make is not awkward.stateful:
        assert any((a != b).any() for a, b in zip(outputs(copy, x), wanted, strict=True))
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(variable))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", awkward.MODELS, ids=lambda make: make.__name__)
def test_pruned_units_leave_with_the_same_outputs(make):
    keras.utils.set_random_seed(0)
    model, x = make()
    if make is awkward.stateful:
        pytest.skip("calls move its states")
    ap.prune(model, 0.5, granularity="unit", exclude=())
    before, wanted = model.get_weights(), outputs(model, x)
    small = ap.compact(model)
    for found, expected in zip(outputs(small, x), wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert small.count_params() <= model.count_params()
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_tie_is_named_where_it_holds_units_back():
    model, _ = awkward.tied_autoencoder()
    ap.prune(model, 0.5, granularity="unit", exclude=())
    row = ap.removable(model).set_index("layer").loc["encoder"]
    assert (row["constant"], row["removed"]) == (2, 0)
    assert "'encoder', 'decoder' share weights" in row["reason"]


def test_layers_that_share_weights_are_not_wrapped_and_named():
    model, _ = awkward.tied_autoencoder()
    told = r"not wrapped: \['encoder', 'decoder'\]: the layers 'encoder', 'decoder' share weights"
    with pytest.warns(UserWarning, match=told):
        wrapped = ap.wrap(model, exclude=())
    assert wrapped.count_params() == model.count_params() == 6 * 4 + 4 + 6
    kernels = [v for v in wrapped.variables if tuple(v.shape) == (6, 4)]
    assert len(kernels) == 1


def test_strip_refuses_a_mask_that_others_do_not_have():
    inputs = keras.Input((6,))
    dense = keras.layers.Dense(4, name="encoder")
    pruned = ap.PrunedLayer(dense, name="pruned")
    hidden = pruned(inputs)
    model = keras.Model(inputs, awkward.DenseTranspose(dense, name="decoder")(hidden))
    assert ap.strip(model).count_params() == 6 * 4 + 4 + 6
    pruned.mask_of(dense.kernel).assign(np.arange(24).reshape(6, 4) > 3)
    with pytest.raises(ValueError, match=r"the mask of 'pruned' .* \['decoder'\] use the same"):
        ap.strip(model)


def test_a_copy_that_nothing_can_make_is_refused_by_name():
    class Circle(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.box = [keras.layers.Dense(2)]
            self.ring = awkward.Toolbox(self.box[0], 1.0)
            self.ring.scale = self.ring

        def call(self, x):
            return x

    model = keras.Sequential([keras.Input((3,)), Circle(name="circle")])
    with pytest.raises(TypeError, match="cannot be copied: it holds itself"):
        copies.copy_model(model)


def test_configurations_serve_where_types_change():
    """float32 and other sizes need a configuration; functions are those of the layer."""
    scale = 3.0
    double = keras.layers.Dense(3, lambda x: scale * x, dtype="float64", name="double")
    double.build((None, 2))
    single = copies.copy_in_float32(double)
    assert single.activation is double.activation
    assert single.dtype == "float32"
    block = awkward.Block(keras.layers.Dense(2), keras.ops.tanh, 1.0, name="block", dtype="float64")
    with pytest.raises((TypeError, NotImplementedError), match="Block"):
        copies.copy_in_float32(block)
