"""The files of combined_compression: written, run, and read back."""

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

import activation_pruning as ap
from lab import compacting, dense, images, storage

RUNTIMES = {"litert": ".tflite", "onnx": ".onnx"}
CALIBRATED = 512  # training samples that ranges of activations are measured on


class Made(NamedTuple):
    """A trained network, and what its files shall hold.

    integers: whether files hold int8. quantised: what `fake_quantize` returned, where it was
    trained as if quantised. shared: what `compress` returned, where its weights are shared.
    """

    model: keras.Model
    integers: bool = False
    quantised: Any = None
    shared: Any = None


def typical(arrays: dict) -> np.ndarray:
    """The inputs that ranges are measured on."""
    return arrays["x_train"][:CALIBRATED]


def points(made: Made, share: list | None, arrays: dict, settings: dict) -> list[dict]:
    """Write all files of a network; a row of what was measured for each of them.

    The row of the .keras file has the accuracy of the network as it was trained.
    """
    named = name_of(share)
    folder = Path(os.environ[dense.FOLDER])
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{storage.name_of(settings)}-{named.replace(' ', '_').replace('%', '')}"
    outputs = compacting.outputs(made.model, arrays)
    written = {"keras": _plain(made, Path(f"{stem}.keras"))}
    for kind, suffix in RUNTIMES.items():
        written[kind] = _exported(made, Path(f"{stem}{suffix}"), arrays)
    found = {kind: _run(path, arrays) for kind, path in written.items() if kind != "keras"}
    if made.shared is not None:
        written["container"] = Path(f"{stem}.apz")
        made.shared.save(written["container"])
        found["container"] = compacting.outputs(ap.load_compressed(written["container"]), arrays)
    found["keras"] = outputs
    return [
        {"setting": named, "format": kind, "file": path.name}
        | _graded(found[kind], outputs, arrays)
        | _measured(kind, path)
        for kind, path in written.items()
    ]


def name_of(share: list | None) -> str:
    """What a setting is called in tables."""
    return compacting.DENSE if share is None else f"{100 * share[1]:g} % {share[0]}s"


def _plain(made, path):
    """The network without an optimizer; rounded weights where it was trained as if quantised."""
    images.copy(ap.strip(made.model) if made.quantised else made.model).save(path)
    return path


def _exported(made, path, arrays):
    model, options = made.model, {"data": typical(arrays), "samples": CALIBRATED}
    if made.integers and path.suffix == ".tflite":
        options["quantize"] = "int8"
    elif made.integers and not made.quantised:  # QDQ by ranges that no training has moved
        model = images.copy(model)
        ap.fake_quantize(model, data=typical(arrays))
    ap.export(model, path, **options)
    return path


def _run(path, arrays):
    run, x, size = ap.load_exported(path), arrays["x_test"], compacting.BATCH
    return np.concatenate([run(x[i : i + size]) for i in range(0, len(x), size)])


def _graded(found, outputs, arrays):
    labels = found.argmax(axis=1)
    return {
        "test_accuracy": float(np.mean(labels == arrays["y_test"])),
        "agreement": float(np.mean(labels == outputs.argmax(axis=1))),
        "largest_difference": float(np.abs(found - outputs).max()),
    }


def _measured(kind, path):
    content = path.read_bytes()
    row = {"file_bytes": len(content), "gzip_bytes": len(gzip.compress(content, 9, mtime=0))}
    kernels = list(KERNELS[kind](path))
    row["kernel_weights"] = sum(array.size for array, _ in kernels)
    row["zeros"] = sum(int(np.count_nonzero(array == zero)) for array, zero in kernels)
    row["int8_weights"] = sum(array.size for array, _ in kernels if array.dtype == np.int8)
    return row


def _keras_kernels(path) -> Iterator[tuple[np.ndarray, int]]:
    """(values, what stands for zero) of each kernel of a .keras file."""
    return _of_model(keras.saving.load_model(path, compile=False))


def _container_kernels(path):
    return _of_model(ap.load_compressed(path))


def _of_model(model):
    yield from ((w, 0) for w in model.get_weights() if _is_kernel(w))


def _litert_kernels(path):
    """Those of a .tflite file, in the numbers that it holds."""
    from ai_edge_litert.interpreter import Interpreter

    # Memory for what is computed is not given out: only what stands in the file can be read.
    interpreter = Interpreter(model_path=str(path))
    for item in interpreter.get_tensor_details():
        try:
            values = interpreter.get_tensor(item["index"])
        except ValueError:
            continue
        if _is_kernel(values):
            zeros = item["quantization_parameters"]["zero_points"]
            yield values, int(zeros[0]) if len(zeros) else 0


def _onnx_kernels(path):
    """Those of an .onnx file, in the numbers that it holds."""
    import onnx

    for item in onnx.load(str(path)).graph.initializer:
        values = onnx.numpy_helper.to_array(item)
        if _is_kernel(values):
            yield values, 0  # kernels in int8 are symmetric


def _is_kernel(values):
    """Whether weights are more than a vector: no biases, scales, or shapes."""
    return values.dtype in (np.float32, np.int8) and values.size > max(values.shape, default=1)


KERNELS = {
    "keras": _keras_kernels,
    "litert": _litert_kernels,
    "onnx": _onnx_kernels,
    "container": _container_kernels,
}
