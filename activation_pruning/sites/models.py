"""Kinds of models: with a graph that is known, subclassed, not built, legacy."""

import math
import os
from typing import Any

import keras

from activation_pruning import keras_private


def operations(layer: keras.Layer) -> frozenset[int]:
    """Ids of the operations of a Functional or Sequential model; empty for anything else.

    Example:
        >>> import keras
        >>> from activation_pruning import sites
        >>> inner, other = keras.layers.Dense(3), keras.layers.Dense(3)
        >>> model = keras.Sequential([keras.Input((4,)), inner])
        >>> [id(layer) in sites.operations(model) for layer in (inner, other)]
        [True, False]
    """
    if isinstance(layer, keras.Sequential):
        return frozenset(map(id, layer.layers))
    found = getattr(layer, "operations", None) if isinstance(layer, keras.Model) else None
    return frozenset(map(id, found or ()))


def is_graph(model: keras.Layer) -> bool:
    """Whether `model` is a Sequential or Functional model, whose layers form a known graph.

    Example:
        >>> import keras
        >>> from activation_pruning import sites
        >>> class Subclassed(keras.Model):
        ...     pass
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> sites.is_graph(model), sites.is_graph(Subclassed())
        (True, False)
    """
    return bool(operations(model))


def batch_size(model: keras.Layer) -> int | None:
    """The only size of a batch that a Sequential or Functional model takes, or None.

    Fixed by `keras.Input(batch_shape=...)`, or where the model reshapes to a constant size.

    Example:
        >>> import keras
        >>> from activation_pruning import sites
        >>> inputs = keras.Input(batch_shape=(8, 4))
        >>> sites.batch_size(keras.Sequential([inputs, keras.layers.Dense(3)]))
        8
    """
    if not is_graph(model):
        return None
    inputs = {tensor.shape[0] for tensor in model.inputs if len(tensor.shape)} - {None}
    outputs = {tensor.shape[0] if tensor.shape else None for tensor in model.outputs}
    sizes = inputs or outputs
    return sizes.pop() if len(sizes) == 1 else None


def checked_batch_size(
    model: keras.Layer, size: int | None, name: str = "batch_size"
) -> int | None:
    """The size of batches, or for None the only one that the model takes, if any.

    Raises ValueError, which names the argument `name`, for one that the model does not take.

    Example:
        >>> import keras
        >>> from activation_pruning import sites
        >>> inputs = keras.Input(batch_shape=(8, 4))
        >>> sites.checked_batch_size(keras.Sequential([inputs, keras.layers.Dense(3)]), None)
        8
    """
    only = batch_size(model)
    if only is not None and size not in (None, only):
        raise ValueError(
            f"{name}={size}, but the model takes batches of {only} only; leave it out, or make the "
            "model with keras.Input(shape), without the batch"
        )
    return only if size is None else size


def learner(model: Any) -> Any:
    """The model that learns in a `fit` of `model`: the student of a Distiller, else itself.

    Example:
        >>> import keras
        >>> from activation_pruning import sites
        >>> models = [keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]) for _ in "ab"]
        >>> taught = keras.distillation.Distiller(*models, keras.distillation.LogitsDistillation())
        >>> sites.learner(taught) is taught.student, sites.learner(models[0]) is models[0]
        (True, True)
    """
    return model.student if isinstance(model, keras.distillation.Distiller) else model


def multiplies(layer: keras.Layer) -> bool:
    """Whether `layer` is a `KernelWrapper`, which is made on a floor above this one."""
    return hasattr(layer, "acting_of")


def parameters(model: keras.Layer) -> int:
    """How many weights there are, without the masks and counters that wrappers keep beside them.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> wrapped = ap.wrap(model, exclude=())
        >>> wrapped.count_params() > 15, ap.sites.parameters(wrapped)
        (True, 15)
    """
    weights = {id(weight): weight for weight in model.weights}
    for wrapper in filter(multiplies, keras_private.with_sublayers(model)):
        kept = [*wrapper.layer.weights, *wrapper.trainable_weights]  # gates are trained
        for key in {id(w) for w in wrapper.weights} - {id(w) for w in kept}:
            weights.pop(key, None)
    return sum(math.prod(weight.shape) for weight in weights.values())


def check_model(model: object, layers: bool = True) -> None:
    """Raise TypeError unless `model` is a Keras 3 model, ValueError if it is not built.

    Args:
        model: what was given for one.
        layers: whether a single layer will do as well.

    Example:
        >>> from activation_pruning import sites
        >>> sites.check_model("model.keras")
        Traceback (most recent call last):
            ...
        TypeError: model must be a keras.Model, received 'model.keras'; load a file first:
        keras.saving.load_model('model.keras')
    """
    if not isinstance(model, keras.Layer):
        raise TypeError(_no_model(model))
    if learner(model) is not model:
        raise TypeError(
            f"model must be a plain keras.Model, received the Distiller {model.name!r}, whose "
            "teacher stays as it is; give its student: distiller.student"
        )
    if not (layers or isinstance(model, keras.Model)):
        raise TypeError(
            f"model must be a keras.Model, received the layer {model.name!r} "
            f"({type(model).__name__}); give the model that it is in, and include={model.name!r}"
        )
    if not model.built:
        raise ValueError(
            f"model {model.name!r} is not built, so it has no weights yet. Give it an Input "
            "layer, call model.build(input_shape), or call it on a batch of data."
        )


def _no_model(model):
    kind = f"{type(model).__module__}.{type(model).__name__}"
    if "tf_keras" in kind or "keras.src.engine" in kind:
        return (
            f"model is a legacy tf_keras model ({kind}); this package prunes Keras 3 models. "
            "ap.from_tfmot(model) makes a Keras 3 copy of a Sequential or Functional one; "
            "rebuild any other with `keras` and copy its weights: "
            "new_model.set_weights(old_model.get_weights())."
        )
    if isinstance(model, (str, os.PathLike)):
        path = os.fspath(model)
        return (
            f"model must be a keras.Model, received {path!r}; load a file first: "
            f"keras.saving.load_model({path!r})"
        )
    what = f"the class {model.__name__}" if isinstance(model, type) else kind.split(".")[-1]
    what = repr(model) if isinstance(model, (int, float, type(None))) else what
    return f"model must be a keras.Model, received {what}"
