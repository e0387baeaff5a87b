"""Data without an end is read as far as it was said, or as far as anyone would wait for."""

import itertools

import keras
import numpy as np
import pytest

import activation_pruning as ap
from activation_pruning.evidence import batches, reading

X = np.arange(20, dtype="float32").reshape(10, 2)
Y = np.arange(10)


def forever():
    for number in itertools.count():
        yield X + number, Y


class Endless(keras.utils.PyDataset):
    """As Keras has them: it does not say how many batches it holds."""

    @property
    def num_batches(self):
        return None

    def __getitem__(self, index):
        return X + index, Y


def _from_generator():
    tf = pytest.importorskip("tensorflow")
    spec = tf.TensorSpec((10, 2), "float32"), tf.TensorSpec((10,), "int64")
    return tf.data.Dataset.from_generator(forever, output_signature=spec)


def _repeated():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(X).batch(10).repeat()


ENDLESS = {"generator": forever, "py_dataset": Endless, "from_generator": _from_generator}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_cap_with_a_message(kind, monkeypatch):
    monkeypatch.setattr(reading, "MOST", 3)
    with pytest.warns(UserWarning, match=r"did not end after 3.*steps="):
        assert len(list(batches.inputs_of(ENDLESS[kind]()))) == 3
    with pytest.warns(UserWarning, match=r"did not end after 3.*steps="):
        assert len(list(batches.pairs_of(ENDLESS[kind]()))) == 3


@pytest.mark.parametrize("kind", [*ENDLESS, "repeated"])
def test_as_many_batches_as_were_asked_for(kind, recwarn):
    data = _repeated() if kind == "repeated" else ENDLESS[kind]()
    assert len(list(batches.inputs_of(reading.first(data, 4)))) == 4
    assert not [one for one in recwarn if "did not end" in str(one.message)]


def test_fewer_batches_than_were_asked_for():
    assert len(list(batches.inputs_of(reading.first([(X, Y), (X, Y)], 4)))) == 2


def test_what_repeats_is_refused_unless_it_is_said_how_often():
    with pytest.raises(ValueError, match=r"repeats without end.*steps=n"):
        list(batches.inputs_of(_repeated()))


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "a"])
def test_bad_steps(steps):
    with pytest.raises(ValueError, match="steps="):
        ap.prune(_model(), 0.5, "activation", data=forever(), steps=steps)


@pytest.mark.parametrize("data", [X, (X, Y), None])
def test_steps_of_what_is_no_batches(data):
    with pytest.raises(ValueError, match="steps=2 counts the batches"):
        ap.prune(_model(), 0.5, "magnitude", data=data, steps=2)


def test_public_functions_take_steps():
    model = _model()
    ap.prune(model, 0.5, "wanda", data=forever(), steps=2, verbose=0)
    ap.scores(model, "activation", data=forever(), steps=2, verbose=0)
    normalised = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    ap.recalibrate_batchnorm(normalised, forever(), steps=3)
    moving = keras.ops.convert_to_numpy(normalised.layers[0].moving_mean)
    np.testing.assert_allclose(moving, X.mean(axis=0) + 1)  # of batches 0, 1 and 2
    with pytest.raises(ValueError, match="read only once"):
        ap.prune(model, [0.6, 0.7], "wanda", data=forever(), steps=2, verbose=0)
    schedule = ap.schedules.OneShot(0.5, at=1)
    pruner = ap.PruningCallback(schedule, "wanda", data=Endless(), steps=2)
    model.fit(X, Y[:, None], epochs=2, verbose=0, callbacks=[pruner])


@pytest.mark.parametrize("kind", ["list", "generator"])
def test_nothing_but_empty_batches(kind):
    data = [X[:0], X[:0]]
    with pytest.raises(ValueError, match="data is empty"):
        list(batches.inputs_of(data if kind == "list" else iter(data), model=_model()))


def test_empty_batches_in_between_are_passed_over():
    assert [len(x) for x in batches.inputs_of(iter([X, X[:0], X]))] == [10, 10]


def _model():
    hidden, out = keras.layers.Dense(4, "relu", name="a"), keras.layers.Dense(1, name="out")
    model = keras.Sequential([keras.Input((2,)), hidden, out])
    model.compile("sgd", "mse")
    return model
