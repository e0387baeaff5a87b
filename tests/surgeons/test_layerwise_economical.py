"""Inverses that are recalculated now and then."""

import numpy as np
import pytest
from surgery import as_problems, brute_force, selection, sites_of, two_layers

from activation_pruning import masks
from activation_pruning.surgeons import LayerwiseOBS
from activation_pruning.surgeons.layerwise_economical import remove_economically
from activation_pruning.surgeons.problems import Problem

pytestmark = [pytest.mark.backend, pytest.mark.lowest]


@pytest.mark.parametrize("seed", range(3))
def test_recalculating_after_every_removal_is_exact(seed):
    problems = two_layers(seed)
    order, weights = brute_force(problems, 35)
    ranks, found = remove_economically(as_problems(problems), 35, 1)
    for own, expected in zip(found, weights, strict=True):
        np.testing.assert_allclose(own, expected, atol=1e-6)
    assert [ranks[i][unit, p] for i, unit, p in order] == list(range(35))
    _, kernels = LayerwiseOBS(damping=0).operate(sites_of(problems), selection(35 / 41))
    for name, own in zip("ab", found, strict=True):
        np.testing.assert_allclose(kernels[name].T, own, atol=1e-6)


def test_inverses_out_of_date_follow_their_definition():
    hessian, weights, alive = two_layers()[0]
    _, found = remove_economically([Problem("a", hessian, weights[:1], alive[:1])], 4, 4)
    w, inverse, gone = weights[0].copy(), np.linalg.inv(hessian), []
    for _ in range(4):
        errors = np.where(np.isin(np.arange(7), gone), np.inf, w**2 / np.diagonal(inverse))
        p = int(errors.argmin())
        w -= w[p] / inverse[p, p] * inverse[:, p]
        gone.append(p)
        w[gone] = 0
    np.testing.assert_allclose(found[0][0], w, atol=1e-12)


def test_recalculating_now_and_then_is_no_better_than_the_exact_way():
    problems = two_layers(7)

    def error(found):
        pairs = zip(problems, found, strict=True)
        return sum(np.einsum("ui,ij,uj", v - w, h, v - w) for (h, w, _), v in pairs)

    errors = {
        every: error(remove_economically(as_problems(problems), 30, every)[1])
        for every in (1, 5, 30)
    }
    assert errors[1] < errors[5] < errors[30]


def test_recalculate_every_as_an_option():
    group = sites_of(two_layers())
    surgeon = LayerwiseOBS(damping=0, recalculate_every=5)
    chosen, kernels = surgeon.operate(group, selection(0.6))
    _, found = remove_economically(as_problems(two_layers()), 25, 5)
    for name, own in zip("ab", found, strict=True):
        np.testing.assert_array_equal(kernels[name].T, own)
        np.testing.assert_array_equal(chosen[name].T, own != 0)
    with pytest.raises(ValueError, match="allocation='global'"):
        surgeon.operate(group, selection(0.6, allocation=reversed_allocation))
    with pytest.raises(ValueError, match="granularity='weight'"):
        surgeon.check(masks.granularity("2:4"))


def test_from_a_pruned_network_only_what_is_missing_goes():
    problems = []
    for number, (hessian, weights, alive) in enumerate(two_layers()):
        alive = alive & (np.arange(alive.size).reshape(alive.shape) % 4 != number)
        problems.append((hessian, weights * alive, alive))
    dead = sum(int((~alive).sum()) for *_, alive in problems)
    _, weights = brute_force(problems, 25 - dead)  # 25 of 41 are 0.6
    surgeon = LayerwiseOBS(damping=0, recalculate_every=1)
    economical = LayerwiseOBS(damping=0, recalculate_every=25 - dead + 1)
    for one in (surgeon, economical):
        chosen, kernels = one.operate(sites_of(problems), selection(0.6))
        assert sum(int((~mask).sum()) for mask in chosen.values()) == 25
        for name in "ab":
            np.testing.assert_array_equal(chosen[name], kernels[name] != 0)
    _, found = remove_economically(as_problems(problems), 25 - dead, 1)
    for own, expected in zip(found, weights, strict=True):
        np.testing.assert_allclose(own, expected, atol=1e-6)


def reversed_allocation(group, items, sparsity):
    """Everything from the last site."""
    budget = int(np.floor(sparsity * sum(one.mask.size for one in group) + 0.5))
    found = {}
    for one in reversed(group):
        found[one.name] = min(budget, one.mask.size - 1)
        budget -= found[one.name]
    return found
