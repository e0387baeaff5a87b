"""Three words for what a comparison says, by hand and against SciPy."""

import pandas as pd
import pytest
from paired_runs import judged, paired
from scipy import stats

from activation_pruning.reports import statistics

pytestmark = pytest.mark.lowest


@pytest.mark.parametrize(("change", "word"), [([-0.7, -0.26], "FEW"), ([-0.5, -0.46], "LOWER")])
def test_two_seeds_are_too_few_unless_they_tell(change, word):
    row = judged(change)
    assert row["difference"] == pytest.approx(-0.48)
    assert row["verdict"] == getattr(statistics, word)


@pytest.mark.parametrize(
    ("pairs", "tests", "enough"),
    [(2, 1, False), (3, 1, True), (3, 2, False), (4, 5, True), (4, 6, False), (5, 19, True)],
)
def test_enough_pairs_would_tell_a_difference_of_three_deviations(pairs, tests, enough):
    # By SciPy: the p of such a difference, corrected for those that are not told apart.
    p = 2 * stats.t.sf(3 * pairs**0.5, pairs - 1)
    assert (p * tests <= 0.05) == enough
    table = pd.DataFrame({"difference": [0.1] * tests + [9.0], "p": [0.9] * tests + [1e-9]})
    told = statistics.holm(table.assign(pairs=pairs))["verdict"].tolist()
    assert told == [statistics.ALIKE if enough else statistics.FEW] * tests + ["higher"]


def test_no_difference_in_any_pair_needs_no_more_of_them():
    zeros = statistics.differences(*paired([0.0] * 3), ["seed"], [], "x")
    told = statistics.holm(pd.concat([zeros] * 4))["verdict"]
    assert told.tolist() == [statistics.ALIKE] * 4


def test_equal_differences_that_tell_nothing_are_too_few():
    same = statistics.differences(*paired([0.5] * 5), ["seed"], [], "x")
    assert statistics.holm(pd.concat([same] * 9))["verdict"].tolist() == ["higher"] * 9
    assert statistics.holm(pd.concat([same] * 10))["verdict"].tolist() == [statistics.FEW] * 10


@pytest.mark.parametrize(("right", "of"), [((363, 361), 397), ((90, 70), 100), ((0, 9), 9)])
def test_shares_of_one_run_against_scipy(right, of):
    p = statistics.of_shares(right[0] / of, right[1] / of, of)
    expected = stats.fisher_exact([[right[0], of - right[0]], [right[1], of - right[1]]])
    assert p == pytest.approx(expected.pvalue)
