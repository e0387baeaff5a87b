"""Means over runs, with their intervals: curves and dots."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from activation_pruning.reports.figures import style
from activation_pruning.reports.formats import column_format
from activation_pruning.reports.statistics.confidence import intervals
from activation_pruning.reports.tables import in_each_match, need
from activation_pruning.support.types import Table

_FEW = 8  # ticks that stand side by side


@style.styled
def mean_curves(
    table: Table, x: str, y: str, by: str = "arm", panel: str | None = None, title: str = "",
    note: str = "", x_label: str = "", y_label: str = "", log: bool = False,
) -> Figure:  # fmt: skip
    """Means over the runs against x, one line per arm, with the 95 % t-interval as a band.

    Args:
        table: one row per run and x.
        x, y: columns of numbers. Shares (see `formats.column_format`) are drawn in percent.
        by, panel: columns whose values get a line, and a panel, each.
        title, note: above the picture; "<y> against <x>" where empty.
        x_label, y_label: of the axes; the columns' names where empty.
        log: whether x, above 0 then, has a logarithmic axis.

    Example:
        >>> import pandas as pd
        >>> runs = pd.DataFrame({"arm": "a", "tenth": [1, 1, 2, 2], "share": [0.1, 0.3, 0.5, 0.5]})
        >>> mean_curves(runs, "tenth", "share").axes[0].get_xlabel()
        'tenth'
    """
    keys = [by, *([panel] if panel else [])]
    need(table, "mean_curves", x, y, *keys)
    means = bounded_means(table, [*keys, x], y)
    parts = style.parts(means, panel)
    # Panels with lines of their own have legends of their own, and colours to themselves.
    alike = len({frozenset(part[by]) for _, part in parts}) == 1
    figure, grid = style.panels([name for name, _ in parts], sharey=True)
    for (_, part), ax in zip(parts, grid.ravel(), strict=False):
        looks = style.looks(means[by] if alike else part[by])
        _draw_curves(ax, part, x, y, by, looks, markers=means[x].nunique() <= 12)
        if log:
            _logarithmic(ax.xaxis, means[x])
        for axis, column in ((ax.xaxis, x), (ax.yaxis, y)):
            if _percent(table, column):
                style.percent(axis)
    style.label(grid, x_label or style.words(x), y_label or style.words(y), own_ticks=True)
    if not alike:
        for ax in grid.ravel()[: len(parts)]:
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize=7.5)
    named = title or f"{style.words(y)} against {style.words(x)}".capitalize()
    whole = grid[0, 0] if alike else None
    return style.finish(figure, whole, named, note, style.spread(means["runs"]))


@style.styled
def mean_dots(
    table: Table, value: str, by: str, rows: str = "arm", panel: str | None = None, title: str = "",
    note: str = "",
) -> Figure:  # fmt: skip
    """Means over the runs as dots with their 95 % t-intervals, grouped in rows.

    Args:
        table: one row per run and dot.
        value: column of numbers. Shares (see `formats.column_format`) are drawn in percent.
        by: column whose values get a dot each, one below the other within a row.
        rows, panel: columns whose values get a row, and a panel, each.
        title, note: above the picture; the value's name where empty.

    Example:
        >>> import pandas as pd
        >>> runs = pd.DataFrame({"arm": "a", "way": ["x", "x", "y"], "rank": [1.0, 3.0, 4.0]})
        >>> mean_dots(runs, "rank", "way").axes[0].get_xlabel()
        'rank'
    """
    keys = [rows, by, *([panel] if panel else [])]
    need(table, "mean_dots", value, *keys)
    means = bounded_means(table, keys, value)
    names, looks = list(means[rows].unique()), style.looks(means[by])
    parts = style.parts(means, panel)
    height = 0.5 + len(names) * (0.12 + 0.13 * len(looks))
    figure, grid = style.panels([name for name, _ in parts], row=height, sharey=True)
    percent = _percent(table, value)
    for (_, part), ax in zip(parts, grid.ravel(), strict=False):
        _draw_dots(ax, part, value=value, by=by, rows=rows, names=names, looks=looks)
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))  # labels are wide here
        if percent:
            style.percent(ax.xaxis)
    style.label(grid, style.words(value) + (" (%)" if percent else ""), own_ticks=True)
    named = title or style.words(value).capitalize()
    return style.finish(figure, grid[0, 0], named, note, style.spread(means["runs"]))


def low_rank_accuracy(table: Table, metric: str = "accuracy") -> Figure:
    """The pruned network against the low-rank ones, one panel per stage, with 95 % t-intervals.

    Args:
        table: of `analysis.compare_low_rank(...).accuracy`, one or several runs of it: model,
            stage, the metric; optionally arm (one row of the picture each) and match (one line of
            panels each; rows where it is empty stand in all of them).
        metric: column to draw.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"model": ["dense", "pruned"], "stage": "raw",
        ...                       "accuracy": [0.9, 0.8]})
        >>> [ax.get_title() for ax in low_rank_accuracy(table).axes]
        ['raw']
    """
    need(table, "low_rank_accuracy", "model", "stage", metric)
    table = table.assign(arm=table.get("arm", ""), model=table["model"].map(style.words))
    panel = table["stage"].map(style.words)
    if "match" in table and table["match"].any():
        table = in_each_match(table)
        panel = table["stage"].map(style.words) + ", equal " + table["match"]
    title = "Pruned against low-rank networks"
    return mean_dots(table.assign(panel=panel), metric, "model", panel="panel", title=title)


def _draw_curves(ax, means, x, y, by, looks, markers):
    for arm, rows in means.groupby(by, sort=False):
        rows = rows.sort_values(x)
        look = looks[arm] | ({} if markers else {"marker": ""})
        ax.plot(rows[x], rows[y], label=arm, **look)
        low, high = rows[f"{y}_low"], rows[f"{y}_high"]
        ax.fill_between(rows[x], low, high, color=look["color"], alpha=0.15, linewidth=0)


def _draw_dots(ax, means, value, by, rows, names, looks):
    for k, (dot, look) in enumerate(looks.items()):
        part = means[means[by] == dot]
        where = [names.index(name) + 0.75 * ((k + 0.5) / len(looks) - 0.5) for name in part[rows]]
        look = look | {"linestyle": "", "capsize": 2, "elinewidth": 1}
        ax.errorbar(part[value], where, xerr=bars(part, value), label=dot, **look)
    for border in range(1, len(names)):
        ax.axhline(border - 0.5, color="#cccccc", linewidth=0.8)
    style.name_rows(ax, names)
    ax.grid(visible=False, axis="y")


def bars(means: Table, value: str) -> list[Any]:
    """How far error bars reach below and above the means; 0 where there is no interval."""
    return [abs(means[value] - means[f"{value}_{end}"]).fillna(0) for end in ("low", "high")]


def bounded_means(table: Table, by: list[str], value: str) -> Table:
    """`intervals` to be drawn: those of shares end at 0 and 1, as the shares themselves do."""
    means = intervals(table, by, value)
    if _percent(table, value) and table[value].between(0, 1).all():
        for end in (f"{value}_low", f"{value}_high"):
            means[end] = means[end].clip(0, 1)
    return means


def _logarithmic(axis, values):
    """A logarithmic axis, whose ticks are the values themselves where they are few."""
    axis.axes.set_xscale("log")
    ticks = sorted(values.unique())
    if len(ticks) <= _FEW:
        axis.set_major_locator(FixedLocator(ticks))
    short = FuncFormatter(lambda value, _: f"{value:.2g}" if value < 10 else f"{value:,.0f}")
    axis.set_major_formatter(short)
    axis.set_minor_locator(NullLocator())


def _percent(table, name):
    return column_format(name, table[name]).endswith("%")
