"""How one target is shared, with the sharing done by hand as the oracle."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from activation_pruning import allocations
from activation_pruning.allocations import Items, ranking
from activation_pruning.sites import Site


def make_sites(**kernels):
    """Sites with all weights alive, and their weights as items with score |w|."""
    sites = [
        Site(n, n, np.asarray(k, float), np.ones(np.shape(k), bool), np.arange(1)[None])
        for n, k in kernels.items()
    ]
    return sites, {s.name: Items(np.abs(s.kernel).reshape(-1)) for s in sites}


def test_global_is_one_ranking():
    sites, items = make_sites(a=[[1.0, 9.0], [2.0, 8.0]], b=[[3.0, 4.0], [5.0, 6.0]])
    assert allocations.class_blind(sites, items, 0.5) == {"a": 2, "b": 2}
    assert allocations.class_blind(sites, items, 0.75) == {"a": 2, "b": 4}
    assert allocations.class_blind(sites, items, 0.0) == {"a": 0, "b": 0}


def test_global_takes_ties_from_the_last_site_first():
    sites, items = make_sites(a=[[1.0, 1.0]], b=[[1.0, 1.0]], c=[[0.0, 1.0]])
    shares = [allocations.class_blind(sites, items, k / 6) for k in range(1, 6)]
    assert [list(share.values()) for share in shares] == [
        [0, 0, 1],
        [0, 0, 2],
        [0, 1, 2],
        [0, 2, 2],
        [1, 2, 2],
    ]


def test_global_takes_bigger_items_while_the_budget_lasts():
    sites, _ = make_sites(a=np.ones((4, 2)), b=np.ones((3, 2)))
    items = {
        "a": Items(np.array([0.3, 0.1]), np.array([4, 4])),
        "b": Items(np.array([0.2, 0.4]), np.array([3, 3])),
    }
    taken = {k: allocations.class_blind(sites, items, k / 14) for k in (3, 4, 6, 7, 11, 13)}
    assert {k: tuple(t.values()) for k, t in taken.items()} == {
        3: (0, 0),
        4: (1, 0),
        6: (1, 0),
        7: (1, 1),
        11: (2, 1),
        13: (2, 1),
    }


def test_uniform_takes_the_same_fraction_and_rounds_half_up():
    sites, items = make_sites(a=np.ones((1, 10)), b=np.ones((1, 5)), c=np.ones((1, 1)))
    assert allocations.uniform(sites, items, 0.5) == {"a": 5, "b": 3, "c": 1}
    assert allocations.uniform(sites, items, 0.15) == {"a": 2, "b": 1, "c": 0}


def test_distributed_ignores_the_scale_of_a_site():
    weights = np.array([[1.0, -2.0], [3.0, -4.0]])
    sites, items = make_sites(a=weights, b=1000 * weights, c=weights / 1000)
    assert allocations.distributed(sites, items, 0.5) == {"a": 2, "b": 2, "c": 2}
    assert allocations.class_blind(sites, items, 0.5) == {"a": 2, "b": 0, "c": 4}


def test_distributed_leaves_a_site_of_equal_weights_as_it_is():
    sites, items = make_sites(a=[[2.0, 2.0]], b=[[1.0, -1.0]])
    assert allocations.distributed(sites, items, 0.5) == {"a": 0, "b": 2}


def test_distributed_divides_by_the_deviation_of_what_is_alive():
    a = np.array([[10.0, 12.0, 0.0, 0.0]])  # the zeros are gone: 1, and not 5.6
    b = np.array([[1.0, 3.0, 3.0, 1.0]])  # 1
    sites, items = make_sites(a=a, b=b)
    sites[0] = dataclasses.replace(sites[0], mask=a != 0)
    items["a"] = Items(a.ravel(), alive=(a != 0).ravel())
    assert allocations.distributed(sites, items, 5 / 8) == {"a": 2, "b": 3}


@pytest.mark.parametrize("scales", [(1e200, 1e-200), (1e-300, 1.0), (5e-324, 1e300), (1e-9, 1e9)])
def test_distributed_takes_weights_of_any_size(scales):
    weights = np.array([[1.0, -2.0], [3.0, -4.0]])
    sites, items = make_sites(a=scales[0] * weights, b=scales[1] * weights)
    assert allocations.distributed(sites, items, 0.5) == {"a": 2, "b": 2}


def test_distributed_of_equal_weights_whose_mean_is_off_by_a_rounding_error():
    sites, items = make_sites(a=[[0.1, 0.1, 0.1]], b=[[0.2, 0.3, 0.4]])
    assert allocations.distributed(sites, items, 0.5) == {"a": 3, "b": 0}


def test_distributed_refuses_quotients_that_no_float_holds():
    sites, items = make_sites(a=1e-300 * np.array([[1.0, 2.0]]), b=[[1.0, 2.0]])
    items["a"] = Items(np.array([1e200, 1.0]))
    with pytest.raises(ValueError, match=r"a: scores up to 1e\+200 divided by .* 5e-301"):
        allocations.distributed(sites, items, 0.5)


def test_what_is_gone_counts_for_units_as_it_does_for_weights():
    a, b = np.ones((4, 4)), np.ones((4, 4))
    sites, _ = make_sites(a=a, b=b)
    mask = np.ones((4, 4), bool)
    mask[0] = False  # one of four in each unit
    sites[0] = dataclasses.replace(sites[0], mask=mask)
    items = {"a": Items(np.arange(4.0), np.full(4, 3)), "b": Items(np.arange(4.0), np.full(4, 4))}
    assert allocations.uniform(sites, items, 0.5) == {"a": 1, "b": 2}  # 4 + 3 of 8, and 8 of 8
    assert allocations.uniform(sites, items, 0.25) == {"a": 0, "b": 1}
    assert allocations.uniform(sites, items, 0.2) == {"a": -1, "b": 0}  # more than 3 are gone


def test_erk_by_hand():
    # raw densities 0.2 and 0.6; 48 weights stay: 0.2 * 1.5 * 100 = 30 and 0.6 * 1.5 * 20 = 18
    sites, items = make_sites(wide=np.ones((10, 10)), thin=np.ones((10, 2)))
    assert allocations.erk(sites, items, 0.6) == {"wide": 70, "thin": 2}
    # 60 stay: thin would get 22.5 of its 20, so it stays dense and wide keeps 40
    assert allocations.erk(sites, items, 0.5) == {"wide": 60, "thin": 0}


def test_erk_counts_all_dimensions_of_a_convolution():
    # raw 26 / 900 and 7 / 12: the second stays dense, the first gives all
    sites, items = make_sites(conv=np.ones((3, 3, 10, 10)), dense=np.ones((3, 4)))
    assert allocations.erk(sites, items, 0.25) == {"conv": 228, "dense": 0}
    # raw 26 / 900 and 20 / 100; 100 stay: 100 * 26 / 46 = 56.5 and 100 * 20 / 46 = 43.5
    sites, items = make_sites(conv=np.ones((3, 3, 10, 10)), dense=np.ones((10, 10)))
    assert allocations.erk(sites, items, 0.9) == {"conv": 843, "dense": 57}


@given(
    shapes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=5),
    sparsity=st.floats(0, 0.999),
)
@settings(max_examples=60, deadline=None)
def test_erk_meets_the_total_exactly(shapes, sparsity):
    sites, items = make_sites(**{f"s{i}": np.ones(shape) for i, shape in enumerate(shapes)})
    shares = allocations.erk(sites, items, sparsity)
    assert sum(shares.values()) == allocations.rounded(sparsity, sum(a * b for a, b in shapes))
    assert all(0 <= shares[s.name] <= s.mask.size for s in sites)


def test_erk_gives_what_is_left_over_to_the_largest_remainders_and_the_first_of_equals():
    shapes = [(3, 3) if i % 3 else (2, 5) for i in range(40)]
    sites, items = make_sites(**{f"s{i:02}": np.ones(shape) for i, shape in enumerate(shapes)})
    total = sum(a * b for a, b in shapes)
    budget = (total + 1) // 2
    scale = Fraction(total - budget, sum(a + b for a, b in shapes))  # density = scale * raw
    exact = [a * b - scale * (a + b) for a, b in shapes]
    whole = [int(share) for share in exact]
    ranked = sorted(range(40), key=lambda i: whole[i] - exact[i])  # Python's sort is stable
    for i in ranked[: budget - sum(whole)]:
        whole[i] += 1
    assert list(allocations.erk(sites, items, 0.5).values()) == whole


def test_distributed_does_not_divide_by_a_deviation_of_zero():
    sites, items = make_sites(a=[[0.5, 0.5]], b=[[10.0, 30.0]])  # b is divided by 10
    assert allocations.distributed(sites, items, 0.5) == {"a": 2, "b": 0}


ARRAYS = st.lists(
    npst.arrays(np.float32, st.integers(1, 30), elements=st.sampled_from([-np.inf, 0, 1, 2, 3.5])),
    min_size=1,
    max_size=4,
)


@given(arrays=ARRAYS, sparsity=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_global_agrees_with_a_stable_sort_of_everything(arrays, sparsity):
    sites, _ = make_sites(**{f"s{i}": a for i, a in enumerate(arrays)})
    items = {s.name: Items(a) for s, a in zip(sites, arrays, strict=True)}
    budget = allocations.rounded(sparsity, sum(a.size for a in arrays))
    owner = np.repeat(np.arange(len(arrays)), [a.size for a in arrays])
    taken = owner[ranking(np.concatenate(arrays))[:budget]]
    expected = np.bincount(taken, minlength=len(arrays)).tolist()
    assert list(allocations.class_blind(sites, items, sparsity).values()) == expected


def test_ranking_puts_the_higher_index_of_equal_scores_first():
    assert ranking(np.array([1.0, 0.0, 1.0, -np.inf, 0.0])).tolist() == [3, 4, 1, 2, 0]


def test_get_takes_names_and_callables():
    def own(sites, items, sparsity):
        return {}

    assert allocations.get(own) is own
    assert {name: allocations.get(name) for name in allocations.ALLOCATIONS} == {
        "global": allocations.class_blind,
        "uniform": allocations.uniform,
        "distributed": allocations.distributed,
        "erk": allocations.erk,
    }


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match=r"'globl'; did you mean 'global'\?.*distributed, erk"):
        allocations.get("globl")
    with pytest.raises(TypeError, match="allocation=None is a NoneType; give one of"):
        allocations.get(None)
