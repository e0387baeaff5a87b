"""Layers of users' own, with rules that they have registered: compacted exactly."""

import keras
import numpy as np
import pruned_graphs
import pytest
from compacted import assert_same, noise
from keras import layers as L

import activation_pruning as ap
from activation_pruning import sites
from activation_pruning.graph import known
from activation_pruning.sites import kernels

pytestmark = pytest.mark.backend


class Scale(L.Layer):
    """A factor for each channel, as in LayerScale."""

    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x):
        return self.factor * x


class Own(L.Layer):
    """A Dense that somebody wrote, with its kernel the other way round."""

    def __init__(self, width, activation=None, use_bias=True, **kwargs):
        super().__init__(**kwargs)
        self.width, self.use_bias = width, use_bias
        self.activation = keras.activations.get(activation)

    def build(self, shape):
        self.kernel = self.add_weight(shape=(self.width, shape[-1]), name="kernel")
        self.bias = self.add_weight(shape=(self.width,), name="bias") if self.use_bias else None

    def call(self, x):
        x = keras.ops.matmul(x, keras.ops.transpose(self.kernel))
        return self.activation(x if self.bias is None else x + self.bias)

    def get_config(self):
        own = {"width": self.width, "activation": self.activation, "use_bias": self.use_bias}
        return {**super().get_config(), **own}


class Both(L.Layer):
    """A composite layer with two outputs, which would be taken apart if it had no rule."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.relu = L.ReLU()

    def call(self, x, gate=None):
        return self.relu(x), keras.ops.negative(x)


def scaled(call):
    x = call.along()
    factor = call.entries(call.layer.factor, x)
    return x.to(call.shape, value=np.where(factor == 0, 0, factor * x.value))


def own(call):
    return ap.channels.mixed(call, inputs=1, units=0, size="width")


def both(call):
    return [call.x.to(shape).varying() for shape in call.shapes]


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(kernels, "_REGISTRY", dict(kernels._REGISTRY))
    sites.register(Own, sites.Kernel("kernel", (0,), 1))
    ap.channels.register(Own, own)
    ap.channels.register(Scale, scaled)
    yield
    for kind in (Own, Scale, Both):
        known.RULES.pop(kind, None)
        known.REGISTERED.discard(kind)


def pruned(*layers, shape=(8,)):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(shape), *layers])
    pruned_graphs.randomised(model)
    ap.prune(model, 0.5, granularity="unit", allocation="uniform")
    return model


def test_a_factor_for_each_channel_goes_with_it():
    model = pruned(L.Dense(6, "relu"), Scale(), L.Dense(4), Scale(), L.Dense(2))
    small = ap.compact(model)
    assert [tuple(one.shape) for one in small.weights] == [
        (8, 3), (3,), (3,), (3, 2), (2,), (2,), (2, 2), (2,)
    ]  # fmt: skip
    assert_same(model, small, noise(5, 8), 1e-5)


def test_a_factor_of_zero_makes_a_constant():
    model = pruned_graphs.randomised(
        keras.Sequential([keras.Input((8,)), L.Dense(6), Scale(), L.Dense(2)])
    )
    model.layers[1].factor.assign([1, 0, 1, 1, 0, 1])
    small = ap.compact(model)
    assert small.layers[0].units == 4
    assert_same(model, small, noise(5, 8), 1e-5)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("activation", [None, "relu", "sigmoid"])
def test_a_dense_layer_by_hand(activation, use_bias):
    model = pruned(
        Own(6, activation), L.Dropout(0.5), Own(4, use_bias=use_bias), L.ReLU(), Own(2, "softmax")
    )
    small = ap.compact(model)
    # Half a sigmoid is no zero, and without a bias nothing takes it.
    first = 6 if activation == "sigmoid" and not use_bias else 3
    assert [layer.width for layer in small.layers if isinstance(layer, Own)] == [first, 2, 2]
    assert_same(model, small, noise(5, 8), 1e-5)


def test_they_work_inside_models_that_are_taken_apart():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.scale, self.last = Own(6, "relu", name="first"), Scale(), L.Dense(2)

        def call(self, x):
            return self.last(self.scale(self.first(x)))

    model = Net()
    model(noise(1, 8))
    pruned_graphs.randomised(model)
    ap.prune(model, 0.5, granularity="unit")
    table = ap.removable(model).set_index("layer")
    assert table.loc["first", "removed"] == 3
    assert_same(model, ap.compact(model), noise(5, 8), 1e-5)


def test_a_composite_layer_with_a_rule_stays_whole():
    ap.channels.register(Both, both, masks="gate")
    x = keras.Input((8,))
    some, others = Both(name="both")(L.Dense(6, name="a")(x))
    model = keras.Model(x, L.Dense(2)(L.Concatenate()([some, others])))
    pruned_graphs.randomised(model)
    ap.prune(model, 0.5, granularity="unit")
    assert ap.inline(model).get_layer("both").name == "both"
    assert "they meet others that vary" in ap.removable(model)["reason"][0]


def test_a_rule_that_does_not_say_what_comes_out_is_refused():
    ap.channels.register(Scale, lambda call: [call.x, call.x])
    model = keras.Sequential([keras.Input((3,)), Scale(name="s"), L.Dense(2)])
    with pytest.raises(ValueError, match=r"rule registered for Scale .* outputs of 's'"):
        ap.removable(model)
    ap.channels.register(Scale, lambda call: ap.channels.Channels(call.shape, 1, [1], [0.0]))
    with pytest.raises(ValueError, match="one id and value per channel"):
        ap.compact(model)


def test_what_cannot_be_registered():
    with pytest.raises(TypeError, match="layer_class must be a subclass"):
        ap.channels.register("Scale", scaled)
    with pytest.raises(TypeError, match="rule must be a function"):
        ap.channels.register(Scale, "scaled")


def test_a_rule_may_say_that_it_cannot_tell_and_what_to_do():
    def refuses(call):
        raise ap.channels.NotFollowed("it was in a hurry", "ask again")

    ap.channels.register(Scale, refuses)
    model = pruned(L.Dense(6), Scale(name="s"), L.Dense(2))
    row = ap.removable(model).iloc[0]
    assert (row["reason"], row["remedy"]) == ("'s' (Scale): it was in a hurry", "ask again")
