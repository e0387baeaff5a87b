"""What layers with a kernel share: it takes some channels and makes others."""

import keras
import numpy as np

from activation_pruning.graph.channels.activations import activated
from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.rules import Call
from activation_pruning.graph.known import REGISTERED
from activation_pruning.support.types import Array, Mask


def kernel_of(variable: keras.Variable) -> tuple[Array, Mask]:
    """The values, and which count as alive: of a kernel of nothing but zeros all, it is fresh."""
    values = keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))
    return values, values != 0 if values.any() else np.ones(values.shape, bool)


def by_input(variable: keras.Variable, inputs: int, units: int) -> tuple[Array, Mask]:
    """(sums of the weights, whether any is alive), both (inputs, units), over all other axes."""
    kernel, alive = kernel_of(variable)
    kept = inputs % kernel.ndim, units % kernel.ndim
    rest = tuple(axis for axis in range(kernel.ndim) if axis not in kept)
    weights, living = kernel.sum(rest), np.asarray(alive.any(rest))
    return (weights, living) if kept[0] < kept[1] else (weights.T, living.T)


def mix(
    call: Call, x: Channels, *, alive: Mask, weights: Array, folds: bool = True
) -> tuple[Array, Array]:
    """Units that a layer makes of the channels of `x`: their ids, and their values before the bias.

    alive, weights: (inputs, units), see `Use`. folds: whether constants other than zero contribute
    the same at all positions.
    """
    out = call.flow.units_of(call.layer, alive.shape[1])
    use = call.flow.use(call.layer, x, out, alive, folds=folds, weights=weights)
    known = np.where(use.folds, x.value, 0.0)
    varies = alive[~use.folds].any(axis=0)
    return out, np.where(varies, np.nan, known @ weights.astype(np.float64))


def mixed(call: Call, *, inputs: int, units: int, size: str, folds: bool = True) -> Channels:
    """The outputs of a layer whose `kernel` has one axis of `inputs` and one of `units`.

    It computes activation(x kernel + bias), of attributes with these names; the last two may be
    None, or missing.

    Args:
        call: of the layer.
        inputs, units: these axes of its kernel.
        size: what the layer's configuration calls the number of units.
        folds: whether constants contribute the same at all positions, so that they go into the
            bias. Where a layer outside of Keras has none, only zeros go.

    Example:
        >>> import activation_pruning as ap
        >>> class Linear(keras.layers.Layer):
        ...     def __init__(self, width, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.width = width
        ...     def build(self, shape):
        ...         self.kernel = self.add_weight(shape=(self.width, shape[-1]), name="kernel")
        ...     def call(self, x):
        ...         return keras.ops.matmul(x, keras.ops.transpose(self.kernel))
        ...     def get_config(self):
        ...         return {**super().get_config(), "width": self.width}
        >>> ap.sites.register(Linear, ap.sites.Kernel("kernel", (0,), 1))
        >>> ap.channels.register(Linear, lambda call: mixed(call, inputs=1, units=0, size="width"))
        >>> model = keras.Sequential([keras.Input((8,)), Linear(6), keras.layers.Dense(2)])
        >>> report = ap.prune(model, 0.5, granularity="unit")
        >>> ap.compact(model).layers[0].width
        3
    """
    x, layer = call.along(), call.layer
    weights, alive = by_input(layer.kernel, inputs, units)
    folds &= not (type(layer) in REGISTERED and getattr(layer, "bias", None) is None)
    out, value = mix(call, x, alive=alive, weights=weights, folds=folds)
    call.flow.slice(layer.kernel, inputs, x.ids)
    call.flow.slice(layer.kernel, units, out)
    call.flow.size(layer, size, out)
    return finished(call, x.axis, out, value)


def finished(call: Call, axis: int, out: Array, value: Array, bias_axis: int = -1) -> Channels:
    """Add the bias, apply the activation, remember what is known of the units."""
    bias = getattr(call.layer, "bias", None)
    if bias is not None:
        call.flow.slice(bias, bias_axis, out)
        value = value + keras.ops.convert_to_numpy(keras.ops.cast(bias, "float32")).reshape(-1)
    return call.flow.made(call.layer, activated(call, Channels(call.shape, axis, out, value)))
