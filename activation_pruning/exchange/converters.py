"""The converters: a `Signature` in, a LiteRT or ONNX file out. Both need TensorFlow."""

import pathlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from activation_pruning.exchange.signature import Signature
from activation_pruning.support.types import Array


def onnx(signature: Signature, path: pathlib.Path) -> None:
    """Write the model as an ONNX file."""
    import tf2onnx

    function, specs = _traced(signature)
    tf2onnx.convert.from_function(function, specs, output_path=str(path))


def litert(
    signature: Signature,
    path: pathlib.Path,
    quantize: str | None = None,
    sparse: bool = False,
    found: Sequence[list[Array]] = (),
) -> None:
    """Write the model as a LiteRT file, see `export`; int8 calibrates with the batches `found`."""
    import tensorflow as tf

    module = tf.Module()  # holds the variables, for the converter to read
    module.values = [variable.value for variable in signature.model.variables]
    module.function, _ = _traced(signature)
    concrete = module.function.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    if sparse:
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: _by_size(found, signature.specs[0][0][0] or 1)
    with warnings.catch_warnings():  # calibration runs an interpreter of TensorFlow's own
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated")
        path.write_bytes(converter.convert())


def _traced(signature: Signature) -> tuple[Any, list]:
    """The tf.function of it, and its TensorSpecs."""
    import tensorflow as tf

    specs = [
        tf.TensorSpec(shape, dtype, name=f"input_{index}")
        for index, (shape, dtype) in enumerate(signature.specs)
    ]
    return tf.function(signature.__call__, input_signature=specs, autograph=False), specs


def _by_size(found: Sequence[list[Array]], size: int) -> Iterator[dict[str, Array]]:
    """All samples as {name: array} of `size` samples each, the last one filled up."""
    for batch in found:
        for start in range(0, len(batch[0]), size):
            rows = np.arange(start, start + size).clip(max=len(batch[0]) - 1)
            yield {f"input_{index}": array[rows] for index, array in enumerate(batch)}
