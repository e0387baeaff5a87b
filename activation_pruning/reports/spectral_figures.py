"""Pictures of what is inside: singular values, ranks, low-rank networks, sensitivity."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from . import style
from .files import need
from .mean_figures import mean_dots


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
    figure, grid = style.panels(len(sites), sharey=False)
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
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
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
    if table["metric"].nunique() > 1:
        raise ValueError(
            f"sensitivity_curves: the table holds the metrics {list(table['metric'].unique())}; "
            "draw one at a time"
        )
    criteria, looks = list(table["criterion"].unique()), style.looks(table["site"])
    figure, grid = style.panels(len(criteria), sharey=True)
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


@style.styled
def scree(table):
    """How much of the variance the first components hold, one panel per layer.

    Args:
        table: of `analysis.compare_low_rank(...).scree`: network, site, component, cumulative.

    Returns:
        The figure.

    Raises:
        ValueError: the table is empty, or lacks a column.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"network": "dense", "site": "a/kernel", "component": [1, 2],
        ...                       "cumulative": [0.9, 1.0]})
        >>> scree(table).axes[0].get_title()
        'a/kernel'
    """
    need(table, "scree", "network", "site", "component", "cumulative")
    sites, looks = list(table["site"].unique()), style.looks(table["network"])
    figure, grid = style.panels(len(sites), sharey=True)
    for site, ax in zip(sites, grid.ravel(), strict=False):
        for network, rows in table[table["site"] == site].groupby("network", sort=False):
            look = looks[network] | {"marker": ""}
            ax.plot(rows["component"], rows["cumulative"], label=network, **look)
        ax.set_title(site)
        ax.set_ylim(0, 1.03)
        style.percent(ax.yaxis)
    style.label_bottom(grid, len(sites), "components, largest first")
    for ax in grid.ravel():
        ax.tick_params(labelbottom=True)  # layers differ in size, and so do the axes
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    figure.supylabel("share of the variance (%)", fontsize=9)
    style.head(figure, "Scree: what the first components hold", "cumulated share of the variance")
    style.legend(figure, grid[0, 0])
    return figure


def low_rank_accuracy(table, metric="accuracy"):
    """The pruned network against the low-rank ones, raw and fine-tuned, with 95 % t-intervals.

    Args:
        table: of `analysis.compare_low_rank(...).accuracy`, one or several runs of it: model,
            stage, the metric; optionally arm (one row of the picture each) and match (one line of
            panels each; rows where it is empty stand in all of them).
        metric: column to draw.

    Returns:
        The figure, one panel per stage.

    Raises:
        ValueError: the table is empty, or lacks a column.

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
        # What has no match, the dense and the pruned network, stands beside every one of them.
        matches = table.loc[table["match"] != "", "match"].unique()
        parts = [table[table["match"].isin(["", match])].assign(match=match) for match in matches]
        table = pd.concat(parts, ignore_index=True)
        panel = table["stage"].map(style.words) + ", equal " + table["match"]
    table = table.assign(panel=panel)
    title = "Pruned against low-rank networks"
    return mean_dots(table, metric, "model", panel="panel", title=title)
