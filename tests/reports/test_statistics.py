"""Paired differences, Holm's correction and ranks: by hand, against SciPy, and simulated."""

import io
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paired_runs import judged, paired
from scipy import stats

from activation_pruning.reports import figures, statistics
from activation_pruning.reports.statistics import mean_ranks
from activation_pruning.reports.statistics.differences import corrected

pytestmark = pytest.mark.lowest


# -- the interval ----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 5, 30])
def test_interval_against_random_weights(count):
    values = np.random.default_rng(count).normal(size=count)
    weights = np.random.default_rng(0).beta(0.5, 1.5, size=(100_000, count))
    weights /= weights.sum(axis=1, keepdims=True)
    means = weights @ values
    spreads = np.sqrt(weights @ values**2 - means**2)
    high, low = np.quantile((means - values.mean()) / spreads, [0.025, 0.975])
    expected = values.mean() - np.array([low, high]) * values.std()
    np.testing.assert_allclose(
        statistics.bootstrap_t(values), expected, atol=0.03 * np.ptp(expected)
    )


def test_interval_moves_and_scales_with_the_values():
    values = np.array([0.1, 0.5, 0.2, 0.9])
    low, high = statistics.bootstrap_t(values)
    assert statistics.bootstrap_t(10 - 2 * values) == pytest.approx(
        (10 - 2 * high, 10 - 2 * low), rel=0.02
    )
    assert statistics.bootstrap_t(1e6 * values) == pytest.approx((1e6 * low, 1e6 * high))
    assert low < values.mean() < high
    narrow = statistics.bootstrap_t(values, level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_interval_of_many_values_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(size=1000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    ends = statistics.bootstrap_t(values)
    assert ends == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


@pytest.mark.parametrize("count", [3, 5, 10])
def test_interval_covers_the_mean_as_often_as_it_says(count):
    random = np.random.default_rng(1)
    for draw in (random.normal, lambda size: random.standard_t(3, size)):
        ends = [statistics.bootstrap_t(values) for values in draw(size=(600, count))]
        covered = np.mean([low <= 0 <= high for low, high in ends])
        assert 0.92 <= covered <= 0.975  # 0.95 and 3 standard errors, one more point below


@pytest.mark.parametrize("values", [[], [1.0], [1.0, np.nan], [[1.0, 2.0]], [1.0, np.inf]])
def test_interval_refuses(values):
    with pytest.raises(ValueError, match="at least two finite numbers"):
        statistics.bootstrap_t(values)


def test_interval_of_equal_values_and_of_any_order():
    assert statistics.bootstrap_t([0.1] * 3) == pytest.approx((0.1, 0.1))
    assert statistics.bootstrap_t([1, 5, 2, 9]) == statistics.bootstrap_t([9, 2, 5, 1])


def test_interval_of_very_many_values():
    values = np.random.default_rng(0).normal(size=30_000)
    ends = statistics.bootstrap_t(values)
    assert np.diff(ends)[0] == pytest.approx(2 * 1.96 / np.sqrt(30_000), rel=0.02)


RUNS = pd.DataFrame({"arm": ["a", "b"] * 3, "seed": [0, 0, 1, 1, 2, 2], "x": np.arange(6.0)})


@pytest.mark.parametrize("level", [95, 1, 0, -1, np.nan, True, "0.95"])
def test_a_level_lies_between_0_and_1(level):
    for function in (
        lambda: statistics.bootstrap_t([1, 2, 3], level),
        lambda: statistics.intervals(RUNS, ["arm"], "x", level),
        lambda: statistics.summary(RUNS, ["arm"], ["x"], level),
        lambda: statistics.differences(RUNS, RUNS, ["seed", "arm"], [], "x", level=level),
        lambda: statistics.holm(pd.DataFrame({"difference": [1], "p": [0.1]}), level=level),
        lambda: statistics.ranks(RUNS, "x", level=level),
    ):
        with pytest.raises(ValueError, match=r"level=.*; it must be in \(0, 1\)"):
            function()


def test_a_name_alone_is_no_list_of_columns():
    for function in (
        lambda: statistics.intervals(RUNS, "arm", "x"),
        lambda: statistics.summary(RUNS, ["arm"], "x"),
        lambda: statistics.differences(RUNS, RUNS, "seed", [], "x"),
        lambda: statistics.ranks(RUNS, "x", blocks="seed"),
    ):
        with pytest.raises(TypeError, match=r"; give a list of columns, \['"):
            function()


def test_a_group_without_a_name_is_a_group():
    runs = RUNS.assign(arm=[1.0, np.nan] * 3)
    assert statistics.summary(runs, ["arm"], ["x"])["x"].tolist() == [2.0, 3.0]
    assert statistics.intervals(runs, ["arm"], "x")["runs"].tolist() == [3, 3]
    change = runs.assign(x=runs["x"] + [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    found = statistics.differences(change, runs, ["seed", "arm"], ["arm"], "x")
    assert found["difference"].tolist() == pytest.approx([0.3, 0.4])


def test_summary_of_no_runs_has_the_columns_of_some():
    some = statistics.summary(RUNS, ["arm"], ["seed", "x"], level=0.9)
    none = statistics.summary(RUNS[:0], ["arm"], ["seed", "x"], level=0.9)
    assert none.columns.tolist() == some.columns.tolist()
    assert "x_ci90" in none


# -- differences -----------------------------------------------------------------------------


def test_difference_by_hand():
    row = judged([0.01, 0.02, 0.03, 0.02])
    assert (row["pairs"], row["difference"]) == (4, pytest.approx(0.02))
    # Standard deviation 0.0081650, d_z = 2.4495; Hedges: 4 sqrt(2/3) gamma(1.5) / ... = 0.72360
    spread = math.sqrt(2e-4 / 3)
    correction = math.gamma(1.5) / (math.sqrt(1.5) * math.gamma(1.0))
    assert correction == pytest.approx(0.723601, abs=1e-6)
    assert row["effect_size"] == pytest.approx(0.02 / spread * correction)
    assert row["p"] == pytest.approx(0.016273, abs=1e-5)  # t = 4.89898, 3 degrees of freedom
    assert row["verdict"] == "higher"
    assert judged([-0.01, -0.02, -0.03, -0.02])["verdict"] == "lower"


def test_p_against_scipy():
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 7))
    row = judged(first - second, base=second)
    assert row["p"] == pytest.approx(stats.ttest_rel(first, second).pvalue)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx(
        statistics.bootstrap_t(first - second)
    )


def test_the_correction_makes_the_effect_size_unbiased():
    changes = np.random.default_rng(0).normal(0.8, 1.0, size=(20_000, 5))
    naive = changes.mean(axis=1) / changes.std(axis=1, ddof=1)
    row = judged(changes[0])
    assert np.mean(naive * row["effect_size"] / naive[0]) == pytest.approx(0.8, abs=0.02)


def test_one_pair_has_a_mean_only():
    row = judged([0.3])
    assert row["difference"] == pytest.approx(0.3)
    assert row[["difference_low", "difference_high", "effect_size", "p", "p_holm"]].isna().all()
    assert row["verdict"] == statistics.FEW


def test_two_pairs_have_no_unbiased_effect_size():
    row = judged([0.3, 0.4])
    assert np.isnan(row["effect_size"])
    assert row["p"] == pytest.approx(stats.ttest_1samp([0.3, 0.4], 0).pvalue)


def test_no_difference_at_all():
    row = judged([0.0, 0.0, 0.0])
    assert row["verdict"] == statistics.ALIKE == "not told apart"
    assert (
        row[["difference", "difference_low", "difference_high", "effect_size"]].tolist() == [0] * 4
    )
    assert row["p"] == 1


@pytest.mark.parametrize(
    ("pairs", "p", "verdict"),
    [
        (2, 2 * stats.t.sf(12**0.5, 1), statistics.FEW),
        (3, 2 * stats.t.sf(18**0.5, 2), statistics.FEW),
        (5, 2 * stats.t.sf(30**0.5, 4), statistics.HIGHER),
        (6, 2 * stats.t.sf(36**0.5, 5), statistics.HIGHER),
    ],
)
def test_equal_differences_have_no_spread_to_be_judged_by(pairs, p, verdict):
    """The t test would be certain of it; float32 rounding must not make a spread either."""
    base = np.linspace(0.1, 0.9, pairs)
    first, second = (np.float32(values).astype(float) for values in (base + 0.05, base))
    assert np.ptp(first - second) > 0
    row = judged(first - second, base=second)
    assert row["p"] == pytest.approx(p, nan_ok=True)
    assert np.isnan(row["difference_low"])
    assert np.isnan(row["effect_size"])
    assert row["verdict"] == verdict


def test_pairs_agree_in_on_whatever_their_order():
    first, second = paired([0.01, 0.02, 0.04])
    shuffled = second.iloc[[2, 0, 1]]
    table = statistics.differences(first, shuffled, ["seed"], [], "x")
    assert table["difference"].iloc[0] == pytest.approx(0.07 / 3)
    alone = statistics.differences(first, second[second["seed"] != 1], ["seed"], [], "x")
    assert alone["pairs"].tolist() == [2]
    assert statistics.differences(first, second[:0], ["seed"], [], "x").empty


def test_settings_are_groups_or_blocks():
    tables = [paired(change) for change in ([0.01, 0.02, 0.03], [0.05, 0.07, 0.09])]
    first, second = (
        pd.concat([part.assign(setting=s) for part, s in zip(side, "ab", strict=True)])
        for side in zip(*tables, strict=True)
    )
    on = ["seed", "setting"]
    groups = statistics.differences(first, second, on, ["setting"], "x", "gain")
    assert groups["setting"].tolist() == ["a", "b"]
    assert groups["gain"].tolist() == pytest.approx([0.02, 0.07])
    blocks = statistics.differences(first, second, on, [], "x", "gain")
    assert blocks[["pairs", "gain"]].values.tolist() == [[6, pytest.approx(0.045)]]
    with pytest.raises(ValueError, match=r"must be one of each.*'seed': 0"):
        statistics.differences(first.drop(columns="setting"), second, ["seed"], [], "x")


def test_groups_by_what_only_one_table_has():
    """One table against a baseline that knows nothing of the settings."""
    second = pd.DataFrame({"seed": [0, 1, 2], "x": [0.1, 0.2, 0.3]})
    first = pd.concat(
        [second.assign(setting=s, x=second["x"] + add) for s, add in (("a", 1.0), ("b", 2.0))]
    )
    first["x"] += np.tile([0.0, 0.01, 0.03], 2)
    found = statistics.differences(first, second, ["seed"], ["setting"], "x", "gain")
    assert found[["setting", "pairs"]].values.tolist() == [["a", 3], ["b", 3]]
    assert found["gain"].tolist() == pytest.approx([1 + 0.04 / 3, 2 + 0.04 / 3])
    back = statistics.differences(second, first, ["seed"], ["setting"], "x", "gain")
    assert back["gain"].tolist() == pytest.approx([-1 - 0.04 / 3, -2 - 0.04 / 3])
    with pytest.raises(ValueError, match="must be one of each"):  # a pair for each setting
        statistics.differences(first, second, ["seed"], [], "x")


def test_missing_numbers_and_columns_are_refused():
    first, second = paired([0.01, 0.02, 0.03])
    broken = first.assign(x=[0.1, np.nan, 0.2])
    with pytest.raises(ValueError, match=r"'x' lacks 1 of 3 finite numbers.*Leave out the runs"):
        statistics.differences(broken, second, ["seed"], [], "x")
    with pytest.raises(ValueError, match="seeds"):
        statistics.differences(first, second, ["seeds"], [], "x")
    with pytest.raises(ValueError, match="setting"):  # in both, and not in `on`
        statistics.differences(first, second, ["seed"], ["setting"], "x")
    with pytest.raises(ValueError, match="column 'x' lacks 1 of 3 finite numbers"):
        statistics.differences(first.assign(x=[1, np.inf, 2]), second, ["seed"], [], "x")
    with pytest.raises(ValueError, match=r"on=\[\]; name what runs share"):
        statistics.differences(first, second, [], [], "x")


def test_intervals_of_a_table_are_of_one_kind_which_the_fewest_pairs_decide():
    changes = {"a": [0.01, 0.02, 0.04, 0.01], "b": [0.01, 0.03, 0.02, 0.02, 0.05]}
    sides = zip(*(paired(change) for change in changes.values()), strict=True)
    first, second = (
        pd.concat([part.assign(setting=s) for part, s in zip(side, changes, strict=True)])
        for side in sides
    )
    ends = ["difference_low", "difference_high"]
    table = statistics.differences(first, second, ["seed", "setting"], ["setting"], "x")
    assert table["interval"].tolist() == ["t", "t"]
    for found, change in zip(table[ends].to_numpy(), changes.values(), strict=True):
        expected = stats.t.interval(0.95, len(change) - 1, np.mean(change), stats.sem(change))
        assert found == pytest.approx(expected)
    parts = [
        statistics.differences(
            first[first["setting"] == s], second, ["seed", "setting"], ["setting"], "x"
        )
        for s in "ab"
    ]
    assert [part["interval"].item() for part in parts] == ["t", "bootstrap-t"]
    assert parts[1][ends].to_numpy()[0] == pytest.approx(statistics.bootstrap_t(changes["b"]))
    whole = statistics.holm(pd.concat(parts, ignore_index=True))
    assert whole["interval"].tolist() == ["t", "t"]
    assert whole[ends].to_numpy() == pytest.approx(table[ends].to_numpy())


@pytest.mark.parametrize("draw", ["normal", "lognormal"])
@pytest.mark.parametrize("count", [3, 4])
def test_intervals_of_few_pairs_cover_the_difference_as_often_as_they_say(count, draw):
    """Of two equal methods, whose own results may be as skewed as they like."""
    random = np.random.default_rng(count)
    first, second = getattr(random, draw)(size=(2, 1500, count))
    sides = (
        pd.DataFrame({"seed": np.tile(np.arange(count), 1500), "x": x.ravel()}).assign(
            trial=np.repeat(np.arange(1500), count)
        )
        for x in (first, second)
    )
    table = statistics.differences(*sides, ["seed", "trial"], ["trial"], "x")
    covered = ((table["difference_low"] <= 0) & (table["difference_high"] >= 0)).mean()
    assert 0.94 <= covered <= 0.985
    low, high = stats.t.interval(
        0.95, count - 1, (first - second).mean(axis=1), stats.sem(first - second, axis=1)
    )
    assert covered == np.mean((low <= 0) & (high >= 0))


# -- Holm ------------------------------------------------------------------------------------


def test_holm_by_hand():
    assert corrected(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == [0.03, 0.06, 0.06, 0.02]
    assert corrected(np.array([0.5, np.nan, 0.9])).tolist() == pytest.approx(
        [1, np.nan, 1], nan_ok=True
    )
    assert corrected(np.array([])).tolist() == []


def test_what_was_not_tested_does_not_count_as_a_test():
    nothing = np.nan
    found = corrected(np.array([nothing, 0.01, nothing, 0.04, nothing]))
    np.testing.assert_allclose(found, [nothing, 0.02, nothing, 0.04, nothing])
    table = pd.DataFrame({"difference": [1.0, 1.0, -1.0], "p": [0.02, nothing, 0.03]})
    judged = statistics.holm(table)
    np.testing.assert_allclose(judged["p_holm"], [0.04, nothing, 0.04])
    assert judged["verdict"].tolist() == ["higher", statistics.FEW, "lower"]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(p):
    p = np.array(p)
    found = corrected(p)
    order = np.argsort(p, kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    assert (found >= p).all()
    assert (found <= np.minimum(p * len(p), 1) * (1 + 1e-12)).all()


def test_verdicts_are_those_of_all_together():
    table = pd.DataFrame({"gain": [0.1, -0.1, 0.1, 0.1], "p": [0.012, 0.02, 0.04, np.nan]})
    alone = [statistics.holm(table[i : i + 1], "gain")["verdict"].iloc[0] for i in range(4)]
    assert alone == ["higher", "lower", "higher", statistics.FEW]
    many = pd.concat([table, table[2:3], table[2:3]])
    told = statistics.holm(many, "gain")["verdict"].tolist()
    assert told == [statistics.ALIKE] * 3 + [statistics.FEW] + [statistics.ALIKE] * 2
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        statistics.holm(table.assign(p=2.0), "gain")
    with pytest.raises(ValueError, match="gains"):
        statistics.holm(table, "gains")


def test_a_verdict_does_not_speak_against_its_interval():
    table = pd.DataFrame({"gain": [0.1, -0.1, 0.1], "p": [0.001] * 3})
    table = table.assign(gain_low=[-0.01, -0.2, np.nan], gain_high=[0.2, -0.1, np.nan])
    told = statistics.holm(table, "gain")["verdict"].tolist()
    assert told == [statistics.ALIKE, "lower", "higher"]


# -- ranks -----------------------------------------------------------------------------------


def blocks_of(values, names="abcdefghijklmno"):
    """A table of runs from an array with a row per seed and a column per arm."""
    values = np.asarray(values, float)
    return pd.DataFrame(
        [
            {"arm": names[i], "seed": seed, "x": x}
            for seed, row in enumerate(values)
            for i, x in enumerate(row)
        ]
    )


def test_ranks_by_hand():
    runs = blocks_of([[0.9, 0.8, 0.7], [0.9, 0.9, 0.7], [0.8, 0.9, 0.7]])
    table = statistics.ranks(runs, "x").set_index("arm")
    assert table["mean_rank"].to_dict() == pytest.approx({"a": 4.5 / 3, "b": 4.5 / 3, "c": 3.0})
    assert table["groups"].tolist() == ["a"] * 3
    assert table["blocks"].tolist() == [3] * 3
    assert not table["enough"].any()  # with three pairs p cannot be below 0.25
    lower = statistics.ranks(runs, "x", higher=False)
    assert lower["arm"].tolist() == ["c", "a", "b"]


def test_ranks_against_scipy():
    values = np.random.default_rng(3).normal([0, 0.5, 2.0], size=(14, 3))
    table = statistics.ranks(blocks_of(values), "x")
    assert table["arm"].tolist() == ["c", "b", "a"]
    assert table["friedman_p"].iloc[0] == stats.friedmanchisquare(*values.T).pvalue
    assert table["mean_rank"].tolist() == pytest.approx(
        stats.rankdata(-values, axis=1).mean(axis=0)[::-1].tolist()
    )
    pairs = [stats.wilcoxon(values[:, i], values[:, j]).pvalue for i, j in ((0, 1), (0, 2), (1, 2))]
    assert (corrected(np.array(pairs)) < 0.05).tolist() == [False, True, True]
    assert table["groups"].tolist() == ["a", "b", "b"]
    assert table["enough"].all()


@pytest.mark.parametrize("count", [1, 2, 7, 13, 50])
def test_wilcoxon_against_scipy(count):
    random = np.random.default_rng(count)
    change = random.normal(0.3, size=count)
    exact = stats.wilcoxon(change, method="exact").pvalue
    assert mean_ranks._wilcoxon(change) == pytest.approx(exact)
    signs = np.array(list(itertools.product([-1, 1], repeat=min(count, 7))))
    tied = np.array([0, 1, 1, -2, 3, 3, 4.0])[:count]
    ranks = stats.rankdata(abs(tied)) * (tied != 0)
    sums = abs(signs @ ranks)
    expected = (sums >= abs((np.sign(tied) * ranks).sum()) - 1e-9).mean()
    assert mean_ranks._wilcoxon(tied) == pytest.approx(expected)


def test_many_blocks_take_the_normal_approximation():
    change = np.random.default_rng(0).normal(0.2, size=60)
    assert mean_ranks._wilcoxon(change) == stats.wilcoxon(change, zero_method="pratt").pvalue
    assert mean_ranks._wilcoxon(np.zeros(60)) == 1


def test_groups_overlap_and_need_not_be_neighbours():
    alike = np.array([[1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]], bool)
    assert mean_ranks._groups(alike) == [[0, 1], [0, 3], [1, 2]]
    assert mean_ranks._groups(np.eye(3, dtype=bool)) == [[0], [1], [2]]
    assert mean_ranks._groups(np.ones((3, 3), bool)) == [[0, 1, 2]]


def test_equal_methods_share_their_ranks_and_their_group():
    table = statistics.ranks(blocks_of(np.ones((12, 3))), "x")
    assert table["mean_rank"].tolist() == [2.0] * 3
    assert table["groups"].tolist() == ["a"] * 3
    assert table["friedman_p"].tolist() == [1.0] * 3


def test_two_methods_and_one_block():
    two = statistics.ranks(blocks_of([[0.1, 0.2]] * 8), "x")
    assert two["groups"].tolist() == ["a", "b"]
    assert two["friedman_p"].isna().all()
    one = statistics.ranks(blocks_of([[0.1, 0.2, 0.3]]), "x")
    assert one["groups"].tolist() == ["a"] * 3


def test_only_whole_blocks_are_ranked():
    runs = blocks_of(np.arange(9).reshape(3, 3))
    with pytest.raises(ValueError, match=r"of 3 blocks there lack, by arm: \{'a': 1\}"):
        statistics.ranks(runs[1:], "x")
    with pytest.raises(ValueError, match="lacks 1 of 9 finite numbers"):
        statistics.ranks(runs.assign(x=runs["x"].where(runs["x"] > 0)), "x")
    with pytest.raises(ValueError, match=r"several rows for \{'arm': 'a', 'seed': 0\}"):
        statistics.ranks(pd.concat([runs, runs[:1]]), "x")
    with pytest.raises(ValueError, match="one value only"):
        statistics.ranks(runs[runs["arm"] == "a"], "x")


# -- the picture -----------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "seeds"), [(2, 8), (3, 3), (8, 18), (15, 18)])
def test_nothing_overlaps_in_the_picture(count, seeds):
    values = np.random.default_rng(0).normal(size=(seeds, count)) - 0.5 * np.arange(count)
    names = [f"a name, rather long, of method {i} with its settings" for i in range(count)]
    table = statistics.ranks(blocks_of(values, names), "x")
    figure = figures.ranking(table)
    figure.savefig(io.BytesIO(), format="png")  # lays it out
    left, right = figure.axes
    labels = [label.get_window_extent() for label in left.get_yticklabels()]
    assert len(labels) == count
    assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(labels))
    assert min(box.x0 for box in labels) >= 0
    texts = [text.get_window_extent() for text in left.texts[:count]]  # the note comes last
    assert all(left.bbox.x0 <= box.x0 and box.x1 <= left.bbox.x1 for box in texts)
    assert [line.get_xdata()[0] for line in left.lines] == pytest.approx(
        table["mean_rank"].tolist()
    )
    joined = sorted({letter for groups in table["groups"] for letter in groups})
    joined = [g for g in joined if table["groups"].str.contains(g).sum() > 1]
    assert len(right.lines) == len(joined)
    for line, letter in zip(right.lines, joined, strict=True):
        assert (
            list(line.get_ydata()) == np.flatnonzero(table["groups"].str.contains(letter)).tolist()
        )


def test_the_picture_says_when_there_is_too_little():
    def note(seeds):
        table = statistics.ranks(blocks_of(np.arange(3 * seeds).reshape(seeds, 3)), "x")
        return "\n".join(text.get_text() for text in figures.ranking(table, note="x").axes[0].texts)

    assert "x; 3 blocks: too few to tell any two apart" in note(3)
    assert "12 blocks, Friedman p < 0.001" in note(12)
    with pytest.raises(ValueError, match="mean_rank"):
        figures.ranking(pd.DataFrame({"arm": ["a"]}))


# -- what is asked for wrongly ---------------------------------------------------------------


def test_a_list_of_p_values_is_corrected_as_an_array():
    found = corrected([0.01, 0.04, np.nan, 0.03])
    expected = np.array([0.01, 0.04, 0.03])  # three tests: 3 p, then 2 p and p, never falling
    np.testing.assert_allclose(found[[0, 3, 1]], [3 * expected[0], 2 * expected[2], 0.06])
    assert np.isnan(found[2])


@pytest.mark.parametrize(
    ("first", "second", "samples", "message"),
    [
        (80, 0.9, 100, r"first=80; it must be in \[0, 1\]: 0.8 for 80 %"),
        (0.8, np.nan, 100, "second=nan"),
        (0.8, True, 100, "second=True"),
        (0.8, 0.9, 0, "samples=0; it must be an integer of at least 1"),
        (0.8, 0.9, 1.5, "samples=1.5"),
    ],
)
def test_shares_that_are_none(first, second, samples, message):
    with pytest.raises(ValueError, match=message):
        statistics.of_shares(first, second, samples)


def test_values_of_the_wrong_shape_are_not_written_out():
    with pytest.raises(ValueError, match=r"values=<ndarray, 90 x 90>; give a list"):
        statistics.bootstrap_t(np.zeros((90, 90)))


def test_text_where_numbers_are_wanted_is_named():
    runs = pd.DataFrame({"arm": ["a", "a"], "seed": [0, 1], "accuracy": ["high", "low"]})
    message = "column 'accuracy' holds what is no number: .*'high'"
    with pytest.raises(ValueError, match=message):
        statistics.intervals(runs, ["arm"], "accuracy")
    with pytest.raises(ValueError, match=message):
        statistics.differences(runs, runs, ["seed"], [], "accuracy")
    seeds = runs.assign(accuracy=1.0)
    with pytest.raises(ValueError, match="column 'seed' holds numbers in one table and none"):
        statistics.differences(seeds, seeds.astype({"seed": str}), ["seed"], [], "accuracy")


@pytest.mark.parametrize("function", [statistics.intervals, statistics.summary])
def test_groups_by_nothing_are_refused(function):
    runs = pd.DataFrame({"accuracy": [0.8, 0.9]})
    metric = "accuracy" if function is statistics.intervals else ["accuracy"]
    with pytest.raises(ValueError, match=r"by=\[\]; name a column"):
        function(runs, [], metric)


def test_a_flag_that_is_none():
    runs = pd.DataFrame({"arm": ["a", "b"], "seed": [0, 0], "accuracy": [0.8, 0.9]})
    with pytest.raises(TypeError, match="higher='no'; it must be True or False"):
        statistics.ranks(runs, "accuracy", higher="no")
