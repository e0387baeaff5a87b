"""Exported files as functions: LiteRT and ONNX Runtime behind one call."""

import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from activation_pruning.support.checks import check_count
from activation_pruning.support.optional import optional
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Array, Path

FORMATS = {".tflite": "LiteRT", ".onnx": "ONNX"}
_NEEDS = {".tflite": ("litert", ["ai_edge_litert"]), ".onnx": ("onnx", ["onnx", "onnxruntime"])}
_DYNAMIC = -1  # size of an axis that the file leaves open


def load_exported(path: Path, threads: int = 1) -> "Runner":
    """A `.tflite` or `.onnx` file as a function of its inputs.

    Args:
        path: the file, of this package's `export` or of any other maker.
        threads: number of threads that one call may use, at least 1.

    Returns:
        A callable `x -> outputs`: takes an array, or of a file with several inputs a list of arrays
        or a dict {name: array}, samples along the first axis; returns an array, or a list of them.
        Its `inputs` are {name: (shape, dtype)}, with -1 for an open axis.

    Raises:
        ImportError: where the runtime is not installed; names the command.
        TypeError: for something else than a path.
        ValueError: for another suffix, a file that the runtime cannot read, or one whose inputs
            are no arrays of numbers with samples along the first axis.
        FileNotFoundError: when there is no such file.

    Example:
        >>> import tempfile, keras, numpy as np, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="a")])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = ap.export(model, f"{folder}/model.tflite")
        ...     run = ap.load_exported(f"{folder}/model.tflite")
        >>> run(np.zeros((3, 4))).tolist()
        [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    """
    suffix = check_suffix(path)
    check_count("threads", threads, 1)
    check_installed(suffix)
    file = pathlib.Path(path)
    if not file.is_file():
        what = "it is a folder" if file.is_dir() else "there is no such file"
        raise FileNotFoundError(f"path={str(path)!r}: {what}")
    try:
        return runner(suffix, file.read_bytes(), threads)
    except _Foreign as error:
        raise ValueError(f"path={str(path)!r} cannot be used here: {error}") from error
    except Exception as error:  # each runtime raises classes of its own
        raise ValueError(f"path={str(path)!r} is no {FORMATS[suffix]} file: {error}") from error


class _Foreign(ValueError):
    """A file that its runtime takes, but that is no function of arrays of samples."""


def runner(suffix: str, content: bytes, threads: int = 1) -> "Runner":
    """What runs a file of this suffix, from its bytes."""
    return (LiteRTRunner if suffix == ".tflite" else ONNXRunner)(content, threads)


def check_suffix(path: Path) -> str:
    """The suffix of `path`; raises unless it names a format."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path={shown(path)}; give the path of a file, a str or pathlib.Path")
    suffix = pathlib.Path(path).suffix.lower()
    if suffix not in FORMATS:
        known = ", ".join(f"{suffix!r} ({name})" for suffix, name in FORMATS.items())
        raise ValueError(f"path={str(path)!r} ends in {suffix!r}; it must end in one of {known}")
    return suffix


def check_installed(suffix: str, *more: str) -> None:
    """Import what files of this suffix need, and `more` modules; raises where one is missing."""
    extra, modules = _NEEDS[suffix]
    for module in [*modules, *more]:
        optional(module, extra)


def equal_batches(arrays: dict[str, Array], size: int) -> Iterator[dict[str, Array]]:
    """Batches of `size` samples each; the last one repeats its last sample."""
    samples = len(next(iter(arrays.values())))
    for start in range(0, samples, size):
        rows = np.arange(start, start + size).clip(max=samples - 1)
        yield {name: array[rows] for name, array in arrays.items()}


class Runner:
    """Calls the runtime with arrays that fit: what the formats share.

    Subclasses say `inputs`, {name: (shape, dtype)} with -1 for an open axis, in the order in which
    a list of arrays is taken, the names of the `results` in order, and `run` one batch.
    """

    inputs: dict[str, tuple[tuple, np.dtype]]
    results: list[str]

    def run(self, arrays: dict[str, Array]) -> list[Array]:
        """The outputs of one batch."""
        raise NotImplementedError

    def sparse_tensors(self) -> int:
        """How many tensors the file holds in sparse encoding, which ONNX has not."""
        return 0

    def __call__(self, x: Any) -> Any:
        outputs = self.outputs(x)
        return outputs[0] if len(outputs) == 1 else outputs

    def outputs(self, x: Any) -> list[Array]:
        """All outputs for `x`, of whatever number of samples."""
        arrays = self._arrays(x)
        lengths = {len(array) for array in arrays.values()}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"x holds inputs of {sorted(lengths)} samples; give as many of each")
        samples = lengths.pop()
        sizes = {shape[0] for shape, _ in self.inputs.values()} - {_DYNAMIC}
        batches = equal_batches(arrays, sizes.pop()) if sizes else [arrays]
        parts = [self._checked(batch) for batch in batches]
        return [np.concatenate(part)[:samples] for part in zip(*parts, strict=True)]

    def _checked(self, batch):
        found, samples = self.run(batch), len(next(iter(batch.values())))
        for name, array in zip(self.results, found, strict=True):
            if not isinstance(array, np.ndarray):
                raise ValueError(f"the output {name!r} is a {type(array).__name__}, no array")
            if array.ndim == 0 or len(array) != samples:
                raise ValueError(
                    f"the output {name!r} has shape {array.shape} for {samples} samples: it is not "
                    "one result for each sample"
                )
        return found

    def _arrays(self, x):
        if not isinstance(x, dict):
            values = list(x) if isinstance(x, (list, tuple)) else [x]
            if len(values) != len(self.inputs):
                raise ValueError(
                    f"x holds {len(values)} inputs, where the file takes {len(self.inputs)}: "
                    f"{list(self.inputs)}; give a list of as many arrays"
                )
            x = dict(zip(self.inputs, values, strict=True))
        if set(x) != set(self.inputs):
            raise ValueError(
                f"x holds the inputs {sorted(x)}; the file takes {list(self.inputs)}. Of a file by "
                "`export` these are the model's inputs in the order of model.inputs: give a list"
            )
        return {name: self._array(name, x[name]) for name in self.inputs}

    def _array(self, name, values):
        (shape, dtype), array = self.inputs[name], np.asarray(values)
        pairs = zip(array.shape[1:], shape[1:], strict=False)
        if array.ndim != len(shape) or any(b not in (a, _DYNAMIC) for a, b in pairs):
            raise ValueError(
                f"x: input {name!r} has shape {array.shape}, the file takes {tuple(shape)} "
                "(-1: any size), samples first"
            )
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            raise ValueError(f"x: input {name!r} has dtype {array.dtype}, the file takes {dtype}")
        return np.ascontiguousarray(array, dtype)


class LiteRTRunner(Runner):
    """A LiteRT model, from the bytes of its file."""

    def __init__(self, content: bytes, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(model_content=content, num_threads=threads)
        signatures = list(self.interpreter.get_signature_list())
        if signatures:
            signature = self.interpreter.get_signature_runner(signatures[0])
            found, outputs = signature.get_input_details(), signature.get_output_details()
        else:  # a file of another maker
            found = {item["name"]: item for item in self.interpreter.get_input_details()}
            outputs = {item["name"]: item for item in self.interpreter.get_output_details()}
        self._places = {name: found[name]["index"] for name in _in_order(found, sort=True)}
        self.results = _in_order(outputs, sort=True)
        self._outputs = [outputs[name]["index"] for name in self.results]
        self.inputs = {name: _litert_input(name, found[name]) for name in self._places}
        self._sizes: dict = {}

    def run(self, arrays: dict[str, Array]) -> list[Array]:
        sizes = {name: array.shape for name, array in arrays.items()}
        if sizes != self._sizes:  # planning the memory anew takes longer than a small model
            for name, size in sizes.items():
                self.interpreter.resize_tensor_input(self._places[name], size)
            self.interpreter.allocate_tensors()
            self._sizes = sizes
        for name, array in arrays.items():
            self.interpreter.set_tensor(self._places[name], array)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(place) for place in self._outputs]

    def sparse_tensors(self) -> int:
        details = self.interpreter.get_tensor_details()
        return sum(bool(item["sparsity_parameters"]) for item in details)


class ONNXRunner(Runner):
    """An ONNX model on the CPU, from the bytes of its file."""

    def __init__(self, content: bytes, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        found = {item.name: item for item in self.session.get_inputs()}
        self.inputs = {name: _onnx_input(found[name]) for name in _in_order(found)}
        self.results = _in_order(item.name for item in self.session.get_outputs())

    def run(self, arrays: dict[str, Array]) -> list[Array]:
        return self.session.run(self.results, arrays)


def _in_order(names, sort=False):
    """`output_2` before `output_10`: formats list names as text. Others as they are, or sorted."""
    names = list(names)
    ours = all(re.fullmatch(r"(input|output)_\d+", name) for name in names)
    return sorted(names, key=_numbered) if ours or sort else names


def _numbered(name):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _litert_input(name, details):
    shape = details["shape_signature"] if len(details["shape_signature"]) else details["shape"]
    return _input(name, [int(size) for size in shape], details["dtype"])


def _onnx_input(item):
    kind = item.type.removeprefix("tensor(").removesuffix(")")
    kind = {"float": "float32", "double": "float64"}.get(kind, kind)
    sizes = [size if isinstance(size, int) else _DYNAMIC for size in item.shape]
    return _input(item.name, sizes, kind)


def _input(name, shape, kind):
    try:
        dtype = np.dtype(kind)
    except TypeError:
        dtype = None
    if dtype is None or dtype.kind not in "fiubc":
        kind = getattr(kind, "__name__", kind)
        raise _Foreign(f"its input {name!r} takes {kind}, where arrays of numbers are given")
    if not shape:
        raise _Foreign(f"its input {name!r} takes a single number, where samples are given")
    return tuple(shape), dtype
