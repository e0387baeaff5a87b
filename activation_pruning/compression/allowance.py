"""How much memory a model may take while it is made: counted before it is taken."""

import contextlib
import functools
import math
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from activation_pruning.compression.container import CompressedFileError

_SPARE = 1 << 22  # bytes, of small states that are no weights
_STEPS = 1 << 10  # that an unrolled layer may have: Keras traces them one by one


class Allowance:
    """Memory for the variables of a model whose weights take so many bytes.

    Twice as much is allowed, since layers may hold more than the weights that are stored, and a
    few megabytes. What asks for more is refused before it gets it.

    Args:
        weights_bytes: of the weights that the model shall get, at least 0.

    Example:
        >>> Allowance(400).take("a layer", (10**6, 10**6))
        Traceback (most recent call last):
            ...
        activation_pruning.compression.container.CompressedFileError: a layer of its \
configuration takes 1000000 x 1000000 numbers; its weights take 400 bytes in all
    """

    def __init__(self, weights_bytes: int) -> None:
        self.weights_bytes, self.left = weights_bytes, 2 * weights_bytes + _SPARE
        self.refused: CompressedFileError | None = None  # Keras may wrap or swallow it

    def take(self, what: str, shape: Iterable[Any], itemsize: int = 4) -> None:
        """Count numbers of a shape; CompressedFileError where there is no room for them."""
        sizes = [int(size) for size in shape]
        self.left -= math.prod(sizes) * itemsize
        if self.left < 0:
            self.refuse(
                f"{what} of its configuration takes {' x '.join(map(str, sizes))} numbers; its "
                f"weights take {self.weights_bytes:,} bytes in all"
            )

    def refuse(self, why: str) -> None:
        """Raise, and remember it."""
        self.refused = CompressedFileError(why)
        raise self.refused

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Inside the block, what this thread makes of Keras's variables is counted."""
        own = threading.get_ident()
        with contextlib.ExitStack() as undo:
            for owner, name, count in _COUNTED:
                undo.callback(_before(owner, name, functools.partial(count, self), own))
            yield


def _before(owner, name, count, thread):
    """Have a method call `count` with its arguments first, in one thread; returns the undoing."""
    inherited, method = name not in vars(owner), getattr(owner, name)

    @functools.wraps(method)
    def counted(self, *args, **kwargs):
        if threading.get_ident() == thread:
            count(self, *args, **kwargs)
        return method(self, *args, **kwargs)

    def undo():
        delattr(owner, name)
        if not inherited:
            setattr(owner, name, method)

    setattr(owner, name, counted)
    return undo


def _variable(allowance, variable, initializer=None, shape=None, dtype=None, **_):
    if shape is None or not (callable(initializer) or isinstance(initializer, str)):
        return  # made of values that are there already
    sizes = [shape] if isinstance(shape, int) else shape
    if all(isinstance(size, (int, np.integer)) for size in sizes):  # else Keras says what is wrong
        kind = keras.backend.standardize_dtype(dtype)
        bits = [int(digits) for digits in ("64", "32", "16", "8") if digits in kind]
        allowance.take("a weight", sizes, max(bits[0] // 8, 1) if bits else 1)


def _normalization(allowance, layer, input_shape):
    """Mean and variance that are given are spread over the axes that are kept."""
    if layer.input_mean is not None:
        axes = [layer.axis] if isinstance(layer.axis, int) else layer.axis or ()
        allowance.take(f"layer {layer.name!r}", [2, *(input_shape[axis] or 1 for axis in axes)])


def _recurrent(allowance, layer, sequences_shape, *_, **__):
    """States that are kept between batches; steps that are traced one by one."""
    if layer.stateful and sequences_shape[0] is not None:
        between = [size or 1 for size in sequences_shape[2:-1]]  # positions of a ConvLSTM
        for size in keras.tree.flatten(layer.state_size):
            allowance.take(f"layer {layer.name!r}", [sequences_shape[0], *between, size])
    if layer.unroll and (sequences_shape[1] or 0) > _STEPS:
        allowance.refuse(
            f"layer {layer.name!r} unrolls {sequences_shape[1]:,} steps, more than {_STEPS:,}"
        )


_COUNTED = (
    (keras.Variable, "__init__", _variable),
    (keras.layers.Normalization, "build", _normalization),
    (keras.layers.RNN, "build", _recurrent),
)
