"""Layer-wise OBS against brute force, in float64."""

import numpy as np
import pytest
from surgery import brute_force, hessian_of, selection, site_of, sites_of, small_network, two_layers

import activation_pruning as ap
from activation_pruning.evidence.inputs import InputHessian
from activation_pruning.sites import Site
from activation_pruning.sites.unfolding import Unfolding
from activation_pruning.surgeons import LayerwiseOBS, obs

pytestmark = [pytest.mark.backend, pytest.mark.lowest]


@pytest.mark.parametrize("seed", range(5))
def test_errors_are_in_the_order_of_brute_force(seed):
    problems = two_layers(seed)
    order, _ = brute_force(problems, 41)
    errors = []
    for hessian, weights, _ in problems:
        inverse = np.linalg.inv(hessian)
        errors.append(np.stack([obs.removal_errors(inverse, w) for w in weights]))
    found = sorted(
        (errors[i][unit, p], (i, unit, p))
        for i in range(2)
        for unit in range(len(errors[i]))
        for p in range(errors[i].shape[1])
    )
    assert [place for _, place in found] == order


@pytest.mark.parametrize("inputs", [3, 47, 48, 49, 130])
def test_errors_hold_over_the_ends_of_blocks(inputs):
    hessian = obs.damped(hessian_of(inputs, samples=3 * inputs), 0.01, "a")
    weights = np.random.default_rng(3).normal(size=inputs)
    order, _ = brute_force([(hessian, weights[None], np.ones((1, inputs), bool))], inputs)
    errors = obs.removal_errors(np.linalg.inv(hessian), weights)
    assert np.argsort(errors).tolist() == [p for _, _, p in order]


@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.75, 0.85])
@pytest.mark.parametrize("seed", range(3))
def test_lobs_leaves_the_weights_of_brute_force(sparsity, seed):
    problems = two_layers(seed)
    group = sites_of(problems)
    budget = int(np.floor(sparsity * 41 + 0.5))
    _, weights = brute_force(problems, budget)
    chosen, kernels = LayerwiseOBS(damping=0).operate(group, selection(sparsity))
    for one, expected in zip(group, weights, strict=True):
        np.testing.assert_allclose(kernels[one.name].T, expected, atol=1e-6)
        np.testing.assert_array_equal(chosen[one.name].T, expected != 0)


def test_lobs_goes_on_from_what_is_pruned_already():
    problems = two_layers()
    alive = [np.random.default_rng(4).random(a.shape) < 0.7 for _, _, a in problems]
    problems = [(h, w * a, a) for (h, w, _), a in zip(problems, alive, strict=True)]
    dead = sum(int((~a).sum()) for a in alive)
    _, weights = brute_force(problems, 30 - dead)
    chosen, kernels = LayerwiseOBS(damping=0).operate(sites_of(problems), selection(30 / 41))
    for name, expected in zip("ab", weights, strict=True):
        np.testing.assert_allclose(kernels[name].T, expected, atol=1e-6)
        assert (kernels[name][~chosen[name]] == 0).all()


def test_in_one_go_or_in_two_with_the_same_hessian():
    group = sites_of(two_layers())
    surgeon = LayerwiseOBS(damping=0)
    _, at_once = surgeon.operate(group, selection(0.8))
    chosen, kernels = surgeon.operate(group, selection(0.4))
    again = [
        site_of(
            kernels[one.name],
            one.statistics["input_hessian"].hessian[0],
            one.name,
            chosen[one.name],
        )
        for one in group
    ]
    _, in_two = surgeon.operate(again, selection(0.8))
    for name in at_once:
        np.testing.assert_allclose(in_two[name], at_once[name], atol=1e-6)


@pytest.mark.parametrize("granularity", ["2:4", (2, 1)])
def test_compensation_is_the_least_squares_solution_for_any_mask(granularity):
    generator = np.random.default_rng(5)
    x = generator.normal(size=(60, 8))
    kernel = generator.normal(size=(8, 3))
    one = site_of(kernel, x.T @ x / 60)
    surgeon = LayerwiseOBS(damping=0)
    chosen, kernels = surgeon.operate([one], selection(0.5, granularity))
    for unit in range(3):
        alive = chosen["a"][:, unit]
        expected, *_ = np.linalg.lstsq(x[:, alive], x @ kernel[:, unit], rcond=None)
        np.testing.assert_allclose(kernels["a"][alive, unit], expected, atol=1e-9)
    if granularity == "2:4":
        assert (chosen["a"].reshape(2, 4, 3).sum(1) == 2).all()


def test_blocks_of_grouped_kernels_are_problems_of_their_own():
    generator = np.random.default_rng(6)
    kernel = generator.normal(size=(3, 2, 4))  # Conv1D of two groups, two filters each
    unfolding = Unfolding("groups", kernel.shape, (2, 0, 1), (2, 2, 6), True)
    hessians = np.stack([hessian_of(6, 1), hessian_of(6, 2)])
    found = InputHessian(unfolding, hessians, 100)
    units = np.arange(4)[None, None]
    whole = Site("a", "a", kernel, kernel != 0, units, 1, None, 0, {"input_hessian": found})
    _, kernels = LayerwiseOBS(damping=0).operate([whole], selection(0.5))
    matrices = unfolding.by_unit(kernel)
    problems = [(hessians[i], matrices[i], np.ones((2, 6), bool)) for i in range(2)]
    _, weights = brute_force(problems, 12)
    np.testing.assert_allclose(unfolding.by_unit(kernels["a"]), np.stack(weights), atol=1e-6)


def test_known_scores_save_finding_them_again():
    model, _, x, _ = small_network()
    start = model.get_weights()
    scores = ap.scores(model, "lobs", data=x, verbose=0)
    ap.prune(model, 0.5, ap.surgeons.LayerwiseOBS(known_scores=scores), data=x, verbose=0)
    with_known = model.get_weights()
    model.set_weights(start)
    ap.prune(model, 0.5, "lobs", data=x, verbose=0)
    for known, found in zip(with_known, model.get_weights(), strict=True):
        np.testing.assert_array_equal(known, found)
    other = ap.surgeons.LayerwiseOBS(known_scores={"other/kernel": np.ones(3)})
    with pytest.raises(ValueError, match=r"known_scores holds \['other/kernel'\] and nothing for"):
        ap.prune(model, 0.6, other, data=x)
