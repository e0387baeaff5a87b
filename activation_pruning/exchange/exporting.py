"""Models as LiteRT and ONNX files, each run and compared with Keras before it is handed out."""

import contextlib
import dataclasses
import math
import pathlib
import warnings

import keras
import numpy as np

from activation_pruning import sites
from activation_pruning.evidence import reading
from activation_pruning.exchange import converters, exported, learned_ranges, qdq
from activation_pruning.exchange.converters import gap, given, in_float32, signature
from activation_pruning.hooks import fake_quantization
from activation_pruning.layers import wrapping
from activation_pruning.pruning import report
from activation_pruning.support import files
from activation_pruning.support.checks import check_count, check_flags, is_number
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Data, Model, Path

_QUANTIZE = (None, "dynamic", "int8")
_TOLERANCE = 1e-4
_NOT_SPARSE = "sparse=True: no kernel has zeros enough for it to pay; the file is a dense one"


@dataclasses.dataclass(frozen=True)
class Exported:
    """What `export` wrote, and how far it is from Keras.

    largest_difference: max |file - Keras| over all outputs of all samples.
    largest_output: max |Keras|, to set it against.
    sparse_tensors: number of weight tensors in sparse encoding.
    batch_size: None where the file takes batches of any size.
    difference_from_model: max |file - model as it is| where that is not float32; None elsewhere.
    """

    path: pathlib.Path
    format: str
    size_bytes: int
    largest_difference: float
    largest_output: float
    samples: int
    quantize: str | None = None
    sparse_tensors: int = 0
    batch_size: int | None = None
    difference_from_model: float | None = None

    def __str__(self) -> str:
        parts = [f"{self.format}, {self.size_bytes:,} bytes"]
        parts += [f"quantised ({self.quantize})"] if self.quantize else []
        parts += [f"{self.sparse_tensors} sparse tensors"] if self.sparse_tensors else []
        parts += [f"batches of {self.batch_size}"] if self.batch_size else []
        own = self.difference_from_model
        also = "" if own is None else f" in float32, {own:.2g} from the model as it is"
        return (
            f"{self.path}: {', '.join(parts)}; at most {self.largest_difference:.2g} from Keras"
            f"{also} (outputs up to {self.largest_output:.2g}) on {self.samples:,} samples"
        )


def export(
    model: Model,
    path: Path,
    quantize: str | None = None,
    sparse: bool = False,
    data: Data = None,
    samples: int = 256,
    batch_size: int | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    steps: int | None = None,
) -> Exported:
    """Write the model as a LiteRT or ONNX file, run that file and compare it with Keras.

    What is written and compared is inference in float32: wrappers are stripped, their masks and
    gates applied, and mixed precision undone; exact zeros stay exact zeros. Stateful recurrent
    layers start from zeros in every batch: a file keeps no states. The inputs are named
    `input_0`, `input_1`, ... in the order of `model.inputs`, the outputs `output_0`, ... A file is
    kept if max |file(x) - model(x)| <= tolerance * max(1, max |model(x)|).

    Args:
        model: a built `keras.Model`; it is not changed. Callbacks may be attached.
        path: where to write; `.tflite` (LiteRT) or `.onnx`. Missing folders are made.
        quantize: LiteRT only. "dynamic": int8 weights in tensors of at least 1,024 elements,
            float activations. "int8": weights and activations (inputs and outputs stay float). Of
            a model that `fake_quantize` works on, integers by the ranges that it has learned: a
            LiteRT file with "int8", an ONNX file (its weights and activations as QDQ) always.
        sparse: LiteRT only, not with `quantize`. Kernels with enough zeros are encoded by what
            is not zero: a smaller file.
        data: inputs to compare on and, for "int8", to calibrate the ranges of activations with:
            anything that `prune` takes. None for random numbers: standard normal, or 0 and 1 where
            the inputs are integers, with masked steps where `Masking` is in the model. A subclassed
            model needs it.
        samples: how many samples of `data` to use, at least 1; fewer if there are not as many.
        batch_size: the only size of a batch that the file shall take, as LiteRT needs for
            recurrent layers; None for any.
        tolerance: see above, at least 0; None for 1e-4, or for no limit in quantised files.
        seed: of the random samples.
        steps: how many batches of `data` to read, see `prune`.

    Returns:
        An `Exported`; printed, it says what was written and how far it is from Keras.

    Raises:
        ImportError: where the converter or the runtime is not installed; names the command.
        ValueError: for an option outside its range, a model that the format cannot hold, or a file
            that differs by more than the tolerance (none is left then).
        RuntimeError: on the JAX and PyTorch backends.
        OSError: when the path cannot be written.

    Example:
        >>> import tempfile, keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="a")])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = ap.export(model, f"{folder}/model.tflite")
        >>> report.format, report.samples, report.largest_difference < 1e-5
        ('LiteRT', 256, True)
    """
    suffix = exported.check_suffix(path)
    check_count("samples", samples, 1)
    _check(path, suffix, batch_size, quantize=quantize, sparse=sparse, tolerance=tolerance)
    sites.check_model(model)
    learned = fake_quantization.attached(model)
    learned_ranges.check(model, learned, suffix, quantize, data)
    batch_size = sites.checked_batch_size(model, batch_size)
    _check_place(path, suffix)
    report.warn_revived(model)
    exact = not (quantize or learned)
    tolerance = (_TOLERANCE if exact else math.inf) if tolerance is None else tolerance
    acting = wrapping.plain(model) if sites.is_graph(model) and not learned else model
    plain = in_float32(acting)
    found = given(plain, reading.first(data, steps), samples)
    called = signature(plain, found, batch_size)
    found = called.random(samples, seed) if found is None else found
    options = {"quantize": quantize, "sparse": sparse, "found": found, "learned": learned}
    with _frozen(learned), files.replacing(path) as temporary:
        wanted = _wanted(called, found)
        _convert(called, suffix, temporary, **options)
        runner = _runner(called, suffix, temporary)
        difference, largest = _compare(runner, found, wanted)
        _check_close(difference, largest, tolerance, exported.FORMATS[suffix])
        as_it_is = dataclasses.replace(called, model=acting)
        own = None if acting is plain else _compare(runner, found, _wanted(as_it_is, found))[0]
    encoded = runner.sparse_tensors()
    if sparse and not encoded:
        warnings.warn(_NOT_SPARSE, stacklevel=2)
    return Exported(
        path=pathlib.Path(path),
        format=exported.FORMATS[suffix],
        size_bytes=pathlib.Path(path).stat().st_size,
        largest_difference=difference,
        largest_output=largest,
        samples=sum(len(batch[0]) for batch in found),
        quantize=quantize,
        sparse_tensors=encoded,
        batch_size=batch_size,
        difference_from_model=own,
    )


def _frozen(learned):
    return learned.frozen() if learned else contextlib.nullcontext()


def _check(path, suffix, batch_size, *, quantize, sparse, tolerance):
    """Refuse options that are wrong, or do not go together, before any work."""
    check_count("batch_size", 1 if batch_size is None else batch_size, 1)
    check_flags(sparse=sparse)
    if tolerance is not None and not (is_number(tolerance) and tolerance >= 0):
        raise ValueError(
            f"tolerance={shown(tolerance)}; it must be a number of at least 0, or None"
        )
    if quantize not in _QUANTIZE:
        raise ValueError(f"quantize={shown(quantize)}; it must be one of {_QUANTIZE}")
    if suffix != ".tflite" and (quantize or sparse):
        raise ValueError(f"path={str(path)!r}: quantize= and sparse= are for .tflite files only")
    if quantize and sparse:
        raise ValueError(
            f"quantize={shown(quantize)} and sparse=True do not go together: LiteRT's default "
            "kernels refuse sparse int8 weights; choose one"
        )


def _check_close(difference, largest, tolerance, kind):
    if not difference <= tolerance * max(1.0, largest):
        raise ValueError(
            f"the outputs of the {kind} file differ from those of Keras by up to {difference:.3g} "
            f"(outputs up to {largest:.3g}), tolerance={tolerance:g}; no file was written. Give "
            "typical inputs as data=, or a larger tolerance="
        )


def _check_place(path, suffix):
    """Refuse where nothing can be converted, or written."""
    backend, onnx = keras.backend.backend(), suffix == ".onnx"
    if backend != "tensorflow":
        extras = "tensorflow,onnx" if onnx else "tensorflow,litert"
        raise RuntimeError(
            f"export converts on the TensorFlow backend, this is {backend}. Save the model, "
            "model.save('model.keras'), and export it in a process with KERAS_BACKEND=tensorflow: "
            f"ap.export(keras.saving.load_model('model.keras'), {str(path)!r}). That needs "
            f"pip install 'activation-pruning[{extras}]'"
        )
    exported.check_installed(suffix, *(["tf2onnx"] if onnx else []))


def _convert(signature, suffix, path, *, learned, **options):
    try:
        if suffix == ".onnx":
            converters.onnx(signature, path)
            if learned:
                qdq.write_integers(path, learned.bits)
        elif learned:
            converters.litert(signature, path, quantize="learned")
        else:
            converters.litert(signature, path, **options)
    except Exception as error:  # each converter raises classes of its own
        name, kind, why = signature.model.name, exported.FORMATS[suffix], _reason(error)
        raise ValueError(f"model {name!r} cannot be converted to {kind}: {why}") from error


def _runner(signature, suffix, path):
    """What runs the file; a converter may write one that nothing runs."""
    try:
        return exported.runner(suffix, path.read_bytes())
    except Exception as error:  # each runtime raises classes of its own
        name, kind = signature.model.name, exported.FORMATS[suffix]
        raise ValueError(
            f"model {name!r} cannot be converted to {kind}: the file was written, but the runtime "
            f"does not take it: {_reason(error)}"
        ) from error


def _reason(error):
    """The line that says why, of the thousands that a converter may say."""
    text = str(error)
    lines = [line.split("error:")[-1] for line in text.splitlines() if "error:" in line]
    reason = (lines or text.strip().splitlines() or [repr(error)])[0].strip()
    if "TensorList" in reason:
        reason += ". Recurrent layers need batches of one size there: give batch_size=1"
    return reason


def _wanted(signature, found):
    """The outputs of the model for each batch."""
    wanted = [signature.outputs(batch) for batch in found]
    for index, output in enumerate(wanted[0]):
        if output.ndim == 0 or len(output) != len(found[0][0]):
            raise ValueError(
                f"output {index} of the model has shape {output.shape} for {len(found[0][0])} "
                "samples: a file gives one result for each sample. Export a model without it"
            )
    if not all(np.isfinite(output).all() for outputs in wanted for output in outputs):
        raise ValueError("the outputs of the model are NaN or infinite on these samples")
    return wanted


def _compare(runner, found, wanted):
    """(largest difference between outputs of the file and those wanted, the largest of these)"""
    gaps = [
        gap(output, expected)
        for batch, outputs in zip(found, wanted, strict=True)
        for output, expected in zip(runner.outputs(batch), outputs, strict=True)
    ]
    return np.max(gaps, axis=0).tolist()
