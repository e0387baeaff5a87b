"""What surgeons say of their work: scores of weights alone, progress, names in messages."""

import numpy as np
import pytest
from surgery import hessian_of, selection, site_of, sites_of, small_network, two_layers

import activation_pruning as ap
from activation_pruning import masks
from activation_pruning.evidence import consumers
from activation_pruning.evidence.curvature import GaussNewtonMatrix
from activation_pruning.sites import Site
from activation_pruning.surgeons import LayerwiseOBS, OptimalBrainSurgeon, SparseGPT, UnitOBS

pytestmark = pytest.mark.lowest


def test_sparsegpt_scores_each_weight_alone():
    hessian, weights = hessian_of(5), np.random.default_rng(1).normal(size=(5, 3))
    one = site_of(weights, hessian)
    scores = SparseGPT(damping=0).scores([one])["a"]
    costs = weights**2 / (2 * np.diagonal(np.linalg.inv(hessian))[:, None])
    np.testing.assert_allclose(scores, costs, rtol=1e-9)
    single = site_of(weights.astype(np.float32), hessian)
    np.testing.assert_allclose(SparseGPT(damping=0).scores([single])["a"], costs, rtol=1e-5)


def network_site():
    matrix = GaussNewtonMatrix(["a"], [6], hessian_of(6), 1000)
    kernel = np.arange(1.0, 7).reshape(3, 2)
    known = {"gauss_newton_matrix": matrix}
    return Site("a", "a", kernel, kernel > 0, np.arange(2)[None], 0, None, 0, known)


def consuming_sites():
    """The layers a and b of a network, each with the layer that takes its units."""
    model, live, x, _ = small_network("tanh")
    found = consumers.consumers(model, live[:2], x)
    kernels = [live_site.kernel() for live_site in live[:2]]
    return [
        Site(s.name, s.layer.name, kernel, kernel != 0, np.arange(kernel.shape[1])[None],
             statistics={"consumers": found[s.name]})
        for s, kernel in zip(live[:2], kernels, strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("work", "total"),
    [
        (lambda told: LayerwiseOBS(damping=0).scores(sites_of(two_layers()), told), 7),
        (lambda told: LayerwiseOBS(damping=0, recalculate_every=4).operate(
            sites_of(two_layers()), with_progress(0.5, told)), 21),
        (lambda told: SparseGPT(damping=0).operate(
            sites_of(two_layers()), with_progress(0.5, told)), 2),
        (lambda told: OptimalBrainSurgeon(damping=0).scores([network_site()], told), 1),
        (lambda told: UnitOBS().scores(consuming_sites(), told), 2),
    ],
    ids=["lobs", "lobs economical", "sparsegpt", "obs", "unit_obs"],
)  # fmt: skip
def test_progress_is_told_step_by_step(work, total):
    steps = []
    work(lambda done, whole: steps.append((done, whole)))
    assert steps == [(step + 1, total) for step in range(total)]


def with_progress(sparsity, told):
    shares = ap.allocations.get("global")
    return ap.surgeons.Selection(sparsity, masks.granularity("weight"), shares, told)


def test_kernels_that_were_compensated_are_zero_where_they_are_pruned():
    sites = consuming_sites()
    chosen, kernels = UnitOBS().operate(sites, selection(0.4, "unit"))
    for site in sites:
        assert not kernels[site.name][~chosen[site.name]].any()
    second = sites[1]  # takes the units of the first, and so was compensated
    alive = chosen[second.name]
    assert (kernels[second.name][alive] != second.kernel[alive]).any()


def test_the_network_is_named_where_rows_are_too_few():
    one = network_site()
    one.statistics["gauss_newton_matrix"] = GaussNewtonMatrix(["a"], [6], np.eye(6), 5)
    message = r"the network: 5 rows \(samples times outputs\) are too few .* 6 x 6"
    with pytest.raises(ValueError, match=message):
        OptimalBrainSurgeon().scores([one])


def test_the_last_weight_of_each_site_is_kept_in_the_economical_order_as_well():
    surgeon = LayerwiseOBS(damping=0, recalculate_every=5)
    with pytest.warns(masks.EmptiedWarning):
        chosen, kernels = surgeon.operate(sites_of(two_layers()), selection(0.99))
    assert [int(mask.sum()) for mask in chosen.values()] == [1, 1]
    for name, mask in chosen.items():
        assert not kernels[name][~mask].any()


def test_units_whose_weights_are_all_dead_stay_dead():
    hessian, weights = hessian_of(4), np.random.default_rng(2).normal(size=(4, 3))
    mask = np.ones((4, 3), bool)
    mask[:, 1] = False
    chosen, kernels = LayerwiseOBS(damping=0).operate(
        [site_of(weights, hessian, mask=mask)], selection(0.5)
    )
    assert not chosen["a"][:, 1].any()
    assert not kernels["a"][:, 1].any()
    assert np.isfinite(kernels["a"]).all()
