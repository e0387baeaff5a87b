"""Pictures of what is inside: singular values, ranks and the sensitivity of layers."""

import math

import numpy as np
from matplotlib.figure import Figure

from . import style
from .files import need


@style.styled
def singular_values(table, relative=False):
    """Singular values of each layer before the first and after every pruning event.

    One panel per layer; values against their index, largest first, on a logarithmic axis. The
    unpruned network is dashed, events go from light to dark.

    Args:
        table: of `SpectrumLogger.table()`: moment, event, site, index, value.
        relative: divide by the value of the same index before the first event.

    Returns:
        The figure.

    Raises:
        ValueError: the table is empty, lacks a column, or holds no pruning event.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"moment": ["before", "after"], "event": 1, "site": "a/kernel",
        ...                       "index": 1, "value": [2.0, 1.0]})
        >>> singular_values(table, relative=True).axes[0].get_title()
        'a/kernel'
    """
    need(table, "singular_values", "moment", "event", "site", "index", "value")
    first = table[(table["moment"] == "before") & (table["event"] == 1)]
    after = table[table["moment"] == "after"]
    if first.empty or after.empty:
        raise ValueError(
            "singular_values: the table holds no pruning event; put SpectrumLogger beside a "
            "PruningCallback in the same fit"
        )
    sites, events = list(first["site"].unique()), sorted(after["event"].unique())
    shades = np.linspace(0.75, 0.0, len(events)) if events[1:] else [0.0]
    figure, grid = _panels(len(sites), sharey=False)
    for site, ax in zip(sites, grid.ravel(), strict=False):
        dense = first[first["site"] == site].set_index("index")["value"]
        lines = [("unpruned", dense, "#2166ac", "--")]
        for event, shade in zip(events, shades, strict=True):
            values = after[(after["site"] == site) & (after["event"] == event)]
            lines.append((f"event {event}", values.set_index("index")["value"], str(shade), "-"))
        _draw_values(ax, lines, dense if relative else None)
        ax.set_title(site)
    style.label_bottom(grid, len(sites), "index, largest value first")
    for ax in grid.ravel():
        ax.tick_params(labelbottom=True)  # layers differ in size, and so do the axes
    for ax in grid[:, 0]:
        ax.set_ylabel("share of the unpruned value" if relative else "singular value")
    title = "Singular values, relative to the unpruned network" if relative else "Singular values"
    style.head(figure, title, "after each pruning event, light to dark")
    style.legend(figure, grid[0, 0])
    return figure


def _draw_values(ax, lines, divisor):
    ends = (lines[0][0], lines[1][0], lines[-1][0])  # the events between are between in shade
    for name, values, color, line in lines:
        shown = values if divisor is None else values / divisor.where(divisor > 0)
        shown = shown.where(shown > 0)  # a logarithm knows no zero: the line ends there
        label = name if name in ends else None
        # The unpruned line on top: an event that prunes little hides it otherwise.
        on_top = 3 if line == "--" else 2
        ax.plot(shown.index, shown, line, color=color, linewidth=1.4, label=label, zorder=on_top)
    if divisor is None:
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)


@style.styled
def rank_by_event(norms, measure="rank"):
    """Rank of each layer before the first and after every pruning event.

    Args:
        norms: of `SpectrumLogger.norms()`: moment, event, site, rows, columns, blocks and the
            measure.
        measure: "rank", "effective_rank" or "stable_rank".

    Returns:
        The figure; ranks are shares of the full rank.

    Raises:
        ValueError: the table is empty, lacks a column, or holds no pruning event.

    Example:
        >>> import pandas as pd
        >>> norms = pd.DataFrame({"moment": ["before", "after"], "event": 1, "site": "a",
        ...                       "blocks": 1, "rows": 4, "columns": 3, "rank": [3, 2]})
        >>> rank_by_event(norms).axes[0].get_xlabel()
        'pruning events'
    """
    need(norms, "rank_by_event", "moment", "event", "site", "blocks", "rows", "columns", measure)
    start = (norms["moment"] == "before") & (norms["event"] == 1)
    table = norms[start | (norms["moment"] == "after")]
    if not start.any():
        raise ValueError("rank_by_event: the table holds no pruning event")
    full = table["blocks"] * table[["rows", "columns"]].min(axis=1)
    events = table["event"].where(table["moment"] == "after", 0)
    table = table.assign(share=table[measure] / full, after=events)
    figure = Figure(figsize=(style.WIDTH, 4.0), layout="constrained")
    ax = figure.subplots()
    for site, look in style.looks(table["site"]).items():
        rows = table[table["site"] == site].sort_values("after")
        ax.plot(rows["after"], rows["share"], label=site, **look)
    ax.set_xticks(sorted(table["after"].unique()))
    ax.set(xlabel="pruning events", ylabel=f"{style.words(measure)} (% of the full rank)")
    ax.set_ylim(0, 1.05)
    style.percent(ax.yaxis)
    style.head(figure, f"{style.words(measure).capitalize()} of each layer", "0: unpruned")
    style.legend(figure, ax)
    return figure


@style.styled
def sensitivity_curves(table):
    """What each layer can lose: metric against the sparsity of that layer alone.

    Args:
        table: of `analysis.sensitivity`: site, criterion, sparsity, metric, value, change.

    Returns:
        The figure, one panel per criterion; dashed: the network as it is.

    Raises:
        ValueError: the table is empty, or lacks a column.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"site": "a", "criterion": "magnitude", "sparsity": [0.5, 0.9],
        ...                       "metric": "accuracy", "value": [0.9, 0.5], "change": [0, -0.4]})
        >>> sensitivity_curves(table).axes[0].get_title()
        'magnitude'
    """
    columns = ("site", "criterion", "sparsity", "metric", "value", "change")
    need(table, "sensitivity_curves", *columns)
    criteria, looks = list(table["criterion"].unique()), style.looks(table["site"])
    figure, grid = _panels(len(criteria), sharey=True)
    for criterion, ax in zip(criteria, grid.ravel(), strict=False):
        part = table[table["criterion"] == criterion]
        for site, rows in part.groupby("site", sort=False):
            rows = rows.sort_values("sparsity")
            ax.plot(rows["sparsity"], rows["value"], label=site, **looks[site])
        dense = (part["value"] - part["change"]).iloc[0]
        ax.axhline(dense, color="#444444", linestyle=(0, (6, 3)), linewidth=1.2, label="as it is")
        ax.set_title(criterion)
        style.percent(ax.xaxis)
        if "accuracy" in part["metric"].iloc[0]:
            style.percent(ax.yaxis)
    style.label_bottom(grid, len(criteria), "sparsity of the layer (% of its weights)")
    metric = style.words(table["metric"].iloc[0])
    for ax in grid[:, 0]:
        ax.set_ylabel(metric + (" (%)" if "accuracy" in metric else ""))
    style.head(figure, "Sensitivity of each layer", "one layer pruned at a time")
    style.legend(figure, grid[0, 0])
    return figure


def _panels(count, sharey):
    """A figure with a grid of `count` panels, two side by side."""
    columns = min(count, 2)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(style.WIDTH, 1.3 + 2.4 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=sharey)
