"""Layers that data or gradients don't reach are left out and named; the others go on."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import activation_pruning as ap

pytestmark = pytest.mark.backend
X = np.random.default_rng(0).normal(size=(48, 4)).astype("float32")
Y = np.arange(48) % 3
PAIR = "no data or gradient reaches"


class TwoHeads(keras.Model):
    """The second head is for other uses: a plain call does not run it."""

    def __init__(self):
        super().__init__()
        self.a = layers.Dense(8, "relu", name="a")
        self.aside = layers.Dense(5, "relu", name="aside")
        self.b = layers.Dense(6, "relu", name="b")
        self.out = layers.Dense(3, name="out")

    def call(self, x, aside=False):
        h = self.b(self.a(x))
        return self.aside(h) if aside else self.out(h)


def two_heads():
    keras.utils.set_random_seed(0)
    model = TwoHeads()
    model(X)
    model(X, aside=True)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def zeros(model, *names):
    kernels = [keras.ops.convert_to_numpy(getattr(model, name).kernel) for name in names]
    return int(sum((kernel == 0).sum() for kernel in kernels))


def told(caught):
    return [str(one.message) for one in caught if PAIR in str(one.message)]


CRITERIA = [
    "activation", "activation_magnitude", "mean_activation", "taylor", "taylor_activation", "wanda",
    "obd", "obd_hutchinson", "grasp", "synflow", "lobs", "sparsegpt",
]  # fmt: skip


@pytest.mark.parametrize("criterion", CRITERIA)
def test_prune(criterion):
    model = two_heads()
    with pytest.warns(UserWarning, match=PAIR) as caught:
        report = ap.prune(model, 0.5, criterion, data=(X, Y), exclude=["out"], verbose=0)
    assert len(told(caught)) == 1
    assert "'aside'" in told(caught)[0]
    assert zeros(model, "aside") == 0
    assert zeros(model, "a", "b") == 40  # half of 4 * 8 + 8 * 6
    assert PAIR in report.table().set_index("layer").loc["aside", "note"]


def test_scores():
    with pytest.warns(UserWarning, match=PAIR):
        found = ap.scores(two_heads(), "taylor_activation", data=(X, Y), exclude=["out"])
    assert [name.split("/")[-2] for name in found] == ["a", "b"]


@pytest.mark.parametrize("criterion", ["activation_magnitude", "movement", "taylor"])
def test_in_a_fit_they_are_named_once(criterion):
    model, data = two_heads(), (X, Y) if criterion == "taylor" else None
    schedule = ap.schedules.Polynomial(0.5, begin=1, end=3)
    pruner = ap.PruningCallback(schedule, criterion, exclude=["out"], data=data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = model.fit(X, Y, epochs=4, verbose=0, callbacks=[pruner])
    assert len(told(caught)) == 1
    assert not [one for one in caught if "before any training step" in str(one.message)]
    assert zeros(model, "aside") == 0
    assert zeros(model, "a", "b") == 40
    assert fit.history["sparsity"][-1] == 0.5
    assert set(pruner.table()["layer"]) == {"a", "b"}


def test_counting_anew_after_each_event_leaves_nothing_out():
    model = two_heads()
    schedule = ap.schedules.Polynomial(0.5, begin=1, end=3)
    pruner = ap.PruningCallback(
        schedule, "activation", exclude=["out", "aside"], reset_counts=True, regrow="set"
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, Y, epochs=4, verbose=0, callbacks=[pruner])
    assert told(caught) == []


def test_a_head_without_a_loss():
    inputs = keras.Input((4,))
    hidden = layers.Dense(6, "relu", name="a")(inputs)
    heads = {name: layers.Dense(3, name=name)(hidden) for name in ("answer", "aside")}
    model = keras.Model(inputs, heads)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", {"answer": loss})
    with pytest.warns(UserWarning, match=PAIR):
        ap.prune(model, 0.5, "taylor", data=(X, {"answer": Y}), exclude=(), verbose=0)
    kernels = [keras.ops.convert_to_numpy(model.get_layer(n).kernel) for n in ("a", "answer")]
    assert np.count_nonzero(keras.ops.convert_to_numpy(model.get_layer("aside").kernel)) == 18
    assert sum((kernel == 0).sum() for kernel in kernels) == 21


def test_where_nothing_is_reached_it_is_an_error():
    model = two_heads()
    with pytest.raises(ValueError, match=r"any of the layers \['aside'\]"):
        ap.prune(model, 0.5, "activation", data=X, include=["aside"], verbose=0)
    assert zeros(model, "aside") == 0


def test_a_generator_loses_nothing_to_the_first_look():
    model, seen = two_heads(), []

    def generator():
        for start in range(0, 48, 16):
            seen.append(start)
            yield X[start : start + 16]

    whole = ap.scores(model, "wanda", data=X, include=["a"], verbose=0)
    found = ap.scores(model, "wanda", data=generator(), include=["a"], verbose=0)
    assert seen == [0, 16, 32]
    for name, values in whole.items():
        np.testing.assert_array_equal(found[name], values)
