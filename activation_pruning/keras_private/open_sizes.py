"""Sizes that are open while a graph is written down, such as that of a batch or of a text."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

_ops = keras.ops


class OpenSize:
    """The open size of an axis of a symbolic tensor: it may be handed on, but not computed with.

    To operations in `shadows`; everything else refuses it.
    """

    def __init__(self, tensor: Any, axis: int) -> None:
        self.tensor, self.axis = tensor, axis

    def _refuse(self, *_: Any) -> Any:
        raise TypeError(
            "it computes with a size that is open here; give inputs of a fixed shape, such as "
            "keras.Input(batch_shape=(8, 128))"
        )

    __index__ = __int__ = __float__ = __bool__ = __add__ = __radd__ = __sub__ = __rsub__ = _refuse
    __mul__ = __rmul__ = __floordiv__ = __rfloordiv__ = __truediv__ = __mod__ = __neg__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __array__ = _refuse

    def __eq__(self, other: object) -> bool:
        if self is other or other is None or isinstance(other, str):
            return self is other
        return bool(self._refuse())

    __hash__ = object.__hash__


def shadows(alike: list[tuple[Any, Any]]) -> list[tuple[Any, str, Any]]:
    """What to override so that what `keras.ops.shape` says of an open axis may be handed on.

    To `reshape`; to `broadcast_to`, which leaves that axis as it is, since what is computed with
    the result broadcasts it in turn; to `arange`, `ones` and `zeros`.

    Args:
        alike: takes pairs of tensors that are taken to have batches of the same size.
    """
    made = {
        "shape": _shape(_ops.shape),
        "reshape": _reshape(_ops.reshape, alike),
        "broadcast_to": _broadcast_to(_ops.broadcast_to),
        "arange": _arange(_ops.arange),
        "ones": _filled(_ops.ones, 1),
        "zeros": _filled(_ops.zeros, 0),
    }
    return [(_ops, name, value) for name, value in made.items()]


def _is_open(size: Any) -> bool:
    return isinstance(size, OpenSize)


def _shape(plain: Callable[..., Any]) -> Callable[..., Any]:
    def shape(x: Any) -> Any:
        found = plain(x)
        if not isinstance(x, keras.KerasTensor):
            return found
        return tuple(OpenSize(x, a) if size is None else size for a, size in enumerate(found))

    return shape


def _reshape(plain: Callable[..., Any], alike: list) -> Callable[..., Any]:
    def reshape(x: Any, newshape: Any) -> Any:
        sizes = newshape if isinstance(newshape, (tuple, list)) else (newshape,)
        opened = [a for a, size in enumerate(sizes) if _is_open(size)]
        if not opened:
            return plain(x, newshape)
        left = [a for a, size in enumerate(sizes) if not _is_open(size) and size == -1]
        free = len(opened) + len(left)
        rest = tuple(-1 if _is_open(size) else size for size in sizes)
        if free == 1:
            return plain(x, rest)
        if free > 2 or opened[0] != 0 or sizes[0].axis != 0 or x.shape[0] is not None:
            sizes[opened[0]]._refuse()
        alike.append((x, sizes[0].tensor))
        return keras.layers.Reshape(rest[1:])(x)  # which leaves the batch as it is

    return reshape


def _broadcast_to(plain: Callable[..., Any]) -> Callable[..., Any]:
    def broadcast_to(x: Any, shape: Any) -> Any:
        if not any(map(_is_open, shape)):
            return plain(x, shape)
        own = (1,) * (len(shape) - len(x.shape)) + tuple(x.shape)
        sizes = tuple(mine if _is_open(one) else one for one, mine in zip(shape, own, strict=True))
        return x if sizes == tuple(x.shape) else plain(x, sizes)

    return broadcast_to


def _arange(plain: Callable[..., Any]) -> Callable[..., Any]:
    def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Any:
        if not (_is_open(start) or _is_open(stop) or _is_open(step)):
            return plain(start, stop, step, dtype)
        size: Any = start if stop is None else stop
        first: Any = 0 if stop is None else start
        if not _is_open(size) or _is_open(first) or first != 0 or step not in (None, 1):
            next(one for one in (size, first, step) if _is_open(one))._refuse()
        return _ops.cast(_ops.cumsum(_ones(size)) - 1, dtype or "int32")

    return arange


def _filled(plain: Callable[..., Any], value: int) -> Callable[..., Any]:
    def filled(shape: Any, dtype: Any = None) -> Any:
        sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
        if not any(map(_is_open, sizes)):
            return plain(shape, dtype)
        found: Any = np.full([1 if _is_open(size) else size for size in sizes], value, "int32")
        for axis, size in enumerate(sizes):
            if _is_open(size):
                zeros = _ones(size) - 1
                found = _ops.add(found, _ops.reshape(zeros, (-1, *[1] * (len(sizes) - axis - 1))))
        return _ops.cast(found, dtype or keras.config.floatx())

    return filled


def _ones(size: OpenSize) -> Any:
    """A vector of so many ones, of which nothing depends on what the tensor holds."""
    x, axis = size.tensor, size.axis
    if axis:  # one sample is enough
        x, axis = x[0], axis - 1
    x = _ops.ones_like(x, dtype="int32")
    others = [a for a in range(len(x.shape)) if a != axis]
    return _ops.max(x, axis=others) if others else x
