"""What every layer of a model is called with, seen in one pass over zeros."""

import dataclasses
import inspect
import math
import re
from collections.abc import Iterable
from typing import Any

import keras

from activation_pruning import keras_private, sites
from activation_pruning.analysis import products
from activation_pruning.support.checks import is_integer
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Model


@dataclasses.dataclass(frozen=True)
class Call:
    """The shapes of one call of a layer, batch axis included.

    Attributes:
        arguments: {name: shapes of the tensors in it, a list}.
        outputs: shapes of the tensors that came out, a list.
        itemsize: bytes of one number of the first output.
        size_bytes: bytes of all outputs together.
        products: multiply-adds of `keras.ops` that its own `call` made, beside layers in it.
    """

    arguments: dict[str, list[tuple]]
    outputs: list[tuple]
    itemsize: int
    size_bytes: int
    products: int = 0

    @property
    def inputs(self) -> list[tuple]:
        """The shapes in the first argument."""
        return next(iter(self.arguments.values()))


def record(
    model: Model, layers: Iterable[Any], input_shape: Any = None
) -> tuple[dict[int, list[Call]], int]:
    """Run the model once on zeros: ({id(layer): list of `Call`}, samples in the batch).

    Nothing that the pass assigns is kept; `input_shape` is that of `cost`.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> calls, batch = record(model, model.layers)
        >>> calls[id(model.layers[0])][0].outputs, batch
        ([(1, 3)], 1)
    """
    specs = _input_specs(model, input_shape)
    found: dict[int, list[Call]] = {}
    with _recording(layers, found), keras.StatelessScope():
        try:
            zeros = keras.tree.map_structure(lambda s: keras.ops.zeros(s.shape, s.dtype), specs)
            model(zeros, training=False)
        except Exception as error:  # whatever layers raise for inputs that they do not take
            shapes = [tuple(spec.shape) for spec in keras.tree.flatten(specs)]
            raise ValueError(
                f"the model cannot be run on zeros of shape {shapes}: {error}\nGive the shape that "
                "it takes as input_shape=, or keras.Input(shape, dtype=...) for other than floats"
            ) from error
    return found, keras.tree.flatten(specs)[0].shape[0]


def _input_specs(model, input_shape):
    """The smallest batch of each input: `KerasTensor`s of known sizes, in the model's structure."""
    own = _own_specs(model)
    specs = own if input_shape is None else _merged(own, _parsed(input_shape))
    if specs is None:
        raise ValueError(
            f"the {type(model).__name__} {model.name!r} does not say what it takes; give "
            "input_shape=, without the batch axis: (28, 28, 1)"
        )
    size = sites.batch_size(model) or 1
    return keras.tree.map_structure(lambda spec: _one_batch(spec, size), specs)


def _own_specs(model):
    """What the model itself says of its inputs, or None."""
    if sites.is_graph(model):
        return model.input if hasattr(model, "operations") else model.inputs[0]
    built_with = (model.get_build_config() or {}).get("input_shape")
    return None if built_with is None else _parsed(built_with, batch_axes=1)


def _parsed(shapes, batch_axes=0):
    """Shapes in any structure -> `KerasTensor`s with an open batch axis in the same structure."""
    if isinstance(shapes, keras.KerasTensor):
        return shapes
    if isinstance(shapes, dict):
        return {name: _parsed(shape, batch_axes) for name, shape in shapes.items()}
    if isinstance(shapes, (tuple, list)):
        sizes = shapes[batch_axes:]
        nested = any(isinstance(shape, (tuple, list, dict)) for shape in shapes)
        if not nested and all(is_integer(size) and size > 0 for size in sizes):
            return keras.KerasTensor((None, *sizes), "float32")
        if shapes and all(isinstance(s, (tuple, list, dict, keras.KerasTensor)) for s in shapes):
            return [_parsed(shape, batch_axes) for shape in shapes]
        if batch_axes:  # the model's own, with sizes that it leaves open
            return keras.KerasTensor((None, *sizes), "float32")
    raise TypeError(
        f"input_shape={shown(shapes)}; give sizes of at least 1 without the batch axis, (28, 28, "
        "1), a list or dict of such shapes, or keras.Input(shape, dtype=...) in their place"
    )


def _merged(own, given):
    """The given shapes in the structure, and with the dtypes, that the model has of its own."""
    if own is None:
        return given
    leaves, shapes = keras.tree.flatten(own), keras.tree.flatten(given)
    if isinstance(given, dict) and not isinstance(own, dict):
        unknown = set(given) ^ {leaf.name for leaf in leaves}
        if unknown:
            raise ValueError(
                f"input_shape names {sorted(given)}; the model's inputs are "
                f"{[leaf.name for leaf in leaves]}"
            )
        shapes = [given[leaf.name] for leaf in leaves]
    if len(leaves) != len(shapes):
        raise ValueError(
            f"input_shape holds {len(shapes)} shapes, the model takes {len(leaves)} inputs; give "
            "a list of shapes, one for each"
        )
    merged = []
    for leaf, shape in zip(leaves, shapes, strict=True):
        dtype = leaf.dtype if shape.dtype == "float32" else shape.dtype
        sizes = (leaf.shape[0], *shape.shape[1:])
        merged.append(keras.KerasTensor(sizes, dtype, name=leaf.name))
    return keras.tree.pack_sequence_as(own, merged)


def _one_batch(spec, size):
    _, *sizes = spec.shape
    if None in sizes:
        raise ValueError(
            f"the model takes inputs of shape {tuple(spec.shape)}, so its cost depends on sizes "
            "that it leaves open; give them as input_shape=, without the batch axis"
        )
    return keras.KerasTensor((size, *sizes), spec.dtype)


def _recording(layers, found):
    """While it lasts, calls of `layers` are appended to `found`, {id(layer): list of `Call`}."""
    running: list[int] = []  # multiply-adds of operations, for each call that is under way
    watched = [
        (layer, name, _recorded(layer, getattr(layer, name), found, running))
        for layer in layers
        for name in ("call", "quantized_call")  # of quantised layers, which takes the same
        if hasattr(layer, name)
    ]
    # Keras's own layers reach these functions by another way, and are counted as layers.
    for name, count in products.FUNCTIONS.items():
        watched.append((keras.ops, name, _watched(getattr(keras.ops, name), count, running)))
    return keras_private.overridden(watched)


def _watched(function, count, running):
    def called(*args, **kwargs):
        outputs = function(*args, **kwargs)
        if running:
            bound = inspect.signature(function).bind(*args, **kwargs).arguments
            running[-1] += count(bound, outputs)
        return outputs

    return called


def _recorded(layer, call, found, running):
    signature = inspect.signature(type(layer).call)

    def recorded(*args, **kwargs):
        before = {id(child): len(found.get(id(child), [])) for child in _directions(layer)}
        running.append(0)
        try:
            outputs = call(*args, **kwargs)
        finally:
            own = running.pop()
        arguments = signature.bind(layer, *args, **kwargs).arguments
        tensors = [leaf for leaf in keras.tree.flatten(outputs) if hasattr(leaf, "shape")]
        itemsizes = [_itemsize(tensor.dtype) for tensor in tensors]
        shapes = [tuple(tensor.shape) for tensor in tensors]
        size = sum(math.prod(shape) * n for shape, n in zip(shapes, itemsizes, strict=True))
        given = {name: _shapes(value) for name, value in list(arguments.items())[1:]}
        this = Call(given, shapes, next(iter(itemsizes), 0), size, own)
        found.setdefault(id(layer), []).append(this)
        for child in _directions(layer):
            if len(found.get(id(child), [])) == before[id(child)]:
                found.setdefault(id(child), []).append(_as_if_called(child, this))
        return outputs

    return recorded


def _directions(layer):
    """The layers that a Bidirectional may run both at once, past their `call`s."""
    if isinstance(layer, keras.layers.Bidirectional):
        return [layer.forward_layer, layer.backward_layer]
    return []


def _as_if_called(layer, outer):
    outputs = layer.compute_output_shape(outer.inputs[0])
    outputs = [tuple(s) for s in outputs] if layer.return_state else [tuple(outputs)]
    size_bytes = sum(math.prod(shape) for shape in outputs) * outer.itemsize
    return Call(outer.arguments, outputs, outer.itemsize, size_bytes)


def _shapes(value):
    return [tuple(leaf.shape) for leaf in keras.tree.flatten(value) if hasattr(leaf, "shape")]


def _itemsize(dtype):
    """Bytes of one number: Keras's dtypes carry their bits in their names, but for bool."""
    bits = re.search(r"\d+", keras.backend.standardize_dtype(dtype))
    return int(bits[0]) // 8 if bits else 1
