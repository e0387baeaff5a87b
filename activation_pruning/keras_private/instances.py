"""Live objects of Keras made again beside their constructors: what Keras keeps on each of them.

A configuration says how a layer was made, if its class says so; the layer itself says what it is.
"""

import functools
import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.models import Functional
from keras.src.utils import tracking

# Set by `compile`, `fit` and the like: a copy is compiled anew.
_TRAINER = {
    "_compile_config", "_compile_loss", "_compile_metrics", "_compiled_trainable_state",
    "_compute_loss_has_training_arg", "_distribute_reduction_method", "_distribute_strategy",
    "_distributed_dataset", "_eval_epoch_iterator", "_initial_epoch", "_jax_state",
    "_jax_state_synced", "_jit_compile", "_loss_tracker", "_run_eagerly", "compiled", "history",
    "predict_function", "steps_per_execution", "stop_evaluating", "stop_predicting",
    "stop_training", "test_function", "train_function", "unrolled_steps_per_execution",
}  # fmt: skip
_CONTEXT = ("_call_context_args", "_call_has_context_arg", "call_signature_parameters")
_BUILT_FOR = "_build_shapes_dict"  # files say it, for layers without a `build` to be built again
_PLACES = ("_torch_params", "_tracker", "_inbound_nodes", "_outbound_nodes")
# How TensorFlow's names begin, and this package's.
_MARKS = (
    "_self_unconditional", "_self_setattr", "_self_update_uid", "_self_name_based",
    "_self_saveable_object", "_activation_pruning",
)  # fmt: skip
_SAMPLES = 3  # any number that nothing else has
_WRAPPED = (tracking.TrackedDict, tracking.TrackedList, tracking.TrackedSet)


def bare(owner: Any, graph: keras.Model | None = None) -> Any:
    """An object of the class of `owner` (a layer or a metric), its own constructor not called.

    Args:
        owner: the layer, model or metric.
        graph: for a Functional or Sequential `owner`, a plain model whose layers it gets.
    """
    kind: Any = type(owner)
    new = kind.__new__(kind)
    if graph is None:
        kinds = (keras.Model, keras.Layer, keras.Metric)
        next(base for base in kinds if isinstance(owner, base)).__init__(new, name=owner.name)
    elif isinstance(owner, keras.Sequential):
        keras.Sequential.__init__(new, list(graph._layers), name=owner.name)
    else:
        Functional.__init__(new, graph._inputs_struct, graph._outputs_struct, name=owner.name)
    return new


def attributes(owner: Any) -> dict[str, Any]:
    """What a class of its own, or `build`, has put on a layer, model or metric, by name.

    Neither what Keras and the backend keep there for themselves, nor methods that something
    shadows on this one instance.
    """
    kind = keras.Metric if isinstance(owner, keras.Metric) else keras.Layer
    plain, graph = _plain(kind), _machinery(owner)
    found = {**vars(owner)}
    for place in ("_modules", "_buffers", "_parameters"):  # PyTorch's
        found |= vars(owner).get(place, {})
    trainer = _TRAINER | ({"loss", "optimizer"} if getattr(owner, "compiled", False) else set())
    return {
        name: value
        for name, value in found.items()
        if name not in _PLACES and not name.startswith(_MARKS)
        if not (isinstance(owner, keras.Model) and name in trainer)
        if not callable(getattr(type(owner), name, None))
        if (_says(name, plain[name]) if name in plain else name not in graph)
    }


def attach(new: Any, owner: Any, values: dict[str, Any]) -> None:
    """Set attributes as they are set on `owner`: tracked where they are tracked there."""
    tracker = new._tracker
    tracker.unlock()
    known = {key for ids in owner._tracker.stored_ids.values() for key in ids}
    before = attributes(owner)
    for name, value in values.items():
        if isinstance(before[name], _WRAPPED) or id(before[name]) in known:
            setattr(new, name, value)
        else:
            with tracking.DotNotTrackScope():
                setattr(new, name, value)


def stored(owner: Any) -> dict[str, list]:
    """What a layer or metric tracks, in order: variables, layers, seed generators, ..."""
    tracker = owner._tracker
    return {
        store: [item for item in items if id(item) in tracker.stored_ids[store]]
        for store, (_, items) in tracker.config.items()
    }


def store(new: Any, owner: Any, items: dict[str, list]) -> None:
    """Track just these items, in their order, and close `new` for others as `owner` is."""
    for name, wanted in items.items():
        new._tracker.config[name][1][:] = wanted
        new._tracker.stored_ids[name] = {id(item) for item in wanted}
    close(new, owner)


def in_order(new: keras.Model, owner: keras.Model, twin: Callable[[Any], Any]) -> None:
    """Track layers in the order of their twins in `owner`, which is that of the weights."""
    place = {id(twin(layer)): index for index, layer in enumerate(owner._layers)}
    new._layers[:] = sorted(new._layers, key=lambda layer: place.get(id(layer), len(place)))


def close(new: Any, owner: Any) -> None:
    """Finish a layer that `build` would finish."""
    if isinstance(new, keras.Layer) and new.built:
        new._post_build()
    if owner._tracker.locked:
        new._tracker.lock(owner._tracker._lock_violation_msg)


def plain_class(graph: keras.Model) -> type:
    """Keras's own class for such a model: of Functional or of Sequential ones."""
    kinds = (keras.Sequential, Functional)
    return next(kind for kind in kinds if isinstance(graph, kind))


def variable(old: keras.Variable) -> keras.Variable:
    """A variable with the same value (to the last bit), name and settings."""
    layout = getattr(old, "_layout", None)
    new = type(old)(
        np.array(ops.convert_to_numpy(old)),  # some backends would share the memory
        dtype=old.dtype,
        trainable=old.trainable,
        autocast=old._autocast,
        aggregation=old.aggregation,
        synchronization=old.synchronization,
        name=old.name,
        **({} if layout is None else {"layout": layout}),
    )
    for name in ("_path", "_regularizer", "_constraint", "_overwrite_with_gradient"):
        setattr(new, name, getattr(old, name, None))
    return new


def operation(old: keras.Operation) -> keras.Operation:
    """An operation of `keras.ops` that has not been called yet."""
    new = object.__new__(type(old))
    vars(new).update(vars(old))
    new._inbound_nodes, new._outbound_nodes = [], []
    return new


def changed_operation(old: keras.Operation, **changes: Any) -> keras.Operation:
    """An operation of `keras.ops` with other values in its configuration."""
    new = type(old).from_config({**old.get_config(), **changes})
    new.name = old.name
    return new


def clone(model: keras.Model, function: Callable[[Any], Any], inputs: Any = None) -> keras.Model:
    """A plain Functional or Sequential model of what `function` makes of each layer, each call.

    As `keras.models.clone_model`, which loses inputs that are optional or sparse, and which calls
    the constructors of users' own classes.
    """
    if isinstance(model, keras.Sequential):
        start = model._layers[0]
        if inputs is None and isinstance(start, keras.layers.InputLayer):
            inputs = _input(start.output)
        layers = [*keras.tree.flatten(inputs), *map(function, model.layers)]
        new = keras.Sequential(layers, name=model.name, trainable=model.trainable)
        new.built = new.built or model.built
        return new
    if inputs is None:
        inputs = new_inputs(model)
    return functional(inputs, _run(model, inputs, function), model)


def _run(model, inputs, function):
    """The outputs of a graph with `function(operation)` called in the place of each operation."""
    sparse = any(one.sparse for one in keras.tree.flatten(inputs))

    def called(one):
        new = function(one)

        def call(*args, **kwargs):
            if not sparse:
                dense((args, kwargs))
            return new(*args, **kwargs)

        return call

    return model._run_through_graph(inputs, operation_fn=called)


def alike_in_batches(inputs: Any, pairs: list[tuple[Any, Any]]) -> bool:
    """Whether the tensors of each pair have batches of one size, made of these inputs.

    Example:
        >>> x = keras.Input((4, 2))
        >>> folded = keras.ops.reshape(x, (-1, 2))
        >>> alike_in_batches([x], [(x, x + 1)]), alike_in_batches([x], [(x, folded)])
        (True, False)
    """
    pairs = [(one, other) for one, other in pairs if one is not other]
    if not pairs:
        return True
    part = keras.Model(inputs, [one for pair in pairs for one in pair])
    known = keras.tree.map_structure(
        lambda one: keras.KerasTensor((_SAMPLES, *one.shape[1:]), one.dtype), inputs
    )
    found = _run(part, known, lambda one: one.compute_output_spec)
    return all(one.shape[0] == _SAMPLES for one in found)


def dense(tensors: Any) -> None:
    """Mark symbolic tensors as not sparse: Keras takes products with plain arrays for sparse."""
    for one in keras.tree.flatten(tensors):
        if isinstance(one, keras.KerasTensor):
            one._sparse = False


def functional(inputs: Any, outputs: Any, like: keras.Model) -> keras.Model:
    """The Functional model between symbolic tensors, with the name of another model."""
    new = keras.Model(inputs, outputs, name=like.name)
    new._trainable = like._trainable  # of the model alone: layers know it themselves
    return new


def new_inputs(model: keras.Model) -> Any:
    """Symbolic inputs like those of a Functional or built Sequential model, in its structure."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    return keras.tree.map_structure(_input, graph._inputs_struct)


def input_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers that stand for the inputs of a Functional or built Sequential model, in order."""
    return [tensor._keras_history.operation for tensor in model.inputs]


def _input(tensor):
    layer = tensor._keras_history.operation
    return keras.Input(
        batch_shape=tensor.shape,
        dtype=tensor.dtype,
        sparse=tensor.sparse,
        name=layer.name,  # its tensor has another where the user gave none
        optional=getattr(layer, "optional", False),
    )


def _machinery(owner):
    """What Keras has put on a model to hold its graph."""
    if isinstance(owner, keras.Sequential):
        return _plain(keras.Sequential)
    if isinstance(owner, Functional):
        return _plain(_functional)
    return _plain(keras.Model) if isinstance(owner, keras.Model) else {}


@functools.cache
def _plain(make):
    """The attributes of an object that holds nothing yet."""
    return dict(vars(make(name="plain")))


def _functional(name):
    x = keras.Input((1,), name=name)
    return keras.Model(x, keras.layers.Identity()(x), name=name)  # Keras 3.12 wants a layer


def _says(name, value):
    """Whether an attribute that every layer has says something about this one."""
    kept = (list, dict, set, types.FunctionType, types.MethodType)
    return name in (*_CONTEXT, _BUILT_FOR) or not isinstance(value, kept)
