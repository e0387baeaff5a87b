"""Random cases of selection and of amounts, judged by rules written down a second time, simply.

python tests/helpers/random_cases.py --cases 200000 --amounts 10000 --seed 0

A case is a few small sites: dense kernels, gates, convolutions, coupled units, dead weights, many
ties. What `masks.select` makes of it is compared with `selection_rules`, loops over lists that know
nothing of the package; where the rules leave room (several rounds of sharing), with what must hold
in any case.
"""

import argparse
import math
import sys
import time
import warnings
from typing import Any

import numpy as np
from selection_rules import (
    Case,
    Item,
    apart,
    budget_of,
    expected,
    groups_of,
    items_of,
    protects,
    pruned_before,
    random_case,
    rank,
    scale_scores,
    stay,
)  # fmt: skip

from activation_pruning import amounts, masks


def selected(case: Case, sparsity: Any = None) -> tuple[Any, list[Any]]:
    """({site name: new mask}, the warnings)."""
    sparsity = case.sparsity if sparsity is None else sparsity
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = masks.select(case.sites, case.scores, sparsity, case.granularity, case.allocation)
    return found, [one.category for one in caught]


def gone_in(case: Case, found: Any) -> set[tuple[str, int]]:
    """The weights that went now."""
    went = {
        site.name: np.flatnonzero((site.mask & ~found[site.name]).ravel()) for site in case.sites
    }
    return {(name, int(index)) for name, indices in went.items() for index in indices}


def judge_selection(case: Case) -> str | None:
    """What is wrong with what `select` makes of a case; None if nothing is."""
    found, caught = selected(case)
    gone, right = gone_in(case, found), expected(case)
    wrong = judge_masks(case, found, gone)
    if wrong:
        return wrong
    if right is not None and gone != right:
        return f"went: {sorted(gone)}, should go: {sorted(right)}"
    return judge_count(case, gone, caught)


def judge_masks(case: Case, found: Any, gone: set[tuple[str, int]]) -> str | None:
    """Nothing comes back, nothing is emptied, the lowest items go, and go whole."""
    for site in case.sites:
        if (found[site.name] & ~site.mask).any():
            return f"{site.name}: a weight came back"
        if protects(case) and site.mask.any() and not found[site.name].any():
            return f"{site.name} was emptied"
    given_back = any(site.channels is not None for site in case.sites)
    for own in items_of(case):
        whole = [set(one.weights) <= gone for one in sorted(own, key=rank)]
        part = [bool(set(one.weights) & gone) for one in sorted(own, key=rank)]
        if whole != part:
            return "an item went in part"
        if whole != sorted(whole, reverse=True) and not given_back:
            return "an item went before a lower one"
    known = {weight for own in items_of(case) for one in own for weight in one.weights}
    return None if gone <= known else "a weight went that is part of no item"


def judge_count(case: Case, gone: set, caught: list[Any]) -> str | None:
    """As many as asked for, within what whole items allow; and no less without a word."""
    before, budget = pruned_before(case.sites), budget_of(case)
    after = before + len(gone)
    groups = items_of(case)
    largest = [
        max((len(o.weights) for o in own if not set(o.weights) <= gone), default=0)
        for own in groups
    ]
    step = getattr(case.granularity, "round_to", 1) if not isinstance(case.granularity, str) else 1
    many = step > 1 or case.allocation == "uniform"
    over = len(groups) * (0.5 if many else 0) + sum(largest_of(own) for own in groups) * (step - 1)
    if after > max(before, budget) + over:
        return f"{after} are pruned, of a budget of {budget} and {before} before"
    if case.granularity == "weight" and case.allocation != "uniform":
        able = sum(site.mask.size - bool(site.mask.any()) for site in case.sites)
        if after != max(before, min(budget, able)):
            return f"{after} are pruned, not {budget}"
    if after < budget - len(groups) / 2 - sum(largest) * step and not caught:
        return f"{after} are pruned, of a budget of {budget}: nobody said so"
    return judge_shares(case, groups, gone, caught)


def largest_of(own: list[Item]) -> int:
    """The size of the largest item."""
    return max((len(one.weights) for one in own), default=0)


def judge_shares(case: Case, groups: list, gone: set, caught: list[Any]) -> str | None:
    """Under "uniform" and "erk" no site takes more than its share, unless another cannot."""
    if caught or isinstance(case.granularity, masks.Unit) or len(gone) == 0:
        return None
    if case.allocation not in ("uniform", "erk"):
        return None
    for sites, own, share in zip(groups_of(case), groups, shares(case), strict=True):
        taken = sum(len(one.weights) for one in own if set(one.weights) <= gone)
        if taken and taken + pruned_before(sites) >= share + 1:
            return f"{sites[0].name}: {taken} more are pruned, of a share of {share}"
    return None


def shares(case: Case) -> list[float]:
    """How many weights each group should lose at the target, not yet rounded."""
    groups = groups_of(case)
    sizes = np.array([sum(s.mask.size for s in group) for group in groups], float)
    if case.allocation == "uniform":
        return (case.sparsity * sizes).tolist()
    alone = [len(group) == 1 and apart(group[0]) for group in groups]
    shapes = [g[0].kernel.shape if one else () for g, one in zip(groups, alone, strict=True)]
    raw = np.array([sum(s) / math.prod(s) if s else 1.0 for s in shapes])
    low, high = 0.0, 1.0 / raw.min()
    for _ in range(100):  # by halves, the factor at which the densities make the target
        middle = (low + high) / 2
        kept = (np.minimum(1.0, middle * raw) * sizes).sum()
        low, high = (middle, high) if kept < sizes.sum() - budget_of(case) else (low, middle)
    return ((1 - np.minimum(1.0, high * raw)) * sizes).tolist()


# -- amounts -----------------------------------------------------------------------------


def random_amount(generator: np.random.Generator, inner: bool = False) -> Any:
    """An amount of any kind."""
    kind = generator.integers(5 if inner else 7)
    if kind == 0:
        return amounts.Bucket(float(generator.integers(0, 40)) + generator.random())
    if kind == 1:
        return amounts.Threshold(float(generator.integers(0, 5)))
    if kind == 2:
        return amounts.BelowMean(float(generator.uniform(-1, 1)))
    if kind == 3:
        return amounts.Fraction(float(generator.uniform(0.01, 0.99)))
    if kind == 4:
        return amounts.Number(int(generator.integers(1, 40)))
    if kind == 5:
        return amounts.OneLayer(int(generator.integers(6)), random_amount(generator, inner=True))
    return amounts.UpTo(random_amount(generator, inner=True), float(generator.random()))


def judge_amount(case: Case, amount: Any) -> str | None:
    """What is wrong with what `select` makes of an amount; None if nothing is."""
    before = pruned_before(case.sites)
    weights = sum(site.mask.size for site in case.sites)
    target = amounts.resolved(amount, weights, before)
    if not isinstance(target, amounts.ByScores) and target >= 1:
        return None if target == 1 else f"{amount} comes to {target}"
    found, _ = selected(case, target)
    gone = gone_in(case, found)
    wrong = judge_masks(case, found, gone)
    if wrong or isinstance(case.granularity, masks.Unit):
        return wrong
    groups = items_of(case)
    if isinstance(amount, amounts.Bucket):
        return judge_bucket(case, groups, gone, amount.saliency)
    if isinstance(amount, (amounts.Threshold, amounts.BelowMean)):
        return judge_levels(case, groups, gone, amount)
    if isinstance(amount, amounts.OneLayer):
        return judge_one_layer(case, groups, gone, amount)
    if isinstance(amount, amounts.UpTo):
        return judge_up_to(case, gone, amount)
    budget = before + taken_by(amount, weights - before)
    if case.granularity == "weight" and case.allocation in ("global", "distributed", "erk"):
        able = sum(site.mask.size - bool(site.mask.any()) for site in case.sites)
        return None if before + len(gone) == min(budget, able) else f"{len(gone)} went by {amount}"
    return None


def taken_by(amount: Any, alive: int) -> int:
    """How many weights a fraction or a number of them is."""
    if isinstance(amount, amounts.Number):
        return min(amount.weights, alive)
    return math.floor(amount.share * alive + 0.5)


def judge_bucket(case: Case, groups: list, gone: set, saliency: float) -> str | None:
    """The bucket does not overflow; and the next item of the ranking would not fit."""
    paid = math.fsum(o.cost for own in groups for o in own if set(o.weights) <= gone)
    if paid > saliency * (1 + 1e-9) + 1e-9:
        return f"a bucket of {saliency} holds {paid}"
    coupled = any(site.channels is not None for site in case.sites)
    if coupled or case.allocation in ("uniform", "erk"):
        return None  # budgets rise, but shares of sites may fall: there is no next one
    if case.allocation == "distributed":
        scale_scores(case, groups)
    staying = set().union(*(stay(case, own) for own in groups))
    left = [o for own in groups for o in own if id(o) not in staying]
    left = [o for o in left if not set(o.weights) <= gone]
    if left and paid + min(left, key=rank).cost <= saliency - 1e-9:
        return f"a bucket of {saliency} holds {paid} and could hold {min(left, key=rank)}"
    return None


def judge_levels(case: Case, groups: list, gone: set, amount: Any) -> str | None:
    """All items below the level go, but for the best one; no others."""
    for own in groups:
        scores = np.array([one.score for one in own])
        if isinstance(amount, amounts.Threshold):
            level = amount.score
        elif own:
            level = min(scores.mean() - amount.deviations * scores.std(), scores.max())
        staying = stay(case, own)
        for one in own:
            if abs(one.score - level) < 1e-9 and isinstance(amount, amounts.BelowMean):
                continue
            wanted = one.score < level and id(one) not in staying
            if wanted != (set(one.weights) <= gone) and all(s.channels is None for s in case.sites):
                return f"{one} at a level of {level}"
    return None


def judge_one_layer(case: Case, groups: list, gone: set, amount: Any) -> str | None:
    """Only that layer loses something."""
    chosen = groups[amount.index % len(groups)]
    own = {weight for one in chosen for weight in one.weights}
    if not gone <= own:
        return f"{sorted(gone - own)} went in other layers"
    return None


def judge_up_to(case: Case, gone: set, amount: Any) -> str | None:
    """No further than the limit, and nothing that would not go without it."""
    weights = sum(site.mask.size for site in case.sites)
    limit = math.floor(amount.most * weights + 0.5)
    rounds = case.allocation == "uniform" and not isinstance(amount.amount, amounts.ByScores)
    rounds = rounds * len(case.sites) / 2
    before = pruned_before(case.sites)
    if before + len(gone) > max(before, limit) + rounds:
        return f"{before + len(gone)} are pruned, of at most {limit}"
    inner = amounts.resolved(amount.amount, weights, before)
    if not isinstance(inner, amounts.ByScores):
        return None
    everything = gone_in(case, selected(case, inner)[0])
    coupled = any(site.channels is not None for site in case.sites)
    return None if gone <= everything or coupled else "the limit made others go"


# -- all together ------------------------------------------------------------------------


def failures(cases: int, of_amounts: int, seed: int) -> list[str]:
    """What went wrong, with the number of the case: random_case(default_rng([seed, number]))."""
    found = []
    for number in range(cases + of_amounts):
        generator = np.random.default_rng([seed, number])
        case = random_case(generator)
        amount = random_amount(generator) if number >= cases else None
        try:
            wrong = judge_selection(case) if amount is None else judge_amount(case, amount)
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            about = f"{case.granularity}, {case.allocation}, {amount or case.sparsity}"
            found.append(f"case {number} ({about}): {wrong}")
    return found


def main() -> int:
    """Run so many cases; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=200_000, help="of selection")
    parser.add_argument("--amounts", type=int, default=10_000, help="of amounts")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    start = time.perf_counter()
    found = failures(chosen.cases, chosen.amounts, chosen.seed)
    print("\n".join(found[:20]))
    print(
        f"{chosen.cases:,} cases of selection, {chosen.amounts:,} of amounts, seed {chosen.seed}: "
        f"{len(found):,} failures in {time.perf_counter() - start:.0f} s"
    )
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
