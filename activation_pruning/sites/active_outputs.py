"""Which output says that a unit is active."""

import dataclasses
from collections.abc import Collection, Sequence

import keras
import numpy as np

from activation_pruning import keras_private
from activation_pruning.sites import layer_classes
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

    `output` picks one of several outputs; `axes` are the unit axes of that output.

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

    def by_unit(self, values: Array) -> Array:
        """Values of the output's shape as an array of shape (samples, positions, units)."""
        axes = [axis % values.ndim for axis in self.axes]
        moved = np.moveaxis(values, axes, range(-len(axes), 0))
        own = moved.reshape(len(values), -1, self.width)
        return own[..., self.start : self.start + self.units]


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
    units = int(kernel.unit_index(kernel.variable(layer).shape).max()) + 1
    own = Source(layer, units, units, axes=kernel.output_axes)
    wrapper = next((w for w in reversed(outer) if isinstance(w, layer_classes.WRAPPERS)), None)
    if isinstance(wrapper, _L.Bidirectional):
        return _direction(wrapper, layer, own)
    if wrapper is not None:  # TimeDistributed calls past `layer.__call__`, once for each step
        own = dataclasses.replace(own, layer=wrapper, label=wrapper.name)
    linear = getattr(layer, "activation", None) in (None, keras.activations.linear)
    if isinstance(layer, _L.RNN) or not linear:
        return own if wrapper else dataclasses.replace(own, label="own activation")
    activation = _next_activation(outer[0] if outer else layer, graph, kernel.output_axes == (-1,))
    return dataclasses.replace(own, layer=activation, label=activation.name) if activation else own


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
