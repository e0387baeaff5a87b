"""What is known of every channel of every tensor in a graph, and what a layer does to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from activation_pruning.graph.reasons import Why
from activation_pruning.support.types import Array, Mask


@dataclasses.dataclass(frozen=True, eq=False)
class Channels:
    """A tensor of the graph: whose channels it holds along one axis, and which are constant.

    shape: of the tensor, batch included; None where unknown.
    axis: of the channels, counted from the front.
    ids: int array, the number of each channel; what shares a number is removed together.
    value: float64 array: what the channel is for every sample and position, NaN where it varies.

    Example:
        >>> x = Channels((None, 4, 2), 2, np.array([5, 6]), np.array([np.nan, 0.0]))
        >>> x.to((None, 2), 1).ids.tolist()  # a mean over positions, say
        [5, 6]
    """

    shape: tuple
    axis: int
    ids: Array
    value: Array

    def to(self, shape: tuple, axis: int | None = None, value: Array | None = None) -> Channels:
        """The same channels in another tensor."""
        axis = self.axis if axis is None else axis
        return Channels(tuple(shape), axis, self.ids, self.value if value is None else value)

    def varying(self) -> Channels:
        """The same channels, of which no value is known any more."""
        return self.to(self.shape, value=np.full(len(self.ids), np.nan))


def spread(values: Array, axis: int, shape: Sequence[int]) -> Array:
    """One value for each index of an axis, at all places of a tensor of this shape.

    Example:
        >>> spread(np.array([1, 2]), 0, (2, 3)).tolist()
        [[1, 1, 1], [2, 2, 2]]
    """
    along = [-1 if one == axis else 1 for one in range(len(shape))]
    return np.broadcast_to(values.reshape(along), shape)


@dataclasses.dataclass(eq=False)
class Use:
    """A layer that mixes channels: rows of its kernel against units of its own.

    ids: of its inputs, (inputs,). out: of its units, (units,).
    nonzero: bool (inputs, units), whether any weight joins the two.
    value: of the inputs. folds: bool (inputs,), whether that value can go into the bias exactly.
    weights: float (inputs, units), what a constant input adds to a unit; None where `folds` is
        true for zeros only.
    why: why channels that vary stay, None where that they meet others says enough.
    """

    layer: Any
    ids: Array
    out: Array
    nonzero: Mask
    value: Array
    folds: Mask
    weights: Array | None = None
    why: Why | None = None


@dataclasses.dataclass(eq=False)
class Size:
    """An entry of a layer's configuration that counts channels: `make(count)` is its value.

    axis: which of its numbers counts them, where it is a shape.
    """

    layer: Any
    key: str
    ids: Array
    make: Callable[[int], Any] = int
    axis: int = -1


class Flow:
    """All that the walk over a model writes down.

    ties: pairs of channels that can only go together. pins: (ids, `Why`) of channels that stay.
    uses: the `Use`s, in the order of the graph. slices: {id(variable): (variable, {axis: ids})}.
    factors: {id(variable): (ids, make, offset)}, see `multiply`.
    exchanged: {id(layer): (layer, make, offset)}, see `exchange`.
    sizes: {(id(layer), key): Size}. units: {id(layer): (layer, ids, value of its units)}.
    inputs: {id(nested model): [Channels of each input]}.
    unknown: {id(operation): why no rule could follow a call of it}.
    whole: {name: why} of layers that put others together and could not be taken apart.

    Example:
        >>> flow = Flow()
        >>> some, others = flow.fresh(2), flow.fresh(2)
        >>> flow.tie(some, others)  # the first goes with the third, the second with the fourth
        >>> flow.pin(others[1:], "an example")
        >>> flow.labels().tolist(), [(ids.tolist(), why.reason) for ids, why in flow.pins]
        ([0, 1, 0, 1], [([3], 'an example')])
    """

    def __init__(self, whole: Mapping[str, Why] | None = None) -> None:
        self.count, self.whole = 0, whole or {}
        self.ties: list[tuple[Array, Array]] = []
        self.pins: list[tuple[Array, Why]] = []
        self.uses: list[Use] = []
        self.slices: dict[int, tuple[Any, dict[int, Array]]] = {}
        self.factors: dict[int, tuple[Array, Callable[[int], Any], float]] = {}
        self.exchanged: dict[int, tuple[Any, Callable[..., Any], float]] = {}
        self.sizes: dict[tuple[int, str], Size] = {}
        self.units: dict[int, tuple[Any, Array, Array]] = {}
        self.inputs: dict[int, list[Channels]] = {}
        self.unknown: dict[int, Why] = {}

    def fresh(self, number: int) -> Array:
        """Numbers of so many new channels."""
        ids = np.arange(self.count, self.count + number)
        self.count += number
        return ids

    def fixed(self, shape: tuple, why: str | Why, axis: int | None = None) -> Channels:
        """A tensor whose channels stay, one for each index of an axis (by default the last)."""
        axis = max(len(shape) - 1, 0) if axis is None else axis
        number = (shape[axis] if shape else 1) or 1
        found = Channels(tuple(shape), axis, self.fresh(number), np.full(number, np.nan))
        self.pin(found.ids, why)
        return found

    def along(self, x: Channels, axis: int) -> Channels:
        """`x` with its channels along `axis`; those of another axis have to stay."""
        axis %= len(x.shape)
        if x.axis == axis:
            return x
        self.pin(x.ids, "their axis is not the one that the next layer takes channels from")
        return self.fixed(x.shape, "what comes in has its channels along another axis", axis)

    def tie(self, some: Array, others: Array) -> None:
        """Let channels go together only, one by one."""
        self.ties.append((some, others))

    def pin(self, ids: Array, why: str | Why, remedy: str = "") -> None:
        """Let channels stay."""
        self.pins.append((ids, Why(why, remedy) if isinstance(why, str) else why))

    def units_of(self, layer: Any, number: int) -> Array:
        """The channels that a layer makes: the same ones whenever it is called."""
        if id(layer) not in self.units:
            self.units[id(layer)] = layer, self.fresh(number), np.full(number, np.nan)
        return self.units[id(layer)][1]

    def made(self, layer: Any, channels: Channels) -> Channels:
        """Remember what is known of the channels that a layer makes; returns them."""
        self.units[id(layer)] = layer, channels.ids, channels.value
        return channels

    def slice(self, variable: Any, axis: int, ids: Array) -> None:
        """Entry i of `variable` along `axis` belongs to channel ids[i]."""
        if variable is None:
            return
        axes = self.slices.setdefault(id(variable), (variable, {}))[1]
        axis %= len(variable.shape)
        self.tie(axes.setdefault(axis, ids), ids)

    def multiply(
        self, variable: Any, ids: Array, make: Callable[[int], Any], offset: float = 0.0
    ) -> None:
        """`variable` + offset becomes `make(count)` times as large when so many channels stay."""
        self.factors[id(variable)] = ids, make, offset

    def exchange(self, layer: Any, make: Callable[..., Any], offset: float = 0.0) -> None:
        """`make(layer, **changes)` takes its place in a copy, with the same weights + offset.

        For a layer whose configuration does not make it again.
        """
        self.exchanged[id(layer)] = layer, make, offset

    def size(
        self, layer: Any, key: str, ids: Array, make: Callable[[int], Any] = int, axis: int = -1
    ) -> None:
        """The configuration of `layer` counts these channels."""
        known = self.sizes.setdefault((id(layer), key), Size(layer, key, ids, make, axis))
        if known.axis == axis:
            self.tie(known.ids, ids)
            return
        for own in (known.ids, ids):
            self.pin(own, f"{layer.name!r} is called on channels along different axes")

    def use(
        self,
        layer: Any,
        x: Channels,
        out: Array,
        nonzero: Mask,
        folds: bool = False,
        weights: Array | None = None,
        why: Why | None = None,
    ) -> Use:
        """A layer mixes the channels of `x` into units `out`; see `Use` for the arguments.

        With `folds` constants other than zero can go into the bias.
        """
        known = x.value == 0
        if weights is not None:
            known |= np.isfinite(x.value) & folds
        again = next((one for one in self.uses if one.layer is layer and one.out is out), None)
        if again is not None:  # a shared layer has one bias for all of its calls
            known &= (again.value == x.value) | ~nonzero.any(axis=1)
            again.folds &= known
        self.uses.append(Use(layer, x.ids, out, nonzero, x.value, known, weights, why))
        return self.uses[-1]

    def labels(self) -> Array:
        """The class of each channel: what is tied is of one class, int array of shape (count,)."""
        pairs = [np.stack(np.broadcast_arrays(*tie)).reshape(2, -1) for tie in self.ties]
        some, others = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), int)
        shape = self.count, self.count
        graph = scipy.sparse.coo_matrix((np.ones(len(some), bool), (some, others)), shape)
        return connected_components(graph, directed=False)[1]
