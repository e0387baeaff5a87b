"""Masks as literal arrays, and NumPy's stable sort as the oracle."""

import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import activation_pruning as ap
from activation_pruning import allocations, masks
from activation_pruning.sites import Site


def make_site(kernel, name="dense/kernel", mask=None, units=None, input_axis=0):
    """A Dense site of float32 weights."""
    kernel = np.asarray(kernel, np.float32)
    mask = np.ones(kernel.shape, bool) if mask is None else np.asarray(mask, bool)
    units = np.arange(kernel.shape[-1])[None] if units is None else units
    return Site(name, name.split("/")[0], kernel, mask, units, input_axis)


def select(sites, sparsity, granularity="weight", allocation="global"):
    """New masks by |w|, as 0 and 1 to compare with literals; warnings are errors."""
    scores = {site.name: np.abs(site.kernel) for site in sites}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = masks.select(sites, scores, sparsity, granularity, allocation)
    return {name: mask.astype(int).tolist() for name, mask in new.items()}


# -- exact selection ---------------------------------------------------------------------


def oracle(scores, count):
    """The `count` lowest by a stable sort; of equal scores the higher indices go."""
    chosen = np.zeros(scores.size, bool)
    chosen[scores.size - 1 - np.argsort(scores[::-1], kind="stable")[:count]] = True
    return chosen


@given(
    scores=npst.arrays(
        np.float32, st.integers(0, 40), elements=st.sampled_from([-np.inf, -1, 0, 0.5, 2])
    ),
    share=st.floats(0, 1),
)
@settings(max_examples=100, deadline=None)
def test_lowest_agrees_with_a_stable_sort(scores, share):
    count = int(share * scores.size)
    np.testing.assert_array_equal(masks.lowest(scores, count), oracle(scores, count))


@pytest.mark.parametrize("levels", [1, 3, 10**9])
@pytest.mark.parametrize("count", [1, 200_000, 599_999, 600_000])
def test_lowest_of_many_agrees_with_a_stable_sort(levels, count):
    generator = np.random.default_rng(1)
    scores = generator.integers(0, levels, 600_000).astype(np.float32)
    np.testing.assert_array_equal(masks.lowest(scores, count), oracle(scores, count))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", ["normal", "few levels", "zeros of both signs"])
def test_lowest_agrees_with_a_stable_sort_around_the_ends_of_chunks(kind, dtype):
    generator = np.random.default_rng(2)
    for size in (1, 2, 3, 65_535, 65_536, 65_537, 262_144, 262_145):
        scores = scores_of(kind, size, dtype, generator)
        for count in {0, 1, size - 1, size, int(generator.integers(size))}:
            np.testing.assert_array_equal(masks.lowest(scores, count), oracle(scores, count))


def scores_of(kind, size, dtype, generator):
    scores = np.abs(generator.standard_normal(size)).astype(dtype)
    if kind == "few levels":
        return np.round(scores)
    if kind == "zeros of both signs":
        return np.where(scores > 1, scores, np.copysign(dtype(0), generator.random(size) - 0.5))
    return scores


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", ["normal", "few levels", "zeros of both signs"])
@pytest.mark.parametrize("allocation", ["global", "uniform"])
@pytest.mark.filterwarnings("ignore::activation_pruning.masks.EmptiedWarning")
def test_several_rounds_at_several_sites_agree_with_a_stable_sort(kind, dtype, allocation):
    generator = np.random.default_rng(4)
    sizes = [3, 65_536, 2, 200_000, 65_537, 10]
    scores = [scores_of(kind, size, dtype, generator) for size in sizes]
    for own in scores:
        own[0] = 100  # so that no site is emptied
    alive = [np.ones(size, bool) for size in sizes]
    alive[3][1:] = generator.random(199_999) < 0.65  # sparser than its share at first
    for sparsity in (0.3, 0.5, 0.8):
        sites = [make_site(s[None], f"s{i}", alive[i][None]) for i, s in enumerate(scores)]
        given = {site.name: own[None] for site, own in zip(sites, scores, strict=True)}
        new = masks.select(sites, given, sparsity, "weight", allocation)
        ranked = [np.where(a, s, -np.inf) for s, a in zip(scores, alive, strict=True)]
        alive = [new[site.name][0] for site in sites]
        for before, after in zip(ranked, alive, strict=True):
            np.testing.assert_array_equal(~after, oracle(before, np.count_nonzero(~after)))
        if allocation == "global":
            gone = oracle(np.concatenate(ranked), allocations.rounded(sparsity, sum(sizes)))
            np.testing.assert_array_equal(~np.concatenate(alive), gone)


def test_selecting_takes_less_memory_than_the_scores():
    generator = np.random.default_rng(6)
    kernels = generator.standard_normal((2, 1000, 1000), dtype=np.float32)
    sites = [make_site(k, f"s{i}", generator.random(k.shape) < 0.5) for i, k in enumerate(kernels)]
    scores = {site.name: np.abs(site.kernel) for site in sites}
    tracemalloc.start()
    masks.select(sites, scores, 0.8, "weight", "global")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * kernels.nbytes  # the new masks alone are a quarter


def test_lowest_keeps_the_lower_index_of_equal_scores():
    assert masks.lowest(np.ones(5), 2).tolist() == [False, False, False, True, True]
    assert not masks.lowest(np.ones(5), 0).any()
    assert masks.lowest(np.ones(5), 5).all()


# -- weights -----------------------------------------------------------------------------


def test_weights_are_pruned_exactly_to_the_budget():
    site = make_site([[1, 4, 2], [2, 3, 2]])
    assert select([site], 0.0)["dense/kernel"] == [[1, 1, 1], [1, 1, 1]]
    assert select([site], 0.5)["dense/kernel"] == [[0, 1, 1], [0, 1, 0]]
    assert select([site], 0.7)["dense/kernel"] == [[0, 1, 0], [0, 1, 0]]


def test_pruned_weights_stay_pruned_and_count():
    site = make_site([[9, 4, 2], [2, 3, 2]], mask=[[0, 1, 1], [1, 1, 1]])
    assert select([site], 0.5)["dense/kernel"] == [[0, 1, 1], [0, 1, 0]]


def test_a_target_already_exceeded_changes_nothing():
    site = make_site([[1, 4, 2, 3, 5, 6]], mask=[[1, 0, 0, 0, 0, 0]])
    assert select([site], 0.5)["dense/kernel"] == [[1, 0, 0, 0, 0, 0]]
    new = masks.select([site], {site.name: np.abs(site.kernel)}, 0.5, "weight", "global")
    assert not np.shares_memory(new[site.name], site.mask)


def test_one_ranking_over_two_sites():
    sites = [make_site([[1, 9], [2, 8]], "a"), make_site([[3, 4], [5, 6]], "b")]
    assert select(sites, 0.5) == {"a": [[0, 1], [0, 1]], "b": [[0, 0], [1, 1]]}


KERNELS = st.lists(
    npst.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
        elements=st.sampled_from([-2, -1, 0, 0.5, 1, 3]),
    ),
    min_size=1,
    max_size=4,
)
GRAINS = st.sampled_from(["weight", "unit", (2, 3), (1, 1)])


@given(
    kernels=KERNELS,
    steps=st.lists(st.floats(0, 0.99), min_size=1, max_size=3),
    grain=GRAINS,
    allocation=st.sampled_from(sorted(allocations.ALLOCATIONS)),
)
@settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_masks_are_monotone_within_budget_and_never_empty(kernels, steps, grain, allocation):
    sites = [make_site(k, f"s{i}") for i, k in enumerate(kernels)]
    total = sum(k.size for k in kernels)
    for sparsity in sorted(steps):
        scores = {s.name: np.abs(s.kernel) for s in sites}
        new = masks.select(sites, scores, sparsity, grain, allocation)
        budget = allocations.rounded(sparsity, total)
        pruned = sum(int((~m).sum()) for m in new.values())
        before = sum(int((~s.mask).sum()) for s in sites)
        for site in sites:
            assert new[site.name].any()
            assert not (new[site.name] & ~site.mask).any()
        if grain == "weight" and allocation in ("global", "distributed", "erk"):
            assert pruned == max(before, min(budget, total - len(sites)))
        elif allocation in ("global", "distributed"):
            assert pruned <= max(before, budget)
        sites = [make_site(s.kernel, s.name, new[s.name]) for s in sites]


# -- units, blocks, N:M ------------------------------------------------------------------


def test_units_go_by_their_mean_score():
    site = make_site([[1, 5, 2], [9, 5, 3]])  # means 5, 5, 2.5
    assert select([site], 0.4, "unit")["dense/kernel"] == [[1, 1, 0], [1, 1, 0]]
    assert select([site], 0.7, "unit")["dense/kernel"] == [[1, 0, 0], [1, 0, 0]]


def test_units_of_several_gates_go_together():
    site = make_site([[1, 5, 1, 5]], units=np.array([[0, 1, 0, 1]]))
    assert select([site], 0.5, "unit")["dense/kernel"] == [[0, 1, 0, 1]]


def test_units_count_what_was_pruned_before():
    # Unit 0 holds 1 alive weight, of mean 9; units 1 and 2 hold 2 each. Budget 4, 1 is spent.
    site = make_site([[1, 5, 2], [9, 5, 3]], mask=[[0, 1, 1], [1, 1, 1]])
    assert select([site], 0.67, "unit")["dense/kernel"] == [[0, 1, 0], [1, 1, 0]]


def test_blocks_go_by_their_mean_score_and_may_be_partial():
    site = make_site([[1, 1, 9], [1, 1, 9], [9, 9, 1]])
    assert select([site], 0.5, (2, 2))["dense/kernel"] == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    # the block of one weight (score 1) goes first among equals: it is the last one
    assert select([site], 0.12, (2, 2))["dense/kernel"] == [[1, 1, 1], [1, 1, 1], [1, 1, 0]]


def test_blocks_do_not_count_pruned_weights():
    # Each 90 is pruned: the first block has mean 9, then 1, and adds only 2 weights.
    site = make_site([[90, 9, 5, 5], [90, 9, 5, 5]], mask=[[0, 1, 1, 1]] * 2)
    assert select([site], 0.75, (2, 2))["dense/kernel"] == [[0, 1, 0, 0]] * 2
    site = make_site([[90, 1, 5, 5], [90, 1, 5, 5]], mask=[[0, 1, 1, 1]] * 2)
    assert select([site], 0.5, (2, 2))["dense/kernel"] == [[0, 0, 1, 1]] * 2


def test_blocks_of_a_convolution_lie_over_the_flattened_inputs():
    kernel = np.ones((2, 1, 2, 2))
    kernel[1] = 5
    new = masks.select([make_site(kernel)], {"dense/kernel": kernel}, 0.5, (2, 2), "global")
    assert new["dense/kernel"].reshape(-1, 2).tolist() == [[False] * 2] * 2 + [[True] * 2] * 2


def test_two_of_four_along_the_inputs():
    site = make_site([[1, 4], [2, 3], [3, 2], [3, 1], [8, 8], [8, 8], [8, 8], [8, 8]])
    half = [[0, 1], [0, 1], [1, 0], [1, 0]]
    # equal scores: the lower index is kept
    assert select([site], 0.5, "2:4")["dense/kernel"] == [*half, [1, 1], [1, 1], [0, 0], [0, 0]]
    # a quarter: the cheapest groups are converted first
    assert select([site], 0.25, "2:4")["dense/kernel"] == [*half, *[[1, 1]] * 4]


def test_two_of_four_along_another_axis_counts_what_was_pruned_before():
    site = make_site([[1, 2, 3, 4], [5, 6, 7, 8]], mask=[[1, 1, 1, 0], [0, 1, 0, 1]], input_axis=1)
    assert select([site], 0.5, "2:4")["dense/kernel"] == [[0, 1, 1, 0], [0, 1, 0, 1]]


@given(
    kernel=npst.arrays(np.float32, (8, 3), elements=st.sampled_from([-2, -1, 0, 1, 3])),
    n=st.integers(1, 3),
    steps=st.lists(st.floats(0, 0.99), min_size=1, max_size=3),
)
@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_group_keeps_less_than_n_of_m(kernel, n, steps):
    site, grain = make_site(kernel), masks.NM(n, 4)
    for sparsity in sorted(steps):
        new = masks.select([site], {site.name: np.abs(kernel)}, sparsity, grain, "global")
        alive = new[site.name].T.reshape(-1, 4).sum(axis=1)
        assert set(alive.tolist()) <= {n, 4}
        full = sparsity >= grain.max_sparsity
        assert not full or (alive == n).all()
        site = make_site(kernel, mask=new[site.name])


def test_granularity_takes_names_shapes_and_objects():
    own = masks.Block(4, 1)
    assert masks.granularity("weight") == masks.Weight()
    assert masks.granularity("unit") == masks.Unit()
    assert masks.granularity("1:16") == masks.NM(1, 16)
    assert masks.granularity((2, 3)) == masks.Block(2, 3)
    assert masks.granularity(own) is own
    assert [masks.granularity(g).max_sparsity for g in ("weight", "unit", (1, 2), "1:4")] == [
        1,
        1,
        1,
        0.75,
    ]


def test_granule_is_more_than_rounding_can_leave():
    sites = [make_site(np.ones((4, 3)), "a"), make_site(np.ones((2, 4)), "b")]
    assert [masks.granule(sites[:n], "weight") for n in (1, 2)] == [1, 2]
    assert masks.granule(sites, "unit") == 4 + 2
    assert masks.granule(sites, (3, 2)) == 6 + 4
    assert masks.granule(sites[:1], "1:4") == 3


# -- nothing is emptied silently ---------------------------------------------------------


def guarded(sites, sparsity, grain, allocation="global"):
    """Masks as 0 and 1, and the warning."""
    scores = {site.name: np.abs(site.kernel) for site in sites}
    with pytest.warns(UserWarning, match="target sparsity") as caught:
        new = masks.select(sites, scores, sparsity, grain, allocation)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    return {n: m.astype(int).tolist() for n, m in new.items()}, str(caught[0].message)


def test_the_best_weight_is_kept_and_the_others_pay():
    sites = [make_site([[1, 2, 1]], "low"), make_site([[7, 8, 9, 10, 11]], "high")]
    new, message = guarded(sites, 0.5, "weight")
    assert new == {"low": [[0, 1, 0]], "high": [[0, 0, 1, 1, 1]]}
    assert "target sparsity 0.5000, reached 0.5000" in message
    assert "low (now 0.6667)" in message
    assert "high" not in message


def test_one_unit_layers_keep_their_unit():
    sites = [make_site([[1], [1]], "one"), make_site([[7, 8], [7, 8]], "two")]
    new, message = guarded(sites, 0.4, "unit")
    assert new == {"one": [[1], [1]], "two": [[0, 1], [0, 1]]}
    assert "one (now 0.0000)" in message
    assert "reached 0.3333" in message


@pytest.mark.parametrize("allocation", sorted(allocations.ALLOCATIONS))
def test_a_target_near_one_leaves_one_weight_everywhere(allocation):
    sites = [make_site([[1, 2], [3, 4]], "a"), make_site([[5, 6, 7]], "b")]
    new, message = guarded(sites, 0.999, "weight", allocation)
    assert new == {"a": [[0, 0], [0, 1]], "b": [[0, 0, 1]]}
    assert "target sparsity 0.9990, reached 0.7143" in message


def test_a_site_that_is_pruned_already_stays_so():
    sites = [make_site([[1, 2]], "gone", mask=[[0, 0]]), make_site([[5, 6, 7, 8]], "b")]
    assert select(sites, 0.67) == {"gone": [[0, 0]], "b": [[0, 0, 1, 1]]}


@pytest.mark.parametrize("allocation", ["uniform", "erk"])
def test_what_a_site_lost_beyond_its_share_is_spared_elsewhere(allocation):
    sites = [make_site([[1, 2, 3, 4]], "a", mask=[[0, 0, 0, 1]]), make_site([[5, 6, 7, 8]], "b")]
    assert select(sites, 0.5, "weight", allocation) == {"a": [[0, 0, 0, 1]], "b": [[0, 1, 1, 1]]}


def test_a_target_that_the_granularity_cannot_reach_warns():
    _, message = guarded([make_site(np.arange(8).reshape(8, 1))], 0.8, "2:4")
    assert "target sparsity 0.8000, reached 0.5000" in message
    assert "dense/kernel (now 0.5000)" in message


# -- bad input ---------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan")])
def test_sparsity_outside_the_range(sparsity):
    with pytest.raises(ValueError, match=r"sparsity=.*it must be a fraction in \[0, 1\)"):
        select([make_site([[1, 2]])], sparsity)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_must_be_finite(bad):
    site = make_site([[1, 2]])
    with pytest.raises(ValueError, match="dense/kernel: the scores hold NaN or infinite"):
        masks.select([site], {site.name: np.array([[1, bad]])}, 0.5, "weight", "global")


def test_finite_numbers_whose_sum_is_infinite_are_fine():
    site = make_site([[3e38, -3e38, 3e38, 2e38]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = masks.select([site], {site.name: site.kernel}, 0.25, "weight", "global")
    assert new[site.name].tolist() == [[True, False, True, True]]


def test_scores_of_a_wrong_shape():
    site = make_site([[1, 2]])
    with pytest.raises(ValueError, match=r"scores of shape \(2,\) for a kernel of shape \(1, 2\)"):
        masks.select([site], {site.name: np.ones(2)}, 0.5, "weight", "global")


def test_no_sites():
    with pytest.raises(ValueError, match="no sites to prune; look at include and exclude"):
        masks.select([], {}, 0.5, "weight", "global")


def test_groups_that_do_not_divide_name_the_site():
    with pytest.raises(ValueError, match=r"dense/kernel: 2:4 .* that 4 divides, got 6"):
        select([make_site(np.ones((6, 2)))], 0.5, "2:4")


@pytest.mark.parametrize("spec", ["wieght", "2:", 3, None, (1, 2, 3), masks.Unit])
def test_unknown_granularities(spec):
    with pytest.raises(ValueError, match=r"granularity=.*give 'weight', 'unit', 'n:m'"):
        masks.granularity(spec)


@pytest.mark.parametrize("spec", ["4:4", "0:4", "5:4"])
def test_groups_that_keep_nothing_or_everything(spec):
    with pytest.raises(ValueError, match=f"N:M granularity {spec}; it must keep n of m"):
        masks.granularity(spec)


@pytest.mark.parametrize(("spec", "name"), [((0, 2), "height=0"), ((2, 1.5), "width=1.5")])
def test_blocks_need_positive_integers(spec, name):
    with pytest.raises(ValueError, match=f"block {name}; it must be an integer of at least 1"):
        masks.granularity(spec)


def test_unknown_allocation():
    with pytest.raises(ValueError, match=r"unknown allocation 'unifrom'; did you mean 'uniform'"):
        select([make_site([[1, 2]])], 0.5, "weight", "unifrom")


@pytest.mark.parametrize("round_to", [0, True, 1.5])
def test_multiples_are_integers(round_to):
    with pytest.raises(ValueError, match=rf"round_to={round_to}; it must be an integer"):
        masks.Unit(round_to=round_to)


def test_the_category_of_the_warning_is_public():
    assert issubclass(ap.masks.EmptiedWarning, UserWarning)
    assert masks.EmptiedWarning is ap.masks.EmptiedWarning
