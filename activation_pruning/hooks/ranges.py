"""Fake quantisation of one tensor: what it would be in few bits; gradients as if it were not."""

from typing import Any

import keras
import numpy as np
from keras import ops

from activation_pruning import keras_private
from activation_pruning.support.types import Array

_TINY = 1e-12  # the least half-width of a range: an empty one has no scale


class Range(keras.Layer):
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
        super().__init__(name="activation_pruning_range", trainable=False)
        self.bits, self.momentum, self.fixed = bits, momentum, fixed
        self.ends = keras.Variable(
            np.zeros(3, "float32"), trainable=False, dtype="float32", autocast=False
        )  # low, high, and whether any batch was seen
        self.frozen: tuple[float, float] | None = None
        self.observing = False  # in inference, too, as long as data is shown to begin with
        self.built = True

    @property
    def weights(self) -> list[keras.Variable]:
        # As the state of other hooks: carried along by training, seen by nobody else.
        return []

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


def weights(kernel: Any, unit_axes: tuple[int, ...], bits: int) -> Any:
    """A kernel with each unit's weights rounded to 2^bits - 1 values, as many above as below zero.

    scale = max |w| / (2^(bits - 1) - 1) for each unit, and zero is a value: exact zeros stay.
    """
    rank = len(kernel.shape)
    axes = [axis % rank for axis in unit_axes]
    order = [axis for axis in range(rank) if axis not in axes] + axes
    moved = kernel if order == list(range(rank)) else ops.transpose(kernel, order)
    flat = moved if len(axes) == 1 else ops.reshape(moved, (-1, _size(kernel, axes)))
    values = ops.stop_gradient(ops.abs(flat))
    most = ops.maximum(ops.max(values, axis=tuple(range(len(flat.shape) - 1))), _TINY)
    found = keras.quantizers.fake_quant_with_min_max_vars(
        flat, -most, most, num_bits=bits, narrow_range=True, axis=len(flat.shape) - 1
    )
    found = found if len(axes) == 1 else ops.reshape(found, moved.shape)
    return found if moved is kernel else ops.transpose(found, list(np.argsort(order)))


def _size(kernel, axes):
    return int(np.prod([kernel.shape[axis] for axis in axes]))


def grid(kernel: Array, unit_axes: tuple[int, ...], bits: int) -> Array:
    """What `weights` makes of an array: exactly the values that a file with these scales holds."""
    axes = [axis % kernel.ndim for axis in unit_axes]
    rest = tuple(axis for axis in range(kernel.ndim) if axis not in axes)
    most = np.maximum(np.abs(kernel).max(axis=rest, keepdims=True), _TINY).astype(np.float32)
    scale = most / np.float32(2 ** (bits - 1) - 1)
    return (np.rint(kernel.astype(np.float32) / scale) * scale).astype(np.float32)


def add(layer: keras.Layer, one: Range) -> Any:
    """Have a layer carry a range along; returns what takes it away."""
    return keras_private.add_state(layer, one)
