"""Sites that share channels, joined and taken apart again by eye."""

import numpy as np

from activation_pruning import masks
from activation_pruning.masks import coupled
from activation_pruning.sites import Site


def site(name, kernel, channels, mask=None):
    """A Dense site of (inputs, units) weights."""
    kernel = np.array(kernel, np.float32)
    mask = np.ones(kernel.shape, bool) if mask is None else np.array(mask, bool)
    units = np.arange(kernel.shape[1])[None]
    channels = None if channels is None else np.array(channels)
    return Site(name, name, kernel, mask, units, input_axis=1, channels=channels)


A = site("a", [[1, 2, 3], [4, 5, 6]], [4, 5, 6], [[1, 1, 0], [1, 1, 1]])
ALONE = site("alone", [[9, 8]], None)
B = site("b", [[7, 8], [0, 1], [2, 3]], [5, 7])
SCORES = {"a": 10 * A.kernel, "alone": ALONE.kernel, "b": -B.kernel}


def test_what_shares_a_channel_becomes_one_site_of_flat_weights():
    (both, alone), scores, parts = coupled.merge([A, ALONE, B], SCORES)
    assert (both.name, alone.name) == ("a + b", "alone")
    assert both.kernel.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3]
    assert both.mask.tolist() == [True, True, False, *[True] * 9]
    # channels 4, 5, 6 and 7 are the units 0, 1, 2 and 3: a twice has 4, 5, 6, b three times 5, 7
    assert both.units.tolist() == [0, 1, 2] * 2 + [1, 3] * 3
    assert (both.input_axis, both.channels.tolist()) == (0, [4, 5, 6, 7])
    assert scores["a + b"].tolist() == [10, 20, 30, 40, 50, 60, -7, -8, 0, -1, -2, -3]
    assert alone.kernel is ALONE.kernel
    assert scores["alone"].shape == (1, 2)
    assert {name: [s.name for s in own] for name, own in parts.items()} == {
        "a + b": ["a", "b"],
        "alone": ["alone"],
    }


def test_a_site_apart_keeps_its_shape_and_its_channels():
    one = site("one", [[1, 2], [3, 4]], [8, 3])
    (found,), scores, _ = coupled.merge([one], {"one": one.kernel})
    assert found.channels.tolist() == [8, 3]
    assert (found.kernel.shape, found.units.tolist(), found.input_axis) == ((2, 2), [[0, 1]], 1)
    assert scores["one"].shape == (2, 2)


def test_a_site_whose_units_share_a_channel_has_fewer_units():
    gates = site("gates", [[1, 2, 3, 4]], [6, 2, 6, 2])
    (found,), _, _ = coupled.merge([gates], {"gates": gates.kernel})
    assert found.units.tolist() == [1, 0, 1, 0]


def test_sites_are_coupled_through_others():
    chain = [site(n, [[1, 2]], c) for n, c in (("x", [1, 2]), ("y", [3, 4]), ("z", [2, 3]))]
    apart = site("w", [[1]], [9])
    scores = {s.name: s.kernel for s in [*chain, apart]}
    (whole, other), _, _ = coupled.merge([chain[0], apart, *chain[1:]], scores)
    assert (whole.name, other.name) == ("x + y + z", "w")
    assert whole.units.tolist() == [0, 1, 2, 3, 1, 2]


def test_masks_are_taken_apart_as_they_were_joined():
    _, _, parts = coupled.merge([A, ALONE, B], SCORES)
    joined = np.arange(12) % 3 == 0
    found = coupled.split({"a + b": joined, "alone": np.array([[True, False]])}, parts)
    assert found["a"].astype(int).tolist() == [[1, 0, 0], [1, 0, 0]]
    assert found["b"].astype(int).tolist() == [[1, 0], [0, 1], [0, 0]]
    assert found["alone"].tolist() == [[True, False]]


def test_units_are_selected_together_and_weights_one_by_one():
    first = site("first", [[1, 9, 2], [1, 9, 2]], [4, 5, 6])
    second = site("second", [[0.125, 3]], [5, 7])
    sites, scores = [first, second], {"first": first.kernel, "second": second.kernel}
    # of channel 5 the mean is 18.125 / 3: the 0.125 alone does not go
    found = masks.select(sites, scores, 0.5, "unit", "global")
    assert found["first"].astype(int).tolist() == [[0, 1, 0]] * 2
    assert found["second"].tolist() == [[True, True]]
    found = masks.select(sites, scores, 1 / 8, "weight", "global")
    assert found["first"].all()
    assert found["second"].tolist() == [[False, True]]


def _refilled(scores, mask=None):
    """`emptied` has channels 5, 7 and 8, `other` 7 and 9; neither has a weight left."""
    emptied = site("emptied", np.ones((2, 3)), [5, 7, 8], mask)
    other = site("other", [[1, 1], [1, 1]], [7, 9], [[1, 1], [0, 1]])
    kept = {"emptied": np.zeros((2, 3), bool), "other": np.array([[0, 1], [0, 1]], bool)}
    kept["alone"] = np.zeros((1, 2), bool)
    gone = site("alone", [[1, 1]], None, [[0, 0]])
    grain, scores = masks.Unit(), {"emptied": np.array(scores, float)}
    return coupled.refilled([gone, emptied, other], kept, lambda s: grain.items(s, scores[s.name]))


def test_the_best_unit_of_an_emptied_site_stays_wherever_it_is():
    # means 4.5, 5 and 1: not the unit of the best weight, 9
    found, names = _refilled([[9, 5, 1], [0, 5, 1]])
    assert names == ["emptied"]
    assert found["emptied"].astype(int).tolist() == [[0, 1, 0], [0, 1, 0]]
    # what was pruned before stays so; the other site's second unit was alive anyway
    assert found["other"].astype(int).tolist() == [[1, 1], [0, 1]]
    assert not found["alone"].any()


def test_of_equal_units_the_first_stays_and_a_dead_one_never():
    assert _refilled([[3, 2, 3], [3, 2, 3]])[0]["emptied"].any(axis=0).tolist() == [1, 0, 0]
    dead = [[0, 1, 1], [0, 1, 1]]
    assert _refilled([[9, 2, 3], [9, 2, 3]], dead)[0]["emptied"].any(axis=0).tolist() == [0, 0, 1]
    half = [[0, 1, 1], [1, 0, 1]]  # the means of what is alive: 9, 4 and 3
    found = _refilled([[0, 4, 3], [9, 9, 3]], half)[0]
    assert found["emptied"].astype(int).tolist() == [[0, 0, 0], [1, 0, 0]]
