"""Walks the graph of a model once, with `Channels` in the place of tensors."""

import inspect

import keras

from activation_pruning import internals, sites
from activation_pruning.channels.flow import Channels, Flow

RULES = {}


class NotFollowed(Exception):
    """Raised by a rule that cannot follow this call; its message says why."""


def rule(*kinds):
    """Register `f(flow, layer, xs, shapes) -> Channels` for layer classes or operations by name.

    `xs` are the `Channels` of the call in order, `shapes` those of its outputs. Subclasses are not
    covered: they may call something else.
    """

    def register(function):
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return register


def follow(model):
    """Follow the channels of a Sequential or Functional model from its inputs to its outputs.

    Args:
        model: a built Sequential or Functional model, nested ones included.

    Returns:
        The `Flow`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="a"),
    ...                           keras.layers.ReLU(), keras.layers.Dense(1, name="b")])
    >>> flow = follow(model)
    >>> [layer.name for layer, _, _ in flow.units.values()]
    ['a', 'b']
    """
    flow = Flow()
    inputs = [flow.fixed(tensor.shape, "inputs of the model") for tensor in model.inputs]
    for x in _through(flow, model, inputs):
        flow.pin(x.ids, "outputs of the model")
    return flow


def _through(flow, model, inputs):
    for known, x in zip(flow.inputs.setdefault(id(model), inputs), inputs, strict=True):
        if known.axis == x.axis:
            flow.tie(known.ids, x.ids)
        else:
            flow.pin(known.ids, "inputs of a model that is called in several ways")
            flow.pin(x.ids, "inputs of a model that is called in several ways")

    def call(operation, outputs, *args, **kwargs):
        return step(flow, operation, [tuple(t.shape) for t in outputs], args, kwargs)

    return internals.run_graph(model, inputs, call)


def step(flow, operation, shapes, args, kwargs):
    """The outputs of one call; of what is not known, all channels stay as they are."""
    xs = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, Channels)]
    if isinstance(operation, keras.Layer) and sites.is_graph(operation):
        return _through(flow, operation, xs)
    try:
        found = _rule_of(operation)(flow, operation, _in_order(operation, args, kwargs, xs), shapes)
        return keras.tree.flatten(found)
    except NotFollowed as error:
        reason = f"{operation.name!r} ({type(operation).__name__}): {error}"
    for x in xs:
        flow.pin(x.ids, reason)
    return [flow.fixed(shape, reason) for shape in shapes]


def _rule_of(operation):
    name = type(operation).__name__
    private = type(operation).__module__.startswith("keras.")
    found = RULES.get(type(operation), RULES.get(name) if private else None)
    if found is None:
        raise NotFollowed("not known to compaction")
    mode = getattr(operation, "quantization_mode", None)
    if mode or getattr(operation, "lora_enabled", False):
        raise NotFollowed(f"quantised to {mode}" if mode else "LoRA is enabled")
    return found


def _in_order(operation, args, kwargs, xs):
    """The tensors of a call: positional ones as they come, those by name where `call` has them."""
    if not kwargs or not any(isinstance(x, Channels) for x in keras.tree.flatten(kwargs)):
        return xs
    bound = inspect.signature(operation.call).bind(*args, **kwargs).arguments
    return [x for x in keras.tree.flatten(list(bound.values())) if isinstance(x, Channels)]


def single(xs):
    """The one tensor that a layer takes."""
    if len(xs) != 1:
        raise NotFollowed("called with several tensors")
    return xs[0]
