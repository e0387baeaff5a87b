"""What functions that no rule knows do to channels, found out by trying."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from activation_pruning.graph.channels.flow import Channels, spread
from activation_pruning.graph.channels.rules import Call
from activation_pruning.support.types import Array, Mask

_SIZES = (1.0, 0.01, 1000.0)  # of the numbers that are tried
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


def channel_by_channel(call: Call, outputs: list[tuple[int, Array]] | None = None) -> bool:
    """Whether a call makes the same of the channels that are left when others go.

    Of several tensors, all of one shape and with channels along one axis, channel i of each goes
    with that of the others.

    Args:
        call: that makes tensors of these tensors alone.
        outputs: for each output (axis, the channel that is at each of its indices); None for one
            with the channels as they came.
    """
    others = range(2, 1 + len(call.xs))

    def run(values: Array, kept: Mask) -> list[Array]:
        # Other numbers for the others, of the same size, but the same ones for the same channels;
        # zeros stay zeros.
        return call.run(values, *(values * np.sin(times + values) for times in others))

    return parts_alike(call.xs[0], run, outputs)


def parts_alike(
    x: Channels,
    run: Callable[[Array, Mask], list[Array]],
    outputs: list[tuple[int, Array]] | None = None,
) -> bool:
    """Whether `run` makes the same of some channels, whichever others are there.

    Tried on random numbers: for any two channels, once with the one and without the other, and the
    other way round. So a call that lets one channel depend on another shows, unless it does so only
    for numbers unlike these (normally distributed, as small as 0.01 and as large as 1000, some of
    them zeros), and one that counts them.

    Args:
        x: the channels.
        run: (numbers, which channels these are of) -> what becomes of them.
        outputs: as for `channel_by_channel`.
    """
    shape = _closed(x.shape)
    outputs = outputs or [(x.axis, np.arange(shape[x.axis]))]
    generator = np.random.default_rng(0)
    values = generator.normal(size=shape) * (generator.random(shape) < 0.7)  # and some zeros
    try:
        return all(
            _alike((size * values).astype("float32"), x.axis, run, outputs) for size in _SIZES
        )
    except Exception:  # whatever a layer of the user's own raises
        return False


def _alike(values, axis, run, outputs):
    """Whether it is so for these numbers, with their channels along `axis`."""
    whole = run(values, np.ones(values.shape[axis], bool))
    for kept in _halves(values.shape[axis]):
        found = run(np.compress(kept, values, axis=axis), kept)
        for before, after, (along, origin) in zip(whole, found, outputs, strict=True):
            if not _equal(np.compress(kept[origin], before, axis=along), after):
                return False
    return True


def constants(call: Call) -> Array:
    """What a call that treats channels by themselves makes of those that are constant.

    NaN where that differs between positions, and where the channel varies.
    """
    generator, axis = np.random.default_rng(0), call.xs[0].axis
    known = np.all([np.isfinite(x.value) for x in call.xs], axis=0)
    given = []
    for x in call.xs:
        values = generator.normal(size=_closed(x.shape)).astype("float32")
        np.moveaxis(values, axis, -1)[..., known] = x.value[known]  # a view
        given.append(values)
    found = np.moveaxis(call.run(*given)[0], axis, -1).reshape(-1, len(known))
    same = np.isclose(found, found[:1], 1e-6, 0).all(axis=0)  # vector units round differently
    return np.where(known & same, found[0], np.nan)


def origins(call: Call) -> list[Array]:
    """For each output of a call that only moves numbers: the channel that each of them is of."""
    x = call.x
    shape = _closed(x.shape)
    return call.run(np.array(spread(np.arange(shape[x.axis]), x.axis, shape), "int32"))


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
