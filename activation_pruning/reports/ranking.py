"""Mean ranks of several methods over blocks: the table, and its picture."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from . import style
from .files import PALETTE, listed, need, refuse_missing
from .holm import corrected
from .intervals import check_level

_EXACT = 50  # blocks
_LONGEST = 34  # letters in a line of a method's name


def ranks(table, metric, by="arm", blocks=("seed",), higher=True, level=0.95):
    """Mean rank of each method over blocks, and which of them cannot be told apart.

    In every block (a seed, or a setting of a seed) the methods are ranked, 1 for the best, ties
    sharing the mean of their places. Pairs of methods are told apart by Wilcoxon's signed-rank
    test of their differences, corrected by Holm over all pairs. Demšar's (2006) critical
    difference by Nemenyi is not used: there the verdict on two methods depends on which others
    are in the table (Benavoli et al. 2016).

    Args:
        table: one row per method and block.
        metric: column of numbers to rank by.
        by: column of the methods.
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
    wide = _wide(table, metric, by, listed("blocks", blocks))
    means = wide.rank(axis=1, ascending=not higher).mean().sort_values(kind="stable")
    values, alpha = wide[means.index].to_numpy(float), 1 - level
    count, pairs = len(means), len(means) * (len(means) - 1) / 2
    groups = _groups(_apart(values) > alpha)
    found = pd.DataFrame({by: means.index, "mean_rank": means.to_numpy()})
    return found.assign(
        groups=[
            "".join(_letter(g) for g, of in enumerate(groups) if i in of) for i in range(count)
        ],
        blocks=len(values),
        enough=2.0 ** (1 - len(values)) * pairs <= alpha,
        friedman_p=_friedman(values),
    )


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
    p[upper] = corrected(
        np.array([_wilcoxon(values[:, i] - values[:, j]) for i, j in zip(*upper, strict=True)])
    )
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


@style.styled
def ranking(table, by="arm", title="Mean ranks", note=""):
    """Mean rank of each method, best at the top; bars at the right join those of a group.

    Args:
        table: what `statistics.ranks` gives: the column `by`, mean_rank, groups, blocks, enough,
            friedman_p.
        by: column of the methods.
        title, note: above the picture; how many blocks there are, and what the tests say, is
            added to the note.

    Returns:
        The figure.

    Raises:
        ValueError: the table is empty, or lacks a column.

    Source: after the diagrams of Demšar, JMLR 7, 2006.

    Example:
        >>> table = pd.DataFrame({"arm": ["magnitude", "random"], "mean_rank": [1.0, 2.0],
        ...                       "groups": ["a", "b"], "blocks": 12, "enough": True,
        ...                       "friedman_p": float("nan")})
        >>> [label.get_text() for label in ranking(table).axes[0].get_yticklabels()]
        ['magnitude', 'random']
    """
    need(table, "ranking", by, "mean_rank", "groups", "blocks", "enough")
    table = table.sort_values("mean_rank", kind="stable")
    names = [textwrap.fill(str(name), _LONGEST) for name in table[by]]
    joined = [group for group in _members(table["groups"]) if len(group) > 1]
    lines = sum(1 + 0.6 * name.count("\n") for name in names)
    figure = Figure(figsize=(style.WIDTH, 1.25 + 0.3 * lines), layout="constrained")
    # A lane for each bar; the ranks keep half of the width.
    lanes = min(0.35 + 0.22 * len(joined), 3.0)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[5.0, lanes])
    _draw_ranks(left, table["mean_rank"], names)
    _draw_groups(right, joined)
    told = _told(table.iloc[0])
    style.head(figure, title, f"{note}; {told}" if note else told)
    return figure


def _draw_ranks(ax, means, names):
    count = len(names)
    for row, mean in enumerate(means):
        ax.plot(mean, row, "o", color=PALETTE[0], markersize=6)
        inward = 1 if mean < (1 + count) / 2 else -1  # no number stands outside of the axes
        ax.annotate(
            f"{mean:.2f}", (mean, row), xytext=(7 * inward, 0), textcoords="offset points",
            ha="left" if inward > 0 else "right", va="center", path_effects=style.HALO,
        )  # fmt: skip
    ax.set_yticks(range(count), names)
    ax.set_ylim(count - 0.5, -0.5)
    margin = 0.04 * (count - 1)
    ax.set_xlim(1 - margin, count + margin)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.set_xlabel("mean rank (1 is best)")


def _draw_groups(ax, joined):
    for lane, members in enumerate(joined):
        look = {"color": PALETTE[2], "linewidth": 1.5, "marker": "o", "markersize": 4}
        ax.plot([lane] * len(members), members, **look)
    ax.set_xlim(-0.6, max(len(joined), 1) - 0.4)
    ax.set_xticks([])
    ax.set_xlabel("not told\napart" if joined else "")
    ax.tick_params(left=False, labelleft=False)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.grid(visible=False, axis="x" if joined else "both")


def _members(groups):
    """The rows of each group, in order of the letters."""
    letters = sorted(set("".join(groups)))
    return [[row for row, own in enumerate(groups) if letter in own] for letter in letters]


def _told(row):
    """How many blocks there are, and what the bars mean, in words."""
    blocks = f"{row['blocks']} blocks" if row["blocks"] > 1 else "1 block"
    if not row["enough"]:
        return f"{blocks}: too few to tell any two apart"
    p = row.get("friedman_p", np.nan)
    p = "" if np.isnan(p) else f", Friedman p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    return f"{blocks}{p}; joined: not told apart (Wilcoxon, Holm)"
