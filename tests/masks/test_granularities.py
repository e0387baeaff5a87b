"""What each granularity ranks, and what it prunes, by hand."""

import numpy as np
import pytest

from activation_pruning import masks
from activation_pruning.allocations import Items
from activation_pruning.masks.ties import first_to_go
from activation_pruning.sites import Site

INF = np.inf


def site(kernel, mask=None, input_axis=0):
    kernel = np.array(kernel, np.float32)
    mask = np.ones(kernel.shape, bool) if mask is None else np.array(mask, bool)
    return Site("a", "a", kernel, mask, np.arange(kernel.shape[-1])[None], input_axis)


NINE = site([[1, 2, 3], [4, 5, 6], [7, 8, 9]], [[0, 1, 1], [1, 1, 0], [1, 1, 0]])
# In units: all four alive; three alive; two; one.
FOURS = site(
    [[1, 5, 2, 7], [4, 1, 3, 5], [2, 2, 6, 6], [3, 9, 8, 8]],
    [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0], [1, 0, 0, 1]],
)


def test_weights_are_ranked_as_they_are_and_know_which_are_alive():
    items = masks.Weight().items(NINE, NINE.kernel)
    assert items.scores.tolist() == [-INF, 2, 3, 4, 5, -INF, 7, 8, -INF]
    assert (items.sizes, items.dead) == (1, 3)


def test_blocks_are_ranked_by_the_mean_of_what_is_alive():
    items = masks.Block(2, 2).items(NINE, NINE.kernel)
    # 2, 4 and 5; 3; 7 and 8; nothing
    assert items.values.tolist() == pytest.approx([11 / 3, 3, 7.5, -INF])
    assert items.sizes.tolist() == [3, 1, 2, 0]


def test_blocks_and_units_are_summed_in_double_precision():
    kernel = np.array([[2.0**24], [1.0]], np.float32)  # in single precision the 1 is lost
    for grain in (masks.Block(2, 1), masks.Unit()):
        assert grain.items(site(kernel), kernel).values.tolist() == [(2.0**24 + 1) / 2]


def test_blocks_prune_what_they_cover():
    chosen = np.array([False, True, True, False])
    expected = [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    assert masks.Block(2, 2).expand(NINE, NINE.kernel, chosen).astype(int).tolist() == expected
    tall = masks.Block(3, 2).expand(NINE, NINE.kernel, np.array([True, False]))
    assert tall.astype(int).tolist() == [[1, 1, 0]] * 3


def test_units_are_ranked_by_the_mean_of_what_is_alive():
    items = masks.Unit().items(NINE, NINE.kernel)
    assert items.values.tolist() == [5.5, 5, 3]
    assert items.sizes.tolist() == [2, 3, 1]


def test_groups_are_ranked_by_what_is_left_to_prune():
    items = masks.NM(2, 4).items(FOURS, FOURS.kernel)
    # 1 + 2 of four; 1, as one is pruned already; nothing of two, nor of one
    assert items.values.tolist() == [3, 1, -INF, -INF]
    assert items.sizes.tolist() == [2, 1, 0, 0]


def test_groups_prune_their_lowest_and_those_pruned_before():
    found = masks.NM(2, 4).expand(FOURS, FOURS.kernel, np.array([True, True, False, False]))
    assert found.T.astype(int).tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [0] * 4, [0] * 4]


def test_groups_of_two_units_of_eight_inputs_lie_unit_by_unit():
    one = site(np.arange(16.0).reshape(8, 2))
    items = masks.NM(3, 4).items(one, one.kernel)
    assert items.values.tolist() == [0, 8, 1, 9]
    found = masks.NM(3, 4).expand(one, one.kernel, np.array([False, True, True, False]))
    assert np.argwhere(found).tolist() == [[0, 1], [4, 0]]


def test_groups_of_a_convolution_lie_along_its_inputs():
    kernel = np.random.default_rng(0).permutation(24).reshape(2, 4, 3).astype(np.float32)
    one = Site("a", "a", kernel, kernel >= 0, np.arange(3)[None, None], input_axis=1)
    items = masks.NM(3, 4).items(one, kernel)
    assert items.values.tolist() == kernel.min(axis=1).ravel().tolist()
    found = masks.NM(3, 4).expand(one, kernel, np.ones(6, bool))
    np.testing.assert_array_equal(found, kernel == kernel.min(axis=1, keepdims=True))
    assert found.dtype == bool


def test_large_groups_of_equal_scores_keep_the_lower_indices():
    one = site(np.tile([[1.0], [0.0]], (32, 1)))
    found = masks.NM(48, 64).expand(one, one.kernel, np.array([True]))
    assert np.flatnonzero(found).tolist() == list(range(33, 64, 2))


def test_multiples_of_units_are_the_nearest_and_at_least_one():
    ten = Items(np.arange(10.0), round_to=4)
    # of ten units 9, 7, 6, 5 and 1 would stay: 8, 8, 8 (half a step is kept), 4, 4
    assert [ten.rounded(count) for count in (1, 3, 4, 5, 9)] == [2, 2, 2, 6, 6]
    assert Items(np.arange(10.0)).rounded(7) == 7
    known = Items(np.array([-INF, -INF, -INF, *range(7)]), round_to=4)
    # no more than three are dead: nothing to do; the seven alive are fewer than two multiples
    assert [known.rounded(count) for count in (2, 3, 4, 5)] == [2, 3, 3, 6]


def test_units_say_in_which_multiples_they_go():
    assert masks.Unit().note == ""
    assert masks.Unit(round_to=8).note == (
        "Each layer keeps a multiple of 8 units, or all that it had."
    )


def test_the_first_to_go_is_the_last_of_the_lowest():
    assert first_to_go(np.array([3.0, 1.0, 1.0, 2.0])) == 2
    assert first_to_go(np.array([0.0, 1.0])) == 0
    assert first_to_go(np.array([1.0, 0.0])) == 1


@pytest.mark.parametrize(("first", "second"), [((0, 1), "height=0"), ((1, 0), "width=0")])
def test_the_message_names_the_side_of_a_block(first, second):
    with pytest.raises(ValueError, match=f"block {second}"):
        masks.Block(*first)
