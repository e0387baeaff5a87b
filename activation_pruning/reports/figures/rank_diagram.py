"""Mean ranks as a picture, and which methods cannot be told apart."""

import textwrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from activation_pruning.reports.figures import style
from activation_pruning.reports.formats import PALETTE
from activation_pruning.reports.tables import need
from activation_pruning.support.types import Table

_LONGEST = 34  # letters in a line of a method's name


@style.styled
def ranking(table: Table, by: str = "arm", title: str = "Mean ranks", note: str = "") -> Figure:
    """Mean rank of each method, best at the top; bars at the right join those of a group.

    Args:
        table: what `statistics.ranks` gives.
        by: column of the methods.
        title, note: above the picture; the number of blocks and what the tests say are added.

    Source: after the diagrams of Demšar, JMLR 7, 2006.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"arm": ["magnitude", "random"], "mean_rank": [1.0, 2.0],
        ...                       "groups": ["a", "b"], "blocks": 12, "enough": True})
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
    return style.finish(figure, None, title, note, _told(table.iloc[0]))


def _draw_ranks(ax, means, names):
    count = len(names)
    for row, mean in enumerate(means):
        ax.plot(mean, row, "o", color=PALETTE[0], markersize=6)
        inward = 1 if mean < (1 + count) / 2 else -1  # no number stands outside of the axes
        side = "left" if inward > 0 else "right"
        style.number(ax, f"{mean:.2f}", mean, row, (7 * inward, 0), ha=side, va="center")
    style.name_rows(ax, names)
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
