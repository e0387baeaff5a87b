"""Which units go first: those with the lowest share of a layer's scores for what they save."""

import heapq
import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from activation_pruning.allocations import Items, ranking
from activation_pruning.budgets.prediction import Prediction
from activation_pruning.support.types import Array, Sites


class Step(NamedTuple):
    """One step of the order: these units of a site go, numbers as in its items.

    cost: predicted, of the model after the step.
    """

    site: str
    units: Array
    cost: float


def removal_order(
    sites: Sites, items: Mapping[str, Items], layers: Mapping[str, Array], left: Prediction
) -> list[Step]:
    """The order in which units go, until nothing that could go is left.

    Each time the unit goes whose score, as a share of all scores of its site, is lowest for what
    the model costs less without it. Shares, because scores of different layers need not be of one
    unit: by their sums the first convolution of a network, whose units have few weights but are
    dear, would nearly vanish. What a unit saves depends on all that went before, so it is looked at
    anew. That is greedy: best at each step, not for each budget. Units without which nothing gets
    cheaper stay.

    Args:
        sites: whose units share no channels; `channels` holds that of each unit, or None.
        items: {site name: its units}.
        layers: {name: the channels of a layer's units}, without those that are dead; one stays.
        left: what the model costs now; it is without all these units afterwards.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> from activation_pruning.budgets.prediction import Term, product
        >>> channels = {"a": np.array([0, 1]), "b": np.array([2, 3, 4])}
        >>> sites = [Site(name=name, channels=own) for name, own in channels.items()]
        >>> items = {"a": Items(np.array([1.0, 9])), "b": Items(np.array([6.0, 2, 2]))}
        >>> left = Prediction([Term((channels["a"], channels["b"]), product(1.0))])
        >>> [(step.site, step.units.tolist(), step.cost)
        ...  for step in removal_order(sites, items, channels, left)]
        [('a', [0], 3.0), ('b', [2], 2.0), ('b', [1], 1.0)]
    """
    channels = {site.name: site.channels for site in sites if site.channels is not None}
    spare = _Spare(layers)
    for name, own in channels.items():
        spare.take(own[ranking(items[name].scores)[: items[name].dead]])
    queues = {name: _chunks(own, items[name], left) for name, own in channels.items()}
    heap: list[tuple] = []
    found, ticket = [], itertools.count()

    def price(chunk):
        saving = left.saving(chunk.channels)
        return chunk.share / saving if saving > 0 else np.inf  # no cheaper any more: last

    def push(name, chunk):
        heapq.heappush(heap, (price(chunk), next(ticket), name, chunk))

    def advance(name):
        chunk = next(queues[name], None)
        if chunk is not None:
            push(name, chunk)

    for name in channels:
        advance(name)
    while heap:
        ratio, _, name, chunk = heapq.heappop(heap)
        if not spare.has(chunk.channels):  # the last of a layer stays
            advance(name)
            continue
        # It may save less by now: its neighbours have become narrower.
        if heap and price(chunk) > max(ratio, heap[0][0]):
            push(name, chunk)
            continue
        spare.take(chunk.channels)
        left.remove(chunk.channels)
        found.append(Step(name, chunk.units, left.total))
        advance(name)
    return found


class _Chunk(NamedTuple):
    """Units that go together, the channels they have, and their share of all scores."""

    units: Array
    channels: Array
    share: float


def _chunks(channels: Array, items: Items, left: Prediction) -> Iterator[_Chunk]:
    """The units of one site in their order; as many at once as `round_to` asks for."""
    scores = items.scores
    shares = _shares(scores)
    order = ranking(scores)[items.dead :]
    order = np.array([unit for unit in order if left.saving([channels[unit]]) > 0], int)
    start, kept = 0, scores.size - items.dead
    while start < len(order):
        number = kept % items.round_to or items.round_to
        units = order[start : start + number]
        if len(units) == number:
            yield _Chunk(units, channels[units], float(shares[units].sum()))
        start, kept = start + number, kept - number


def _shares(scores: Array) -> Array:
    """Each score as a share of their sum, counted from the lowest where there are some below 0."""
    alive = scores > -np.inf
    values = np.where(alive, scores, 0.0).astype(np.float64)
    values = np.where(alive, values - values.min(initial=0.0), 0.0)
    total = values.sum()
    return values / total if 0 < total < np.inf else alive / max(int(np.count_nonzero(alive)), 1)


class _Spare:
    """How many channels each layer can lose before it has none."""

    def __init__(self, layers: Mapping[str, Array]) -> None:
        self._layers: dict[int, list[str]] = {}
        self._left = {name: len(np.unique(channels)) for name, channels in layers.items()}
        for name, channels in layers.items():
            for channel in np.unique(channels).tolist():
                self._layers.setdefault(channel, []).append(name)

    def has(self, channels: Array) -> bool:
        return all(self._left[name] > number for name, number in self._count(channels).items())

    def take(self, channels: Array) -> None:
        for name, number in self._count(channels).items():
            self._left[name] -= number

    def _count(self, channels):
        found: dict[str, int] = {}
        for channel in np.unique(channels).tolist():
            for name in self._layers.get(channel, ()):
                found[name] = found.get(name, 0) + 1
        return found
