"""Pictures of means over runs, with their intervals: curves and dots."""

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from . import style
from .files import column_format, need
from .intervals import intervals

_FEW = 8  # ticks that stand side by side


@style.styled
def mean_curves(
    table, x, y, by="arm", panel=None, title="", note="", x_label="", y_label="", log=False
):
    """Means over the runs against x, one line per arm, with the 95 % t-interval as a band.

    Args:
        table: one row per run and x: x, y, the column `by`, and `panel` if given.
        x, y: columns of numbers. Shares (see `files.column_format`) are drawn in percent.
        by: column whose values get a line each.
        panel: column whose values get a panel each.
        title, note: above the picture; "<y> against <x>" where empty.
        x_label, y_label: of the axes; the columns' names where empty.
        log: whether x, above 0 then, has a logarithmic axis.

    Returns:
        The figure.

    Raises:
        ValueError: the table is empty, or lacks a column.

    Example:
        >>> import pandas as pd
        >>> runs = pd.DataFrame({"arm": "a", "tenth": [1, 1, 2, 2], "share": [0.1, 0.3, 0.5, 0.5]})
        >>> mean_curves(runs, "tenth", "share").axes[0].get_xlabel()
        'tenth'
    """
    need(table, "mean_curves", x, y, by, *([panel] if panel else []))
    means = _means(table, [by, *([panel] if panel else []), x], y)
    panels = list(means[panel].unique()) if panel else [None]
    many = means[x].nunique() > 12
    parts = [means if name is None else means[means[panel] == name] for name in panels]
    # Panels with lines of their own have legends of their own, and colours to themselves.
    alike = len({frozenset(part[by]) for part in parts}) == 1
    figure, grid = style.panels(len(panels), sharey=True)
    for name, part, ax in zip(panels, parts, grid.ravel(), strict=False):
        looks = style.looks(means[by] if alike else part[by])
        for arm, rows in part.groupby(by, sort=False):
            rows = rows.sort_values(x)
            look = looks[arm] | ({"marker": ""} if many else {})
            ax.plot(rows[x], rows[y], label=arm, **look)
            low, high = rows[f"{y}_low"], rows[f"{y}_high"]
            ax.fill_between(rows[x], low, high, color=look["color"], alpha=0.15, linewidth=0)
        ax.set_title(name or "")
        if log:
            _logarithmic(ax.xaxis, means[x])
        for axis, column in ((ax.xaxis, x), (ax.yaxis, y)):
            if _percent(table, column):
                style.percent(axis)
    style.label_bottom(grid, len(panels), x_label or style.words(x))
    for ax in grid.ravel():
        ax.tick_params(labelbottom=True)
    for ax in grid[:, 0]:
        ax.set_ylabel(y_label or style.words(y))
    spread = style.spread(means["runs"])
    named = title or f"{style.words(y)} against {style.words(x)}".capitalize()
    style.head(figure, named, f"{note}; {spread}" if note else spread)
    if alike:
        style.legend(figure, grid[0, 0])
    else:
        for ax in grid.ravel()[: len(panels)]:
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize=7.5)
    return figure


@style.styled
def mean_dots(table, value, by, rows="arm", panel=None, title="", note=""):
    """Means over the runs as dots with their 95 % t-intervals, grouped in rows.

    Args:
        table: one row per run and dot: value, the columns `by`, `rows`, and `panel` if given.
        value: column of numbers. Shares (see `files.column_format`) are drawn in percent.
        by: column whose values get a dot each, one below the other within a row.
        rows: column whose values get a row each.
        panel: column whose values get a panel each, two side by side.
        title, note: above the picture; the value's name where empty.

    Returns:
        The figure.

    Raises:
        ValueError: the table is empty, or lacks a column.

    Example:
        >>> import pandas as pd
        >>> runs = pd.DataFrame({"arm": "a", "way": ["x", "x", "y"], "rank": [1.0, 3.0, 4.0]})
        >>> mean_dots(runs, "rank", "way").axes[0].get_xlabel()
        'rank'
    """
    need(table, "mean_dots", value, by, rows, *([panel] if panel else []))
    means = _means(table, [rows, by, *([panel] if panel else [])], value)
    names, looks = list(means[rows].unique()), style.looks(means[by])
    panels = list(means[panel].unique()) if panel else [None]
    lines = -(-len(panels) // 2)
    height = 1.3 + lines * (0.5 + len(names) * (0.12 + 0.13 * len(looks)))
    figure = Figure(figsize=(style.WIDTH, height), layout="constrained")
    grid = figure.subplots(lines, min(len(panels), 2), squeeze=False, sharey=True)
    for name, ax in zip(panels, grid.ravel(), strict=False):
        part = means if name is None else means[means[panel] == name]
        _draw_dots(ax, part, (value, by, rows), names, looks)
        ax.set_title(name or "")
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))  # labels are wide here
        if _percent(table, value):
            style.percent(ax.xaxis)
    unit = " (%)" if _percent(table, value) else ""
    style.label_bottom(grid, len(panels), style.words(value) + unit)
    for ax in grid.ravel():
        ax.tick_params(labelbottom=True)
    spread = style.spread(means["runs"])
    named = title or style.words(value).capitalize()
    style.head(figure, named, f"{note}; {spread}" if note else spread)
    style.legend(figure, grid[0, 0])
    return figure


def _draw_dots(ax, means, columns, names, looks):
    value, by, rows = columns
    for k, (dot, look) in enumerate(looks.items()):
        part = means[means[by] == dot]
        where = [names.index(name) + 0.75 * ((k + 0.5) / len(looks) - 0.5) for name in part[rows]]
        ends = part[f"{value}_low"], part[f"{value}_high"]
        bars = [abs(part[value] - end).fillna(0) for end in ends]
        look = look | {"linestyle": "", "capsize": 2, "elinewidth": 1}
        ax.errorbar(part[value], where, xerr=bars, label=dot, **look)
    for border in range(1, len(names)):
        ax.axhline(border - 0.5, color="#cccccc", linewidth=0.8)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")


def _means(table, by, value):
    """Means with their intervals; those of shares end at 0 and 1, as the shares themselves do."""
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
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:.2g}" if value < 10 else f"{value:,.0f}")
    )
    axis.set_minor_locator(NullLocator())


def _percent(table, name):
    return column_format(name, table[name]).endswith("%")
