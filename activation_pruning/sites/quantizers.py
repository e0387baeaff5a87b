"""Layers that compute with quantised kernels: whether a pruned weight is still zero there."""

import math

import keras
import numpy as np

from activation_pruning.sites.kernels import Kernel


def refusal(layer: keras.Layer, kernel: Kernel) -> str:
    """Why zeros in a kernel would act as other numbers, "" where they stay zeros.

    The layer's quantiser is tried on numbers every second of which is zero. The kernel itself is
    not read: it may be a fresh one, or on a device within an epoch.

    Example:
        >>> layer = keras.layers.Dense(3)
        >>> layer.build((None, 4))
        >>> refusal(layer, Kernel("kernel"))
        ''
        >>> layer.kernel_quantizer = lambda w: keras.ops.where(w < 0, -1.0, 1.0)
        >>> refusal(layer, Kernel("kernel"))  # doctest: +ELLIPSIS
        '`kernel_quantizer` makes 1 of a zero, ...
    """
    name, quantizer = kernel.quantizer_of(layer)
    if not callable(quantizer):
        return ""
    variable = kernel.variable(layer)
    tried = np.linspace(-1, 1, math.prod(variable.shape), dtype=np.float32)
    tried[::2] = 0
    values = keras.ops.convert_to_tensor(tried.reshape(variable.shape), dtype=variable.dtype)
    made = keras.ops.convert_to_numpy(keras.ops.cast(quantizer(values), "float32"))
    moved = made.reshape(-1)[::2]
    moved = moved[moved != 0]
    if not moved.size:
        return ""
    return (
        f"`{name}` makes {moved[0]:g} of a zero, so that pruned weights would act; give the layer "
        "a quantiser that keeps zeros"
    )
