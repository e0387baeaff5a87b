"""What a `fit` leaves that has died, in nested fits, in threads: nothing for the next one."""

import gc
import sys
import threading

import keras
import models
import numpy as np
import pandas as pd
import pytest

import activation_pruning as ap
from activation_pruning.hooks.attachment import attachment
from activation_pruning.keras_private import frames

pytestmark = pytest.mark.backend

LAYERS = ("a", "b")
ROUNDS = {"batch_size": 8, "verbose": 0, "shuffle": False}


class Killer(keras.callbacks.Callback):
    """Raises as soon as `moment` comes."""

    def __init__(self, moment, error=KeyboardInterrupt):
        super().__init__()
        setattr(self, moment, self.kill)
        self.error = error

    def kill(self, *args, **kwargs):
        raise self.error


def pruner(**kwargs):
    schedule = ap.schedules.OneShot(0.75, at=1, by="step")
    return ap.PruningCallback(schedule, kwargs.pop("criterion", "magnitude"), **kwargs)


def fresh(optimizer=None):
    return models.compiled(models.mlp(), optimizer or keras.optimizers.SGD(0.1))


def twins():
    """Two models with the same weights."""
    first, second = fresh(), fresh()
    second.set_weights(first.get_weights())
    return first, second


def equal(first, second):
    pairs = zip(first.get_weights(), second.get_weights(), strict=True)
    return all((a == b).all() for a, b in pairs)


MOMENTS = ["set_model", "on_train_begin", "on_epoch_begin", "on_train_batch_end", "on_epoch_end",
           "on_test_end", "on_train_end"]  # fmt: skip


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_the_next_fit_is_a_plain_one(moment, order):
    model, twin = twins()
    x, y = models.data(samples=24)
    dense = model.get_weights()
    counter, ours = ap.ActivationCounter(), pruner(criterion="activation")
    callbacks = [ours, counter, ap.KeepPruned()]
    killer = Killer(moment)
    callbacks = [killer, *callbacks] if order == "before" else [*callbacks, killer]
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, validation_data=(x, y), callbacks=callbacks, **ROUNDS)
    model.set_weights(dense)
    model.fit(x, y, epochs=2, **ROUNDS)
    twin.fit(x, y, epochs=2, **ROUNDS)
    assert equal(model, twin)
    assert attachment(model).owners == []
    assert {"train_step", "make_train_function"} & vars(model).keys() == set()


def test_steps_without_fit_are_plain_ones():
    model, twin = twins()
    x, y = models.data(samples=24)
    dense = model.get_weights()
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, callbacks=[pruner(), Killer("on_epoch_end")], **ROUNDS)
    model.set_weights(dense)
    for one in (model, twin):
        one.train_on_batch(x, y)
    assert equal(model, twin)


@pytest.mark.parametrize("moment", ["set_model", "on_train_begin", "on_train_batch_end"])
def test_the_next_fit_with_regrowth_is_alone(moment):
    model = fresh()
    x, y = models.data(samples=24)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, callbacks=[ap.KeepPruned(), Killer(moment)], **ROUNDS)
    ours = ap.PruningCallback(ap.schedules.Constant(0.5), "magnitude", regrow="set")
    model.fit(x, y, epochs=3, callbacks=[ours], **ROUNDS)
    assert ours.table()["grown"].sum() > 0


def test_data_that_fits_no_model():
    model, twin = twins()
    x, y = models.data(samples=24)
    with pytest.raises(Exception):  # noqa: B017 - what Keras says differs by backend
        model.fit(np.ones((8, 99), "float32"), y[:8], callbacks=[pruner()], **ROUNDS)
    for one in (model, twin):
        one.fit(x, y, **ROUNDS)
    assert equal(model, twin)


def test_a_listener_of_a_dead_fit_hears_nothing(tmp_path):
    model = fresh()
    x, y = models.data(samples=24)
    dead = pruner()
    log = ap.EventLog(tmp_path, dead)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, callbacks=[dead, log, Killer("on_train_begin")], **ROUNDS)
    ours = pruner()
    model.fit(x, y, callbacks=[ours], **ROUNDS)
    assert attachment(model).owners == []
    log.pruner = ours
    model.fit(x, y, callbacks=[ours, log], **ROUNDS)  # which serves again
    model.fit(x, y, callbacks=[ours, log], **ROUNDS)
    assert len(pd.read_csv(tmp_path / "events.csv")) > 0


# -- one callback in several fits ------------------------------------------------------------------


class Nested(keras.callbacks.Callback):
    """Fits within a fit."""

    def __init__(self, model, callbacks):
        super().__init__()
        self.inner, self.callbacks = model, callbacks

    def on_epoch_end(self, epoch, logs=None):
        self.inner.fit(*models.data(samples=24), callbacks=self.callbacks, **ROUNDS)


def everyone():
    return [pruner(), ap.KeepPruned(), ap.ActivationCounter()]


@pytest.mark.parametrize("ours", everyone(), ids=lambda one: type(one).__name__)
def test_twice_in_one_list(ours):
    model, twin = twins()
    x, y = models.data(samples=24)
    with pytest.raises(ValueError, match="here twice"):
        model.fit(x, y, callbacks=[ours, ours], **ROUNDS)
    for one in (model, twin):
        one.fit(x, y, **ROUNDS)
    assert equal(model, twin)
    model.fit(x, y, callbacks=[ours], **ROUNDS)  # alone it still serves
    assert attachment(model).owners == []


@pytest.mark.parametrize("same", [True, False], ids=["same model", "another model"])
@pytest.mark.parametrize("ours", everyone(), ids=lambda one: type(one).__name__)
def test_in_a_nested_fit(ours, same):
    model = fresh()
    inner = model if same else fresh()
    with pytest.raises(ValueError, match="still running"):
        model.fit(*models.data(), callbacks=[ours, Nested(inner, [ours])], **ROUNDS)
    for one in (model, inner):
        one.fit(*models.data(), **ROUNDS)
        assert attachment(one).owners == []


def test_a_nested_fit_with_a_callback_of_its_own():
    model, inner = fresh(), fresh()
    outer, nested = pruner(), pruner()
    x, y = models.data(samples=24)
    model.fit(x, y, epochs=2, callbacks=[outer, Nested(inner, [nested])], **ROUNDS)
    model.fit(x, y, epochs=2, callbacks=[outer, Nested(model, [ap.ActivationCounter()])], **ROUNDS)
    assert models.pruned(model, *LAYERS) == models.pruned(inner, *LAYERS) == 0.75
    assert attachment(model).owners == attachment(inner).owners == []


def test_evaluating_with_the_same_callbacks_within_a_fit():
    class Evaluate(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.evaluate(*models.data(), verbose=0, callbacks=both)

    both = [pruner(), counter := ap.ActivationCounter()]
    model = fresh()
    x, y = models.data(samples=24)
    model.fit(x, y, epochs=3, callbacks=[*both, Evaluate()], **ROUNDS)
    assert models.pruned(model, *LAYERS) == 0.75
    assert (counter.table()["samples"] == 72).all()


def test_in_two_threads():
    first, second = fresh(), fresh()
    ours, entered, done = pruner(), threading.Event(), threading.Event()
    x, y = models.data(samples=24)

    def hold(epoch, logs):
        entered.set()
        done.wait(60)

    def work():
        pause = keras.callbacks.LambdaCallback(on_epoch_begin=hold)
        first.fit(x, y, epochs=1, callbacks=[ours, pause], **ROUNDS)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert entered.wait(60)
        with pytest.raises(ValueError, match="still running"):
            second.fit(x, y, callbacks=[ours], **ROUNDS)
    finally:
        done.set()
        thread.join()
    assert models.pruned(first, *LAYERS) == 0.75
    assert attachment(first).owners == attachment(second).owners == []


def test_a_callback_list_used_again():
    model = fresh()
    x, y = models.data(samples=24)
    ours = pruner()
    given = keras.callbacks.CallbackList([ours], add_history=True, model=model, epochs=2, steps=3)
    for _ in range(2):
        model.fit(x, y, epochs=2, callbacks=given, **ROUNDS)
        assert models.pruned(model, *LAYERS) == 0.75
        assert attachment(model).owners == []


@pytest.mark.parametrize("enabled", [True, False])
def test_frames_are_read_without_a_garbage_collection(monkeypatch, enabled):
    """One that began meanwhile could wait for ever, for a lock that Python 3.11 holds."""
    seen, read = [], sys._current_frames
    monkeypatch.setattr(sys, "_current_frames", lambda: seen.append(gc.isenabled()) or read())
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        assert frames.runs(keras.callbacks.Callback()) == []
        assert (seen, gc.isenabled()) == ([False], enabled)
    finally:
        (gc.enable if was else gc.disable)()
