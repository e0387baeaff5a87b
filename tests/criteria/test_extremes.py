"""Weights and statistics near the ends of what floats hold: NumPy in other units is the oracle."""

import models
import numpy as np
import pytest

from activation_pruning import criteria, masks
from activation_pruning.sites import Activity, Site
from activation_pruning.surgeons import obs, sparsegpt

KERNEL = np.array([[1.0, -2.0, 4.0], [-3.0, 0.5, 2.0], [0.25, 1.0, -8.0]])


def make_site(kernel, **changes):
    activity = Activity(4, np.array([0.5, 0.5, 0.25]), np.array([1.0, -2.0, 0.5]))
    units, mask = np.arange(3)[None], np.ones((3, 3), bool)
    known = models.statistics(kernel.shape, 3)
    fields = {"mask": mask, "units": units, "activity": activity, "statistics": known}
    return Site("a", "a", kernel, **(fields | changes))


def order(scores):
    return np.argsort(np.asarray(scores).ravel(), kind="stable").tolist()


@pytest.mark.parametrize("name", sorted(criteria.CRITERIA))
@pytest.mark.parametrize("scale", [2.0**-100, 2.0**100])
def test_float32_weights_of_any_size_keep_their_order(name, scale):
    scaled = criteria.CRITERIA[name](make_site((KERNEL * scale).astype(np.float32)))
    plain = criteria.CRITERIA[name](make_site(KERNEL.astype(np.float32)))
    assert np.isfinite(scaled).all()
    assert order(scaled) == order(plain)


SQUARES = {"obd", "obd_exact", "obd_hutchinson", "taylor"}


@pytest.mark.parametrize("name", sorted(criteria.CRITERIA))
@pytest.mark.parametrize("scale", [2.0**-660, 2.0**660])  # 1e-199 and 1e199
def test_float64_weights_of_any_size_keep_their_order_or_are_refused(name, scale):
    site = make_site(KERNEL * scale)
    if name in SQUARES:
        with pytest.raises(ValueError, match="a: this criterion takes the squares of weights from"):
            criteria.CRITERIA[name](site)
    else:
        found = criteria.CRITERIA[name](site)
        assert np.isfinite(found).all()
        assert order(found) == order(criteria.CRITERIA[name](make_site(KERNEL)))


@pytest.mark.parametrize(
    ("kernel", "norm"),
    [
        (np.array([[3e30], [4e30]], np.float32), 5e30),
        (np.array([[3e-30], [4e-30]], np.float32), 5e-30),
        (np.array([[3e38], [3e38]], np.float32), 3e38 * 2**0.5),
        (np.array([[3e200], [4e200]]), 5e200),
        (np.array([[3e-300], [4e-300]]), 5e-300),
        (np.array([[0.0], [0.0]]), 0.0),
    ],
)
def test_the_norm_of_a_unit_of_any_size(kernel, norm):
    mask, units = np.ones(kernel.shape, bool), np.array([[0]])
    found = criteria.unit_norm(Site("a", "a", kernel, mask, units))
    np.testing.assert_allclose(found, np.full(kernel.shape, norm), rtol=1e-6)


def test_the_norms_of_units_of_very_different_sizes():
    kernel = np.array([[3e200, 3e-200], [4e200, 4e-200]])
    found = criteria.unit_norm(Site("a", "a", kernel, kernel != 0, np.array([[0, 1]])))
    np.testing.assert_allclose(found[0], [5e200, 5e-200])


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_products_of_activations_and_gradients_of_any_size(scale):
    site = make_site(KERNEL, statistics={"activation_gradient": scale * np.array([3.0, 4.0, 0.0])})
    np.testing.assert_allclose(criteria.taylor_activation(site)[0], [0.6, 0.8, 0.0])


def test_the_frequency_decides_for_weights_too_small_to_be_inverted():
    site = make_site(KERNEL * 1e-310)
    np.testing.assert_allclose(criteria.activation(site), criteria.activation(make_site(KERNEL)))


def test_costs_of_a_surgeon_for_tiny_weights():
    class Problem:
        weights = np.array([[1e-30, 2e-30]], np.float32)

    site = type("Any", (), {"statistics": {"input_hessian": type("H", (), {"unfolding": Flat})}})
    factor, order = np.eye(2, dtype=np.float32), sparsegpt.Order()
    costs = sparsegpt._costs(site, [sparsegpt.Factored(Problem.weights, None, factor, order)])
    np.testing.assert_allclose(costs, [[[0.5e-60, 2e-60]]], rtol=1e-6)


class Flat:
    from_units = staticmethod(lambda values: values)


@pytest.mark.parametrize("granularity", ["unit", (3, 1), "1:4"])
def test_scores_whose_sum_no_float_holds_are_refused(granularity):
    kernel = np.full((4, 2), 1.7e308)
    site = Site("a", "a", kernel, kernel > 0, np.arange(2)[None])
    with pytest.raises(ValueError, match="a: the scores of whole items hold NaN or infinite"):
        masks.select([site], {"a": kernel}, 0.5, granularity, "global")


def test_wanda_ranks_what_is_gone_below_what_counts_nothing():
    kernel, mask = np.array([[0.0], [2.0]]), np.array([[False], [True]])
    units, norms = np.array([[0]]), np.zeros((2, 1))  # the alive one's input is always zero
    site = Site("a", "a", kernel, mask, units, statistics={"input_norm": norms})
    assert criteria.wanda(site).tolist() == [[0.5], [1.0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["wanda", "obd", "taylor", "snip", "grasp", "synflow", "movement"])
def test_statistics_that_are_no_numbers_are_refused(name, bad):
    site = make_site(KERNEL)
    (need,) = criteria.CRITERIA[name].needs
    known = np.array(np.broadcast_to(site.statistics[need], KERNEL.shape), float)
    known[1, 1] = bad
    site = make_site(KERNEL, statistics={need: known})
    with pytest.raises(ValueError, match="a: the scores hold NaN or infinite values"):
        masks.select([site], {"a": criteria.CRITERIA[name](site)}, 0.5, "weight", "global")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_hessian_that_is_no_number_is_refused(bad):
    with pytest.raises(ValueError, match="a: the Hessian holds NaN or infinite values"):
        obs.damped(np.array([[1.0, bad], [bad, 1.0]]), 0.1, "a")
