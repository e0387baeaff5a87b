"""Where TensorFlow is not installed, all but its own works, and its own says what to install.

The job `make test-jax` runs in such an environment. Elsewhere TensorFlow is hidden.
"""

import importlib.util
import subprocess
import sys
import textwrap

import models
import pytest

pytestmark = pytest.mark.backend

BACKENDS = [name for name in ("jax", "torch") if importlib.util.find_spec(name)]
HIDE = """
import sys
for name in ("tensorflow", "tf_keras", "tensorflow_model_optimization", "tf2onnx"):
    sys.modules[name] = None  # as if it were not installed
import keras, numpy as np
import activation_pruning as ap

def network():
    layers = [keras.Input((8,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse")
    return model

x, y = np.random.default_rng(0).normal(size=(32, 8)), np.zeros((32, 3))
"""


def run(code, backend, folder):
    done = subprocess.run(
        [sys.executable, "-c", HIDE + textwrap.dedent(code)],
        capture_output=True, text=True, check=False, cwd=folder,
        env=models.environment(KERAS_BACKEND=backend),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_not_tensorflows_own_works(backend, tmp_path):
    printed = run(
        """
        model = network()
        counter = ap.ActivationCounter()
        pruner = ap.PruningCallback(ap.schedules.OneShot(0.5), exclude=())
        model.fit(x, y, epochs=2, verbose=0, callbacks=[counter, pruner])
        print(pruner.table()["total_sparsity"].iloc[-1], len(counter.table()))
        for criterion in ("lobs", "obd", "wanda", "unit_norm"):
            granularity = "unit" if criterion == "unit_norm" else "weight"
            ap.prune(network(), 0.5, criterion, granularity=granularity, data=(x, y), verbose=0)
        unit = network()
        ap.prune(unit, 0.5, "unit_norm", granularity="unit")
        small = ap.compact(unit)
        print(small.count_params() < unit.count_params())
        np.testing.assert_allclose(
            small.predict(x, verbose=0), unit.predict(x, verbose=0), atol=1e-6)
        ap.compress(small, bits=3).save("small.apz")
        ap.load_compressed("small.apz")
        ap.strip(ap.wrap(network()))
        print(len(ap.analysis.spectra(unit)), len(ap.analysis.cost(unit).table()))
        ap.reports.workbook.write("table.xlsx", {"Events": pruner.table()})
        """,
        backend,
        tmp_path,
    ).splitlines()
    assert printed[0] == "0.5 9"
    assert printed[1] == "True"
    assert (tmp_path / "table.xlsx").stat().st_size > 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("call", "extra"),
    [
        ('ap.export(network(), "model.tflite")', "tensorflow,litert"),
        ('ap.export(network(), "model.onnx")', "tensorflow,onnx"),
        ("ap.from_tfmot(network())", "tfmot"),
        ('ap.TensorBoardLog("logs")', "tensorboard"),
    ],
)
def test_what_is_tensorflows_own_says_what_to_install(backend, call, extra, tmp_path):
    code = f"""
    try:
        {call}
    except (ImportError, RuntimeError) as error:
        print(error)
    """
    assert f"pip install 'activation-pruning[{extra}]'" in run(code, backend, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_file()]
