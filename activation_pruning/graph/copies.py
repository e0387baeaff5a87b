"""Copies of whole models, with layers exchanged on the way."""

import collections
import copy
import warnings
from collections.abc import Callable
from typing import Any

import keras

from activation_pruning import keras_private, sites
from activation_pruning.support.types import Model


def rebuild(
    model: Model,
    replace: Callable[[keras.Layer], keras.Layer],
    transfer: Callable[[keras.Layer, keras.Layer], None],
    inputs: Callable[[Model], Any] | None = None,
) -> Model:
    """A copy of a Sequential or Functional model, nested ones included, compiled alike.

    Args:
        model: the model to take apart; it is not changed.
        replace: layer -> the new layer in its place (see `copy_layer`), once for each layer.
        transfer: (layer, new layer) -> None; copies the weights.
        inputs: model -> its new symbolic inputs, or None to keep their shapes; asked for each
            nested model, too.

    Returns:
        The new model, with a fresh optimizer state.
    """
    # By id; a layer may be met again, in another nested model.
    made_graphs: dict[int, tuple] = {}
    made: dict[int, tuple] = {}
    shared = _shared_with_wrappers(model)

    def clone(layer):
        if not isinstance(layer, keras.Layer):  # an operation of `keras.ops`: it has no weights
            return type(layer).from_config(layer.get_config())
        if sites.is_graph(layer):
            return copy_graph(layer)
        if id(layer) not in made:
            new = replace(layer)
            if type(new) is keras.layers.TimeDistributed and id(layer.layer) in shared:
                inner = clone(layer.layer)
                new = _around(inner, new) if type(inner) is type(layer.layer) else new
            made[id(layer)] = layer, new
        return made[id(layer)][1]

    def copy_graph(graph):
        if id(graph) not in made_graphs:
            new = keras_private.clone(graph, clone, inputs and inputs(graph))
            made_graphs[id(graph)] = graph, new
        return made_graphs[id(graph)][1]

    rebuilt = copy_graph(model)
    for graph, new in reversed(made_graphs.values()):  # the outer ones first
        _keep_trainable(graph, new)
    for layer, new in made.values():
        transfer(layer, new)
    if model.compiled:
        arguments = keras_private.compile_arguments(model)
        try:
            arguments = keras.tree.map_structure(_fresh, arguments)
        except Exception as error:  # whatever a class of the user's own raises
            text = "the copy is not compiled, since a metric or optimizer cannot be made anew: "
            warnings.warn(text + str(error), stacklevel=3)
        else:
            rebuilt.compile(**arguments)
    return rebuilt


def copy_layer(layer: keras.Layer, **changes: Any) -> keras.Layer:
    """A layer made from the same configuration but for `changes`, without weights yet."""
    return _made(layer, {**layer.get_config(), **changes})


def resized_layer(layer: keras.Layer, **changes: Any) -> keras.Layer:
    """`copy_layer` for inputs of another shape: layers inside forget what they were built for."""
    return _made(layer, _mapped({**layer.get_config(), **changes}, _unbuilt))


def copy_in_float32(layer: keras.Layer) -> keras.Layer:
    """`copy_layer` with every floating dtype of the configuration, however deep, as float32."""
    if isinstance(layer, keras.layers.Lambda):
        raise ValueError(f"the Lambda {layer.name!r} is not float32, and may not be able to be")
    return type(layer).from_config(_mapped(layer.get_config(), _in_float32))


def copy_weights(layer: keras.Layer, new: keras.Layer) -> None:
    """Give `new` the weights of `layer`, and what layers derive from their weights."""
    new.set_weights(layer.get_weights())
    finalize(layer, new)


def finalize(layer: keras.Layer, new: keras.Layer) -> None:
    """What weights do not say: which layers inside train, and what they derive from weights."""
    _keep_trainable(layer, new)
    derive(new)


def derive(layer):
    """Have a layer and those inside compute anew what they derive from their weights."""
    for inner in keras_private.with_sublayers(layer):
        if hasattr(inner, "finalize_state"):  # Normalization computes with what it derived
            inner.finalize_state()


def copy_model(model: Model) -> Model:
    """A copy of a model of any kind, with its weights, compiled alike.

    Raises:
        TypeError: for a subclassed model that Keras cannot save and load.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="a")])
        >>> copy_model(model).layers[0].name
        'a'
    """
    sites.check_model(model)
    if sites.is_graph(model):
        return rebuild(model, copy_layer, copy_weights)
    try:
        return copy.deepcopy(model)  # Keras saves and loads it in memory
    except Exception as error:
        raise TypeError(
            f"the subclassed model {type(model).__name__} cannot be copied ({error}). Give the "
            "class a get_config (and `@keras.saving.register_keras_serializable()`) so that "
            "Keras can save and load it."
        ) from error


def _keep_trainable(layer, new):
    """A configuration says it of the whole, but the layers that attention makes can be frozen."""
    if new.trainable != layer.trainable:
        new.trainable = layer.trainable  # of all that is inside, too
    # Where callbacks are at work a layer holds more than its copy, at the end of the list.
    for inner, twin in zip(
        keras_private.sublayers(layer), keras_private.sublayers(new), strict=False
    ):
        if isinstance(inner, keras.Layer) and isinstance(twin, keras.Layer):
            _keep_trainable(inner, twin)


def _shared_with_wrappers(model):
    """Ids of the layers that are called within a TimeDistributed and elsewhere, too."""
    inside, called = collections.Counter(), set()
    for layer in {id(layer): layer for layer in keras_private.with_sublayers(model)}.values():
        if isinstance(layer, keras.layers.TimeDistributed):
            inside[id(layer.layer)] += 1
        elif sites.is_graph(layer):
            called.update(id(one) for one in layer.layers)
    return {key for key, times in inside.items() if times > 1 or key in called}


def _around(inner, wrapper):
    """The wrapper around a layer of the graph, which is to stay one with it."""
    config = {key: value for key, value in wrapper.get_config().items() if key != "layer"}
    return type(wrapper)(inner, **config)


def _made(layer, config):
    if isinstance(layer, keras.layers.Lambda):  # in memory already: no file to distrust
        return type(layer).from_config(config, safe_mode=False)
    return type(layer).from_config(config)


def _mapped(config, change):
    """A configuration with `change` made to every dict in it, however deep."""
    if isinstance(config, dict):
        return change({key: _mapped(value, change) for key, value in config.items()})
    if isinstance(config, (list, tuple)):
        return type(config)(_mapped(value, change) for value in config)
    return config


def _unbuilt(config):
    return {key: value for key, value in config.items() if key != "build_config"}


def _in_float32(config):
    # The dtype is a name, or the configuration of a policy.
    return config | ({"dtype": "float32"} if "float" in str(config.get("dtype")) else {})


def _fresh(item):
    """A copy of an optimizer or metric, which hold state; anything else as it is."""
    if isinstance(item, (keras.Optimizer, keras.Metric)):
        return type(item).from_config(item.get_config())
    return item
