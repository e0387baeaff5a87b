"""Scores, read by eye."""

import models
import numpy as np
import pytest

from activation_pruning import criteria, masks
from activation_pruning.sites import Activity, Site

# 3 inputs, 3 units; units 0 and 1 are active equally often.
KERNEL = np.array([[1.0, -2.0, 4.0], [-3.0, 0.5, 2.0], [0.0, 1.0, -4.0]], np.float32)


def make_site(kernel=KERNEL, frequency=(0.5, 0.5, 0.25), mean=(1.0, -2.0, 0.0), **changes):
    """A Dense site, with activity unless told otherwise."""
    activity = Activity(samples=4, frequency=np.array(frequency), mean=np.array(mean))
    fields = {
        "name": "dense/kernel",
        "layer": "dense",
        "kernel": kernel,
        "mask": np.ones(kernel.shape, bool),
        "units": np.arange(kernel.shape[-1]).reshape((1,) * (kernel.ndim - 1) + (-1,)),
        "input_axis": 0,
        "activity": activity,
        "statistics": models.statistics(kernel.shape, kernel.shape[-1]),
    }
    return Site(**(fields | changes))


SIGNED = {"grasp", "movement", "obd_exact", "obd_hutchinson"}


@pytest.mark.parametrize("name", sorted(criteria.CRITERIA))
def test_every_criterion_scores_every_weight_and_leaves_the_site_alone(name):
    site = make_site(kernel=KERNEL.copy())
    scores = criteria.CRITERIA[name](site)
    assert scores.shape == KERNEL.shape
    assert np.isfinite(scores).all()
    assert (scores >= 0).all() or name in SIGNED
    np.testing.assert_array_equal(site.kernel, KERNEL)
    assert site.mask.all()


@pytest.mark.parametrize("name", sorted(criteria.CRITERIA))
@pytest.mark.parametrize("shape", [(3, 1), (1, 3), (2, 2, 3, 3)])
def test_every_criterion_takes_one_unit_one_input_and_convolutions(name, shape):
    kernel = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    site = make_site(kernel, np.linspace(0, 1, shape[-1]), np.zeros(shape[-1]))
    scores = criteria.CRITERIA[name](site)
    assert scores.shape == shape
    assert np.isfinite(scores).all()


def test_magnitude():
    expected = [[1.0, 2.0, 4.0], [3.0, 0.5, 2.0], [0.0, 1.0, 4.0]]
    np.testing.assert_array_equal(criteria.magnitude(make_site()), expected)


@pytest.mark.parametrize(
    "name", ["magnitude", "random", "activation_magnitude", "mean_activation", "unit_norm"]
)
def test_float32_kernels_keep_float32_scores(name):
    assert criteria.CRITERIA[name](make_site()).dtype == np.float32


def test_activation_magnitude():
    expected = [[0.5, 1.0, 1.0], [1.5, 0.25, 0.5], [0.0, 0.5, 1.0]]
    np.testing.assert_array_equal(criteria.activation_magnitude(make_site()), expected)


def test_mean_activation_takes_the_absolute_mean():
    expected = [[1.0, 4.0, 0.0], [3.0, 1.0, 0.0], [0.0, 2.0, 0.0]]
    np.testing.assert_array_equal(criteria.mean_activation(make_site()), expected)


def test_unit_norm_counts_alive_weights_only():
    kernel = np.array([[3.0, 1.0], [4.0, 1.0], [12.0, 7.0]], np.float32)
    mask = np.array([[True, True], [True, False], [False, False]])
    expected = [[5.0, 1.0]] * 3
    np.testing.assert_array_equal(criteria.unit_norm(make_site(kernel, mask=mask)), expected)


def test_movement_is_what_was_gathered():
    site = make_site(statistics={"movement": 2 * KERNEL})
    expected = [[2.0, -4.0, 8.0], [-6.0, 1.0, 4.0], [0.0, 2.0, -8.0]]
    np.testing.assert_array_equal(criteria.movement(site), expected)
    with pytest.raises(ValueError, match="dense/kernel: this criterion needs 'movement'"):
        criteria.movement(make_site(statistics={}))


def test_activation_ranks_by_frequency_then_magnitude():
    order = np.argsort(criteria.activation(make_site()).ravel(), kind="stable")
    # unit 2 (f = 0.25) first: |w| = 2, 4, 4; then units 0 and 1 together: 0, .5, 1, 1, 2, 3
    assert order.tolist() == [5, 2, 8, 6, 4, 0, 7, 1, 3]


def test_inactivity_ranks_the_most_active_units_first():
    order = np.argsort(criteria.inactivity(make_site()).ravel(), kind="stable")
    assert order.tolist() == [6, 4, 0, 7, 1, 3, 5, 2, 8]


def test_activation_keeps_its_order_where_frequencies_nearly_touch():
    kernel = np.array([[100.0, 0.001, 50.0], [0.001, 0.002, 50.0]], np.float32)
    frequency = (0.5, 0.5 + 1e-6, 0.9)  # unit 1 fires a little more often than unit 0
    site = make_site(kernel, frequency, (0, 0, 0))
    order = np.argsort(criteria.activation(site).ravel(), kind="stable")
    assert order.tolist() == [3, 0, 1, 4, 2, 5]


def test_activation_of_a_kernel_of_zeros_is_the_frequency():
    site = make_site(np.zeros((2, 3), np.float32))
    np.testing.assert_array_equal(criteria.activation(site), [[0.5, 0.5, 0.25]] * 2)


def test_random_repeats_with_the_seed_and_differs_between_sites_and_seeds():
    first = criteria.random(make_site(seed=3))
    np.testing.assert_array_equal(first, criteria.random(make_site(seed=3)))
    assert (first != criteria.random(make_site(seed=4))).any()
    assert (first != criteria.random(make_site(seed=3, name="other/kernel"))).any()
    assert first.min() >= 0
    assert first.max() < 1


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (np.array([[0, 1, 0, 1]]), [22.0, 32.0]),  # gates of a recurrent kernel share their units
        (np.array([[0], [1]]), [6.0, 48.0]),
        (np.array([[0, 1, 2, 3], [3, 2, 1, 0]]), [18.0, 11.0, 12.0, 13.0]),
        (np.arange(4), [10.0, 11.0, 12.0, 21.0]),
    ],
)
def test_unit_sums_follow_the_unit_ids(units, expected):
    values = np.array([[0.0, 1.0, 2.0, 3.0], [10.0, 10.0, 10.0, 18.0]])
    sums = criteria.unit_sums(make_site(values, units=units), values)
    np.testing.assert_array_equal(sums, expected)


def test_a_new_criterion_is_one_decorated_function(monkeypatch):
    monkeypatch.setattr(criteria, "CRITERIA", {})

    @criteria.criterion(needs=("frequency",))
    def signed(site):
        return site.kernel

    assert criteria.get("signed") is signed
    assert signed.needs == {"frequency"}


def test_get_takes_names_and_callables():
    def own(site):
        return site.kernel

    assert criteria.get("magnitude") is criteria.magnitude
    assert criteria.get(own) is own


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match=r"'activatoin'; did you mean 'activation'\?.*unit_norm"):
        criteria.get("activatoin")
    with pytest.raises(TypeError, match="criterion=3 is a int; give one of"):
        criteria.get(3)
    with pytest.raises(ValueError, match="dense/kernel: this criterion needs the activity"):
        criteria.activation(make_site(activity=None))
    with pytest.raises(ValueError, match=r"\(mean\), which was not counted"):
        criteria.mean_activation(make_site(activity=Activity(samples=4, frequency=np.ones(3))))
    with pytest.raises(ValueError, match="activity of 2 units for a kernel with 3 units"):
        criteria.activation_magnitude(make_site(frequency=(0.5, 0.5), mean=(0.0, 0.0)))


# -- by the loss and the inputs ------------------------------------------------------------------


def test_wanda_prunes_the_lowest_products_of_each_unit():
    generator = np.random.default_rng(0)
    kernel, norms = generator.normal(size=(10, 6)), generator.random((10, 1)) * np.ones((1, 6))
    site = make_site(kernel, np.ones(6), np.ones(6), statistics={"input_norm": norms})
    gone = masks.select([site], {site.name: criteria.wanda(site)}, 0.4, "weight", "global")
    products = np.abs(kernel) * norms
    expected = np.argsort(np.argsort(products, axis=0), axis=0) >= 4
    np.testing.assert_array_equal(gone[site.name], expected)


def test_wanda_breaks_ties_and_goes_on_from_what_is_pruned():
    kernel = np.array([[1.0, 0.0], [1.0, 2.0], [1.0, 2.0], [3.0, 2.0]])
    mask = kernel != 0
    norms = np.ones((4, 2))
    site = make_site(kernel, np.ones(2), np.ones(2), mask=mask, statistics={"input_norm": norms})
    expected = [[0.75, 0.25], [0.5, 1.0], [0.25, 0.75], [1.0, 0.5]]
    np.testing.assert_array_equal(criteria.wanda(site), expected)


def test_scores_by_the_loss_are_their_formulas():
    site = make_site()
    w, known = site.kernel.astype("float64"), site.statistics
    formulas = {
        "obd": known["gauss_newton"] * w**2 / 2,
        "obd_exact": known["hessian_diagonal"] * w**2 / 2,
        "obd_hutchinson": known["hutchinson"] * w**2 / 2,
        "taylor": known["squared_gradient"] * w**2,
        "snip": abs(known["gradient"] * w),
        "grasp": known["hessian_gradient"] * w,
        "synflow": known["synaptic_flow"] * abs(w),
    }
    for name, expected in formulas.items():
        np.testing.assert_allclose(criteria.CRITERIA[name](site), expected, rtol=1e-6)
