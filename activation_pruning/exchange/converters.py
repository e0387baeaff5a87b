"""A Keras model as a function of flat inputs, and the converters that take such functions."""

import dataclasses
import warnings
from collections.abc import Callable

import keras
import numpy as np

from activation_pruning import sites
from activation_pruning.evidence import batches

_OPEN_AXIS = 32  # size of random samples where the model leaves an axis open
_RUN = 100  # samples per batch: 256 of them make batches of two sizes


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a converter wants to know: a function of arrays, one for each input of the model.

    specs: shape (None for an open axis) and dtype of each input.
    pack: list of inputs -> the structure that the model takes.
    """

    model: keras.Model
    specs: list
    pack: Callable

    def __call__(self, *inputs):
        outputs = keras.tree.flatten(self.model(self.pack(list(inputs)), training=False))
        return {f"output_{index}": output for index, output in enumerate(outputs)}

    def outputs(self, batch):
        """The outputs for one batch, as NumPy arrays."""
        return [keras.ops.convert_to_numpy(output) for output in self(*batch).values()]

    def random(self, samples, seed):
        """Batches of seeded random inputs: standard normal, or 0 and 1 for integers."""
        generator, found = np.random.default_rng(seed), []
        for shape, dtype in self.specs:
            size = (samples, *(_OPEN_AXIS if axis is None else axis for axis in shape[1:]))
            if np.dtype(dtype).kind == "f":
                values = generator.normal(size=size)
            else:  # 0 and 1 are in every vocabulary
                values = generator.integers(0, 2, size)
            found.append(values.astype(dtype))
        starts = range(0, samples, _RUN)
        return [[array[start : start + _RUN] for array in found] for start in starts]


def signature(model, found=None, batch_size=None):
    """The `Signature` of a model; of a subclassed one by the inputs in `found`, see `given`."""
    if sites.is_graph(model):
        specs = [((batch_size, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs]
        structure = [None] if isinstance(model, keras.Sequential) else model.input
    elif found is None:
        raise ValueError(
            f"the subclassed model {type(model).__name__} does not say what its inputs are; give "
            "some as data="
        )
    else:
        specs = [((batch_size, *array.shape[1:]), array.dtype.name) for array in found[0]]
        structure = [None] * len(specs)

    def pack(inputs):
        single = isinstance(structure, list) and len(structure) == 1
        return inputs[0] if single else keras.tree.pack_sequence_as(structure, inputs)

    return Signature(model, specs, pack)


def given(model, data, samples):
    """The first samples of `data`, as batches of arrays in the order of the model's inputs."""
    found, left = [], samples
    for batch in batches.inputs_of(data, _RUN, model):
        found.append([array[:left] for array in _flat(model, batch)])
        left -= len(found[-1][0])
        if left <= 0:
            break
    return found


def _flat(model, batch):
    batch = keras.tree.map_structure(keras.ops.convert_to_numpy, batch)
    if not sites.is_graph(model):
        if isinstance(batch, dict):
            raise ValueError("data of a subclassed model must be an array or a list of arrays")
        arrays = keras.tree.flatten(batch)
        return [a.astype(keras.config.floatx()) if a.dtype.kind == "f" else a for a in arrays]
    names = [tensor.name for tensor in model.inputs]
    named = isinstance(batch, dict) and set(batch) == set(names)
    arrays = [batch[name] for name in names] if named else keras.tree.flatten(batch)
    return [
        _fitted(array, tensor.shape).astype(tensor.dtype)
        for array, tensor in zip(arrays, model.inputs, strict=True)
    ]


def _fitted(array, shape):
    # Keras adds or drops a last axis of one by itself; a file does not.
    if array.ndim == len(shape) + 1:
        return array[..., 0]
    return array[..., None] if array.ndim == len(shape) - 1 else array


def onnx(signature, path):
    """Write the model as an ONNX file."""
    import tf2onnx

    function, specs = _traced(signature)
    tf2onnx.convert.from_function(function, specs, output_path=str(path))


def litert(signature, path, quantize=None, sparse=False, found=()):
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


def _traced(signature):
    """The tf.function of it, and its TensorSpecs."""
    import tensorflow as tf

    specs = [
        tf.TensorSpec(shape, dtype, name=f"input_{index}")
        for index, (shape, dtype) in enumerate(signature.specs)
    ]
    return tf.function(signature.__call__, input_signature=specs, autograph=False), specs


def _by_size(found, size):
    """All samples as {name: array} of `size` samples each, the last one filled up."""
    for batch in found:
        for start in range(0, len(batch[0]), size):
            rows = np.arange(start, start + size).clip(max=len(batch[0]) - 1)
            yield {f"input_{index}": array[rows] for index, array in enumerate(batch)}
