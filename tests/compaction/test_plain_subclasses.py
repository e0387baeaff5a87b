"""Classes of users' own that add nothing to Keras's, or look like something that Keras has."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import activation_pruning as ap

pytestmark = pytest.mark.backend


@keras.saving.register_keras_serializable()
class OwnLSTM(L.LSTM):
    pass


class OwnConvLSTM(L.ConvLSTM1D):
    pass


class OwnTimeDistributed(L.TimeDistributed):
    pass


class OwnBidirectional(L.Bidirectional):
    pass


class Rms(L.Layer):
    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), initializer="random_normal")

    def call(self, x):
        return x / ops.sqrt(ops.mean(ops.square(x), -1, keepdims=True) + 1e-6) * self.gain


class RmsOfOne(Rms):
    def __init__(self, variance_epsilon=1e-2, **kwargs):
        super().__init__(**kwargs)
        self.variance_epsilon = variance_epsilon

    def call(self, x):
        mean = ops.mean(ops.square(x), -1, keepdims=True)
        return x * ops.rsqrt(mean + self.variance_epsilon) * (1 + self.gain)


class BeyondTwenty(L.Layer):
    """Channels depend on each other only where they are large."""

    def call(self, x):
        return x + ops.relu(ops.sum(x, -1, keepdims=True) - 20)


class ClippedByNorm(L.Layer):
    def call(self, x):
        return x * ops.minimum(1.0, 20.0 / (ops.norm(x, axis=-1, keepdims=True) + 1e-6))


class Film(L.Layer):
    def build(self, shapes):
        self.gain = self.add_weight(shape=(shapes[0][-1],))

    def call(self, both):
        return both[0] * self.gain + both[1]


def stack(shape, *layers):
    return keras.Sequential([keras.Input(shape), *layers, L.Dense(2)])


def averaged_words():
    words = keras.Input((6,), dtype="int32")
    x = L.Embedding(20, 8, mask_zero=True)(words)
    x = L.GlobalAveragePooling1D()(L.MultiHeadAttention(2, 4)(x, x))
    return keras.Model(words, L.Dense(2)(L.Dense(8, "relu")(x)))


GO = {  # {case: (model, share of the parameters that is left at most)}
    "lstm": (lambda: stack((6, 5), OwnLSTM(8)), 0.4),
    "each step": (lambda: stack((6, 5), OwnTimeDistributed(L.Dense(8))), 0.6),
    "both ways": (lambda: stack((6, 5), OwnBidirectional(OwnLSTM(8))), 0.4),
    "images": (lambda: stack((3, 6, 2), OwnConvLSTM(4, 3), L.Flatten()), 0.4),
    "images both ways": (
        lambda: stack((3, 6, 2), L.Bidirectional(L.ConvLSTM1D(4, 3, padding="same")), L.Flatten()),
        0.4,
    ),
    "norm": (lambda: stack((5,), L.Dense(8), Rms()), 0.6),
    "norm of one": (lambda: stack((5,), L.Dense(8), RmsOfOne()), 0.6),
    "words": (averaged_words, 0.3),
}
STAY = {
    "beyond twenty": lambda: stack((5,), L.Dense(8, "relu"), BeyondTwenty()),
    "clipped": lambda: stack((5,), L.Dense(8, "relu"), ClippedByNorm()),
}


def inputs(model):
    generator = np.random.default_rng(0)
    if model.inputs[0].dtype == "int32":
        return generator.integers(0, 20, (16, 6))
    return 20 * generator.normal(size=(16, *model.input_shape[1:])).astype("float32")


def compacted(make):
    """(model with half of its units pruned, smaller one, largest difference of their outputs)."""
    keras.utils.set_random_seed(0)
    model = make()
    ap.prune(model, 0.5, granularity="unit")
    small = ap.compact(model)
    x = inputs(model)
    gap = np.abs(model.predict(x, verbose=0) - small.predict(x, verbose=0)).max()
    return model, small, gap / max(np.abs(model.predict(x, verbose=0)).max(), 1.0)


@pytest.mark.parametrize("case", GO)
def test_units_go(case):
    make, share = GO[case]
    model, small, gap = compacted(make)
    assert gap < 1e-5
    assert small.count_params() <= share * model.count_params()


@pytest.mark.parametrize("case", STAY)
@pytest.mark.filterwarnings("ignore:compact. no unit can be removed")
def test_what_mixes_large_numbers_only_is_not_taken_for_one_that_does_not(case):
    model, small, gap = compacted(STAY[case])
    assert gap < 1e-6
    assert small.count_params() == model.count_params()


def test_of_several_inputs_the_remedy_is_a_rule():
    x = keras.Input((6,))
    model = keras.Model(x, L.Dense(2)(Film()([L.Dense(8)(x), L.Dense(8)(x)])))
    ap.prune(model, 0.5, granularity="unit")
    assert any("channels.register(Film, rule)" in text for text in ap.removable(model)["remedy"])


def test_a_model_without_a_graph_says_that_no_unit_can_leave():
    class Asks(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.last = L.Dense(8), L.Dense(2)

        def call(self, x):
            h = self.first(x)
            if float(ops.convert_to_numpy(ops.max(h))) > 0:
                h = h * 2
            return self.last(h)

    model = Asks()
    model(np.ones((2, 4), "float32"))
    assert "ap.compact can take none out" in ap.prune(model, 0.5, granularity="unit").notes


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: ap.sites.Kernel(3), "attribute=3; give the name of a weight"),
        (lambda: ap.sites.Kernel("kernel", unit_axes=1), "unit_axes=1; give a tuple of integers"),
        (lambda: ap.sites.Kernel("kernel", unit_axes=()), r"unit_axes=\(\); give at least one"),
        (lambda: ap.sites.Kernel("kernel", input_axis="x"), "input_axis="),
        (lambda: ap.sites.Kernel("kernel", copies=0), "copies"),
        (lambda: ap.channels.register(Film, print, masks=3), "masks=3; give names of arguments"),
    ],
)
def test_bad_descriptions_are_refused(make, told):
    with pytest.raises((TypeError, ValueError), match=told):
        make()


def test_a_rule_that_fails_names_its_layer():
    class Odd(L.Layer):
        def call(self, x):
            return x

    def rule(call):
        return {}["a"]

    ap.channels.register(Odd, rule)
    model = stack((5,), L.Dense(4), Odd(name="odd"))
    with pytest.raises(ValueError, match=r"registered for Odd fails at 'odd'.*KeyError"):
        ap.removable(model)
