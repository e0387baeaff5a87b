"""What Keras must know of a layer around another: what that takes, and how it is built."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
from keras import ops
from keras.src.backend.common.stateless_scope import get_stateless_scope


def take_arguments_of(wrapper: keras.Layer, layer: keras.Layer) -> None:
    """Have Keras read calls of `wrapper` as calls of `layer`: by its names, with its defaults.

    Keras looks at what stands behind each name, and refuses `**kwargs` of tensors and others.
    """
    own, inner = wrapper._call_signature.parameters, layer._call_signature.parameters
    more = [own["training"]] if "training" not in inner else []
    ordered = sorted([*inner.values(), *more], key=lambda parameter: parameter.kind)
    wrapper._call_signature = inspect.Signature(ordered)


def build_inside(layer: keras.Layer, input_shape: Any) -> None:
    """Build what is inside of `layer` where its class has no `build`, as its first call would."""
    if not all(one.built for one in layer._flatten_layers()):
        layer._build_by_run_for_single_pos_arg(input_shape)


def start_from(variable: keras.Variable, function: Callable[[Any], Any]) -> bool:
    """Have a new variable hold `function` of what it would hold: now, or when it gets a value.

    In a layer that builds others in its first, symbolic, call they get theirs only later. Returns
    False where a variable has one, but nothing can be written within that call.
    """
    if variable._value is None:
        first = variable._initializer
        variable._initializer = lambda shape, dtype: ops.cast(
            function(first(shape, dtype=dtype)), dtype
        )
        return True
    if get_stateless_scope() is not None:
        return False
    variable.assign(ops.cast(function(ops.convert_to_tensor(variable)), variable.dtype))
    return True
