"""What sites that have lost much, and last items, do to the shares of others."""

import numpy as np
import pytest

import activation_pruning as ap
from activation_pruning import allocations, masks
from activation_pruning.amounts.bounds import counts_within_bounds
from activation_pruning.sites import Site


def site(name, kernel, mask=None):
    kernel = np.asarray(kernel, float)
    mask = np.ones(kernel.shape, bool) if mask is None else np.asarray(mask, bool)
    return Site(name, name, kernel * mask, mask, np.arange(kernel.shape[-1])[None])


def pruned(sites, sparsity, granularity, allocation):
    """{name: how many weights are pruned}; warnings are errors unless expected."""
    scores = {s.name: np.abs(s.kernel) for s in sites}
    found = masks.select(sites, scores, sparsity, granularity, allocation)
    return {name: int((~mask).sum()) for name, mask in found.items()}


def half_of_each(sites, items, sparsity):
    """An allocation of a user's own, which says so where more than that is gone."""
    return allocations.uniform(sites, items, sparsity)


@pytest.mark.parametrize("allocation", ["uniform", "erk", half_of_each])
@pytest.mark.parametrize("granularity", ["weight", "unit", (2, 5)])
@pytest.mark.filterwarnings("error::UserWarning")
def test_what_a_site_has_lost_beyond_its_share_is_spared_elsewhere(allocation, granularity):
    generator = np.random.default_rng(0)
    mask = generator.permutation(100).reshape(10, 10) < 20  # 80 % are gone, from all units
    sites = [site("a", generator.random((10, 10)) + 1, mask), site("b", np.ones((10, 10)))]
    assert pruned(sites, 0.5, granularity, allocation) == {"a": 80, "b": 20}


@pytest.mark.filterwarnings("error::UserWarning")
def test_pruning_some_layers_and_then_all_ends_at_the_target():
    model = ap_model()
    ap.prune(model, 0.8, include=["a"], verbose=0)
    report = ap.prune(model, 0.5, "magnitude", "uniform", "unit", include=["a", "b"], verbose=0)
    zeros = [int((np.array(model.get_layer(n).kernel) == 0).sum()) for n in "ab"]
    assert zeros == [80, 20]
    assert report.sparsity == 0.5


def ap_model():
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(10, name=name) for name in "ab"]
    return keras.Sequential([keras.Input((10,)), *layers, keras.layers.Dense(1)])


def test_a_last_unit_in_the_way_does_not_stop_the_others():
    # the only unit of `one` is the lowest, and too big for the budget; ten of `many` are to go
    sites = [site("one", np.full((30, 1), 0.1)), site("many", np.ones((2, 20)))]
    assert pruned(sites, 20 / 70, "unit", "global") == {"one": 0, "many": 20}


def test_what_a_protected_item_leaves_goes_to_those_that_had_lost_too_much():
    # Wanted are 4, 1 and 5. b has lost 2, which leaves 3 to a and 5 to c, of which none can go:
    # of the 8 then a could take 6, of which one stays, and b takes the rest.
    share = {"a": 4, "b": 1, "c": 5}
    sites = [site("a", [[1, 2, 3, 4, 5, 6]]), site("b", [[9] * 6], [[0, 0, 1, 1, 1, 1]])]
    sites.append(site("c", [[1]]))
    items = {s.name: allocations.Items(s.kernel.ravel(), alive=s.mask.ravel()) for s in sites}

    def by_share(left, items, sparsity):
        budget = allocations.rounded(sparsity, sum(s.mask.size for s in left))
        total = sum(share[s.name] for s in left)
        return {s.name: budget * share[s.name] // total for s in left}

    counts, full = counts_within_bounds(sites, items, 10 / 13, by_share)
    assert counts == {"a": 5, "b": 5, "c": 0}
    assert sorted(full) == ["a", "c"]


def test_what_a_fixed_site_had_lost_before_is_part_of_the_budget():
    # six of twelve: unit 0 of a is one alive weight and one gone; its unit 1 is the last and stays
    a = site("a", [[1, 2], [1, 2]], [[False, True], [True, True]])
    b = site("b", [np.arange(8) + 9.0])
    with pytest.warns(masks.EmptiedWarning, match=r"reached 0\.5000"):
        assert pruned([a, b], 0.5, "unit", "global") == {"a": 2, "b": 4}


@pytest.mark.parametrize(("sparsity", "stay"), [(0.2, 4), (0.8, 4), (0.0, 5), (0.5, 4)])
def test_multiples_of_units_are_at_least_one(sparsity, stay):
    sites = [site("a", [[1, 2, 3, 4, 5]])]
    found = pruned(sites, sparsity, masks.Unit(round_to=4), "global")
    assert found == {"a": 5 - stay}


def test_multiples_are_the_nearest_and_halves_are_kept():
    items = allocations.Items(np.arange(10.0), np.ones(10, int), round_to=4)
    assert [items.rounded(count) for count in range(10)] == [0, 2, 2, 2, 2, 6, 6, 6, 6, 6]
    gone = allocations.Items(np.array([-np.inf] * 7 + [1.0] * 3), np.ones(10, int), round_to=4)
    assert [gone.rounded(count) for count in (7, 8, 9)] == [7, 7, 7]  # no more than are there
    assert (gone.dead, gone.most, gone.staying.tolist()) == (
        7,
        9,
        [False] * 7 + [True] + 2 * [False],
    )
