"""Which weights change places, read by eye and against the obvious sort."""

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from activation_pruning import regrowth
from activation_pruning.regrowth import REGROWTHS, SET, RigL, exchange, shortfall
from activation_pruning.sites import Site


def site(kernel, mask, **changes):
    kernel, mask = np.array(kernel, np.float32), np.array(mask, bool)
    return Site("a/kernel", "a", kernel, mask, np.arange(kernel.shape[-1]), **changes)


KERNEL = [[5.0, -1.0, 0.0], [2.0, 0.0, 0.0]]
MASK = [[1, 1, 0], [1, 0, 0]]
SCORES = np.array([[9.0, 0.0, 3.0], [9.0, 7.0, 1.0]])


@pytest.mark.parametrize(
    ("fraction", "missing", "expected"),
    [
        (0.0, 0, [[1, 1, 0], [1, 0, 0]]),
        (0.1, 0, [[1, 1, 0], [1, 0, 0]]),  # 0.3 of a weight: none
        (1 / 3, 0, [[1, 0, 0], [1, 1, 0]]),  # -1 goes, the score of 7 comes
        (2 / 3, 0, [[1, 0, 0], [1, 1, 0]]),  # 2 is dropped and grown again: its score is 9
        (0.99, 0, [[1, 0, 0], [1, 1, 0]]),  # one weight is kept
        (0.0, 1, [[1, 1, 0], [1, 1, 0]]),
        (1 / 3, 1, [[1, 1, 0], [1, 1, 0]]),  # one of four places is free already
        (1 / 2, 1, [[1, 0, 1], [1, 1, 0]]),
        (2 / 3, 3, [[1, 1, 1], [1, 1, 1]]),
    ],
)
def test_an_exchange_by_eye(fraction, missing, expected):
    mask = exchange(site(KERNEL, MASK), fraction, SCORES, missing)
    assert mask.dtype == bool
    assert mask.astype(int).tolist() == expected


def test_among_equals_the_lower_index_is_alive():
    one = site([1.0, -1.0, 1.0, -1.0, 0.0, 0.0, 0.0], [1, 1, 1, 1, 0, 0, 0])
    assert exchange(one, 0.5, np.zeros(7)).tolist() == [True, True, True, True, *[False] * 3]
    late = np.array([0, 0, 0, 0, 1, 1, 1.0])
    assert np.flatnonzero(exchange(one, 0.5, late)).tolist() == [0, 1, 4, 5]
    assert np.flatnonzero(exchange(one, 0.5, -late)).tolist() == [0, 1, 2, 3]


def test_grown_weights_that_never_moved_go_first():
    one = site([0.0, 0.1, 0.0, 0.2, 0.0], [0, 1, 1, 1, 0])  # the third is alive and zero
    assert np.flatnonzero(exchange(one, 1 / 3, np.arange(5.0))).tolist() == [1, 3, 4]


def test_a_weight_found_pruned_for_its_zero_changes_nothing_else():
    """Masks read from weights lack what was grown and never moved; the exchange comes out alike."""
    generator = np.random.default_rng(0)
    kernel, mask = generator.normal(size=200), generator.random(200) < 0.5
    kernel[~mask] = kernel[np.flatnonzero(mask)[:4]] = 0
    scores = generator.random(200)
    known = exchange(site(kernel, mask), 0.3, scores)
    assert (exchange(site(kernel, kernel != 0), 0.3, scores, missing=4) == known).all()


def test_a_dense_site_and_a_single_weight_stay_what_they_are():
    assert exchange(site([1.0, 2.0, 3.0], [1, 1, 1]), 0.5, np.zeros(3)).all()
    assert exchange(site([1.0, 0.0], [1, 0]), 0.9, np.array([0.0, 1.0])).tolist() == [True, False]


@st.composite
def situations(draw):
    """A site, a fraction, scores with ties, and how many weights are missing."""
    size = draw(st.integers(1, 30))
    alive = draw(st.integers(1, size))
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    mask = generator.permutation(size) < alive
    levels = draw(st.integers(1, 5))
    kernel = generator.integers(-levels, levels + 1, size) * mask
    scores = generator.integers(0, levels + 1, size).astype("float64")
    missing = draw(st.integers(0, size - alive))
    return site(kernel, mask), draw(st.floats(0, 0.99)), scores, missing


@given(situations())
def test_counts_are_exact_and_the_best_are_alive(situation):
    one, fraction, scores, missing = situation
    before = one.kernel.copy(), one.mask.copy(), scores.copy()
    mask = exchange(one, fraction, scores, missing)
    alive = int(one.mask.sum())
    assert mask.sum() == alive + missing
    places = alive + missing
    order = sorted(np.flatnonzero(one.mask), key=lambda i: (-abs(one.kernel[i]), i))
    kept = order[: max(places - int(np.floor(fraction * places + 0.5)), 1)]
    rest = sorted(set(range(mask.size)) - set(kept), key=lambda i: (-scores[i], i))
    assert set(np.flatnonzero(mask)) == {*kept, *rest[: places - len(kept)]}
    for now, then in zip((one.kernel, one.mask, scores), before, strict=True):
        np.testing.assert_array_equal(now, then)


@given(situations(), st.floats(0, 0.99))
def test_a_smaller_fraction_keeps_more(situation, other):
    one, fraction, scores, _ = situation
    less, more = sorted([fraction, other])
    scores = np.where(one.mask, -1.0, scores)  # what was alive comes back last
    assume(np.count_nonzero(~one.mask) > more * one.mask.sum())  # so nothing of it does
    few, many = (exchange(one, share, scores) & one.mask for share in (less, more))
    assert not (many & ~few).any()


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=5),
)
def test_a_shortfall_fills_up_to_what_all_lack_together(counts):
    found = {str(i): np.arange(9) < have for i, (have, _) in enumerate(counts)}
    wanted = {str(i): np.arange(9) < want for i, (_, want) in enumerate(counts)}
    lacks = shortfall(found, wanted)
    assert sum(lacks.values()) == max(sum(want - have for have, want in counts), 0)
    for (have, want), lack in zip(counts, lacks.values(), strict=True):
        assert 0 <= lack <= max(want - have, 0)


# -- rules -----------------------------------------------------------------------------------------


def test_fractions_over_time():
    assert [SET(0.2).fraction_at(time, end=2) for time in range(4)] == [0.2] * 4
    assert [SET(0.2, end=2).fraction_at(time, end=9) for time in range(4)] == [0.2, 0.2, 0, 0]
    found = [RigL(0.4).fraction_at(time, end=4) for time in range(6)]
    # 0.2 * (1 + cos(0, 45, 90, 135 degrees)), nothing from the end on
    assert found == pytest.approx([0.4, 0.34142, 0.2, 0.05858, 0, 0], abs=1e-5)
    assert RigL(0.4, end=8).fraction_at(4, end=4) == pytest.approx(0.2)
    assert RigL(0.4, decay="constant").fraction_at(3, end=4) == 0.4
    assert SET(0.4, decay="cosine").fraction_at(2, end=4) == pytest.approx(0.2)
    assert SET(0.4).fraction_at(2, end=None) == 0.4
    with pytest.raises(ValueError, match="give end=, in training steps"):
        RigL().fraction_at(2, end=None)


@pytest.mark.parametrize("name", REGROWTHS)
def test_every_rule_scores_every_weight_and_repeats_itself(name):
    rule = regrowth.get(name)
    gradient = np.array([[-3.0, 1.0], [0.0, 2.0]])
    one = site([[1.0, 2.0], [0.0, 0.0]], [[1, 1], [0, 0]], statistics={"last_gradient": gradient})
    scores = rule.scores(one, time=3)
    assert scores.shape == one.kernel.shape
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(rule.scores(one, time=3), scores)
    assert rule.needs <= {"last_gradient"}
    assert 0 < rule.fraction_at(1, end=9) <= rule.fraction_at(0, end=9) == rule.fraction
    assert type(rule)(**dataclasses.asdict(rule)) == rule
    assert regrowth.get(rule) is rule
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.fraction = 0.1


def test_random_scores_differ_between_seeds_sites_and_times():
    one = site([[1.0, 2.0]], [[1, 1]])
    scores = SET().scores(one, 3)
    assert (SET().scores(one, 4) != scores).all()
    assert (SET().scores(dataclasses.replace(one, seed=1), 3) != scores).all()
    assert (SET().scores(dataclasses.replace(one, name="b"), 3) != scores).all()


def test_gradients_count_by_their_size():
    one = site([[1.0, 2.0]], [[1, 1]], statistics={"last_gradient": np.array([[-3.0, 2.0]])})
    assert RigL().scores(one, 0).tolist() == [[3.0, 2.0]]
    with pytest.raises(ValueError, match="a/kernel: this criterion needs 'last_gradient'"):
        RigL().scores(site([[1.0]], [[1]]), 0)
    broken = dataclasses.replace(one, statistics={"last_gradient": np.array([[np.nan, 2.0]])})
    with pytest.raises(ValueError, match=r"a/kernel: the gradients hold NaN .* diverged"):
        RigL().scores(broken, 0)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: SET(0.0), r"fraction=0\.0; it must be in \(0, 1\): 0\.3 for 30 %"),
        (lambda: SET(1.0), r"fraction=1\.0; it must be"),
        (lambda: RigL(30), "fraction=30; it must be"),
        (lambda: RigL("0.3"), "fraction='0.3'; it must be"),
        (lambda: SET(decay="linear"), "decay='linear'; it must be 'constant' or 'cosine'"),
        (lambda: SET(end=0), "end=0; it must be an integer of at least 1"),
        (lambda: regrowth.get("rig"), "unknown regrow 'rig'; did you mean 'rigl'"),
    ],
)
def test_errors_say_what_is_allowed(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize("spec", [3, RigL, np.abs])
def test_what_is_no_rule(spec):
    with pytest.raises(TypeError, match=r"is not a rule; give one of \['rigl', 'set'\]"):
        regrowth.get(spec)
    assert regrowth.get(None) is None
