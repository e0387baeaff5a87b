"""Layers from their configurations, for those that are not just copied."""

import types
from collections.abc import Callable
from typing import Any

import keras

from activation_pruning import keras_private
from activation_pruning.graph.twins import NotCopied
from activation_pruning.keras_private import instances


def config_of(layer: keras.Layer) -> dict[str, Any]:
    """The configuration, with the very functions, regularizers, ... that it would only name."""
    try:
        config = layer.get_config()
    except Exception:  # whatever a class of the user's own raises
        own = instances.attributes(layer).items()
        silent = [key for key, value in own if _is_function(value) and not _speaks(value)]
        with keras_private.overridden((layer, key, None) for key in silent):
            config = _told(layer)
    found = {key: getattr(layer, key, None) for key in config}
    return config | {key: value for key, value in found.items() if _is_function(value)}


def made(layer: keras.Layer, config: dict[str, Any]) -> keras.Layer:
    """A new layer of the same class; classes and functions in `layer` need not be registered.

    Raises:
        TypeError: for a class that its configuration does not make again; names the layer.
    """
    try:
        with keras.saving.custom_object_scope(own_objects(layer)):
            return type(layer).from_config(config)
    except Exception as error:  # whatever a class of the user's own raises
        raise NotCopied(
            f"{layer.name!r} ({type(layer).__name__}) cannot be made from its configuration: "
            f"{error}. Give its class a get_config with all the arguments of the constructor, and "
            "@keras.saving.register_keras_serializable()"
        ) from error


def own_objects(layer: keras.Layer) -> dict[str, Any]:
    """Functions and classes in a layer that are no part of Keras, by name.

    Example:
        >>> class Mine(keras.layers.Dense):
        ...     pass
        >>> list(own_objects(Mine(3, activation="relu")))
        ['Mine']
    """
    layers = keras_private.with_sublayers(layer)
    held = [*layers, *(value for one in layers for value in vars(one).values())]
    kinds = [value if isinstance(value, types.FunctionType) else type(value) for value in held]
    known = ("keras.", "builtins", "tensorflow.", "jax", "torch.", "collections", "inspect")
    return {one.__name__: one for one in kinds if not one.__module__.startswith(known)}


def describes(layer: keras.Layer) -> bool:
    """Whether a file of the layer or model brings it back: one with the same weights."""
    try:
        with keras.saving.custom_object_scope(own_objects(layer)):
            new = type(layer).from_config(layer.get_config())
            if not new.built and layer.get_build_config():
                new.build_from_config(layer.get_build_config())
    except Exception:  # whatever a class of the user's own raises
        return False
    return [tuple(v.shape) for v in new.weights] == [tuple(v.shape) for v in layer.weights]


def mapped(config: Any, change: Callable[[dict], dict]) -> Any:
    """A configuration with `change` made to every dict in it, however deep."""
    if isinstance(config, dict):
        return change({key: mapped(value, change) for key, value in config.items()})
    if isinstance(config, (list, tuple)):
        return type(config)(mapped(value, change) for value in config)
    return config


def _told(layer):
    try:
        return layer.get_config()
    except Exception as error:  # whatever a class of the user's own raises
        raise NotCopied(
            f"{layer.name!r} ({type(layer).__name__}) has no configuration: {error}. Give what it "
            "holds a get_config with all the arguments of its constructor"
        ) from error


def _speaks(function):
    """Whether Keras can write it down: not a regularizer without get_config, for one."""
    try:
        keras.saving.serialize_keras_object(function)
    except Exception:  # whatever a class of the user's own raises
        return False
    return True


def _is_function(value):
    methods = isinstance(value, (types.MethodType, type, keras.Layer))
    return callable(value) and not methods
