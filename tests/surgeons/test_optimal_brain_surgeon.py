"""OBS over the whole network against brute force."""

import numpy as np
import pytest
from surgery import brute_force, hessian_of, selection, small_network

import activation_pruning as ap
from activation_pruning.evidence import curvature
from activation_pruning.evidence.curvature import GaussNewtonMatrix
from activation_pruning.sites import Site
from activation_pruning.surgeons import OptimalBrainSurgeon

pytestmark = [pytest.mark.backend, pytest.mark.lowest]


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
