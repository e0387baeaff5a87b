"""Models of any class written down as one graph of Keras's own layers and operations."""

import warnings
from typing import Any, NamedTuple

import keras

from activation_pruning import keras_private, sites
from activation_pruning.graph import copies
from activation_pruning.graph.holding import named
from activation_pruning.graph.own_classes import calls_otherwise
from activation_pruning.graph.reasons import Why
from activation_pruning.graph.tracing import NotInlined, Tracing, is_composite
from activation_pruning.keras_private import instances, symbolic
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Model

_BEHAVIOUR = "train_step", "test_step", "predict_step", "compute_loss", "compute_metrics"


def inline(model: Model, inputs: Any = None) -> keras.Model:
    """A plain Functional model that computes what `model` does, out of its own weights.

    Models and layers that put other layers together, in a `call` made of these and of `keras.ops`,
    are taken apart, however deep: each layer inside becomes a layer of the graph, named by its
    path, such as "encoder-attention". Layers of Keras, and those that own a weight, stay whole; so
    do others without layers inside, if a file brings them back.

    The weights are shared: whoever trains one of the models trains both. Nothing else of `model`
    changes, and the graph needs no class of the user's own but those of layers that stay whole.

    Args:
        model: built, of any class.
        inputs: symbolic inputs (`keras.Input`), or arrays like those that the model is called on,
            in its own structure (a list, a dict, ...); the size of a batch stays open. None: those
            of a Functional or Sequential model, or one array of the shape that it was built for.

    Returns:
        The Functional model, compiled as `model` is, with an optimizer that starts afresh.

    Raises:
        NotInlined: (a TypeError) where a `call` leaves Keras or depends on values; names the line.
        ValueError: where the inputs of the model are not known.

    Example:
        >>> class Twice(keras.Model):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.inner = keras.layers.Dense(3, name="inner")
        ...     def call(self, x):
        ...         return x + self.inner(x)
        >>> model = Twice()
        >>> graph = inline(model, keras.Input((3,)))
        >>> [layer.name for layer in graph.layers][1:], graph.weights[0] is model.weights[0]
        (['inner'], True)
    """
    if inputs is None or not isinstance(model, keras.Model):
        sites.check_model(model)
    symbols = _inputs(model, inputs)
    if not model.built:
        model(symbols)
    _warn_of_training(model, "inline")
    return _written_down(model, symbols, strict=True).graph


class Flattened(NamedTuple):
    """A graph; paths: {name of a layer in it: its path}; whole: {name: why it stays so}."""

    graph: keras.Model
    paths: dict[str, str]
    whole: dict[str, Why]


def flattened(model: Model, inputs: Any = None) -> Flattened:
    """The model itself where its graph is known; else the `inline`d one.

    Layers in it whose call cannot be written down stay whole.
    """
    found = _graph_of(model, inputs)
    if found.graph is not model:
        _warn_of_training(model, "compact")
    return found


def known(model: Model) -> keras.Model | None:
    """The graph of `flattened`; None where nobody knows it, or what the model takes."""
    try:
        return _graph_of(model).graph
    except (NotInlined, ValueError):
        return None


def flat(model: Model, inputs: Any = None) -> tuple[keras.Model, dict[int, keras.Layer]] | None:
    """(the graph without models in it, {id of a layer in it: the layer of `model` behind it}).

    None where nobody knows the graph, or what the model takes; `inputs` as for `inline`.
    """
    try:
        graph, tracing = _traced(model, _inputs(model, inputs), strict=False)
    except (NotInlined, ValueError):
        return None
    return graph, {id(twin): one for one, twin in tracing.layers()}


def _graph_of(model, inputs=None):
    if sites.is_graph(model) and not any(map(_hides_layers, keras_private.with_sublayers(model))):
        return Flattened(model, {}, {})
    return _written_down(model, _inputs(model, inputs), strict=False)


def _hides_layers(layer):
    """Whether layers are inside that no graph shows."""
    return is_composite(layer) and not (sites.is_graph(layer) and not calls_otherwise(layer))


def _written_down(model, inputs, strict):
    new, tracing = _traced(model, inputs, strict)
    if model.compiled:
        copies.compile_alike(model, new, tracing.twins)
    tracing.name_operations(new)
    paths = {id(one.layer): one.path for one in named(model)}
    twins, whole = tracing.layers(), tracing.whole
    return Flattened(
        new,
        {twin.name: paths.get(id(one), one.name) for one, twin in twins},
        {twin.name: whole[id(one)].why for one, twin in twins if id(one) in whole},
    )


def _traced(model, inputs, strict):
    if symbolic.own_state(model):
        raise NotInlined(f"{model.name!r} owns weights; give them to a layer that it calls")
    tracing = Tracing(model, strict)
    outputs = tracing.run(model, inputs)
    if any(not symbolic.is_symbolic(one) for one in keras.tree.flatten(outputs)):
        raise NotInlined(f"{model.name!r} returns more than tensors: {shown(outputs)}")
    if not instances.alike_in_batches(inputs, tracing.alike):
        raise NotInlined(f"{model.name!r} reshapes to the size of a batch that may be another one")
    return instances.functional(inputs, outputs, model), tracing


def _warn_of_training(model, name):
    own = [one for one in _BEHAVIOUR if getattr(type(model), one) is not getattr(keras.Model, one)]
    if own:
        warnings.warn(
            f"{name}: {model.name!r} ({type(model).__name__}) has its own {', '.join(own)}; the "
            "graph of its layers trains and predicts as plain models do",
            stacklevel=3,
        )


def _inputs(model, given):
    """Symbolic inputs in the structure that the model takes."""
    if given is not None:
        return keras.tree.map_structure(_input, given)
    if sites.is_graph(model):
        return instances.new_inputs(model)
    shape = (model.get_build_config() or {}).get("input_shape") if model.built else None
    if shape is None:
        raise ValueError(
            f"what {model.name!r} takes is not known; give inputs=, arrays like those that it is "
            "called on, or keras.Input(...)"
        )
    return keras.tree.map_shape_structure(lambda own: keras.Input(own[1:]), shape)


def _input(value):
    if symbolic.is_symbolic(value):
        return value
    value = keras.ops.convert_to_tensor(value)
    return keras.Input(value.shape[1:], dtype=keras.backend.standardize_dtype(value.dtype))
