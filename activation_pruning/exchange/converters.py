"""A model as a function of flat inputs, and the converters that make files of it.

A `Signature` is what both converters take: the model as it acts in inference. LiteRT and ONNX both
need TensorFlow.
"""

import dataclasses
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from activation_pruning import keras_private, sites
from activation_pruning.evidence import batches
from activation_pruning.exchange.exported import equal_batches
from activation_pruning.graph import copies
from activation_pruning.support.types import Array, Data, Model

_OPEN_AXIS = 32  # size of random samples where the model leaves an axis open
_RUN = 100  # samples per batch: 256 of them make batches of two sizes


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a converter wants to know: a function of arrays, one for each input of the model.

    specs: shape (None for an open axis) and dtype of each input.
    structure: what the model takes, as `keras.tree` packs it; a list of one stands for its item.
    """

    model: Model
    specs: list[tuple[tuple, str]]
    structure: Any

    def __call__(self, *inputs: Any) -> dict[str, Any]:
        single = isinstance(self.structure, list) and len(self.structure) == 1
        x = inputs[0] if single else keras.tree.pack_sequence_as(self.structure, list(inputs))
        with batches.stateless(self.model):
            outputs = keras.tree.flatten(self.model(x, training=False))
        return {f"output_{index}": output for index, output in enumerate(outputs)}

    def outputs(self, batch: list[Array]) -> list[Array]:
        """The outputs for one batch, as NumPy arrays."""
        return [keras.ops.convert_to_numpy(output) for output in self(*batch).values()]

    def traced(self) -> tuple[Any, list]:
        """The tf.function of it, and its TensorSpecs."""
        import tensorflow as tf

        numbered = enumerate(self.specs)
        specs = [tf.TensorSpec(shape, dtype, f"input_{i}") for i, (shape, dtype) in numbered]
        return tf.function(self.__call__, input_signature=specs, autograph=False), specs

    def random(self, samples: int, seed: int) -> list[list[Array]]:
        """Batches of seeded random inputs: standard normal, or 0 and 1 for integers.

        Where the model masks steps, some samples have such steps: in front, behind or between.
        """
        fixed = sites.batch_size(self.model)
        samples = -(-samples // fixed) * fixed if fixed else samples
        generator, found = np.random.default_rng(seed), []
        for shape, dtype in self.specs:
            size = (samples, *(_OPEN_AXIS if axis is None else axis for axis in shape[1:]))
            floats = np.dtype(dtype).kind == "f"  # for others: 0 and 1 are in every vocabulary
            values = generator.normal(size=size) if floats else generator.integers(0, 2, size)
            found.append(self._padded(values.astype(dtype), generator))
        run = fixed or _RUN
        starts = range(0, samples, run)
        return [[array[start : start + run] for array in found] for start in starts]

    def _padded(self, values, generator):
        """Steps along the second axis that hold nothing but the value of a Masking layer."""
        layers = keras_private.with_sublayers(self.model)
        marks = [layer.mask_value for layer in layers if isinstance(layer, keras.layers.Masking)]
        if marks and values.ndim > 1 and values.shape[1] > 1:
            steps = np.arange(values.shape[1])
            for sample in values[1::2]:  # each second one is whole; none is padded altogether
                at, place = generator.integers(1, len(steps)), generator.integers(3)
                chosen = (steps >= at, steps < at, steps == at)[place]
                sample[chosen] = marks[generator.integers(len(marks))]
        return values


def signature(
    model: Model, found: list[list[Array]] | None = None, batch_size: int | None = None
) -> Signature:
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
    for index, (_, dtype) in enumerate(specs):
        if dtype == "string" or dtype.startswith(("str", "bytes", "object")):
            name = model.inputs[index].name if sites.is_graph(model) else f"number {index}"
            raise ValueError(
                f"input {name!r} of the model {model.name!r} takes text, and files take numbers "
                "only. Export the part behind the layers that read text: keras.Model(tensor, "
                "model.output), and prepare the numbers outside"
            )
    return Signature(model, specs, structure)


def given(model: Model, data: Data, samples: int) -> list[list[Array]] | None:
    """The first samples of `data`, as batches of arrays in the order of the model's inputs.

    None where there is no data.
    """
    if data is None:
        return None
    found, left, fixed = [], samples, sites.batch_size(model)
    for batch, count in batches.to_run(data, _RUN, model):
        found.append([array if fixed else array[:left] for array in _flat(model, batch)])
        left -= count
        if left <= 0:
            break
    return found


def in_float32(model: Model) -> Model:
    """The model itself, or a copy of it where any part computes in another dtype."""
    parts = keras_private.with_sublayers(model)
    if all(part.compute_dtype in (None, "float32") for part in parts):
        return model
    if not sites.is_graph(model):
        raise ValueError(
            f"the subclassed model {type(model).__name__} computes in {model.compute_dtype}; files "
            "are written in float32. Make it with dtype='float32' and copy the weights"
        )
    return copies.rebuild(
        model, lambda layer, copy: copies.copy_in_float32(layer), copies.copy_weights
    )


def onnx(signature: Signature, path: pathlib.Path) -> None:
    """Write the model as an ONNX file."""
    import onnx as onnx_format
    import tf2onnx

    function, specs = signature.traced()
    function = _with_constants(function, specs)
    written, _ = tf2onnx.convert.from_function(function, specs, output_path=str(path))
    nodes = [node for node in written.graph.node if not node.domain]
    left = [node for node in nodes if not onnx_format.defs.has(node.op_type)]
    if left:  # it only writes a line on the screen
        kinds, places = sorted({node.op_type for node in left}), [node.name for node in left]
        raise ValueError(
            f"tf2onnx knows no counterpart of {kinds} in {_layers_at(signature.model, places)}. "
            "Write a .tflite file, "
            "or build the model without it; a grouped convolution, say, as a Concatenate of "
            "convolutions of slices"
        )


def _with_constants(function, specs):
    """The function with the tensors that layers keep (what `Normalization` derives) written in it.

    tf2onnx freezes variables only, and makes inputs of the file of other tensors from outside.
    """
    import tensorflow as tf

    traced = function.get_concrete_function()
    outside = traced.captured_inputs
    if all(tensor.dtype == tf.resource for tensor in outside):
        return function

    def inlined(*inputs):
        here = tf.compat.v1.get_default_graph()
        for variable in traced.variables:  # so that tf2onnx finds them
            variable.read_value()
        held = [
            here.capture(one) if one.dtype == tf.resource else tf.constant(one.numpy())
            for one in outside
        ]
        names = [tensor.name for tensor in traced.inputs]
        given = dict(zip(names, [*inputs, *held], strict=True))
        wanted = {name: tensor.name for name, tensor in traced.structured_outputs.items()}
        graph = traced.graph.as_graph_def()
        found = tf.graph_util.import_graph_def(graph, given, [*wanted.values()], name="")
        return dict(zip(wanted, found, strict=True))

    return tf.function(inlined, input_signature=specs, autograph=False)


def _layers_at(model, places):
    """The names of the layers in which these nodes stand; the nodes where there are none."""
    layers = keras_private.with_sublayers(model)[1:]
    return [one.name for one in layers if any(_is_in(one, place) for place in places)] or places


def _is_in(layer, place):
    """Whether a node stands in a layer; TensorFlow numbers the names of its scopes."""
    parts = place.split("/")[:-1]
    return any(part.rpartition("_")[0] == layer.name or part == layer.name for part in parts)


def litert(
    signature: Signature,
    path: pathlib.Path,
    quantize: str | None = None,
    sparse: bool = False,
    found: Sequence[list[Array]] = (),
) -> None:
    """Write the model as a LiteRT file, see `export`; int8 calibrates with the batches `found`.

    "learned": int8 by the ranges that the model itself rounds activations in.
    """
    import tensorflow as tf

    module = tf.Module()  # holds the variables, for the converter to read
    module.values = [variable.value for variable in signature.model.variables]
    module.function, _ = signature.traced()
    concrete = module.function.get_concrete_function()
    if quantize == "int8":
        _check_calibrated(concrete.graph.as_graph_def(), signature.model)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    if sparse:
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        named = [{f"input_{i}": array for i, array in enumerate(batch)} for batch in found]
        size = signature.specs[0][0][0] or 1
        converter.representative_dataset = lambda: (
            part for batch in named for part in equal_batches(batch, size)
        )
    with warnings.catch_warnings():  # calibration runs an interpreter of TensorFlow's own
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated")
        path.write_bytes(converter.convert())


def _check_calibrated(graph, model):
    """Refuse what LiteRT's calibration does not survive: it takes the whole process with it."""
    inside = (node for function in graph.library.function for node in function.node_def)
    lists = [node.name for node in (*graph.node, *inside) if node.op.startswith("TensorList")]
    if lists:
        raise ValueError(
            f"LiteRT cannot measure the ranges of activations in loops over steps, as in "
            f"{_layers_at(model, lists)}. Make recurrent layers with unroll=True, or choose "
            "quantize='dynamic'"
        )


def gap(found: Array, wanted: Array) -> tuple[float, float]:
    """(max |found - wanted|, max |wanted|) of the same output of two models, of equal shapes."""
    if found.shape != wanted.shape:
        raise ValueError(f"an output has shape {found.shape}, the model's {wanted.shape}")
    pair = np.subtract(found, wanted, dtype="float64"), wanted
    difference, largest = (float(np.abs(x, dtype="float64").max(initial=0.0)) for x in pair)
    return difference, largest


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
