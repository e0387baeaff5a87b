"""Which steps of a batch count: those that no Keras mask hides."""

import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np

from activation_pruning import keras_private
from activation_pruning.support.types import Array

ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
# {id(layer): mask of its inputs}, where the layer around it has taken it off.
_INSIDE: ContextVar[Mapping[int, Any]] = ContextVar("_INSIDE", default=MappingProxyType({}))


def of_inputs(layer: keras.Layer, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The mask of the inputs of one call: as it was given, or as it travels with them; or None."""
    given = arguments(layer, args, kwargs)
    mask = given.get("mask")
    if mask is not None or not given:
        return mask
    found = keras.tree.map_structure(keras_private.get_keras_mask, next(iter(given.values())))
    return _INSIDE.get().get(id(layer)) if found is None else found


def attentions(model: keras.Layer) -> list[keras.Layer]:
    """The attention layers of a model, which take the masks off their inputs: see `inside`."""
    return [one for one in keras_private.with_sublayers(model) if isinstance(one, ATTENTION)]


def inside(call: Callable[..., Any], layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
    """Run the call of an attention layer, whose projections know their inputs' masks meanwhile."""
    given = arguments(layer, args, kwargs)
    query, value, key = (given.get(f"{name}_mask") for name in ("query", "value", "key"))
    key = value if given.get("key") is None else key
    masks = {"query": query, "gate": query, "value": value, "key": key, "attention_output": query}
    parts = [one for one in keras_private.sublayers(layer) if one.name in masks]
    before = _INSIDE.set({**_INSIDE.get(), **{id(one): masks[one.name] for one in parts}})
    try:
        return call(*args, **kwargs)
    finally:
        _INSIDE.reset(before)


def of_output(
    layer: keras.Layer, args: tuple, kwargs: dict[str, Any], output: Any, index: int = 0
) -> Any:
    """The mask of an output of one call, or None: what Keras makes of that of the inputs.

    Layers that know nothing of masks hide none of the steps; their outputs are counted as the
    inputs are where the axes of the mask are still there.
    """
    own = keras_private.get_keras_mask(output)
    if own is not None:
        return own if fits(own, output.shape) else None
    given = of_inputs(layer, args, kwargs)
    if layer.supports_masking:  # asked in any case: an Embedding makes a mask of its inputs
        inputs = next(iter(arguments(layer, args, kwargs).values()))
        masks = keras.tree.flatten(layer.compute_mask(inputs, given))
        given = masks[index] if index < len(masks) else None
    elif not _keeps_axes(layer, given, output):
        return None
    return given if given is not None and fits(given, output.shape) else None


def arguments(layer: keras.Layer, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """{name: value} of the arguments of one call of a layer, the inputs first."""
    bound = inspect.signature(type(layer).call).bind_partial(layer, *args, **kwargs).arguments
    return dict(list(bound.items())[1:])


def fits(mask: Any, shape: Any) -> bool:
    """Whether a mask covers the first axes of a shape, as far as sizes are known."""
    known = zip(mask.shape, shape, strict=False)
    return len(mask.shape) <= len(shape) and all(a == b or None in (a, b) for a, b in known)


def spread(mask: Array, shape: tuple[int, ...]) -> Array:
    """A mask of the first axes, repeated over the rest of a shape.

    Example:
        >>> spread(np.array([[True, False]]), (1, 2, 2)).tolist()
        [[[True, True], [False, False]]]
    """
    return np.broadcast_to(mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim)), shape)


class Filling(NamedTuple):
    """Of a batch of `size` the first `samples` count; the others only fill it up."""

    samples: int
    size: int

    def hidden(self, layer: keras.Layer, rows: int, mask: Any) -> Any:
        """The mask of so many rows that come of the batch in `layer`, with the filling hidden.

        Raises ValueError where there are not as many rows as samples, which hides them.
        """
        if self.samples == self.size:
            return mask
        if rows != self.size:
            raise ValueError(
                f"{layer.name}: {rows} rows come of a batch of {self.size} samples, so that those "
                "that fill up the last batch cannot be told apart; give a multiple of "
                f"{self.size} samples as data"
            )
        real = np.arange(rows) < self.samples
        if mask is None:
            return real
        mask = keras.ops.convert_to_numpy(mask)
        return mask & spread(real, mask.shape)


def _keeps_axes(layer, mask, output):
    """Whether the first axes of a layer's inputs are known to be those of its output."""
    if not hasattr(mask, "shape"):
        return False
    if isinstance(layer, keras.layers.EinsumDense):
        inputs, result = layer.equation.split(",")[0], layer.equation.split("->")[1]
        count = len(mask.shape)
        return "..." not in inputs[:count] and inputs[:count] == result[:count]
    return None not in (*mask.shape, *output.shape[: len(mask.shape)])
