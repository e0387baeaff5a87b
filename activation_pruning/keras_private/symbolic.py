"""What Keras does around a layer's `call` when it writes a graph down."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras.src.backend import set_keras_mask as set_keras_mask


@contextlib.contextmanager
def calls_given_to(function: Callable[..., Any]) -> Iterator[None]:
    """Inside the block, in this thread, calling an operation calls `function` in its place.

    It gets (what is called otherwise, the operation, args, kwargs); layers are operations.
    """
    kinds, thread = (keras.Layer, keras.Operation), threading.get_ident()
    plain = [kind.__call__ for kind in kinds]

    def handing(kind: type, called: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: keras.Operation, *args: Any, **kwargs: Any) -> Any:
            # Keras calls an operation within the call of a layer.
            within = kind is keras.Operation and isinstance(self, keras.Layer)
            if within or threading.get_ident() != thread:
                return called(self, *args, **kwargs)
            return function(called, self, args, kwargs)

        return call

    for kind, called in zip(kinds, plain, strict=True):
        kind.__call__ = handing(kind, called)
    try:
        yield
    finally:
        for kind, called in zip(kinds, plain, strict=True):
            kind.__call__ = called


def converted(layer: keras.Layer, values: Any) -> Any:
    """A structure of arguments as `layer` takes them: floating tensors in its own precision."""
    if not layer._convert_input_args:
        return values
    policy, dtype = layer.dtype_policy, layer.input_dtype
    return keras.tree.map_structure(
        lambda one: policy.convert_input(one, layer.autocast, dtype) if is_symbolic(one) else one,
        values,
    )


def is_symbolic(value: Any) -> bool:
    """Whether it stands for a tensor that is not known yet."""
    return isinstance(value, keras.KerasTensor)


def own_state(layer: keras.Layer) -> list[Any]:
    """The variables and seed generators of the layer itself, not of those inside it."""
    variables = layer._trainable_variables + layer._non_trainable_variables
    return [*variables, *layer._seed_generators]


class _OpenSize:
    """The size of an axis that is open while a graph is written down, such as that of a batch."""

    def _refuse(self, *_: Any) -> Any:
        raise TypeError(
            "it computes with a size that is open here; give inputs of a fixed shape, such as "
            "keras.Input(batch_shape=(8, 128))"
        )

    __index__ = __int__ = __float__ = __bool__ = __add__ = __radd__ = __sub__ = __rsub__ = _refuse
    __mul__ = __rmul__ = __floordiv__ = __rfloordiv__ = __truediv__ = __mod__ = __neg__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = _refuse


_OPEN = _OpenSize()


def open_sizes() -> list[tuple[Any, str, Any]]:
    """What to override so that what `keras.ops.shape` says of an open axis may be handed on.

    To `reshape`, where it is one axis, and to `broadcast_to`, which leaves that axis as it is: what
    is computed with the result broadcasts it in turn. Everything else refuses it.
    """
    shape, reshape, broadcast_to = keras.ops.shape, keras.ops.reshape, keras.ops.broadcast_to

    def known_shape(x: Any) -> Any:
        found = shape(x)
        return tuple(_OPEN if one is None else one for one in found) if is_symbolic(x) else found

    def reshaped(x: Any, newshape: Any) -> Any:
        sizes = newshape if isinstance(newshape, (tuple, list)) else (newshape,)
        if sum(one is _OPEN or (isinstance(one, int) and one == -1) for one in sizes) > 1:
            _OPEN._refuse()
        return reshape(x, tuple(-1 if one is _OPEN else one for one in sizes))

    def spread(x: Any, to: Any) -> Any:
        own = (1,) * (len(to) - len(x.shape)) + tuple(x.shape)
        sizes = tuple(mine if one is _OPEN else one for one, mine in zip(to, own, strict=True))
        return x if sizes == tuple(x.shape) else broadcast_to(x, sizes)

    shadows = {"shape": known_shape, "reshape": reshaped, "broadcast_to": spread}
    return [(keras.ops, name, value) for name, value in shadows.items()]


def dense(tensors: Any) -> None:
    """Mark symbolic tensors as not sparse: Keras takes products with plain arrays for sparse."""
    for one in keras.tree.flatten(tensors):
        if is_symbolic(one):
            one._sparse = False
