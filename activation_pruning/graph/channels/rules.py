"""What a rule for a layer is: a function of one `Call` that says where its channels go."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import keras
import numpy as np

from activation_pruning import keras_private
from activation_pruning.graph.channels.flow import Channels, Flow
from activation_pruning.graph.known import REGISTERED, RULES, rule_of
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Array

Rule = TypeVar("Rule", bound=Callable[..., Any])


def own_rule(layer: keras.Layer) -> str:
    """What helps where there is no rule for the class of a layer."""
    said = f"say what it does to channels: channels.register({type(layer).__name__}, rule)"
    if keras_private.sublayers(layer):
        return f"keep its weights in a layer that it calls, so that it is taken apart; or {said}"
    return said


class NotFollowed(Exception):
    """Raised by a rule that cannot follow this call; says why, and what to do about it.

    Example:
        >>> error = NotFollowed("it mixes them", "call it on one channel at a time")
        >>> str(error), error.remedy
        ('it mixes them', 'call it on one channel at a time')
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer, or of an operation of `keras.ops`.

    flow: takes what is found out. xs: the tensors that go in, in the order of the arguments.
    shapes: of the tensors that come out. arguments: (args, kwargs), with `Channels` for tensors.

    Example:
        >>> import activation_pruning as ap
        >>> flow = ap.channels.Flow()
        >>> x = flow.fixed((None, 3), "an example")
        >>> call = Call(flow, keras.layers.ReLU(), [x], [(None, 3)])
        >>> call.x is x, call.along().axis, call.shape
        (True, 1, (None, 3))
    """

    flow: Flow
    layer: keras.Layer
    xs: list[Channels]
    shapes: list[tuple]
    arguments: tuple = ((), {})

    @property
    def x(self) -> Channels:
        """The one tensor that goes in."""
        if len(self.xs) != 1:
            known = not isinstance(self.layer, keras.Layer) or rule_of(type(self.layer))
            raise NotFollowed("called with several tensors", "" if known else own_rule(self.layer))
        return self.xs[0]

    @property
    def shape(self) -> tuple:
        """Of the first tensor that comes out."""
        return self.shapes[0]

    @property
    def operands(self) -> list[Any]:
        """All that is handed over: `Channels`, and arrays and numbers that are no tensors."""
        return [one for one in keras.tree.flatten(self.arguments) if one is not None]

    def run(self, *values: Array) -> list[Array]:
        """What really comes out with these values in the place of `xs`, one for each."""
        known = zip(self.xs, map(keras.ops.convert_to_tensor, values), strict=True)
        by_id = {id(x): tensor for x, tensor in known}
        args, kwargs = keras.tree.map_structure(lambda one: by_id.get(id(one), one), self.arguments)
        kept = {id(one) for one in getattr(self.layer, "weights", ())}
        states = [one for one in getattr(self.layer, "variables", ()) if id(one) not in kept]
        before = [keras.ops.convert_to_numpy(one) for one in states]  # of random numbers, say
        found = keras.tree.flatten(self.layer(*args, **kwargs))
        for one, value in zip(states, before, strict=True):
            one.assign(value)
        return [keras.ops.convert_to_numpy(one) for one in found]

    def along(self, axis: int | None = None) -> Channels:
        """The one tensor with its channels along `axis`, by default the layer's `data_format`'s."""
        if axis is None:
            first = getattr(self.layer, "data_format", None) == "channels_first"
            axis = 1 if first else -1
        return self.flow.along(self.x, axis)

    def entries(self, variable: keras.Variable, x: Channels, axis: int = 0) -> Array:
        """The values of a vector whose entry i belongs to channel i of `x`, and goes with it.

        Of a variable with more axes: of the channels along `axis`, NaN where others make a
        channel's entries differ.
        """
        self.flow.slice(variable, axis, x.ids)
        values = keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))
        rows = np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis]).astype(np.float64)
        return np.where((rows == rows[:1]).all(axis=0), rows[0], np.nan)

    def last(self, ids: Array, value: Array) -> Channels:
        """The first tensor that comes out, with channels along its last axis."""
        return Channels(self.shape, len(self.shape) - 1, ids, value)


def rule(*kinds: type | str, masks: tuple[str, ...] = ()) -> Callable[[Rule], Rule]:
    """Register `f(call) -> Channels` (of several outputs, a list) for classes of layers.

    Operations of `keras.ops` go by names such as "numpy.Add": some are called as layers are, and
    do something else. Arguments in `masks` only choose positions, and are not among `call.xs`.
    Subclasses are not covered: they may call something else.
    """

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(kinds, (function, masks)))
        return function

    return register


def register(layer_class: type, rule: Callable[[Call], Any], masks: Sequence[str] = ()) -> None:
    """Say what becomes of the channels that pass through your own layer class.

    `compact` then takes pruned units out before and behind it, and out of its own weights; unit
    pruning couples what can only go together. A layer with a rule is never taken apart.

    Args:
        layer_class: a subclass of `keras.Layer`; its subclasses are not covered, they may call
            something else. Where its weights shrink it is made again by `from_config`.
        rule: `call -> Channels`, of several outputs a list. It has to hold exactly: look at
            `Call` for what it gets, at `Flow` for what it can say, at `mixed` for layers that
            compute activation(x kernel + bias). It raises `NotFollowed` where it cannot tell.
        masks: names of arguments of `call` that only choose positions, such as "mask".

    Raises:
        TypeError: when `layer_class` is not a layer class, or `rule` cannot be called.

    Example:
        >>> import activation_pruning as ap
        >>> class Scale(keras.layers.Layer):
        ...     def build(self, shape):
        ...         self.factor = self.add_weight(shape=(shape[-1],), initializer="ones")
        ...     def call(self, x):
        ...         return x * self.factor
        >>> def scaled(call):
        ...     x = call.along()  # with its channels along the last axis
        ...     return x.to(call.shape, value=x.value * call.entries(call.layer.factor, x))
        >>> ap.channels.register(Scale, scaled)
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6), Scale(),
        ...                           keras.layers.Dense(2)])
        >>> report = ap.prune(model, 0.5, granularity="unit")
        >>> [tuple(weight.shape) for weight in ap.compact(model).weights]
        [(8, 3), (3,), (3,), (3, 2), (2,)]
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.Layer)):
        raise TypeError(
            f"layer_class must be a subclass of keras.Layer, received {shown(layer_class)}"
        )
    if not callable(rule):
        raise TypeError(f"rule must be a function of one Call, received {shown(rule)}")
    names = (masks,) if isinstance(masks, str) else masks
    if not (isinstance(names, (tuple, list)) and all(isinstance(one, str) for one in names)):
        raise TypeError(f"masks={shown(masks)}; give names of arguments of call, as in ('mask',)")
    RULES[layer_class] = rule, tuple(names)
    REGISTERED.add(layer_class)
