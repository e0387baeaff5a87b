"""Mean ranks of several methods over blocks, and which of them can be told apart."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from activation_pruning.reports.statistics.confidence import check_level
from activation_pruning.reports.statistics.differences import corrected
from activation_pruning.reports.tables import listed, need, refuse_missing
from activation_pruning.support.checks import check_flags
from activation_pruning.support.types import Table

_EXACT = 50  # blocks


def ranks(
    table: Table, metric: str, by: str = "arm", blocks: Sequence[str] = ("seed",),
    higher: bool = True, level: float = 0.95,
) -> Table:  # fmt: skip
    """Mean rank of each method over blocks, and which of them cannot be told apart.

    In every block (a seed, or a setting of a seed) the methods are ranked, 1 for the best, ties
    sharing the mean of their places. Pairs of methods are told apart by Wilcoxon's signed-rank
    test of their differences, corrected by Holm over all pairs. Demšar's (2006) critical
    difference by Nemenyi is not used: there the verdict on two methods depends on which others
    are in the table (Benavoli et al. 2016).

    Args:
        table: one row per method and block.
        metric, by: columns of the numbers to rank by, and of the methods.
        blocks: columns that make a block.
        higher: whether higher is better.
        level: 1 - level is the largest corrected p that tells two methods apart.

    Returns:
        DataFrame, best first: by; mean_rank; groups, letters, of which methods that cannot be
        told apart share one; blocks, their number; enough, whether that number could tell
        anything at all: k methods need 2 / 2**blocks k (k - 1) / 2 <= 1 - level; friedman_p, of
        the hypothesis that all methods are alike (NaN for two methods).

    Raises:
        ValueError: a missing column or number, one method only, a method twice in a block or
            not in all of them.

    Source: Demšar, JMLR 7, 2006; Benavoli, Corani & Mangili, JMLR 17(5), 2016.

    Example:
        >>> runs = pd.DataFrame({"arm": ["a", "b", "c"] * 8, "seed": np.repeat(range(8), 3)})
        >>> runs["accuracy"] = [0.9, 0.8, 0.7, 0.8, 0.9, 0.6] * 4
        >>> runs["accuracy"] -= 0.001 * runs["seed"] * (runs["arm"] == "c")
        >>> ranks(runs, "accuracy")[["arm", "mean_rank", "groups"]].values.tolist()
        [['a', 1.5, 'a'], ['b', 1.5, 'a'], ['c', 3.0, 'b']]
    """
    check_level(level)
    check_flags(higher=higher)
    wide = _wide(table, metric, by, listed("blocks", blocks))
    means = wide.rank(axis=1, ascending=not higher).mean().sort_values(kind="stable")
    values, alpha = wide[means.index].to_numpy(float), 1 - level
    pairs, groups = len(means) * (len(means) - 1) / 2, _groups(_apart(values) > alpha)
    letters = [[_letter(g) for g, of in enumerate(groups) if i in of] for i in range(len(means))]
    found = pd.DataFrame({by: means.index, "mean_rank": means.to_numpy()})
    found = found.assign(groups=["".join(own) for own in letters], blocks=len(values))
    enough = 2.0 ** (1 - len(values)) * pairs <= alpha
    return found.assign(enough=enough, friedman_p=_friedman(values))


def _wide(table, metric, by, blocks):
    """A row per block, a column per method."""
    need(table, "ranks", metric, by, *blocks)
    refuse_missing(table, metric, "ranks")
    if table[by].nunique() < 2:
        raise ValueError(f"ranks: column {by!r} has one value only; there is nothing to rank")
    twice = table.duplicated([by, *blocks])
    if twice.any():
        place = table.loc[twice, [by, *blocks]].iloc[0].to_dict()
        raise ValueError(
            f"ranks: several rows for {place}; name in `blocks` what else makes a block, or take "
            "means first"
        )
    wide = table.set_index([*blocks, by])[metric].unstack(by)[list(table[by].unique())]
    if wide.isna().any(axis=None):
        lacking = {name: int(gaps) for name, gaps in wide.isna().sum().items() if gaps}
        raise ValueError(
            f"ranks: of {len(wide)} blocks there lack, by {by}: {lacking}. Leave out these, or the "
            "blocks without them: only whole blocks can be ranked."
        )
    return wide


def _apart(values):
    """Corrected p-values of all pairs of columns, as a symmetric matrix."""
    count = values.shape[1]
    p, upper = np.ones((count, count)), np.triu_indices(count, 1)
    pairs = zip(*upper, strict=True)
    p[upper] = corrected(np.array([_wilcoxon(values[:, i] - values[:, j]) for i, j in pairs]))
    return np.minimum(p, p.T)


def _wilcoxon(change):
    """Two-sided p; equals take part in the ranking (Pratt 1959): they speak for equality.

    Exact for up to 50 blocks, ties or not, where SciPy's is exact without ties only.
    """
    if len(change) > _EXACT:
        return stats.wilcoxon(change, zero_method="pratt").pvalue if change.any() else 1.0
    doubled = (2 * stats.rankdata(np.abs(change))).astype(int)  # ties have halves of ranks
    chance = np.ones(1)  # of each sum of the ranks with a plus, doubled, when signs are by chance
    for rank in doubled[change != 0]:
        none = np.zeros(rank)
        chance = (np.concatenate([chance, none]) + np.concatenate([none, chance])) / 2
    smaller = min(doubled[change > 0].sum(), doubled[change < 0].sum())
    return min(2 * chance[: smaller + 1].sum(), 1.0)


def _friedman(values):
    if values.shape[1] == 2:
        return np.nan
    return stats.friedmanchisquare(*values.T).pvalue if np.ptp(values, axis=1).any() else 1.0


def _groups(alike):
    """The largest sets of methods that are alike in pairs (maximal cliques), best first."""
    found = []

    def grow(members, further, done):  # Bron & Kerbosch 1973
        if not further and not done:
            found.append(sorted(members))
        for one in sorted(further):
            near = set(np.flatnonzero(alike[one])) - {one}
            grow(members | {one}, further & near, done & near)
            further, done = further - {one}, done | {one}

    grow(set(), set(range(len(alike))), set())
    return sorted(found)


def _letter(number):
    """One sign each, letters beyond the alphabet as well."""
    return chr(ord("a") + number) if number < 26 else chr(0x100 + number)
