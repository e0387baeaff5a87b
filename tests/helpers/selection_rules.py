"""Small random cases of selection, and what should go in them: the rules a second time, simply."""

import dataclasses
import math
from typing import Any

import numpy as np

from activation_pruning import masks
from activation_pruning.sites import Site

GRAINS = ["weight", "weight", "unit", "unit", masks.Unit(2), (2, 2), (1, 3), "2:4", "1:4", "3:4"]
ALLOCATIONS = ["global", "uniform", "distributed", "erk"]


@dataclasses.dataclass
class Case:
    """What `select` is given."""

    sites: list[Site]
    scores: dict[str, Any]
    sparsity: Any
    granularity: Any
    allocation: str


@dataclasses.dataclass
class Item:
    """What goes as one: (number of its group of sites, its number there, alive weights, score)."""

    group: int
    number: int
    weights: list[tuple[str, int]]
    score: float
    cost: float


def random_case(generator: np.random.Generator) -> Case:
    """A case of one to four sites."""
    grain = GRAINS[generator.integers(len(GRAINS))]
    sites = [random_site(generator, f"s{i}", grain) for i in range(generator.integers(1, 5))]
    if grain == "unit" and generator.random() < 0.4:
        sites = [coupled(generator, site) for site in sites]
    scores = {site.name: random_scores(generator, site.kernel.shape) for site in sites}
    sparsity = float(generator.choice([generator.random(), generator.integers(20) / 20]))
    allocation = ALLOCATIONS[generator.integers(len(ALLOCATIONS))]
    return Case(sites, scores, sparsity, grain, allocation)


def random_site(generator: np.random.Generator, name: str, grain: Any) -> Site:
    """A small site; one in five has lost much already, and one in twenty all."""
    four = isinstance(grain, str) and ":" in grain
    inputs = 4 * generator.integers(1, 4) if four else generator.integers(1, 7)
    shape = (int(inputs), int(generator.integers(1, 6)))
    axis, units = 0, np.arange(shape[1])[None]
    kind = generator.integers(5)
    if kind == 0 and not four:
        shape = (2, *shape)
    elif kind == 1:
        units = np.arange(shape[1])[None] // 2  # two gates, or so, share a unit
    elif kind == 2 and four:
        shape, axis, units = shape[::-1], 1, np.arange(shape[1])[:, None]
    kernel = generator.standard_normal(shape).astype(np.float32)
    dead = float(generator.choice([0, 0, 0, 0.3, 0.8]))
    mask = generator.random(shape) >= dead
    if generator.random() < 0.05:
        mask[...] = False
    return Site(name, name, kernel * mask, mask, units, axis)


def coupled(generator: np.random.Generator, site: Site) -> Site:
    """The site with channels from a few that all share."""
    units = int(site.units.max()) + 1
    return dataclasses.replace(site, channels=generator.integers(0, 8, units))


def random_scores(generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Scores with or without ties, of three precisions."""
    dtype = [np.float32, np.float64, np.float16][generator.integers(3)]
    if generator.random() < 0.5:
        return generator.integers(0, 4, shape).astype(dtype)
    return generator.random(shape).astype(dtype)


def apart(site: Site) -> bool:
    """Whether no two of its units share a channel."""
    return site.channels is None or len(set(site.channels.tolist())) == len(site.channels)


def groups_of(case: Case) -> list[list[Site]]:
    """Sites whose units go together, directly or through others; else each alone."""
    groups: list[list[Site]] = []
    for site in case.sites:
        own = set() if site.channels is None else set(site.channels.tolist())
        near = [g for g in groups if any(own & set(s.channels.tolist()) for s in g if own)]
        joined = [s for g in near for s in g] + [site]
        groups = [g for g in groups if g not in near] + [joined]
    order = {site.name: i for i, site in enumerate(case.sites)}
    groups = [sorted(g, key=lambda s: order[s.name]) for g in groups]
    return sorted(groups, key=lambda g: order[g[0].name])


def items_of(case: Case) -> list[list[Item]]:
    """The items that are not gone yet, group by group."""
    found = []
    for number, group in enumerate(groups_of(case)):
        members: dict[Any, list] = {}
        for site in group:
            for key, index in keys(site, case.granularity, len(group) == 1 and apart(site)):
                members.setdefault(key, [])
                if site.mask.ravel()[index]:
                    score = float(case.scores[site.name].ravel()[index])
                    members[key].append((score, site.name, index))
                else:
                    members[key].append(None)
        own = [item(number, i, members[key], case) for i, key in enumerate(sorted(members))]
        found.append([one for one in own if one.weights])
    return found


def keys(site: Site, grain: Any, alone: bool) -> list[tuple[Any, int]]:
    """(of which item it is a part, flat index) of each weight."""
    shape, found = site.kernel.shape, []
    units = np.broadcast_to(site.units, shape).ravel()
    for index in range(site.kernel.size):
        at = np.unravel_index(index, shape)
        if grain == "weight":
            key: Any = index
        elif grain == "unit" or isinstance(grain, masks.Unit):
            unit = int(units[index])
            key = unit if alone else int(site.channels[unit])
        elif isinstance(grain, tuple):
            key = (index // shape[-1] // grain[0], int(at[-1]) // grain[1])
        else:
            rest = tuple(int(a) for axis, a in enumerate(at) if axis != site.input_axis)
            key = (*rest, int(at[site.input_axis]) // 4)
        found.append((key, index))
    return found


def item(group: int, number: int, members: list, case: Case) -> Item:
    """The item of these weights, None for those that are gone."""
    alive = [m for m in members if m is not None]
    if isinstance(case.granularity, str) and ":" in case.granularity:
        go = 4 - int(case.granularity[0]) - (len(members) - len(alive))
        alive = sorted(alive, key=lambda m: (m[0], -m[2]))[: max(go, 0)]
        score = cost = math.fsum(m[0] for m in alive)
    else:
        cost = math.fsum(m[0] for m in alive)
        score = cost / max(len(alive), 1)
    return Item(group, number, [m[1:] for m in alive], score, cost)


def protects(case: Case) -> int:
    """How many items of each group stay."""
    return 0 if isinstance(case.granularity, str) and ":" in case.granularity else 1


def rank(one: Item) -> tuple[float, int, int]:
    """Low scores first; of equal ones those of later sites, then the later ones."""
    return (one.score, -one.group, -one.number)


def budget_of(case: Case) -> int:
    """How many weights are to be pruned, those pruned already included."""
    return math.floor(case.sparsity * sum(site.mask.size for site in case.sites) + 0.5)


def pruned_before(group: list[Site]) -> int:
    """How many weights of some sites are gone already."""
    return sum(int((~site.mask).sum()) for site in group)


def stay(case: Case, own: list[Item]) -> set[int]:
    """The ids of the items of one group that are protected."""
    return {id(one) for one in sorted(own, key=rank)[max(len(own) - protects(case), 0) :]}


def expected(case: Case) -> set[tuple[str, int]] | None:
    """What goes, by a walk along the ranking; None where the rules leave room."""
    left = budget_of(case) - pruned_before(case.sites)
    groups = items_of(case)
    if left <= 0:
        return set()
    if isinstance(case.granularity, masks.Unit):
        return None
    if case.allocation == "uniform":
        return expected_of_each(case, groups)
    if case.allocation == "erk":
        return None
    if case.allocation == "distributed":
        scale_scores(case, groups)
    gone = walk([one for own in groups for one in own], left, case, groups)
    return gone if all(lives(site, gone) for site in case.sites) else None


def walk(
    candidates: list[Item], left: int, case: Case, groups: list[list[Item]]
) -> set[tuple[str, int]]:
    """The weights of the longest prefix of the ranking that fits; who is protected is no part."""
    staying = set().union(*(stay(case, own) for own in groups))
    gone: set[tuple[str, int]] = set()
    for one in sorted(candidates, key=rank):
        if id(one) in staying:
            continue
        if len(one.weights) > left:
            break
        gone |= set(one.weights)
        left -= len(one.weights)
    return gone


def expected_of_each(case: Case, groups: list[list[Item]]) -> set[tuple[str, int]] | None:
    """The same share of each; None where one holds more already, or would be emptied."""
    gone: set[tuple[str, int]] = set()
    for sites, own in zip(groups_of(case), groups, strict=True):
        share = math.floor(case.sparsity * sum(s.mask.size for s in sites) + 0.5)
        left = share - pruned_before(sites)
        if left < 0 or (protects(case) and left >= sum(len(one.weights) for one in own)):
            return None
        gone |= walk(own, left, case, [own])
    return gone if all(lives(site, gone) for site in case.sites) else None


def lives(site: Site, gone: set[tuple[str, int]]) -> bool:
    """Whether a weight of it is left, if there was one."""
    alive = np.flatnonzero(site.mask.ravel()).tolist()
    return not alive or any((site.name, index) not in gone for index in alive)


def scale_scores(case: Case, groups: list[list[Item]]) -> None:
    """Divide by the standard deviation of the group's alive weights."""
    for number, group in enumerate(groups_of(case)):
        alive = np.concatenate([s.kernel[s.mask].astype(float).ravel() for s in group])
        deviation = alive.std() if alive.size and alive.min() < alive.max() else 1.0
        for own in groups:
            for one in own:
                if one.group == number:
                    one.score /= deviation
