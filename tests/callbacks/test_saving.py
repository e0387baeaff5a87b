"""What is saved during and after a pruning fit is a plain Keras model."""

import copy
import pickle
import subprocess
import sys
import textwrap

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap

pytestmark = [pytest.mark.backend, pytest.mark.lowest]

KINDS = {
    "mlp": (6,),
    "normalised": (6,),
    "nested": (6,),
    "convolutional": (8, 8, 2),
    "recurrent": (4, 3),
    "attention": (4, 6),
}

ELSEWHERE = """
    import sys
    sys.modules["activation_pruning"] = None  # importing it raises ImportError
    import keras, numpy as np
    for kind in sys.argv[2:]:
        folder = f"{sys.argv[1]}/{kind}"
        x = np.load(f"{folder}/x.npy")
        for moment in ("during", "after"):
            model = keras.models.load_model(f"{folder}/{moment}.keras")
            loaded = model.predict(x, verbose=0)
            model.set_weights([0 * w for w in model.get_weights()])
            model.load_weights(f"{folder}/{moment}.weights.h5")
            np.savez(f"{folder}/{moment}.npz", model=loaded, weights=model.predict(x, verbose=0))
            model.run_eagerly = True  # one step: tracing it would take longer
            model.fit(x, np.zeros(len(x), int), verbose=0)
    """


class Save(keras.callbacks.Callback):
    """Saves in the middle of the fit, hooks in place and weights pruned; keeps the predictions."""

    def __init__(self, folder, x):
        super().__init__()
        self.folder, self.x = folder, x

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            save(self.model, self.folder, "during", self.x)


def save(model, folder, moment, x):
    model.save(folder / f"{moment}.keras")
    model.save_weights(folder / f"{moment}.weights.h5")
    np.save(folder / f"{moment}.npy", model.predict(x, verbose=0))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the files of every model kind, read once in a process without the package."""
    folder = tmp_path_factory.mktemp("saved")
    for kind, shape in KINDS.items():
        (folder / kind).mkdir()
        model = getattr(models, kind)()
        model = models.compiled(model, keras.optimizers.Adam(0.01))
        x, y = models.data(shape, 8)
        np.save(folder / kind / "x.npy", x)
        pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "activation_magnitude")
        callbacks = [pruner, ap.ActivationCounter(), Save(folder / kind, x)]
        model.fit(x, y, epochs=3, verbose=0, callbacks=callbacks)
        save(model, folder / kind, "after", x)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ELSEWHERE), str(folder), *KINDS],
        capture_output=True, text=True, cwd=folder, env=models.environment(package=False),
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("moment", ["during", "after"])
@pytest.mark.parametrize("kind", KINDS)
def test_loads_where_this_package_is_not_installed(saved, kind, moment):
    here = np.load(saved / kind / f"{moment}.npy")
    there = np.load(saved / kind / f"{moment}.npz")
    np.testing.assert_array_equal(there["model"], here)
    np.testing.assert_array_equal(there["weights"], here)
    assert np.ptp(here, axis=0).max() > 0


@pytest.fixture(scope="module")
def trained():
    """A pruned model that was copied in the middle of the fit, and that copy."""
    copies = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: copies.append(copy.deepcopy(model))
    )
    model = models.compiled(models.mlp(), keras.optimizers.Adam(0.01))
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "activation_magnitude")
    model.fit(*models.data(), epochs=2, verbose=0, callbacks=[pruner, ap.ActivationCounter(), keep])
    return model, copies[-1]


def clone(model):
    new = keras.models.clone_model(model)
    new.set_weights(model.get_weights())
    return new


@pytest.mark.parametrize(
    "duplicate",
    [clone, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["clone_model", "deepcopy", "pickle"],
)
def test_copies_of_a_pruned_model(trained, duplicate):
    model, _ = trained
    x = models.data()[0]
    new = duplicate(model)
    np.testing.assert_array_equal(new.predict(x, verbose=0), model.predict(x, verbose=0))
    assert models.pruned(new, "a", "b") == 0.5


def test_a_copy_made_in_the_middle_of_the_fit(trained):
    model, middle = trained
    x, y = models.data()
    np.testing.assert_array_equal(middle.predict(x, verbose=0), model.predict(x, verbose=0))
    middle.fit(x, y, verbose=0)
    assert models.pruned(middle, "a", "b") < 0.5  # nothing of ours came along


def test_weights_only_checkpoints_of_the_best_epoch(tmp_path):
    path = tmp_path / "best.weights.h5"
    best = keras.callbacks.ModelCheckpoint(
        path, monitor="loss", save_best_only=True, save_weights_only=True
    )
    model = models.compiled(models.mlp(), keras.optimizers.SGD(0.0))
    pruner = ap.PruningCallback(ap.schedules.Linear(0.5, begin=1, end=2), "magnitude")
    model.fit(*models.data(), epochs=4, verbose=0, callbacks=[best, pruner])
    other = models.mlp()
    other.load_weights(path)
    assert models.pruned(other, "a", "b") == 0.5


def test_a_saved_model_is_pruned_on_after_loading(tmp_path):
    x, y = models.data()
    model = models.compiled(models.mlp(), keras.optimizers.Adam(0.01))
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.25, at=1), "magnitude")
    model.fit(x, y, verbose=0, callbacks=[pruner])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    zeros = [kernel == 0 for kernel in models.kernels(loaded, "a", "b")]
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=2), "magnitude")
    history = loaded.fit(x, y, epochs=3, verbose=0, callbacks=[pruner])
    assert history.history["sparsity"] == [0.25, 0.5, 0.5]
    for kernel, zero in zip(models.kernels(loaded, "a", "b"), zeros, strict=True):
        assert not kernel[zero].any()
