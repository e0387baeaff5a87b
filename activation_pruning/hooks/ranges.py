"""Fake quantisation of one tensor: its values as if in few bits, its gradients as if not."""

from typing import Any

import keras
import numpy as np
from keras import ops

from activation_pruning.hooks.state import State
from activation_pruning.support.types import Array

_TINY = 1e-12  # the least half-width of a range: an empty one has no scale


class Range(State):
    """Learns between which values a tensor lies, and rounds it to 2^bits values between them.

    In training a batch moves the ends, low <= 0 <= high, by

        low = momentum * low + (1 - momentum) * min(batch, 0),  high likewise,

    and the first batch sets them. Before it nothing is rounded in inference.

    Args:
        fixed: (low, high) that are not learned, or None.
    """

    def __init__(
        self, bits: int, momentum: float, fixed: tuple[float, float] | None = None
    ) -> None:
        # Low, high, and whether any batch was seen.
        super().__init__(
            ends=keras.Variable(
                np.zeros(3, "float32"), trainable=False, dtype="float32", autocast=False
            )
        )
        self.bits, self.momentum, self.fixed = bits, momentum, fixed
        self.frozen: tuple[float, float] | None = None
        self.observing = False  # in inference, too, as long as data is shown to begin with

    def read(self) -> tuple[float, float, bool]:
        """(low, high, whether any batch was seen) by now."""
        if self.fixed:
            return (*self.fixed, True)
        low, high, seen = map(float, ops.convert_to_numpy(self.ends))
        return low, high, seen > 0

    def set(self, low: float, high: float) -> None:
        """Have these ends from now on, until training moves them."""
        self.ends.assign(np.array([low, high, 1.0], "float32"))

    def call(self, x: Any, training: bool | None = None) -> Any:
        known = self.frozen or self.fixed
        if known:
            return _rounded(x, *known, self.bits)
        if not (training or self.observing):
            low, high, seen = ops.unstack(self.ends.value)
            return ops.where(seen > 0, _rounded(x, low, high, self.bits), x)
        values = ops.cast(ops.stop_gradient(x), "float32")
        batch = ops.stack([ops.minimum(ops.min(values), 0.0), ops.maximum(ops.max(values), 0.0)])
        old, seen = self.ends.value[:2], self.ends.value[2]
        kept = self.momentum * ops.minimum(seen, 1.0)
        new = kept * old + (1 - kept) * batch
        self.ends.assign(ops.concatenate([new, ops.ones((1,), "float32")]))
        return _rounded(x, new[0], new[1], self.bits)


def _rounded(x, low, high, bits):
    high = ops.maximum(high, low + 2 * _TINY)
    return keras.quantizers.fake_quant_with_min_max_vars(x, low, high, num_bits=bits)


def _straight_through(x, rounded):
    """The rounded values, with the gradient of x."""
    return x + ops.stop_gradient(rounded - x)


def weights(kernel: Any, unit_axes: tuple[int, ...], bits: int) -> Any:
    """A kernel with each unit's weights rounded to 2^bits - 1 values, as many above as below zero.

    scale = max |w| / (2^(bits - 1) - 1) for each unit, and zero is a value: exact zeros stay. No
    weight lies outside, so the gradient is that of the rounded kernel.
    """
    wide = ops.cast(kernel, "float32")
    return ops.cast(_straight_through(wide, _by_unit(wide, unit_axes, bits)), kernel.dtype)


def grid(kernel: Array, unit_axes: tuple[int, ...], bits: int) -> Array:
    """What `weights` makes of an array: exactly the values that a file with these scales holds."""
    wide = ops.convert_to_tensor(kernel, dtype="float32")
    return ops.convert_to_numpy(_by_unit(wide, unit_axes, bits))


def _by_unit(kernel, unit_axes, bits):
    own = [axis % len(kernel.shape) for axis in unit_axes]
    rest = tuple(axis for axis in range(len(kernel.shape)) if axis not in own)
    most = ops.max(ops.stop_gradient(ops.abs(kernel)), axis=rest, keepdims=True)
    scale = ops.maximum(most, _TINY) / (2 ** (bits - 1) - 1)
    return ops.round(kernel / scale) * scale
