"""How much one event takes: golden values, exact budgets, layers in turn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import activation_pruning as ap
from activation_pruning import amounts, masks
from activation_pruning.allocations import Items, class_blind
from activation_pruning.sites import Site


def site(name, kernel, mask=None):
    kernel = np.asarray(kernel, np.float32)
    mask = np.ones(kernel.shape, bool) if mask is None else np.asarray(mask, bool)
    units = np.broadcast_to(np.arange(kernel.shape[-1]), kernel.shape)
    return Site(name, name, kernel, mask, units)


def pruned(sites, amount, granularity="weight", allocation="global"):
    """{name: flat indices pruned} by the magnitudes of the kernels."""
    scores = {s.name: np.abs(s.kernel) for s in sites}
    found = masks.select(sites, scores, amount, granularity, allocation)
    return {name: np.flatnonzero(~mask).tolist() for name, mask in found.items()}


A = site("a", [[1.0, 8.0], [2.0, 3.0]])
B = site("b", [[4.0, 5.0], [6.0, 7.0]])


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        (0.0, {"a": [], "b": []}),
        (0.99, {"a": [], "b": []}),
        (1.0, {"a": [0], "b": []}),
        (6.0, {"a": [0, 2, 3], "b": []}),
        (9.99, {"a": [0, 2, 3], "b": []}),
        (10.0, {"a": [0, 2, 3], "b": [0]}),
    ],
)
def test_a_bucket_takes_what_fits(bound, expected):
    assert pruned([A, B], ap.amounts.Bucket(bound)) == expected


def test_a_bucket_under_another_allocation_takes_what_that_would():
    # uniform: one of each layer costs 1 + 4, two of each 1 + 2 + 4 + 5
    assert pruned([A, B], ap.amounts.Bucket(11.9), allocation="uniform") == {"a": [0], "b": [0]}
    assert pruned([A, B], ap.amounts.Bucket(12.0), allocation="uniform") == {
        "a": [0, 2],
        "b": [0, 1],
    }


def test_a_bucket_does_not_count_what_is_pruned_already():
    known = site("a", A.kernel, [[False, True], [True, True]])
    assert pruned([known, B], ap.amounts.Bucket(2.0)) == {"a": [0, 2], "b": []}


def test_a_bucket_of_units_sums_their_weights():
    # units of a: (1 + 2) and (8 + 3); of b: (4 + 6) and (5 + 7)
    assert pruned([A, B], ap.amounts.Bucket(2.9), "unit") == {"a": [], "b": []}
    assert pruned([A, B], ap.amounts.Bucket(3.0), "unit") == {"a": [0, 2], "b": []}
    assert pruned([A, B], ap.amounts.Bucket(13.0), "unit") == {"a": [0, 2], "b": [0, 2]}


def test_a_bucket_of_groups_counts_each_weight_once():
    # 2:4 of a column 1, 8, 2, 3: the two lowest cost 1 + 2
    one = site("a", [[1.0], [8.0], [2.0], [3.0]])
    assert pruned([one], ap.amounts.Bucket(2.9), "2:4") == {"a": []}
    assert pruned([one], ap.amounts.Bucket(3.0), "2:4") == {"a": [0, 2]}


def test_a_bucket_knows_that_the_last_one_stays():
    # 1 and 2 of `low` come first; the 2 stays, as the last one, so 1 and then 5 are paid
    low, high = site("low", [[1.0, 2.0]]), site("high", [[5.0, 6.0]])
    assert pruned([low, high], ap.amounts.Bucket(5.9)) == {"low": [0], "high": []}
    with pytest.warns(masks.EmptiedWarning, match="low"):
        assert pruned([low, high], ap.amounts.Bucket(6.0)) == {"low": [0], "high": [0]}


def test_a_bucket_knows_that_multiples_stay():
    units = site("a", [[1.0, 2.0, 3.0, 4.0, 5.0]])  # two of five, as far as an even number stays
    assert pruned([units], ap.amounts.Bucket(5.9), masks.Unit(2)) == {"a": [0]}
    assert pruned([units], ap.amounts.Bucket(6.0), masks.Unit(2)) == {"a": [0, 1, 2]}


def test_a_bucket_of_float32_scores_adds_them_up_exactly():
    one = site("a", [[1e8, 1.0, 1.0, 1.0, 1.0, 1e9]])  # 1e8 + 4, not a float32
    assert pruned([one], ap.amounts.Bucket(1e8 + 3)) == {"a": [1, 2, 3, 4]}
    assert pruned([one], ap.amounts.Bucket(1e8 + 4)) == {"a": [0, 1, 2, 3, 4]}


def test_a_bucket_beside_a_site_that_is_pruned_as_a_whole():
    gone = site("gone", [[1.0, 2.0]], mask=[[False, False]])
    assert pruned([gone, B], ap.amounts.Bucket(4.0)) == {"gone": [0, 1], "b": [0]}


def test_a_bucket_refuses_scores_below_zero():
    with pytest.raises(ValueError, match="b: Bucket adds scores up, but some are below 0"):
        masks.select([A, B], {"a": A.kernel, "b": -B.kernel}, ap.amounts.Bucket(1), "weight", "erk")


@pytest.mark.parametrize("allocation", ["global", "uniform", "erk"])
def test_a_threshold_takes_what_lies_below_it_whatever_the_allocation(allocation):
    found = pruned([A, B], ap.amounts.Threshold(4.0), allocation=allocation)
    assert found == {"a": [0, 2, 3], "b": []}  # 4.0 itself stays


def test_a_threshold_empties_no_layer():
    with pytest.warns(masks.EmptiedWarning, match="the best item is kept"):
        assert pruned([A, B], ap.amounts.Threshold(9.0)) == {"a": [0, 2, 3], "b": [0, 1, 2]}


def test_below_mean_is_counted_layer_by_layer_over_what_is_alive():
    # alive of a: 8, 2, 3: mean 4.33, deviation 2.62; below 1.71 nothing, below 3.02 (k = 0.5) two
    known = site("a", A.kernel, [[False, True], [True, True]])
    assert pruned([known, B], ap.amounts.BelowMean(1.0)) == {"a": [0], "b": [0]}
    assert pruned([known, B], ap.amounts.BelowMean(0.5)) == {"a": [0, 2, 3], "b": [0]}


def test_below_mean_of_equal_scores_takes_nothing():
    equal = site("a", np.full((3, 7), 0.1))
    assert pruned([equal], ap.amounts.BelowMean(0.0)) == {"a": []}


def test_one_layer_leaves_the_others_as_they_are():
    assert pruned([A, B], ap.amounts.OneLayer(1, 0.5)) == {"a": [], "b": [0, 1]}
    assert pruned([A, B], ap.amounts.OneLayer(2, 0.5)) == {"a": [0, 2], "b": []}  # a again
    assert pruned([A, B], ap.amounts.OneLayer(1, ap.amounts.Number(3))) == {"a": [], "b": [0, 1, 2]}
    assert pruned([A, B], ap.amounts.OneLayer(0, ap.amounts.Threshold(2.5))) == {
        "a": [0, 2],
        "b": [],
    }
    known = site("b", B.kernel, [[True, True], [True, False]])
    assert pruned([A, known], ap.amounts.OneLayer(0, 0.25)) == {"a": [0], "b": [3]}


def test_one_layer_that_has_lost_more_than_its_share_stays_as_it_is():
    known = site("a", A.kernel, [[False, False], [False, True]])  # three of four
    items = {
        "a": Items(known.kernel.ravel(), alive=known.mask.ravel()),
        "b": Items(B.kernel.ravel()),
    }
    sparsity, share = ap.amounts.OneLayer(0, 0.5)([known, B], items, class_blind)
    assert sparsity == 3 / 8
    assert share([known, B], items, sparsity) == {"a": 3, "b": 0}
    assert pruned([known, B], ap.amounts.OneLayer(0, 0.5)) == {"a": [0, 1, 2], "b": []}


def test_up_to_does_not_take_from_others_what_a_last_one_keeps():
    # all of a lie below 9, of b none; at most 4 of 8, of which the last of a stays
    high = site("b", [[14.0, 15.0], [16.0, 17.0]])
    with pytest.warns(masks.EmptiedWarning, match=r"reached 0\.3750"):
        found = pruned([A, high], amounts.UpTo(ap.amounts.Threshold(9.0), 0.45))
    assert found == {"a": [0, 2, 3], "b": []}


def test_a_number_of_all_that_are_left_leaves_the_last_ones():
    for amount in (ap.amounts.Number(100), ap.amounts.Fraction(0.99)):
        assert amounts.resolved(amount, weights=8, pruned=2) == 7 / 8
    with pytest.warns(masks.EmptiedWarning, match="kept"):
        found = pruned([A, B], amounts.resolved(ap.amounts.Number(100), 8, 0))
    assert found == {"a": [0, 2, 3], "b": [0, 1, 2]}


def test_up_to_keeps_the_best_of_what_would_go():
    four = amounts.UpTo(ap.amounts.Threshold(4.5), 0.25)
    assert pruned([A, B], four) == {"a": [0, 2], "b": []}
    # one layer stays one layer, though the other has lower scores
    assert pruned([A, B], amounts.UpTo(ap.amounts.OneLayer(1, 0.75), 0.25)) == {
        "a": [],
        "b": [0, 1],
    }
    assert pruned([A, B], amounts.UpTo(ap.amounts.Threshold(1.5), 0.25)) == {"a": [0], "b": []}


@given(
    st.lists(st.integers(0, 6), min_size=4, max_size=40),
    st.integers(0, 3),
    st.floats(0, 30),
    st.sampled_from(["global", "uniform", "distributed", "erk"]),
)
def test_buckets_hold_as_much_as_they_can(values, dead, bound, allocation):
    kernel = np.array(values, np.float32).reshape(-1, 1)
    mask = np.ones(kernel.shape, bool)
    mask[:dead] = False
    sites = [site("a", kernel, mask)]
    before = {"a": np.flatnonzero(~mask).tolist()}
    found = pruned(sites, ap.amounts.Bucket(bound), allocation=allocation)
    new = sorted(set(found["a"]) - set(before["a"]))
    assert float(kernel[new].sum()) <= bound
    left = np.delete(kernel.ravel(), found["a"])
    if left.size > 1:  # the last one is protected
        assert float(kernel[new].sum() + left.min()) > bound


@given(st.floats(0.01, 0.99), st.integers(1, 500), st.integers(0, 499))
def test_fractions_and_numbers_are_exact(share, number, dead):
    weights = 500
    alive = weights - dead
    for amount, taken in (
        (ap.amounts.Fraction(share), int(np.floor(share * alive + 0.5))),
        (ap.amounts.Number(number), min(number, alive)),
    ):
        target = amount.target(weights, dead)
        assert int(np.floor(target * weights + 0.5)) == dead + taken


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ap.amounts.Fraction(1.0), r"share=1\.0; it must be in \(0, 1\)"),
        (lambda: ap.amounts.Fraction("a"), "share='a'"),
        (lambda: ap.amounts.Number(0), "weights=0; it must be an integer of at least 1"),
        (lambda: ap.amounts.Bucket(-1), "saliency=-1; it must be a finite number of at least 0"),
        (lambda: ap.amounts.Threshold(np.nan), "score=nan; it must be a finite number"),
        (lambda: ap.amounts.BelowMean(np.inf), "deviations=inf; it must be a finite number"),
        (lambda: ap.amounts.OneLayer(-1, 0.5), "index=-1"),
        (lambda: ap.amounts.InTurn(1.5), r"amount=1\.5; a number is a sparsity here, in \[0, 1\)"),
        (lambda: ap.amounts.Threshold(True), "score=True"),
        (lambda: ap.amounts.UpTo(ap.amounts.Fraction(0.5), 5), r"most=5; it must be a fraction"),
        (lambda: ap.amounts.get(0), "weights=0"),
    ],
)
def test_bad_amounts_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_no_amount_is_refused():
    for wrong in ("half", None, ap.amounts.Bucket, True):
        with pytest.raises(TypeError, match=r"give amounts\.Fraction\(0\.2\)"):
            ap.amounts.get(wrong)
        with pytest.raises(TypeError, match=r"give amounts\.Fraction\(0\.2\)"):
            ap.amounts.UpTo(wrong, 0.5)
    with pytest.raises(TypeError, match=r"write InTurn\(UpTo\(\.\.\.\)\)"):
        ap.amounts.UpTo(ap.amounts.InTurn(0.5), 0.5)
