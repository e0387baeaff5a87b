"""Scores of a few weights, computed by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from activation_pruning import criteria


def site(kernel, frequency=None, samples=4, units=None, mask=None, **statistics):
    kernel = np.array(kernel, np.float32)
    units = np.arange(kernel.shape[-1])[None] if units is None else np.array(units)
    mask = np.ones(kernel.shape, bool) if mask is None else np.array(mask, bool)
    frequency = None if frequency is None else np.array(frequency)
    activity = SimpleNamespace(frequency=frequency, samples=samples)
    return SimpleNamespace(
        name="a", kernel=kernel, units=units, mask=mask, activity=activity, statistics=statistics
    )


def test_magnitudes_part_equal_frequencies_by_half_of_one_sample():
    scores = criteria.activation(site([[1, -4], [2, 0]], [0.5, 0.5]))
    # d = 1 / 2 / 4 samples, times |w| / 4
    assert scores.tolist() == [[0.5 + 0.125 / 4, 0.5 + 0.125], [0.5 + 0.125 / 2, 0.5]]


def test_magnitudes_part_frequencies_by_half_of_the_smallest_gap():
    scores = criteria.activation(site([[1, 2, 4]], [0.5, 0.625, 0.125]))
    # the gaps are 0.125 and 0.375; one sample would be 0.25
    assert scores.tolist() == [[0.5 + 0.0625 / 4, 0.625 + 0.0625 / 2, 0.125 + 0.0625]]


def test_no_sample_counts_as_one():
    assert criteria.activation(site([[1, 2]], [0.0, 0.0], samples=0)).tolist() == [[0.25, 0.5]]


def test_inactivity_is_the_rest_to_one():
    assert criteria.inactivity(site([[2], [1]], [0.25])).tolist() == [[0.875], [0.8125]]


def test_random_scores_are_as_fine_as_the_kernel():
    single = site([[1, 2]])
    single.seed = 0
    double = SimpleNamespace(**vars(single) | {"kernel": np.ones((1, 2))})
    half = SimpleNamespace(**vars(single) | {"kernel": np.ones((1, 2), np.float16)})
    kinds = [criteria.random(one).dtype for one in (half, single, double)]
    assert kinds == [np.float32, np.float32, np.float64]


def test_wanda_ranks_within_units_and_dead_weights_lowest():
    alive = [[1, 1], [0, 1], [1, 1], [1, 0]]
    kernel = [[0.25, 4.0], [0.0, 2.0], [-0.5, 8.0], [0.125, 0.0]]
    scores = criteria.wanda(site(kernel, mask=alive, input_norm=np.ones((4, 1))))
    assert scores.tolist() == [[0.75, 0.75], [0.25, 0.5], [1.0, 1.0], [0.5, 0.25]]


def test_wanda_ranks_the_gates_of_a_unit_together():
    one = site([[1, 2, 3, 4], [8, 7, 6, 5]], units=[[0, 1, 0, 1]], input_norm=[[2.0], [1.0]])
    # products of unit 0: 2 and 6, 8 and 6 (the earlier input is kept); of unit 1: 4, 8, 7, 5
    assert criteria.wanda(one).tolist() == [[0.25, 0.25, 0.75, 1.0], [1.0, 0.75, 0.5, 0.5]]


def test_n2ps_is_the_product_for_all_weights_of_a_unit():
    one = site([[1, 2], [3, 4]], sigmoid=np.array([0.5, 0.25]), outgoing=np.array([3.0, 10.0]))
    assert criteria.n2ps(one).tolist() == [[1.5, 2.5], [1.5, 2.5]]


def test_taylor_activation_has_a_norm_of_one_in_each_layer():
    one = site([[1, 1], [1, 1]], activation_gradient=np.array([3.0, 4.0]))
    assert criteria.taylor_activation(one).tolist() == [[0.6, 0.8]] * 2
    silent = site([[1, 1]], activation_gradient=np.zeros(2))
    assert criteria.taylor_activation(silent).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("name", ["obd", "obd_exact", "obd_hutchinson"])
def test_saliencies_of_tiny_weights_do_not_vanish(name):
    known = {"gauss_newton": 4.0, "hessian_diagonal": 4.0, "hutchinson": 4.0}
    one = site([[1e-30, 2.0]], **{key: np.full((1, 2), value) for key, value in known.items()})
    np.testing.assert_allclose(criteria.CRITERIA[name](one), [[2e-60, 8.0]], rtol=1e-6)


def test_what_a_criterion_declares(monkeypatch):
    monkeypatch.setattr(criteria.base, "CRITERIA", {})
    plain = criteria.criterion()(lambda site: site.kernel)
    assert (plain.needs, plain.rounds, plain.not_for) == (frozenset(), 1, ())
    much = criteria.criterion(needs=("mean",), rounds=3, not_for=("nm",))(lambda site: site.kernel)
    assert (much.needs, much.rounds, much.not_for) == ({"mean"}, 3, ("nm",))
    assert {"<lambda>": much} == criteria.base.CRITERIA


def test_a_value_for_each_unit_and_no_fewer():
    two = site([[1, 1], [1, 1]])
    assert criteria.base.by_weight(two, [5.0, 7.0]).tolist() == [[5.0, 7.0]]
    assert criteria.base.by_weight(two, [5.0, 7.0, 9.0]).tolist() == [[5.0, 7.0]]
    with pytest.raises(ValueError, match="a: activity of 1 units for a kernel with 2 units"):
        criteria.base.by_weight(two, [5.0])
