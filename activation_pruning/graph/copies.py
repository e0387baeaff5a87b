"""Copies of whole models, with layers exchanged on the way."""

import collections
import warnings
from collections.abc import Callable
from typing import Any

import keras

from activation_pruning import keras_private, sites
from activation_pruning.graph.configurations import config_of, made, mapped
from activation_pruning.graph.holding import leaves
from activation_pruning.graph.own_classes import OwnClasses
from activation_pruning.graph.twins import Twins
from activation_pruning.keras_private import instances
from activation_pruning.support.types import Model

Copy = Callable[[keras.Layer], keras.Layer]


def rebuild(
    model: Model,
    replace: Callable[[keras.Layer, Copy], keras.Layer],
    transfer: Callable[[keras.Layer, keras.Layer], None],
    inputs: Callable[[Model], Any] | None = None,
    operation: Callable[[keras.Operation], keras.Operation] = instances.operation,
) -> Model:
    """A copy of a model, nested ones included, compiled alike.

    A model of a class of one's own stays one where it can, see `own_classes`.

    Args:
        model: the model to take apart; it is not changed.
        replace: (layer, copy) -> the new layer in its place, once for each layer of the graph.
            `copy(layer)` is the same layer again, with its weights and with all that it shares.
        transfer: (layer, new layer) -> None; copies the weights where the new one is no copy.
        inputs: model -> its new symbolic inputs, or None to keep their shapes; asked for each
            nested model, too.
        operation: the new operation of `keras.ops` in the place of one.

    Returns:
        The new model, with a fresh optimizer state.

    Raises:
        TypeError: for a layer that cannot be made again; names it.
    """
    rebuilding = _Rebuilding(model, replace, inputs, operation)
    rebuilt = rebuilding.twins(model)
    rebuilding.finish(model, rebuilt, transfer)
    if model.compiled:
        compile_alike(model, rebuilt, rebuilding.twins)
    return rebuilt


class _Rebuilding:
    """A model on its way: what has been made in place of its layers."""

    def __init__(self, model, replace, inputs, operation):
        self.twins = Twins(self._graph)
        self._replace, self._inputs, self._operation = replace, inputs, operation
        # By id; a layer may be met again, in another nested model.
        self._made = {}
        self._changed = set()
        self._exchangeable = leaves(model)
        self._classes = OwnClasses(model)
        self._shared = _shared_with_wrappers(model)

    def finish(self, model, new, transfer):
        for layer, twin in self._made.values():
            if id(layer) in self._changed:
                _keep_trainable(layer, twin)
                transfer(layer, twin)
        for layer, twin in self.twins.configured:
            copy_weights(layer, twin)
        if id(model) in self._changed:
            self._classes.check(model, new)

    def _graph(self, graph):
        plain = instances.clone(graph, self._layer, self._inputs and self._inputs(graph))
        starts = [instances.input_layers(one) for one in (graph, plain)]
        for layer, new in zip(*starts, strict=True):
            self.twins.know(layer, new)
        changed = any(id(layer) in self._changed for layer in graph.layers)
        for layer, new in self._made.values():
            if id(layer) in self._changed:  # a model's attributes mean the new one
                self.twins.know(layer, new)
        new = self._classes.again(graph, plain, changed, self.twins)
        if changed or type(new) is not type(graph):
            self._changed.add(id(graph))
        return new

    def _layer(self, layer):
        if not isinstance(layer, keras.Layer):  # an operation of `keras.ops`: it has no weights
            return self._operation(layer)
        if id(layer) not in self._exchangeable:  # a model, or part of one in a layer
            return self.twins(layer)
        if id(layer) not in self._made:
            new = self._around(layer, self._replace(layer, self.twins))
            if not self.twins.are(layer, new):
                self._changed.add(id(layer))
            self._made[id(layer)] = layer, new
        return self._made[id(layer)][1]

    def _around(self, layer, new):
        """A new TimeDistributed is put around the layer of the graph that it shares."""
        exchanged = type(new) is keras.layers.TimeDistributed and not self.twins.are(layer, new)
        if exchanged and id(layer.layer) in self._shared:
            config = {key: value for key, value in new.get_config().items() if key != "layer"}
            return keras.layers.TimeDistributed(self._layer(layer.layer), **config)
        return new


def copy_model(model: Model) -> Model:
    """A copy of a model of any kind, with its weights, compiled alike.

    Raises:
        TypeError: for a layer that cannot be made again; names it.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="a")])
        >>> copy_model(model).layers[0].name
        'a'
    """
    sites.check_model(model)
    return rebuild(model, lambda layer, copy: copy(layer), copy_weights)


def resized_layer(layer: keras.Layer, /, **changes: Any) -> keras.Layer:
    """A layer from the same configuration but for `changes`, for inputs of another shape.

    Without weights yet; layers inside forget what they were built for.
    """
    return made(layer, mapped({**config_of(layer), **changes}, _unbuilt))


def copy_in_float32(layer: keras.Layer) -> keras.Layer:
    """The layer with every floating dtype of the configuration, however deep, as float32."""
    if isinstance(layer, keras.layers.Lambda):
        raise ValueError(f"the Lambda {layer.name!r} is not float32, and may not be able to be")
    return made(layer, mapped(config_of(layer), _in_float32))


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


def compile_alike(model: Model, rebuilt: Model, twins: Twins) -> None:
    """Compile a copy as the model is, with an optimizer and metrics that start afresh."""
    arguments = keras_private.compile_arguments(model)
    try:
        arguments = keras.tree.map_structure(lambda item: _fresh(item, twins), arguments)
    except Exception as error:  # whatever a class of the user's own raises
        text = "the copy is not compiled, since a metric or optimizer cannot be made anew: "
        warnings.warn(text + str(error), stacklevel=4)
    else:  # a `compile` of one's own takes other arguments; what it leaves is copied already
        keras.Model.compile(rebuilt, **arguments)


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


def _unbuilt(config):
    return {key: value for key, value in config.items() if key != "build_config"}


def _in_float32(config):
    # The dtype is a name, or the configuration of a policy.
    return config | ({"dtype": "float32"} if "float" in str(config.get("dtype")) else {})


def _fresh(item, twins):
    """A copy of an optimizer or metric, which hold state; anything else as it is."""
    if isinstance(item, keras.Metric):
        new = twins(item)
        new.reset_state()
        return new
    return type(item).from_config(item.get_config()) if isinstance(item, keras.Optimizer) else item
