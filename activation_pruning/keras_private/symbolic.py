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
