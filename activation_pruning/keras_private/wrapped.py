"""What Keras must know of a layer around another: what that takes, and how it is built."""

import inspect
from typing import Any

import keras


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
