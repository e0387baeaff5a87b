"""What functions that no rule knows do to channels, found out by trying."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from activation_pruning.graph.channels.flow import Channels, spread
from activation_pruning.graph.channels.rules import Call
from activation_pruning.support.types import Array

_OPEN = 2  # what stands for a size that is not known


def number_by_number(function: Callable[..., Any]) -> bool:
    """Whether a function seems to treat each number by itself, whatever is beside it.

    Numbers of several sizes and signs are given to it together and one by one. What mixes numbers,
    draws at random, or holds something for each channel shows; what mixes only numbers unlike
    these (beyond 100, say) or only where a shape has more than two axes does not.

    Example:
        >>> number_by_number(keras.activations.gelu), number_by_number(keras.activations.softmax)
        (True, False)
    """
    scales = np.array([[0.1], [1.0], [10.0], [100.0]])
    numbers = np.random.default_rng(0).normal(size=(4, 6)) * scales
    numbers = np.concatenate([numbers, np.zeros((4, 1))], axis=1).astype("float32")
    try:
        together = _numpy(function(keras.ops.convert_to_tensor(numbers)))
        alone = [_numpy(function(keras.ops.convert_to_tensor(n[None, None]))) for n in numbers.flat]
    except Exception:  # whatever a function of the user's own raises
        return False
    same_shape = together.shape == numbers.shape and all(one.shape == (1, 1) for one in alone)
    return same_shape and _equal(together, np.reshape(alone, numbers.shape))


def channel_by_channel(call: Call, x: Channels, outputs: list[tuple[int, Array]]) -> bool:
    """Whether a call makes the same of the channels of `x` that are left when others go.

    Tried on random numbers: for any two channels, once with the one and without the other, and the
    other way round. So a call that lets one channel depend on another shows, unless it does so only
    for numbers unlike these (normally distributed, some of them zeros), and one that counts them.

    Args:
        call: of one tensor, `x`.
        x: its channels.
        outputs: for each output (axis, the channel that is at each of its indices).
    """
    shape = _closed(x.shape)
    generator = np.random.default_rng(0)
    values = generator.normal(size=shape) * (generator.random(shape) < 0.7)  # and some zeros
    values = values.astype("float32")
    try:
        whole = call.run(x, values)
        for kept in _halves(shape[x.axis]):
            found = call.run(x, np.compress(kept, values, axis=x.axis))
            for before, after, (axis, origin) in zip(whole, found, outputs, strict=True):
                if not _equal(np.compress(kept[origin], before, axis=axis), after):
                    return False
    except Exception:  # whatever a layer of the user's own raises
        return False
    return True


def constants(call: Call, x: Channels) -> Array:
    """What a call that treats channels by themselves makes of those that are constant.

    NaN where that differs between positions, and where the channel varies.
    """
    values = np.random.default_rng(0).normal(size=_closed(x.shape)).astype("float32")
    known = np.isfinite(x.value)
    by_channel = np.moveaxis(values, x.axis, -1)  # a view
    by_channel[..., known] = x.value[known]
    found = np.moveaxis(call.run(x, values)[0], x.axis, -1).reshape(-1, len(known))
    return np.where(known & (found == found[:1]).all(axis=0), found[0], np.nan)


def origins(call: Call, x: Channels) -> list[Array]:
    """For each output of a call that only moves numbers: the channel that each of them is of."""
    shape = _closed(x.shape)
    numbers = np.array(spread(np.arange(shape[x.axis]), x.axis, shape), "int32")
    return call.run(x, numbers)


def _closed(shape):
    return tuple(_OPEN if size is None else size for size in shape)


def _halves(number: int) -> Iterator[Array]:
    """Masks of channels; of any two, one is kept without the other in some."""
    for bit in range(max(number - 1, 0).bit_length()):
        kept = (np.arange(number) >> bit & 1).astype(bool)
        yield kept
        yield ~kept


def _equal(some, others):
    return some.shape == others.shape and np.allclose(some, others, 1e-5, 1e-6, equal_nan=True)


def _numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)
