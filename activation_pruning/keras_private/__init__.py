"""The only room that knows what Keras does not promise: everything private, in one place.

Each function wraps one private fact about Keras 3 (checked for 3.12 to 3.15), so that a new
Keras release is met here and nowhere else. Nothing in here decides anything about pruning.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import keras
from keras.src.backend import get_keras_mask as get_keras_mask  # what marks padded steps
from keras.src.backend.common.stateless_scope import get_stateless_scope


def sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """The layers tracked directly by `layer`, in order (there is no public list for leaves)."""
    if isinstance(layer, keras.Sequential):
        return list(layer.layers)  # `_layers` would add the implicit InputLayer
    return list(layer._layers)


def with_sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """The layer and every layer inside it, however deep."""
    return list(layer._flatten_layers())


def consumers(layer: keras.Layer, operations: Collection[int]) -> list[Any]:
    """The operations (ids in `operations`) that use the symbolic outputs of `layer`, each once.

    A Sequential model that grew by `add` has called its layers anew each time.
    """
    found = {id(node.operation): node.operation for node in layer._outbound_nodes}
    return [operation for key, operation in found.items() if key in operations]


def producers(layer: keras.Operation, operations: Collection[int]) -> list[Any]:
    """The operations (ids in `operations`) whose outputs `layer` takes as inputs."""
    nodes = [node for node in layer._inbound_nodes if not node.is_input]
    found = [parent.operation for node in nodes for parent in node.parent_nodes]
    return [operation for operation in found if id(operation) in operations]


def takes_inputs(layer: keras.Layer, operations: Collection[int]) -> bool:
    """Whether `layer` takes an input of the graph made of `operations` directly."""
    found = producers(layer, operations)
    return not found or any(isinstance(item, keras.layers.InputLayer) for item in found)


def calls_in_graph(layer: keras.Layer, operations: Collection[int]) -> int:
    """On how many different inputs `layer` is called within the graph made of `operations`."""
    nodes = layer._inbound_nodes
    calls = {tuple(id(parent.operation) for parent in node.parent_nodes) for node in nodes}
    return max(1, sum(any(parent in operations for parent in parents) for parents in calls))


def operation_of(tensor: Any) -> Any:
    """The layer or operation that makes a symbolic tensor, an InputLayer for an input."""
    return tensor._keras_history.operation


def output_operations(model: keras.Model) -> list[Any]:
    """The operations that produce the outputs of a Functional or built Sequential model."""
    return [operation_of(tensor) for tensor in keras.tree.flatten(model.outputs)]


def output_calls(model: keras.Model) -> list[Any]:
    """The calls (`.operation` of each is called) that produce the outputs of a graph."""
    history = [tensor._keras_history for tensor in keras.tree.flatten(model.outputs)]
    return [one.operation._inbound_nodes[one.node_index] for one in history]


def calls_before(call: Any, operations: Collection[int]) -> list[Any]:
    """The calls of operations (ids in `operations`) whose outputs this call takes."""
    return [one for one in call.parent_nodes if id(one.operation) in operations]


def operation_name(operation: Any) -> str | None:
    """What an operation of `keras.ops` is, such as "numpy.Add"; None for anything else."""
    module, _, kind = type(operation).__module__.rpartition(".")
    return f"{kind}.{type(operation).__name__}" if module == "keras.src.ops" else None


def add_state(layer: keras.Layer, state: keras.Layer) -> Callable[[], None]:
    """Let `layer` track the layer `state`: it joins every training step and no saved file.

    `_layers` is skipped when Keras saves, and appending to it passes the lock that Keras puts on
    a built layer; attribute assignment would do neither. Returns what takes the state out again.
    """
    layer._layers.append(state)

    def undo() -> None:
        layer._layers[:] = [child for child in layer._layers if child is not state]

    return undo


def override(owner: Any, name: str, value: Any) -> Callable[[], None]:
    """Shadow the attribute `name` of one instance (past Keras's attribute tracking).

    Returns what puts back the instance's own attribute, where it had one, or the class's.
    """
    own = vars(owner)
    present, before = name in own, own.get(name)
    own[name] = value

    def undo() -> None:
        if present:
            own[name] = before
        else:
            own.pop(name, None)

    return undo


@contextlib.contextmanager
def overridden(shadows: Iterable[tuple[Any, str, Any]]) -> Iterator[None]:
    """`override` attributes inside the block only, whatever happens there.

    Args:
        shadows: (owner, name, value), each asked for when those before it are in place, so that a
            generator may wrap the same method twice.
    """
    with contextlib.ExitStack() as undo:
        for owner, name, value in shadows:
            undo.callback(override(owner, name, value))
        yield


def retrace(model: keras.Model) -> None:
    """Have the next training step traced anew: Keras caches the traced function across fits."""
    if model.compiled and getattr(model, "train_function", None) is not None:
        model.make_train_function(force=True)


def placement(variable: keras.Variable) -> dict[str, Any]:
    """Arguments of a `keras.Variable` that shall be spread over devices as `variable` is (JAX)."""
    layout = getattr(variable, "_layout", None)
    return {} if layout is None else {"layout": layout}


def forget_traces(model: keras.Model) -> None:
    """Have training and test steps traced anew, for what changed outside of the model."""
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()  # JAX would find the old steps by their names
    retrace(model)
    if getattr(model, "test_function", None) is not None:
        model.make_test_function(force=True)


def sync(model: keras.Model) -> None:
    """Write the values that a running JAX epoch keeps to itself back into the variables."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def optimizers(model: keras.Model) -> list[keras.Optimizer]:
    """Every optimizer that the model holds, innermost first under loss scaling."""
    held = outer_optimizers(model)
    return list(dict.fromkeys(getattr(item, "inner_optimizer", item) for item in held))


def outer_optimizers(model: keras.Model) -> list[keras.Optimizer]:
    """Every optimizer that the model holds, as training steps see them."""
    held = [getattr(model, "optimizer", None)]
    held += [one for layer in with_sublayers(model) for one in _contents(vars(layer))]
    return list(dict.fromkeys(one for one in held if isinstance(one, keras.Optimizer)))


def _contents(value, depth=4):
    """What lies in nested lists, tuples and dicts, not too deep: they may hold themselves."""
    parts = value.values() if isinstance(value, dict) else value
    if depth and isinstance(value, (dict, list, tuple, set)):
        return [found for part in parts for found in _contents(part, depth - 1)]
    return [value]


def optimizer_variables(optimizer: keras.Optimizer) -> list[keras.Variable]:
    """The model variables that `optimizer` was built with, in its order."""
    return list(optimizer._trainable_variables)


def slots(optimizer: keras.Optimizer, variable: keras.Variable) -> list[keras.Variable]:
    """The optimizer's variables that accompany `variable` entry by entry (momenta, averages).

    Keras keeps each kind of slot in a list aligned with the trainable variables; a list that is
    not aligned, or a slot of another shape (factored moments), has no entry to speak of.
    """
    own, shape = optimizer._trainable_variables, tuple(variable.shape)
    index = [id(v) for v in own].index(id(variable))
    aligned = [
        value[index]
        for name, value in vars(optimizer).items()
        if isinstance(value, (list, tuple)) and len(value) == len(own)
        if name != "_accumulators"  # Adagrad and Ftrl divide by these sums: never zero
    ]
    found = [slot for slot in aligned if isinstance(slot, keras.Variable) and slot is not variable]
    return [slot for slot in found if tuple(slot.shape) == shape]


def momenta(optimizer: keras.Optimizer) -> list[keras.Variable]:
    """The optimizer's running means of gradients, one for each variable; none of its others."""
    held = (vars(optimizer).get(name) or [] for name in ("momentums", "_momentums"))
    return [one for several in held for one in several if isinstance(one, keras.Variable)]


def dense(gradient: Any) -> Any:
    """The gradient as a tensor of the variable's shape (TensorFlow: Embedding lists rows only)."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.convert_to_tensor(gradient)
    return gradient


def architecture(model: keras.Model) -> dict[str, Any]:
    """What `keras.saving.serialize_keras_object` says, without how any model in it was compiled."""
    models = [layer for layer in with_sublayers(model) if isinstance(layer, keras.Model)]
    with overridden((inner, "compiled", False) for inner in models):
        return keras.saving.serialize_keras_object(model)


def compile_arguments(model: keras.Model) -> dict[str, Any]:
    """What `model.compile` was given: the very objects, functions of users' own included."""
    return dict(model._compile_config.config) if model.compiled else {}


def stateless_scope(values: Iterable[Any], **options: Any) -> keras.StatelessScope:
    """A `keras.StatelessScope` that knows what the scope around it knows, where there is one.

    Keras forgets the outer scope: within a derivative, the tensors that stand for variables.
    """
    scope, outer = keras.StatelessScope(values, **options), get_stateless_scope()
    if outer is not None:
        scope.state_mapping = {**outer.state_mapping, **scope.state_mapping}
    return scope


def outside_scope(function: Callable[[], Any]) -> Any:
    """Call it as if the innermost stateless scope were not there: what it assigns stays."""
    from keras.src.backend.common import global_state

    scope = global_state.get_global_attribute("stateless_scope")
    global_state.set_global_attribute("stateless_scope", scope.original_scope)
    try:
        return function()
    finally:
        global_state.set_global_attribute("stateless_scope", scope)


def data_loss(model: keras.Model, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
    """What `compile(loss=...)` makes of labels and predictions, without regularizers.

    A `compute_loss` of the user's own is called as it is.
    """
    if type(model).compute_loss is not keras.Model.compute_loss:
        return model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
    return model._compile_loss(y, y_pred, sample_weight)


def strategy_scope(model: keras.Model) -> contextlib.AbstractContextManager[Any]:
    """The scope in which variables of `model` are made and assigned under `tf.distribute`."""
    if keras.backend.backend() == "tensorflow":
        return model.distribute_strategy.scope()
    return keras.name_scope("activation_pruning")


def run_graph(model: keras.Model, inputs: Sequence[Any], call: Callable[..., Any]) -> list[Any]:
    """Walk the graph of a Sequential or Functional model with any values in place of tensors.

    `call(operation, outputs, *args, **kwargs)` gives the values of the symbolic `outputs` of each
    call, in an order in which its arguments are known. Returns the values of the model's outputs.
    """
    graph = model._functional if isinstance(model, keras.Sequential) else model
    known = {id(tensor): value for tensor, value in zip(graph.inputs, inputs, strict=True)}
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            tensors = node.arguments.keras_tensors
            if node.is_input or any(id(tensor) not in known for tensor in tensors):
                continue
            args, kwargs = node.arguments.fill_in(known)
            values = call(node.operation, node.outputs, *args, **kwargs)
            known |= {id(t): value for t, value in zip(node.outputs, values, strict=True)}
    return [known[id(tensor)] for tensor in graph.outputs]
