"""SparseGPT against its definition."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from surgery import hessian_of, selection, site_of

from activation_pruning import masks
from activation_pruning.surgeons import (
    LayerwiseOBS,
    SparseGPT,
    sparsegpt,
)
from activation_pruning.surgeons.problems import Problem

pytestmark = [pytest.mark.backend, pytest.mark.lowest]


def by_definition(hessian, weights, counts, group=None):
    """Input by input, with the inverse of the Hessian of the inputs left, from scratch."""
    w, n = np.array(weights, np.float64), weights.shape[1]
    kept = np.ones(w.shape, bool)
    for i in range(n):
        inverse = np.linalg.inv(hessian[i:, i:])
        if group is None:
            cost = w[:, i] ** 2 / inverse[0, 0]
            kept[np.argsort(cost)[: counts[i]], i] = False
        elif i % group == 0:
            costs = np.stack(
                [w[:, j] ** 2 / np.linalg.inv(hessian[j:, j:])[0, 0] for j in range(i, i + group)],
                1,
            )
            for unit in range(len(w)):
                kept[unit, i + np.argsort(costs[unit])[: group - counts]] = False
        for unit in np.flatnonzero(~kept[:, i]):
            w[unit, i:] -= w[unit, i] / inverse[0, 0] * inverse[0]
    return np.where(kept, w, 0)


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.8])
def test_sparsegpt_with_blocks_of_one_input_is_its_definition(sparsity):
    hessian, weights = hessian_of(9), np.random.default_rng(1).normal(size=(12, 9))
    one = site_of(weights.T, hessian)
    surgeon = SparseGPT(block_size=1, damping=0)
    chosen, kernels = surgeon.operate([one], selection(sparsity))
    budget = int(np.floor(sparsity * 108 + 0.5))
    counts = np.diff(np.floor(12 * np.arange(10) * budget / 108 + 0.5).astype(int))
    assert counts.sum() == budget
    expected = by_definition(hessian, weights, counts)
    np.testing.assert_allclose(kernels["a"].T, expected, atol=1e-9)
    np.testing.assert_array_equal(chosen["a"].T, expected != 0)


@pytest.mark.parametrize("block_size", [1, 3, 4, 8, 128])
def test_sparsegpt_two_of_four_is_its_definition(block_size):
    hessian, weights = hessian_of(8), np.random.default_rng(2).normal(size=(5, 8))
    one = site_of(weights.T, hessian)
    chosen, kernels = SparseGPT(block_size, damping=0).operate([one], selection(0.5, "2:4"))
    expected = by_definition(hessian, weights, 2, group=4)
    np.testing.assert_allclose(kernels["a"].T, expected, atol=1e-9)
    assert (chosen["a"].reshape(2, 4, 5).sum(1) == 2).all()


@pytest.mark.parametrize("block_size", [1, 2, 5, 9])
def test_lazy_updates_of_later_inputs_change_nothing(block_size):
    """With the mask given, blocks differ in when later inputs are updated, not in the result."""
    hessian, weights = hessian_of(9), np.random.default_rng(3).normal(size=(4, 9))
    alive = np.ones((4, 9), bool)
    factor = sparsegpt.factor(Problem("a", hessian, weights, alive))
    np.testing.assert_allclose(factor.T @ factor, np.linalg.inv(hessian), atol=1e-9)
    wanted = alive.copy()
    wanted[:, ::2] = False
    found, kept = sparsegpt.solve(weights, alive, factor, wanted, block_size, group=1)
    np.testing.assert_array_equal(kept, wanted)
    expected, _ = sparsegpt.solve(weights, alive, factor, wanted, 9, group=1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_sparsegpt_between_magnitude_and_exact():
    generator = np.random.default_rng(8)
    x, kernel = generator.normal(size=(200, 40)), generator.normal(size=(40, 20))
    hessian = x.T @ x / 200
    one = site_of(kernel, hessian)

    def error(found):
        return np.einsum("iu,ij,ju", found - kernel, hessian, found - kernel)

    exact = error(LayerwiseOBS(damping=0).operate([one], selection(0.6))[1]["a"])
    one_pass = error(SparseGPT(damping=0).operate([one], selection(0.6))[1]["a"])
    magnitude = error(np.where(masks.lowest(abs(kernel).ravel(), 480).reshape(40, 20), 0, kernel))
    assert 0.9 * magnitude < one_pass < magnitude
    assert exact < 0.9 * one_pass


@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 13), st.floats(0, 0.99), st.booleans())
@settings(max_examples=60, deadline=None)
def test_sparsegpt_counts_are_exact_under_ties(inputs, units, block_size, sparsity, some_dead):
    kernel = np.ones((inputs, units))
    mask = np.random.default_rng(units).random(kernel.shape) < (0.7 if some_dead else 1)
    mask.flat[0] = True
    one = site_of(kernel, np.eye(inputs), mask=mask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the guard of the last weight
        chosen, kernels = SparseGPT(block_size, damping=0).operate([one], selection(sparsity))
    budget = int(np.floor(sparsity * kernel.size + 0.5))
    dead = int((~mask).sum())
    expected = max(min(budget, kernel.size - 1), dead)
    assert int((~chosen["a"]).sum()) == expected
    assert not (chosen["a"] & ~mask).any()
    np.testing.assert_array_equal(kernels["a"] != 0, chosen["a"])
