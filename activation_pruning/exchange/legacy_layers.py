"""Single layers of legacy tf_keras, made anew in Keras 3 from their configurations."""

import inspect
from types import ModuleType
from typing import Any

import keras
import numpy as np

from activation_pruning.support.optional import optional

_RENAMED = {("LeakyReLU", "alpha"): "negative_slope"}
# What legacy configurations hold beside arguments; none of it changes what a layer computes.
_HARMLESS = {"batch_input_shape", "implementation", "input_length", "rng_type", "key_shape"}
_HARMLESS |= {"query_shape", "value_shape", "trainable"}  # not every layer takes the last


def tf_keras() -> ModuleType:
    """The package tf_keras, an extra; ImportError where it is not installed."""
    return optional("tf_keras", "tfmot")


@keras.saving.register_keras_serializable(package="activation_pruning")
def legacy_hard_sigmoid(x: Any) -> Any:
    """clip(0.2 x + 0.5, 0, 1), tf_keras's "hard_sigmoid"; Keras 3's has a slope of 1/6."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def make(legacy: type, config: dict, custom_objects: dict[str, type]) -> keras.Layer:
    """The Keras 3 layer for a legacy class and what its `get_config` returned; not built.

    Layers in `config` may be new ones already; `custom_objects` are asked first.

    Raises:
        ValueError: for an argument that Keras 3 lacks and that is not at its default, or a class
            that does not take its configuration.
    """
    name = legacy.__name__
    new = custom_objects.get(name) or getattr(keras.layers, name, None)
    if new is None:  # within another layer; `from_tfmot` lists those that stand alone
        raise ValueError(
            f"layer {config['name']!r}: Keras 3 does not know {name}; give its Keras 3 class, "
            f"custom_objects={{{name!r}: ...}}"
        )
    arguments = {}
    for key, value in config.items():
        key, value = _RENAMED.get((name, key), key), _value(value, custom_objects)
        if (name, key) == ("BatchNormalization", "axis") and isinstance(value, list):
            (value,) = value
        if key.endswith("activation") and value == "hard_sigmoid":
            value = legacy_hard_sigmoid
        if name in custom_objects or key in _accepted(new):
            arguments[key] = value
        elif not _droppable(legacy, key, value):
            raise ValueError(
                f"layer {config['name']!r}: Keras 3's {name} knows no {key}={value!r}; build the "
                f"legacy model without it, or give custom_objects={{{name!r}: ...}}"
            )
    arguments.pop("batch_input_shape", None)
    dtype = config.get("dtype")  # a name, or the configuration of a policy
    dtype = dtype["config"]["name"] if isinstance(dtype, dict) else dtype
    arguments |= {"name": valid(config["name"]), "dtype": dtype}
    try:
        return new(**arguments)
    except Exception as error:  # whatever a class of the user's own raises
        raise ValueError(
            f"layer {config['name']!r} ({name}) cannot be made in Keras 3: {error}. Give "
            f"custom_objects={{{name!r}: a Keras 3 class}}"
        ) from error


def valid(name: str) -> str:
    """A legacy name as Keras 3 allows it."""
    return name.replace("/", "_")


def _value(value, custom_objects):
    """A value of a legacy configuration as Keras 3 takes it; layers become new layers."""
    if isinstance(value, np.ndarray):
        return value.item() if value.ndim == 0 else value.tolist()
    if isinstance(value, (list, tuple)):  # TensorFlow's ListWrapper among them
        values = [_value(item, custom_objects) for item in value]
        return tuple(values) if isinstance(value, tuple) else values
    if isinstance(value, dict) and "config" in value:
        inner = getattr(tf_keras().layers, value.get("class_name", ""), None)
        if inner is not None:
            return make(inner, value["config"], custom_objects)
    return value


def _accepted(layer):
    """The arguments that a Keras 3 layer class takes."""
    parameters = inspect.signature(layer).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    common = {"trainable", "activity_regularizer"} if open_ended else set()
    return {*parameters, "name", "dtype"} | common


def _droppable(legacy, key, value):
    """Whether an argument says nothing: its value is what the legacy class would take anyway."""
    if key in _HARMLESS or key.endswith("_initializer"):
        return True
    for parent in legacy.__mro__:
        parameter = inspect.signature(parent.__init__).parameters.get(key)
        if parameter is not None:
            return parameter.default is value or parameter.default == value
    return False
