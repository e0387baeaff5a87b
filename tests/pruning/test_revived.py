"""Weights that a plain `fit` has brought back: said beforehand, and where it has happened."""

import warnings

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap

pytestmark = pytest.mark.backend


def pruned():
    model = models.compiled(models.mlp(), keras.optimizers.Adam(0.01))
    model.fit(*models.data(), verbose=0)
    ap.prune(model, 0.5, granularity="unit")
    return model


def fit(model, *callbacks, epochs=2):
    model.fit(*models.data(), epochs=epochs, verbose=0, callbacks=list(callbacks))


def export(model, folder):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("export is for TensorFlow")
    ap.export(model, folder / "model.tflite")


MEASURES = {
    "compact": lambda model, folder: ap.compact(model),
    "export": export,
    "compress": lambda model, folder: ap.compress(model),
    "sizes": lambda model, folder: ap.analysis.sizes(model),
    "cost": lambda model, folder: ap.analysis.cost(model),
}


@pytest.mark.parametrize("name", MEASURES)
def test_who_measures_says_so(name, tmp_path):
    model = pruned()
    zeros = [kernel == 0 for kernel in models.kernels(model, "a", "b")]
    fit(model)
    kernels = models.kernels(model, "a", "b")
    back = sum(np.count_nonzero(k[z]) for k, z in zip(kernels, zeros, strict=True))
    assert back > 0
    message = rf"{back} of {sum(z.sum() for z in zeros)} pruned weights in \['a', 'b'\].*KeepPruned"
    with pytest.warns(UserWarning, match=message):
        MEASURES[name](model, tmp_path)


def kept(model):
    fit(model, ap.KeepPruned(exclude=()))


def loaded(model):
    model.set_weights([np.ones_like(values) for values in model.get_weights()])


def untouched(model):
    pass


def grown(model):
    schedule = ap.schedules.Constant(0.5)
    fit(model, ap.PruningCallback(schedule, "magnitude", regrow="set"), epochs=3)


def restored(model):
    """The best epoch of a sparse training, which has zeros of its own."""
    schedule, x = ap.schedules.Constant(0.5, end=9), models.data()[0]
    ours = ap.PruningCallback(schedule, "magnitude", regrow="set")
    best = keras.callbacks.EarlyStopping("loss", mode="max", patience=1, restore_best_weights=True)
    model.fit(x, models.data()[1], epochs=6, verbose=0, callbacks=[ours, best])


def anew(model):
    """Dense on purpose: nothing counts as pruned."""
    fit(model, ap.PruningCallback(ap.schedules.OneShot(0.9, at=9), respect_zeros=False))


@pytest.mark.parametrize("way", [kept, loaded, untouched, grown, restored, anew])
def test_no_false_alarms(way):
    model = pruned()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        way(model)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ap.analysis.cost(model)
    assert [str(one.message) for one in said if "zero any more" in str(one.message)] == []


def test_the_report_says_it_beforehand():
    model = models.mlp()
    line = "A plain fit brings pruned weights back: give each later fit callbacks=[ap.KeepPruned()]"
    assert line in str(ap.prune(model, 0.5))
    assert line not in str(ap.prune(ap.wrap(models.mlp()), 0.5))  # masks of its own
