"""Which output says that a unit is active."""

import dataclasses

import keras

from activation_pruning import keras_private

_L = keras.layers
_PASSED_THROUGH = (
    _L.BatchNormalization, _L.LayerNormalization, _L.Dropout, _L.SpatialDropout1D,
    _L.SpatialDropout2D, _L.SpatialDropout3D, _L.GaussianDropout, _L.GaussianNoise,
    _L.AlphaDropout, _L.ActivityRegularization, _L.Identity, _L.Flatten, _L.Reshape,
)  # fmt: skip
WRAPPERS = (_L.TimeDistributed, _L.Bidirectional)
_ACTIVATIONS = (_L.Activation, _L.ReLU, _L.LeakyReLU, _L.PReLU, _L.ELU, _L.Softmax)


@dataclasses.dataclass(frozen=True)
class Source:
    """The output in which a site's units are seen: `layer`'s, `units` of `width` from `start`.

    `output` picks one of several outputs; `axes` are the unit axes of that output.
    """

    layer: keras.Layer
    units: int
    width: int
    start: int = 0
    axes: tuple[int, ...] = (-1,)
    output: int = 0
    label: str = "own output"


def graph(layer):
    """Ids of the operations of a Functional or Sequential model; empty for anything else."""
    if isinstance(layer, keras.Sequential):
        return frozenset(map(id, layer.layers))
    operations = getattr(layer, "operations", None) if isinstance(layer, keras.Model) else None
    return frozenset(map(id, operations or ()))


def find(layer, kernel, graph, outer=()):
    """The output that says "active": the layer's own, its wrapper's, or the next activation's.

    Args:
        layer: a built layer.
        kernel: the `kernels.Kernel` whose units are to be seen.
        graph: ids of the operations of the innermost graph around the layer.
        outer: the wrappers that stand for the layer in that graph, outermost first.

    Returns:
        The `Source`.
    """
    units = int(kernel.unit_index(kernel.variable(layer).shape).max()) + 1
    own = Source(layer, units, units, axes=kernel.output_axes)
    wrapper = next((w for w in reversed(outer) if isinstance(w, WRAPPERS)), None)
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
