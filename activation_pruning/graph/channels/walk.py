"""Walks the graph of a model once, with `Channels` in the place of tensors."""

import inspect
from collections.abc import Mapping

import keras
import numpy as np

from activation_pruning import keras_private, sites
from activation_pruning.graph.channels import lengths, probing, vectors
from activation_pruning.graph.channels.flow import Channels, Flow
from activation_pruning.graph.channels.rules import Call, NotFollowed, own_rule
from activation_pruning.graph.holding import ties
from activation_pruning.graph.known import REGISTERED, RULES, rule_of
from activation_pruning.graph.reasons import Why
from activation_pruning.support.types import Model


def follow(model: Model, whole: Mapping[str, Why] | None = None) -> Flow:
    """Follow the channels of a Sequential or Functional model from its inputs to its outputs.

    Args:
        model: a built Sequential or Functional model, nested ones included.
        whole: see `Flow`.

    Returns:
        The `Flow`.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="a"),
        ...                           keras.layers.ReLU(), keras.layers.Dense(1, name="b")])
        >>> flow = follow(model)
        >>> [layer.name for layer, _, _ in flow.units.values()]
        ['a', 'b']
    """
    flow = Flow(whole)
    inputs = [flow.fixed(tensor.shape, "inputs of the model") for tensor in model.inputs]
    for x in _through(flow, model, inputs):
        flow.pin(x.ids, "outputs of the model")
    return flow


_SHARED = "give each layer weights of its own before pruning, or leave these out"


def pin_ties(flow: Flow, model: Model) -> None:
    """Weights that several layers use keep their shapes: what each does with them is not known.

    Example:
        >>> dense = keras.layers.Dense(3, name="a")
        >>> dense.build((None, 2))
        >>> tied = keras.layers.Lambda(lambda x: x + keras.ops.sum(dense.kernel))
        >>> model = keras.Sequential([keras.Input((2,)), dense, tied])
        >>> flow = follow(model)
        >>> pin_ties(flow, model)
        >>> flow.pins[-1][1].reason
        "'a', 'lambda' share weights"
    """
    for key, layers in ties(model).items():
        users = [one for one in layers if not _around(one) or id(one) in flow.unknown]
        names = ", ".join(repr(one.name) for one in users)
        for ids in flow.slices.get(key, (None, {}))[1].values() if len(users) > 1 else ():
            flow.pin(ids, f"{names} share weights", _SHARED)


def _around(layer):
    return isinstance(layer, keras.layers.TimeDistributed)


def _through(flow, model, inputs):
    for known, x in zip(flow.inputs.setdefault(id(model), inputs), inputs, strict=True):
        if known.axis == x.axis and len(known.ids) == len(x.ids):
            flow.tie(known.ids, x.ids)
        else:
            flow.pin(known.ids, "inputs of a model that is called in several ways")
            flow.pin(x.ids, "inputs of a model that is called in several ways")

    def call(operation, outputs, *args, **kwargs):
        return step(flow, operation, [tuple(t.shape) for t in outputs], args, kwargs)

    return keras_private.run_graph(model, inputs, call)


def step(
    flow: Flow, operation: keras.Operation, shapes: list[tuple], args: tuple, kwargs: dict
) -> list[Channels]:
    """The outputs of one call; of what is not known, all channels stay as they are."""
    xs = _channels((args, kwargs))
    try:
        if isinstance(operation, keras.Layer) and sites.is_graph(operation):
            taken, positions = _in_order(operation, args, kwargs, ("mask",))
            flow.pin(positions, f"the mask of {operation.name!r}")
            return _through(flow, operation, taken)
        function, masks = _rule_of(operation)
        taken, positions = _in_order(operation, args, kwargs, masks)
        call = Call(flow, operation, taken, shapes, (args, kwargs))
        if type(operation) in REGISTERED:
            found = _registered(function, call)
        else:
            found = keras.tree.flatten(function(call))
        flow.pin(positions, f"the mask of {operation.name!r}")
        return found
    except NotFollowed as error:
        reason = f"{operation.name!r} ({type(operation).__name__}): {error}"
        why = flow.whole.get(operation.name) or Why(reason, error.remedy)
    flow.unknown[id(operation)] = why
    for x in xs:
        flow.pin(x.ids, why)
    return [flow.fixed(shape, why) for shape in shapes]


def _registered(function, call):
    """What the rule of a user's own says; errors in it name the layer."""
    try:
        found = keras.tree.flatten(function(call))
    except NotFollowed:
        raise
    except Exception as error:
        raise ValueError(
            f"the rule registered for {type(call.layer).__name__} fails at {call.layer.name!r}, "
            f"whose channels come in as {[one.shape for one in call.xs]}: "
            f"{type(error).__name__}: {error}"
        ) from error
    _check(call.layer, found, call.shapes)
    return found


def _check(operation, found, shapes):
    """Raise where the rule of a user's own does not say what becomes of each output."""
    given = [one.shape if isinstance(one, Channels) else type(one).__name__ for one in found]
    fit = given == shapes and all(one.shape[one.axis] in (None, len(one.ids)) for one in found)
    if not (fit and all(len(one.ids) == len(one.value) for one in found)):
        raise ValueError(
            f"the rule registered for {type(operation).__name__} says {given} of the outputs of "
            f"{operation.name!r}, which are {shapes}: return Channels, one id and value per channel"
        )


def _rule_of(operation):
    layer = isinstance(operation, keras.Layer)
    name = None if layer else keras_private.operation_name(operation)
    found = rule_of(type(operation)) if layer else RULES.get(name)
    if found is None and layer and _can_be_tried(operation):
        return _tried, ()
    if found is None and layer and _is_own(operation) and vectors.may_be_vectors(operation):
        return _with_vectors, ()
    if found is None:
        raise NotFollowed("not known to compaction", _remedy(operation, layer))
    mode = getattr(operation, "quantization_mode", None)
    if mode or getattr(operation, "lora_enabled", False):
        reason = f"quantised to {mode}" if mode else "LoRA is enabled"
        raise NotFollowed(reason, "compact first, and quantise or adapt the smaller model")
    return found


def _remedy(operation, layer):
    """What helps where there is no rule."""
    if not layer:
        return "put the operation into a layer of its own, and say what it does: channels.register"
    return own_rule(operation)


def _can_be_tried(layer):
    """Whether it is of a user's own class and holds no weights; Keras's own layers have rules.

    What draws at random in training alone, as DropPath does, can be tried as well.
    """
    return _is_own(layer) and not layer.weights


def _is_own(layer):
    """Whether its class is none of Keras's layers; those in keras.applications have no rules."""
    known = type(layer).__module__.startswith("keras.src.layers.")
    return not known or isinstance(layer, keras.layers.Lambda)


def _tried(call):
    """A layer without weights that no rule knows, such as a rotary embedding: see `probing`.

    Of several tensors channel i of one goes with channel i of the others.
    """
    first, *others = call.xs
    alike = all(one.shape == first.shape and one.axis == first.axis for one in others)
    single = len(call.shapes) == 1 and len(call.shape) == len(first.shape)
    if not (alike and single and probing.channel_by_channel(call)):
        raise NotFollowed("not known to compaction", _remedy(call.layer, True))
    for one in others:
        call.flow.tie(first.ids, one.ids)
    return first.to(call.shape, value=probing.constants(call))


def _with_vectors(call):
    """A layer of a user's own that holds vectors alone: a norm, or scales, shifts and the like."""
    found = lengths.own_norm(call) if len(call.xs) == 1 else None
    return vectors.by_entry(call) if found is None else found


def _in_order(operation, args, kwargs, masks):
    """(tensors of a call in the order of its arguments, channels of those that are `masks`)."""
    bound = inspect.signature(type(operation).call).bind(operation, *args, **kwargs).arguments
    by_name = {name: _channels(value) for name, value in bound.items()}
    positions = [x.ids for name in masks for x in by_name.pop(name, [])]
    taken = [x for xs in by_name.values() for x in xs]
    return taken, np.concatenate([*positions, np.zeros(0, int)])


def _channels(structure):
    return [x for x in keras.tree.flatten(structure) if isinstance(x, Channels)]
