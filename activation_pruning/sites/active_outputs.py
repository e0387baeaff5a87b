"""Which output says that a unit is active."""

import dataclasses
import inspect
import math
from collections.abc import Collection, Sequence
from typing import Any

import keras
import numpy as np

from activation_pruning import keras_private
from activation_pruning.sites import layer_classes, padding
from activation_pruning.sites.kernels import Kernel
from activation_pruning.support.types import Array

_L = keras.layers
_PASSED_THROUGH = (
    _L.BatchNormalization, _L.LayerNormalization, _L.Flatten, _L.Reshape, *layer_classes.UNCHANGED,
)  # fmt: skip
_ACTIVATIONS = (_L.Activation, *layer_classes.ACTIVATIONS)


@dataclasses.dataclass(frozen=True)
class Source:
    """The output in which a site's units are seen: `layer`'s, `units` of `width` from `start`.

    `output` picks one of several outputs; `axes` are the unit axes of that output. `exact`: their
    size is `width`, which flattening may multiply. `square`: the layer has as many inputs as
    units, so that sizes don't tell the two apart.

    Example:
        >>> import keras, numpy as np
        >>> from activation_pruning import sites
        >>> model = keras.Sequential([keras.Input((8, 2)), keras.layers.Conv1D(3, 1),
        ...                           keras.layers.ReLU(name="relu")])
        >>> x = np.ones((4, 8, 2))
        >>> source = sites.find(model, exclude=()).sites[0].source
        >>> source.label, source.units, source.by_unit(model.predict(x, verbose=0)).shape
        ('relu', 3, (4, 8, 3))
    """

    layer: keras.Layer
    units: int
    width: int
    start: int = 0
    axes: tuple[int, ...] = (-1,)
    output: int = 0
    label: str = "own output"
    exact: bool = True
    # Not compared: the kernels of a recurrent layer show their units in the same place.
    square: bool = dataclasses.field(default=False, compare=False)

    def seen(self, args: tuple, kwargs: dict[str, Any], outputs: Any) -> tuple[Any, Any] | None:
        """(the output that shows the units, its mask or None) of one call of the layer.

        None where this call shows none: a tied head gives logits when it is called in reverse.
        """
        tensor = keras.tree.flatten(outputs)[self.output]
        rank = len(tensor.shape)
        if not all(0 < axis < rank or -rank < axis < 0 for axis in self.axes):
            return None  # nothing left for the samples
        sizes = [tensor.shape[axis] for axis in self.axes]
        if None not in sizes:
            times, rest = divmod(math.prod(sizes), self.width)
            if rest or (self.exact and times != 1):
                return None
        if self.square and _in_another_way(self.layer, args, kwargs, tensor):
            return None
        first = min(axis % rank for axis in self.axes)
        mask = padding.of_output(self.layer, args, kwargs, tensor, self.output)
        return tensor, mask if mask is not None and len(mask.shape) <= first else None

    def by_unit(self, values: Array) -> Array:
        """Values of the output's shape as an array of shape (samples, positions, units)."""
        axes = [axis % values.ndim for axis in self.axes]
        moved = np.moveaxis(values, axes, range(-len(axes), 0))
        own = moved.reshape(len(values), -1, self.width)
        return own[..., self.start : self.start + self.units]

    def weights(self, mask: Array | None, shape: tuple[int, ...]) -> Array:
        """What each position counts in the mean of its sample: array of shape (samples, positions).

        A row sums to 1, or to 0 where the mask hides all of a sample; `shape` is the output's.
        """
        axes = {axis % len(shape) for axis in self.axes}
        rest = tuple(size for axis, size in enumerate(shape) if axis not in axes)
        mask = np.ones(shape[:1], bool) if mask is None else mask
        real = padding.spread(mask, rest).reshape(len(mask), -1)
        flattened = math.prod(shape) // (math.prod(rest) * self.width)
        real = np.repeat(real, flattened, axis=1)
        return real / np.maximum(real.sum(axis=1, keepdims=True), 1)


def find(
    layer: keras.Layer, kernel: Kernel, graph: Collection[int], outer: Sequence[keras.Layer] = ()
) -> Source:
    """The output that says "active": the layer's own, its wrapper's, or the next activation's.

    Args:
        layer: a built layer.
        kernel: the one whose units are to be seen.
        graph: ids of the operations of the innermost graph around the layer.
        outer: the wrappers that stand for the layer in that graph, outermost first.
    """
    shape = kernel.variable(layer).shape
    units = int(kernel.unit_index(shape).max()) + 1
    square = shape[kernel.input_axis] == units
    own = Source(layer, units, units, axes=kernel.output_axes, square=square)
    wrapper = next((w for w in reversed(outer) if isinstance(w, layer_classes.WRAPPERS)), None)
    if isinstance(wrapper, _L.Bidirectional):
        return _direction(wrapper, layer, own)
    if wrapper is not None:  # TimeDistributed calls past `layer.__call__`, once for each step
        own = dataclasses.replace(own, layer=wrapper, label=wrapper.name)
    linear = getattr(layer, "activation", None) in (None, keras.activations.linear)
    if isinstance(layer, _L.RNN) or not linear:
        return own if wrapper else dataclasses.replace(own, label="own activation")
    activation = _next_activation(outer[0] if outer else layer, graph, kernel.output_axes == (-1,))
    if activation is None:
        return own
    after = {"layer": activation, "label": activation.name, "exact": False, "square": False}
    return dataclasses.replace(own, **after)


def _in_another_way(layer, args, kwargs, output):
    """Whether a call turns a flag of the layer's own around, or an Embedding looks nothing up."""
    given = padding.arguments(layer, args, kwargs)
    if isinstance(layer, _L.Embedding):
        return len(output.shape) != len(next(iter(given.values())).shape) + 1
    parameters = inspect.signature(type(layer).call).parameters
    return any(
        isinstance(value, bool) and parameters[name].default is (not value)
        for name, value in given.items()
        if name in parameters and name != "training"
    )


def _direction(wrapper, layer, own):
    """Where the units of one direction lie in the output of a `Bidirectional`."""
    backward = layer is wrapper.backward_layer
    joined, separate = wrapper.merge_mode == "concat", wrapper.merge_mode is None
    return dataclasses.replace(
        own,
        layer=wrapper,
        width=own.units * (2 if joined else 1),
        start=own.units if joined and backward else 0,
        output=int(separate and backward),
        label=wrapper.name,
    )


def _next_activation(layer, graph, units_last):
    """The activation layer that alone takes the output of `layer`, or None."""
    while keras_private.calls_in_graph(layer, graph) == 1:
        following = keras_private.consumers(layer, graph)
        if len(following) != 1:
            return None
        layer = following[0]
        if isinstance(layer, (_L.Flatten, _L.Reshape)) and not units_last:
            return None  # only with units last does flattening keep a unit's positions together
        if isinstance(layer, _ACTIVATIONS):
            return layer if keras_private.calls_in_graph(layer, graph) == 1 else None
        if not isinstance(layer, _PASSED_THROUGH):
            return None
    return None
