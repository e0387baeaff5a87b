"""Surgeons against references that follow the definitions, step by step, in float64."""

import warnings

import keras
import models
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import activation_pruning as ap
from activation_pruning import masks
from activation_pruning.evidence import consumers, curvature
from activation_pruning.evidence.curvature import GaussNewtonMatrix
from activation_pruning.evidence.inputs import InputHessian
from activation_pruning.sites import Site
from activation_pruning.sites.unfolding import Unfolding
from activation_pruning.surgeons import (
    LayerwiseOBS,
    OptimalBrainSurgeon,
    Selection,
    SparseGPT,
    obs,
    sparsegpt,
)
from activation_pruning.surgeons.economical import remove_economically
from activation_pruning.surgeons.problems import Problem
from activation_pruning.surgeons.units import Problem as UnitProblem
from activation_pruning.surgeons.units import unit_errors

pytestmark = [pytest.mark.backend, pytest.mark.lowest]


def hessian_of(inputs, seed=0, samples=50):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(samples, inputs)) @ generator.normal(size=(inputs, inputs))
    return x.T @ x / samples


def site_of(kernel, hessian, name="a", mask=None, rows=1000):
    """A Dense site of (inputs, units) weights with its Hessian."""
    shape = kernel.shape
    unfolding = Unfolding("inputs x units", shape, (0, 1), (1, *shape), False)
    found = InputHessian(unfolding, np.asarray(hessian)[None], rows)
    mask = np.ones(shape, bool) if mask is None else mask
    units = np.arange(shape[1])[None]
    return Site(name, name, kernel * mask, mask, units, 0, None, 0, {"input_hessian": found})


def selection(sparsity, granularity="weight", allocation="global"):
    chosen = ap.allocations.get(allocation)
    return Selection(sparsity, masks.granularity(granularity), chosen)


# -- the reference: invert the reduced Hessian from scratch at every step ----------------------


def brute_force(problems, budget):
    """[(problem, unit, weight)] in the order of removal, and the weights that are left.

    problems: [(hessian, weights of shape (units, inputs), alive)].
    """
    weights = [np.array(w, np.float64) for _, w, _ in problems]
    alive = [np.array(a) for _, _, a in problems]
    order = []
    for _ in range(budget):
        least = None
        for i, (hessian, _, _) in enumerate(problems):
            for unit in range(len(weights[i])):
                index = np.flatnonzero(alive[i][unit])
                if not len(index):
                    continue
                inverse = np.linalg.inv(hessian[np.ix_(index, index)])
                errors = weights[i][unit, index] ** 2 / (2 * np.diagonal(inverse))
                p = int(errors.argmin())
                if least is None or errors[p] < least[0]:
                    change = -weights[i][unit, index[p]] / inverse[p, p] * inverse[:, p]
                    least = errors[p], i, unit, index[p], index, change
        _, i, unit, p, index, change = least
        weights[i][unit, index] += change
        weights[i][unit, p] = 0
        alive[i][unit, p] = False
        order.append((i, unit, int(p)))
    return order, weights


def two_layers(seed=0):
    generator = np.random.default_rng(seed)
    return [
        (hessian_of(7, seed), generator.normal(size=(3, 7)), np.ones((3, 7), bool)),
        (hessian_of(5, seed + 1), generator.normal(size=(4, 5)), np.ones((4, 5), bool)),
    ]


def sites_of(problems):
    return [
        site_of(w.T, hessian, name, a.T)
        for (hessian, w, a), name in zip(problems, "ab", strict=False)
    ]


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


# -- recalculating now and then ----------------------------------------------------------------


def as_problems(problems):
    return [Problem("a", *problem) for problem in problems]


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


def reversed_allocation(group, items, sparsity):
    """Everything from the last site."""
    budget = int(np.floor(sparsity * sum(one.mask.size for one in group) + 0.5))
    found = {}
    for one in reversed(group):
        found[one.name] = min(budget, one.mask.size - 1)
        budget -= found[one.name]
    return found


# -- SparseGPT ---------------------------------------------------------------------------------


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


# -- bad Hessians ------------------------------------------------------------------------------


@pytest.mark.parametrize("surgeon", [LayerwiseOBS, SparseGPT])
def test_a_singular_hessian_raises_or_is_damped_and_says_so(surgeon):
    x = np.random.default_rng(0).normal(size=(60, 6))
    x[:, 3] = x[:, 2]
    one = site_of(np.ones((6, 2)), x.T @ x / 60, name="layer/kernel")
    with pytest.raises(ValueError, match=r"layer/kernel: the Hessian is singular.*damping=0\.01"):
        surgeon(damping=0).operate([one], selection(0.5))
    chosen, _ = surgeon(damping=0.01).operate([one], selection(0.5))
    assert int((~chosen["a" if "a" in chosen else "layer/kernel"]).sum()) == 6
    assert surgeon().note == "Hessians damped by 0.01 x their mean diagonal."
    assert surgeon(damping=0).note == ""


@pytest.mark.parametrize("surgeon", [LayerwiseOBS, SparseGPT])
def test_too_few_rows_and_zero_inputs_are_named(surgeon):
    one = site_of(np.ones((6, 2)), np.eye(6), name="layer/kernel", rows=5)
    with pytest.raises(ValueError, match=r"layer/kernel: 5 rows .* data with at least 6"):
        surgeon().operate([one], selection(0.5))
    surgeon(damping=0.1).operate([one], selection(0.5))  # chosen knowingly
    dead = site_of(np.ones((6, 2)), np.zeros((6, 6)), name="layer/kernel")
    with pytest.raises(ValueError, match="layer/kernel: the Hessian is zero"):
        surgeon().operate([dead], selection(0.5))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"damping=-0\.1"):
        LayerwiseOBS(damping=-0.1)
    with pytest.raises(ValueError, match="recalculate_every=0"):
        LayerwiseOBS(recalculate_every=0)
    with pytest.raises(ValueError, match="block_size=0"):
        SparseGPT(block_size=0)
    with pytest.raises(ValueError, match="rounding has"):
        obs.removal_errors(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([1.0, 2.0]))


# -- the whole network -------------------------------------------------------------------------


def network_sites(hessian, shapes, seed=0, rows=10_000):
    generator = np.random.default_rng(seed)
    names = [f"{i}" for i in range(len(shapes))]
    sizes = [int(np.prod(shape)) for shape in shapes]
    matrix = GaussNewtonMatrix(names, sizes, hessian, rows)
    kernels = [generator.normal(size=shape) for shape in shapes]
    return [
        Site(
            n,
            n,
            k,
            k != 0,
            np.arange(k.shape[1])[None],
            0,
            None,
            0,
            {"gauss_newton_matrix": matrix},
        )
        for n, k in zip(names, kernels, strict=True)
    ]


@pytest.mark.parametrize("sparsity", [0.3, 0.6, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_obs_is_brute_force_over_all_layers(sparsity, seed):
    shapes = [(4, 3), (3, 2)]
    hessian = hessian_of(18, seed, samples=100)
    group = network_sites(hessian, shapes, seed)
    weights = np.concatenate([one.kernel.ravel() for one in group])[None]
    budget = int(np.floor(sparsity * 18 + 0.5))
    order, expected = brute_force([(hessian, weights, weights != 0)], 18)
    scores = OptimalBrainSurgeon(damping=0).scores(group)
    flat = np.concatenate([scores[one.name].ravel() for one in group])
    assert np.argsort(flat).tolist() == [p for _, _, p in order]
    _, expected = brute_force([(hessian, weights, weights != 0)], budget)
    _, kernels = OptimalBrainSurgeon(damping=0).operate(group, selection(sparsity))
    found = np.concatenate([kernels[one.name].ravel() for one in group])
    np.testing.assert_allclose(found, expected[0][0], atol=1e-6)


def test_obs_finds_its_hessian_and_refuses_large_networks(monkeypatch):
    model, live, x, y = small_network()
    matrix = curvature.gauss_newton_matrix(model, live, x)["a/kernel"]
    diagonal = curvature.gauss_newton(model, live, x)
    flat = np.concatenate([diagonal[site.name].ravel() for site in live])
    np.testing.assert_allclose(np.diagonal(matrix.matrix), flat, rtol=1e-4)
    np.testing.assert_allclose(matrix.matrix, matrix.matrix.T)
    assert matrix.rows == len(x) * 3
    report = ap.prune(model, 0.5, "obs", data=(x, y), verbose=0)
    assert report.sparsity == pytest.approx(0.5, abs=0.01)
    assert "damped by 0.01" in str(report)
    with pytest.raises(ValueError, match=r"too few for a Hessian of 70 x 70; .* at least 70"):
        ap.prune(model, 0.6, "obs", data=(x[:20], y[:20]), verbose=0)
    monkeypatch.setattr(curvature, "MOST_MEMORY", 2**10)
    with pytest.raises(ValueError, match=r"the Hessian of 70 weights.* need 0\.0 GiB, at most"):
        ap.prune(model, 0.6, "obs", data=(x, y), verbose=0)


# -- whole units -------------------------------------------------------------------------------


def brute_force_units(problems, count):
    """Order of removal and weights, each step by least squares on H from scratch."""
    order, left = [], list(range(count))
    now = [np.array(w) for _, w, _ in problems]
    while left:
        best = None
        for unit in left:
            kept = [u for u in left if u != unit]
            new, error = [], 0.0
            for (hessian, _, units), w in zip(problems, now, strict=True):
                alive = np.isin(units, [*kept, -1])
                old = np.isin(units, [*left, -1])
                v = np.zeros_like(w)
                dead = old & ~alive
                right = w[:, dead] @ hessian[np.ix_(dead, alive)]
                v[:, alive] = w[:, alive] + right @ np.linalg.inv(hessian[np.ix_(alive, alive)])
                error += np.einsum("ui,ij,uj", v - w, hessian, v - w) / 2
                new.append(v)
            if best is None or error < best[0]:
                best = error, unit, new
        _, unit, now = best
        order.append(unit)
        left.remove(unit)
    return order


@pytest.mark.parametrize("seed", range(4))
def test_units_go_in_the_order_of_brute_force(seed):
    generator = np.random.default_rng(seed)
    first = UnitProblem("a", hessian_of(5, seed), generator.normal(size=(3, 5)), np.arange(5))
    second = UnitProblem(
        "b",
        hessian_of(11, seed + 9),
        generator.normal(size=(2, 11)),
        np.append(np.arange(10) % 5, -1),
    )
    errors = unit_errors([first, second], 5)
    plain = [(one.hessian, one.weights, one.units) for one in (first, second)]
    order = brute_force_units(plain, 5)
    assert np.argsort(errors).tolist() == order


def small_network(activation="relu", bias=True):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(5, activation, use_bias=bias, name="a"),
            keras.layers.Dense(6, activation, use_bias=bias, name="b"),
            keras.layers.Dense(3, "softmax", use_bias=bias, name="out"),
        ]
    )
    generator = np.random.default_rng(5)
    for layer in model.layers:
        if bias:
            layer.bias.assign(generator.normal(size=layer.bias.shape))
    x = (generator.normal(size=(300, 8)) @ generator.normal(size=(8, 8)) / 2).astype("float32")
    models.compiled(model)
    return model, ap.sites.find(model).sites, x, generator.integers(0, 3, 300)


@pytest.mark.parametrize("bias", [True, False])
def test_layers_that_take_removed_units_are_compensated(bias):
    model, _, x, y = small_network("tanh", bias=bias)
    hidden = keras.Model(model.inputs, [layer.output for layer in model.layers[:2]])
    before = [w.copy() for w in model.get_weights()]
    a, b = (keras.ops.convert_to_numpy(v).astype("float64") for v in hidden(x))
    report = ap.prune(
        model,
        0.4,
        ap.surgeons.UnitOBS(damping=0),
        granularity="unit",
        data=x,
        include="b",
        verbose=0,
    )
    assert report.table()["units_removed"][0] == 2
    kernel = model.get_layer("b").get_weights()[0]
    alive = kernel.any(axis=0)
    features = np.column_stack([b, np.ones(300)]) if bias else b
    out = model.get_layer("out").get_weights()
    old = before[4:] if bias else before[2:]
    wanted = features @ np.vstack(old)
    kept = np.append(alive, True) if bias else alive
    expected, *_ = np.linalg.lstsq(features[:, kept], wanted, rcond=None)
    np.testing.assert_allclose(np.vstack(out)[kept], expected, atol=1e-4)
    assert (out[0][~alive] == 0).all()
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    assert a.shape == (300, 5)
    assert len(y) == 300


def test_unit_surgery_through_convolutions_pooling_and_flattening():
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="first")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.MaxPooling2D()(x)
    left = keras.layers.Conv2D(3, 3, activation="relu", name="second")(x)
    x = keras.layers.Dropout(0.5)(left)
    x = keras.layers.Flatten()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax", name="out")(x))
    data = np.random.default_rng(0).normal(size=(200, 8, 8, 2)).astype("float32")
    before = model.predict(data, verbose=0)
    found = consumers.consumers(model, ap.sites.find(model).sites, data)
    assert [one.name for one in found["first/kernel"]] == ["second/kernel"]
    assert found["first/kernel"][0].units.tolist() == list(range(4)) * 9
    assert found["second/kernel"][0].units.tolist() == list(range(3)) * 4
    by_norm = keras.models.clone_model(model)
    by_norm.set_weights(model.get_weights())
    ap.prune(by_norm, 0.3, "unit_norm", "uniform", "unit")
    plain = np.abs(by_norm.predict(data, verbose=0) - before).mean()
    report = ap.prune(model, 0.3, "unit_obs", "uniform", "unit", data=data, verbose=0)
    assert report.table()["units_removed"].tolist()[:2] == [1, 0]
    assert np.abs(model.predict(data, verbose=0) - before).mean() < plain


def test_units_that_cannot_be_followed_are_named():
    inputs = keras.Input((4,))
    a = keras.layers.Dense(4, name="a")(inputs)
    b = keras.layers.Dense(4, name="b")(inputs)
    model = keras.Model(
        inputs, keras.layers.Dense(2, name="out")(keras.layers.Add(name="sum")([a, b]))
    )
    x = np.random.default_rng(0).normal(size=(50, 4))
    with pytest.raises(ValueError, match=r"a/kernel: .*they are coupled with those of 'b'"):
        ap.prune(model, 0.5, "unit_obs", granularity="unit", data=x, verbose=0)
    with pytest.raises(ValueError, match="outputs of the model"):
        ap.prune(model, 0.5, "unit_obs", granularity="unit", data=x, include="out", verbose=0)
    with pytest.raises(ValueError, match="in no Sequential or Functional model"):
        ap.prune(models.subclassed(), 0.5, "unit_obs", granularity="unit", data=np.ones((50, 6)))


# -- through `prune`, on real models -----------------------------------------------------------

SURGERY = {"lobs": "weight", "sparsegpt": "weight", "obs": "weight", "unit_obs": "unit"}


@pytest.mark.parametrize("name", ap.surgeons.SURGEONS)
def test_every_surgeon_beats_pruning_without_compensation(name):
    """Compared by what each makes small: the error of a layer, or of what follows."""
    model, _, x, y = small_network(activation="tanh")
    start, grain = model.get_weights(), SURGERY[name]

    def outputs():
        if name in ("unit_obs", "obs"):
            return model.predict(x, verbose=0)
        kernel, bias = model.get_layer("a").get_weights()
        return x @ kernel + bias

    before = outputs()
    plain = "unit_norm" if grain == "unit" else "magnitude"
    ap.prune(model, 0.4, plain, "uniform", grain, include="b" if grain == "unit" else "a")
    error = np.square(outputs() - before).mean()
    model.set_weights(start)
    where = {"include": "b" if grain == "unit" else "a"}
    report = ap.prune(model, 0.4, name, "uniform", grain, data=(x, y), verbose=0, **where)
    assert np.square(outputs() - before).mean() < error
    assert report.sparsity == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize("name", ap.surgeons.SURGEONS)
def test_granularities_that_do_not_go_with_a_surgeon_are_named(name):
    model, _, x, y = small_network()
    wrong = {"unit_obs": "weight", "lobs": "unit", "sparsegpt": (2, 2)}.get(name)
    if wrong is None:
        return
    with pytest.raises(ValueError, match=r"granularity=.* does not go with criterion"):
        ap.prune(model, 0.5, name, granularity=wrong, data=(x, y))


@pytest.mark.parametrize("name", ap.surgeons.SURGEONS)
def test_surgeons_need_data(name):
    model, _, _, _ = small_network()
    with pytest.raises(ValueError, match=r"needs .*: pass data="):
        ap.prune(model, 0.5, name, granularity=SURGERY[name])


@pytest.mark.parametrize("name", ap.surgeons.SURGEONS)
def test_compensated_weights_survive_fine_tuning(name):
    model, live, x, y = small_network()
    ap.prune(model, 0.5, name, granularity=SURGERY[name], data=(x, y), verbose=0)
    masks_before = {site.name: site.kernel() != 0 for site in live}
    model.fit(x, y, epochs=2, verbose=0, callbacks=[ap.KeepPruned()])
    for site in live:
        np.testing.assert_array_equal(site.kernel() != 0, masks_before[site.name])


def test_a_callback_prunes_with_a_surgeon_while_training():
    model, _, x, y = small_network()
    pruner = ap.PruningCallback(ap.schedules.Linear(0.6, begin=1, end=3), criterion="lobs", data=x)
    history = model.fit(x, y, epochs=4, verbose=0, callbacks=[pruner])
    assert history.history["sparsity"][-1] == pytest.approx(0.6, abs=0.01)
    with pytest.raises(ValueError, match=r"needs input_hessian: pass data="):
        ap.PruningCallback(ap.schedules.OneShot(0.5), criterion="lobs")


def test_sequential_uses_what_the_inputs_have_become():
    model, _, x, _ = small_network()
    start = model.get_weights()
    ap.prune(model, 0.6, "lobs", "uniform", data=x, sequential=True, verbose=0)
    sequential = model.get_layer("b").get_weights()[0]
    model.set_weights(start)
    ap.prune(model, 0.6, "lobs", "uniform", data=x, verbose=0)
    at_once = model.get_layer("b").get_weights()[0]
    a = model.get_layer("a").get_weights()[0]
    assert (sequential != at_once).any()
    assert (sequential == 0).sum() == (at_once == 0).sum()
    # By hand: the first layer as pruned, then the second with the inputs that it now gets.
    model.set_weights(start)
    model.get_layer("a").kernel.assign(a)
    ap.prune(model, 0.6, "lobs", include="b", data=x, verbose=0)
    np.testing.assert_allclose(model.get_layer("b").get_weights()[0], sequential, atol=1e-6)


def test_several_sparsities_with_training_in_between():
    model, _, x, y = small_network()
    seen = []

    def between(one):
        seen.append(ap.prune(one, 0.0).sparsity)
        one.fit(x, y, verbose=0, callbacks=[ap.KeepPruned()])

    report = ap.prune(model, [0.2, 0.4, 0.6], "lobs", data=x, between=between, verbose=0)
    assert seen == pytest.approx([0.2, 0.4], abs=0.01)
    assert report.sparsity == pytest.approx(0.6, abs=0.01)
    for bad in ([0.5, 0.2], [], ["0.5"], [[0.1, 0.2]]):
        with pytest.raises(ValueError, match="rising fractions"):
            ap.prune(model, bad)


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


def test_gated_layers_are_to_be_stripped_first():
    model, _, x, _ = small_network()
    gated = ap.wrap(model, wrapper=ap.L0Layer)
    with pytest.raises(ValueError, match=r"have gates.*ap\.strip"):
        ap.prune(gated, 0.5, "lobs", data=x)
    ap.prune(ap.strip(gated), 0.5, "lobs", data=x, verbose=0)


def test_wrapped_layers_keep_compensated_weights_under_their_masks():
    model, _, x, _ = small_network()
    wrapped = ap.wrap(model)
    ap.prune(wrapped, 0.5, "lobs", data=x, verbose=0)
    ap.prune(model, 0.5, "lobs", data=x, verbose=0)
    for left, right in zip(ap.strip(wrapped).get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


@pytest.mark.parametrize("criterion", ["unit_obs", "n2ps"])
def test_a_hidden_softmax_is_refused(criterion):
    hidden = keras.layers.Dense(6, "softmax", name="hidden")
    model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="'softmax' of 'hidden' may look at all channels"):
        ap.prune(model, 0.5, criterion, granularity="unit", data=np.ones((50, 4)), verbose=0)


def test_units_are_told_apart_by_axis_not_by_number():
    inputs = keras.Input((6, 6))  # as many steps as units
    summed = keras.layers.EinsumDense("abc,bd->adc", output_shape=(3, 6))
    model = keras.Model(inputs, summed(keras.layers.Dense(6, "relu", name="a")(inputs)))
    x = np.random.default_rng(0).normal(size=(50, 6, 6))
    with pytest.raises(ValueError, match="it does not sum over the channels that come in"):
        ap.prune(model, 0.5, "unit_obs", granularity="unit", data=x, verbose=0)


def test_weights_that_leave_removed_units_stay_zero_in_fit():
    model, _, x, y = small_network()
    pruner = ap.PruningCallback(
        ap.schedules.Linear(0.6, begin=1, end=3), "unit_obs", "uniform", "unit", data=x
    )
    history = model.fit(x, y, epochs=5, verbose=0, callbacks=[pruner]).history["sparsity"]
    assert history == sorted(history)
    dead = [~layer.get_weights()[0].any(axis=0) for layer in model.layers[:-1]]
    for gone, following in zip(dead, model.layers[1:], strict=True):
        assert gone.any()
        assert not following.get_weights()[0][gone].any()


def test_sequential_keeps_to_the_allocation():
    def shares(sites, items, sparsity):
        return {s.name: round(s.mask.size * (0.2 if "a/" in s.name else 0.7)) for s in sites}

    pruned = []
    for sequential in (False, True):
        model, _, x, _ = small_network()
        report = ap.prune(model, 0.4, "wanda", shares, data=x, sequential=sequential, verbose=0)
        pruned.append(report.table()["pruned"].tolist())
    assert pruned[0] == pruned[1]


def test_data_of_a_callback_is_looked_at_before_training():
    model, _, x, y = small_network()
    schedule = ap.schedules.OneShot(0.5, at=2)
    with pytest.raises(ValueError, match="data is a generator"):
        ap.PruningCallback(schedule, "lobs", data=(part for part in [x]))
    with pytest.raises(ValueError, match="where the model takes"):
        model.fit(x, y, verbose=0, callbacks=[ap.PruningCallback(schedule, "lobs", data=x[:, :3])])
    with pytest.raises(ValueError, match="no labels"):
        model.fit(x, y, verbose=0, callbacks=[ap.PruningCallback(schedule, "taylor", data=x)])


def test_surgeons_show_progress_within_fit(capsys):
    model, _, x, y = small_network()
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "lobs", data=x)
    model.fit(x, y, epochs=1, verbose=1, callbacks=[pruner])
    assert "/part" in capsys.readouterr().out


def test_a_shared_taker_is_named():
    first, second = keras.Input((4,)), keras.Input((4,))
    taker = keras.layers.Dense(3, name="taker")
    a, b = keras.layers.Dense(5, name="a")(first), keras.layers.Dense(5, name="b")(second)
    model = keras.Model([first, second], keras.layers.Add()([taker(a), taker(b)]))
    x = np.random.default_rng(0).normal(size=(50, 4))
    with pytest.raises(ValueError, match="they are coupled with those of 'b'"):
        ap.prune(model, 0.4, "unit_obs", granularity="unit", data=[x, x], include="a", verbose=0)


def test_data_that_cannot_serve_is_named():
    model, _, x, _ = small_network()
    with pytest.raises(ValueError, match="data is a generator, which can be read only once"):
        ap.prune(model, [0.3, 0.6], "lobs", data=(part for part in [x]), verbose=0)
    assert ap.prune(model, 0.0).sparsity == 0
    with pytest.raises(ValueError, match="NaN or infinite"):
        ap.prune(model, 0.5, "activation", data=np.full((4, 8), np.nan))
    with pytest.raises(TypeError, match=r"LayerwiseOBS is a class; give an object"):
        ap.prune(model, 0.5, ap.surgeons.LayerwiseOBS, data=x)
    with pytest.raises(ValueError, match="granularity='unit' does not go with criterion 'wanda'"):
        ap.prune(model, 0.5, "wanda", granularity="unit", data=x)
    with pytest.raises(ValueError, match=r"lstm.*All such layers: \['both_ways.*'gru', 'lstm'"):
        ap.prune(models.recurrent(), 0.5, "lobs", data=np.ones((9, 4, 3)))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data")
def test_endless_data_is_named():
    import tensorflow as tf

    model, _, x, _ = small_network()
    endless = tf.data.Dataset.from_tensor_slices(x).batch(50).repeat()
    with pytest.raises(ValueError, match=r"data repeats without end; leave out \.repeat"):
        ap.prune(model, 0.5, "wanda", data=endless)
