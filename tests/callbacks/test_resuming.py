"""Fits that go on with an older one, where nobody knows how many steps an epoch has."""

import keras
import numpy as np
import pytest

import activation_pruning as ap

pytestmark = [
    pytest.mark.backend,
    pytest.mark.filterwarnings("ignore:Your input ran out of data"),
    pytest.mark.filterwarnings("ignore:training ended after"),
]
TARGETS = [0.0, 0.4625, 0.7, 0.7875, 0.8, 0.8]  # 0.8 - 0.8 * (1 - x)**3 at x = 0, 1/4, 1/2, ...
LOST = "nobody knows how many steps they had"


def batches():
    """Three batches from a generator, which does not say so."""
    for _ in range(3):
        yield np.ones((4, 4), "float32"), np.zeros((4, 1), "float32")


def network():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(20, name="a"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("sgd", "mse")
    return model


def pruner(schedule=None, **more):
    cubic = ap.schedules.Polynomial(0.8, begin=3, end=15, by="step", frequency=3)
    return ap.PruningCallback(schedule or cubic, "magnitude", **more)


def zeros(model):
    return int(np.count_nonzero(np.array(model.get_layer("a").kernel) == 0))


def test_every_epoch_a_fit_of_its_own():
    model, targets, counts = network(), [], []
    for epoch in range(6):
        fit = {"epochs": epoch + 1, "initial_epoch": epoch, "verbose": 0, "callbacks": [pruner()]}
        if epoch:
            with pytest.warns(UserWarning, match=f"goes on after {epoch} epochs, but {LOST}"):
                history = model.fit(batches(), **fit)
        else:
            history = model.fit(batches(), **fit)
        targets += history.history["target_sparsity"]
        counts.append(zeros(model))
    assert targets[:5] == pytest.approx(TARGETS[:5])  # in the sixth there is no event any more
    assert counts == [0, 37, 56, 63, 64, 64]  # of 80


def test_what_was_due_as_the_older_fit_ended_is_made_up_for():
    model = network()
    model.fit(batches(), epochs=1, verbose=0)  # whose event, at step 3, never came
    schedule = ap.schedules.OneShot(0.5, at=3, by="step")
    with pytest.warns(UserWarning, match=LOST):
        model.fit(batches(), epochs=2, initial_epoch=1, verbose=0, callbacks=[pruner(schedule)])
    assert zeros(model) == 40


def test_an_amount_is_not_taken_a_second_time():
    model, schedule = network(), ap.schedules.Every(10, frequency=3, begin=3, by="step")
    model.fit(batches(), epochs=1, verbose=0, callbacks=[pruner(schedule)])
    assert zeros(model) == 10
    with pytest.warns(UserWarning, match=LOST):
        model.fit(batches(), epochs=2, initial_epoch=1, verbose=0, callbacks=[pruner(schedule)])
    assert zeros(model) == 20


@pytest.mark.filterwarnings(f"error:.*{LOST}")
def test_epochs_are_counted_as_ever():
    model, schedule = network(), ap.schedules.Linear(0.4, begin=0, end=4)
    for epoch in range(4):
        model.fit(
            batches(), epochs=epoch + 1, initial_epoch=epoch, verbose=0,
            callbacks=[pruner(schedule)],
        )  # fmt: skip
        assert zeros(model) == 8 * (epoch + 1)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a dataset of TensorFlow's")
@pytest.mark.parametrize("restored", [False, True])
def test_datasets_of_unknown_cardinality(restored, tmp_path):
    import tensorflow as tf

    shapes = tf.TensorSpec((4, 4)), tf.TensorSpec((4, 1))
    data = tf.data.Dataset.from_generator(batches, output_signature=shapes)
    more = [keras.callbacks.BackupAndRestore(tmp_path / "backup")] if restored else []
    older = network()

    class Interrupted(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        older.fit(data, epochs=6, verbose=0, callbacks=[pruner(), *more, Interrupted()])
    model = network() if restored else older
    fit = {"epochs": 6, "verbose": 0, "callbacks": [pruner(), *more]}
    with pytest.warns(UserWarning, match=LOST):
        history = model.fit(data, initial_epoch=0 if restored else 3, **fit)
    assert history.history["target_sparsity"] == pytest.approx(TARGETS[3:])
    assert history.history["sparsity"] == [63 / 80, 0.8, 0.8]
