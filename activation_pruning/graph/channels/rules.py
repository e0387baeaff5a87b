"""What a rule for a layer is: a function of one `Call` that says where its channels go."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import keras

from activation_pruning.graph.channels.flow import Channels, Flow
from activation_pruning.support.types import Array

Rule = TypeVar("Rule", bound=Callable[..., Any])
RULES: dict[type | str, tuple[Callable[..., Any], tuple[str, ...]]] = {}


class NotFollowed(Exception):
    """Raised by a rule that cannot follow this call; says why, and what to do about it."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer, or of an operation of `keras.ops`.

    flow: takes what is found out. xs: the tensors that go in, in the order of the arguments.
    shapes: of the tensors that come out. arguments: (args, kwargs), with `Channels` for tensors.
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
            raise NotFollowed("called with several tensors")
        return self.xs[0]

    @property
    def shape(self) -> tuple:
        """Of the first tensor that comes out."""
        return self.shapes[0]

    @property
    def operands(self) -> list[Any]:
        """All that is handed over: `Channels`, and arrays and numbers that are no tensors."""
        return [one for one in keras.tree.flatten(self.arguments) if one is not None]

    def run(self, x: Channels, values: Array) -> list[Array]:
        """What really comes out with these values in the place of `x`."""
        values = keras.ops.convert_to_tensor(values)
        args, kwargs = keras.tree.map_structure(
            lambda one: values if one is x else one, self.arguments
        )
        found = keras.tree.flatten(self.layer(*args, **kwargs))
        return [keras.ops.convert_to_numpy(one) for one in found]

    def along(self, axis: int | None = None) -> Channels:
        """The one tensor with its channels along `axis`, by default the layer's `data_format`'s."""
        if axis is None:
            first = getattr(self.layer, "data_format", None) == "channels_first"
            axis = 1 if first else -1
        return self.flow.along(self.x, axis)

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


def known(layer: keras.Layer) -> bool:
    """Whether there is a rule for the class of a layer."""
    return type(layer) in RULES
