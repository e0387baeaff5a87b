"""A model's architecture as plain data, and a model from that."""

import copy
import json
import textwrap
from typing import Any

import keras

from activation_pruning import keras_private
from activation_pruning.compression.allowance import Allowance
from activation_pruning.compression.container import CompressedFileError
from activation_pruning.support.types import Model

_LONGEST = 256  # layers of a Sequential model: the time to make one grows with their square


def describe(model: Model) -> dict[str, Any]:
    """What Keras needs to make a model like this one: plain data, without weights or compilation.

    Raises:
        ValueError: for what cannot be made again from data alone: a Python lambda, a vocabulary
            that a layer has learnt, a subclass without `get_config`.
    """
    for layer in keras_private.with_sublayers(model):
        if hasattr(layer, "save_assets"):
            raise ValueError(
                f"layer {layer.name!r} ({type(layer).__name__}) keeps a vocabulary, which this "
                "format does not hold. Compress the part of the model behind it."
            )
    try:
        config = json.loads(json.dumps(keras_private.architecture(model)))
    except Exception as error:  # whatever a get_config of the user's own raises
        raise ValueError(
            f"the architecture of {type(model).__name__} {model.name!r} cannot be stored: "
            f"{_short(error)}. A class of your own needs a get_config whose values JSON can hold."
        ) from error
    lambdas = _lambdas(config)
    if lambdas:
        raise ValueError(
            f"the model holds a Python lambda ({', '.join(lambdas)}), which is code and not data, "
            "so it is not stored. Use a layer of `keras.layers` or `keras.ops`, or a registered "
            "class of your own."
        )
    return config


def build(
    config: dict[str, Any], weights_bytes: int, custom_objects: dict[str, type] | None = None
) -> Model:
    """A model from what `describe` said, in safe mode, with fresh weights; CompressedFileError.

    weights_bytes: of the weights that it shall get; one that wants far more is not made.
    """
    allowance = Allowance(weights_bytes)
    try:
        lambdas = _lambdas(config)
    except RecursionError as error:
        raise CompressedFileError("its configuration is nested too deeply") from error
    longest = max(_lengths(config), default=0)
    if longest > _LONGEST:
        raise CompressedFileError(
            f"it holds a Sequential model of {longest:,} layers, more than {_LONGEST}, which Keras "
            "builds anew for each of them. Make it of shorter ones"
        )
    if lambdas:  # whatever the process has allowed meanwhile
        raise CompressedFileError(f"it holds code, a Python lambda ({', '.join(lambdas)})")
    try:
        own = copy.deepcopy(config)  # Keras takes apart what it is given
        with allowance.watched():
            model = keras.saving.deserialize_keras_object(own, custom_objects, safe_mode=True)
    except Exception as error:  # Keras raises anything here, of classes that it does not know
        if allowance.refused is not None:
            raise allowance.refused from error
        raise CompressedFileError(
            f"the model cannot be made from its configuration: {_short(error)} Classes of your "
            "own must be registered (keras.saving.register_keras_serializable) or given by "
            "custom_objects={name: class}."
        ) from error
    if not isinstance(model, keras.Model) or not model.built:
        raise CompressedFileError(
            f"the configuration makes a {type(model).__name__} that is not a built keras.Model. A "
            "subclass needs get_build_config and build_from_config, or a build(input_shape) that "
            "makes its weights."
        )
    return model


def _short(error):
    return textwrap.shorten(str(error), 300, placeholder=" ...")  # Keras shows whole configurations


def _lengths(config):
    """How many layers each Sequential model in a configuration has."""
    if isinstance(config, dict):
        inner = config.get("config")
        found = inner.get("layers") if isinstance(inner, dict) else None
        if config.get("class_name") == "Sequential" and isinstance(found, list):
            yield len(found)
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from _lengths(value)


def _lambdas(config, place=""):
    """The names of the layers in whose configuration a lambda stands."""
    if isinstance(config, dict):
        inner = config.get("config")
        name = inner.get("name") if isinstance(inner, dict) else None
        place = name if isinstance(name, str) else place
        if config.get("class_name") == "__lambda__":
            return [repr(place)]
        config = list(config.values())
    if isinstance(config, list):
        return [name for value in config for name in _lambdas(value, place)]
    return []
