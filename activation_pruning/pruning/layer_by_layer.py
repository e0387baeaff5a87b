"""One pruning event, layer by layer: each with what its inputs have become."""

import contextlib
import dataclasses
import math
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from activation_pruning import allocations, masks
from activation_pruning.evidence import walking
from activation_pruning.evidence.gathering import Gathered
from activation_pruning.pruning.event import Event
from activation_pruning.sites import LiveSite
from activation_pruning.support.checks import is_number
from activation_pruning.support.counts import counted
from activation_pruning.support.progress import no_progress
from activation_pruning.support.types import Array, Data, Masks

# They look at no scores: how many weights each site loses is known beforehand.
_BLIND = (allocations.uniform, allocations.erk)


def pruned(event: Event, target: Any, data: Data) -> Event:
    """Carry an event out, one site after the other; a site that has lost its share is left alone.

    Args:
        event: of the sites, without a coupling.
        target: as for `Event.decide`; how many weights each site loses is allocated before any
            goes: by what all of them score now, or without data where scores do not matter.
        data: as for `prune`.

    Returns the event with the new masks, and without sites that no data reaches.

    Example:
        >>> import keras
        >>> from activation_pruning import sites
        >>> from activation_pruning.pruning.settings import Settings
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="a")])
        >>> model.layers[0].set_weights([np.array([[1.0, 3.0], [4.0, 2.0]]), np.zeros(2)])
        >>> event = Event(model, sites.find(model, exclude=()).sites, Settings("wanda"))
        >>> masks = pruned(event, 0.5, np.array([[3.0, 1.0]])).masks
        >>> masks["a/kernel"].tolist()  # by weight times input: 3, 9, 4, 2
        [[False, True], [True, False]]
    """
    event, goal = _shares(event, target, data)
    event.forget()
    settings = dataclasses.replace(event.settings, allocation="uniform")  # each has its share
    every = getattr(event.settings.surgeon, "rewrites", False)
    left = [
        s for s in event.sites if every or goal[s.name] > counted([event.masks[s.name]]).sparsity
    ]
    alive, done = event.masks, {}
    with contextlib.closing(_gathered(event, left, data)) as way:
        for number, (site, known) in enumerate(way, 1):
            alone = dataclasses.replace(
                event, sites=[site], settings=settings, progress=no_progress,
                alive={site.name: alive.pop(site.name)},
            )  # fmt: skip
            own, kernels = alone.decide(goal[site.name], {site.name: known})
            alone.assign(own, kernels)
            done[site.name] = np.packbits(own[site.name]), own[site.name].shape
            if event.settings.needs:
                event.progress(number, len(left))
    alive |= {name: np.unpackbits(bits, count=math.prod(shape)).reshape(shape).astype(bool)
              for name, (bits, shape) in done.items()}  # fmt: skip
    return dataclasses.replace(event, alive={site.name: alive[site.name] for site in event.sites})


def _gathered(
    event: Event, left: list[LiveSite], data: Data
) -> Generator[tuple[LiveSite, Gathered], None, None]:
    """Each site with what the criterion needs, as it is when those before have been pruned."""
    needs = event.settings.needs
    if needs and needs <= walking.KNOWN and left:
        way = walking.walk(event.model, left, data, needs)
        if way is not None:
            yield from way
            return
    for site in left:
        alone = dataclasses.replace(event, sites=[site])
        yield site, alone.gather(data).get(site.name, Gathered(None, {}))


def _shares(event: Event, target: Any, data: Data) -> tuple[Event, dict[str, float]]:
    """(the event without sites that no data reaches, {site name: its sparsity afterwards})."""
    chosen = _blind(event, target)
    if chosen is None and getattr(event.settings.surgeon, "separable", False):
        chosen = _by_scores(event, target, data)
    elif chosen is None:
        gathered = event.gather(data)
        event = event.only(gathered)
        chosen = event.decide(target, gathered)[0]
    return event, {name: counted([own]).sparsity for name, own in chosen.items()}


def _by_scores(event: Event, target: Any, data: Data) -> Masks:
    """Masks that keep as many weights of each site as `Event.decide` would; a Hessian at a time."""
    own = event.settings
    assert own.surgeon
    scores: dict[str, Array] = {}
    with contextlib.closing(_gathered(event, event.sites, data)) as way:
        for number, (site, known) in enumerate(way, 1):
            alone = dataclasses.replace(event, sites=[site], alive=event.masks)
            scores |= own.surgeon.scores(alone.seen({site.name: known}))
            event.progress(number, len(event.sites))
    return masks.select(event.snapshots, scores, target, own.granularity, own.allocation)


def _blind(event: Event, target: Any) -> Masks | None:
    """Masks that keep as many weights of each site as `Event.decide` would, without any scores.

    None where these decide how many they are, or where the criterion needs no data.
    """
    own = event.settings
    if not is_number(target) or not own.needs or not own.needs <= walking.KNOWN:
        return None
    seen = event.snapshots
    scores = {s.name: np.broadcast_to(np.float32(0), s.kernel.shape) for s in seen}
    weights = isinstance(own.granularity, masks.granularities.Weight)
    if not (weights and own.allocation in _BLIND) and not _all_go(event, target, scores):
        return None
    return masks.select(seen, scores, target, own.granularity, own.allocation)


def _all_go(event: Event, target: float, scores: Mapping[str, Array]) -> bool:
    """Whether the target leaves no choice: whatever the granularity can prune is to go."""
    for seen in event.snapshots:
        items = event.settings.granularity.items(seen, scores[seen.name])
        gone = counted([seen.mask]).pruned + np.sum(items.sizes * np.ones(items.values.size))
        if gone > allocations.rounded(target, seen.mask.size):
            return False
    return event.settings.granularity.protected == 0
