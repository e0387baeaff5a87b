"""What is inside: singular values, ranks, and how much the first components hold."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from activation_pruning.reports.figures import style
from activation_pruning.reports.tables import around_events, need
from activation_pruning.support.types import Table


@style.styled
def singular_values(table: Table, relative: bool = False) -> Figure:
    """Singular values of each layer before the first and after every pruning event.

    One panel per layer; the unpruned network is dashed, events go from light to dark.

    Args:
        table: of `SpectrumLogger.table()`: moment, event, site, index, value.
        relative: divide by the value of the same index before the first event.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"moment": ["before", "after"], "event": 1, "site": "a/kernel",
        ...                       "index": 1, "value": [2.0, 1.0]})
        >>> singular_values(table, relative=True).axes[0].get_title()
        'a/kernel'
    """
    need(table, "singular_values", "moment", "event", "site", "index", "value")
    table = around_events(table).sort_values("event", kind="stable")
    states = list(table["state"].unique())
    if len(states) < 2 or states[0] != "unpruned":
        raise ValueError(
            "singular_values: the table holds no pruning event; put SpectrumLogger beside a "
            "PruningCallback in the same fit"
        )
    sites = list(table.loc[table["event"] == 0, "site"].unique())
    figure, grid = style.panels(sites)
    for site, ax in zip(sites, grid.ravel(), strict=False):
        _draw_values(ax, table[table["site"] == site], states, relative)
    y = "share of the unpruned value" if relative else "singular value"
    _label_by_index(grid, "index, largest value first", y)
    title = "Singular values" + (", relative to the unpruned network" if relative else "")
    note = "after each pruning event, light to dark"
    return style.finish(figure, grid[0, 0], title, note)


def _draw_values(ax, table, states, relative):
    looks = [("#2166ac", "--", 3)]  # the unpruned on top: an event that prunes little hides it
    looks += [(shade, "-", 2) for shade in style.greys(len(states) - 1, 0.75)]
    ends = (states[0], states[1], states[-1])  # the events between are between in shade
    values = [table[table["state"] == state].set_index("index")["value"] for state in states]
    for state, shown, (color, line, on_top) in zip(states, values, looks, strict=True):
        shown = shown / values[0].where(values[0] > 0) if relative else shown
        shown = shown.where(shown > 0)  # a logarithm knows no zero: the line ends there
        label = state if state in ends else None
        ax.plot(shown.index, shown, line, color=color, linewidth=1.4, label=label, zorder=on_top)
    if relative:
        ax.set_ylim(bottom=0)
    else:
        ax.set_yscale("log")


def _label_by_index(grid, x, y=""):
    style.label(grid, x, y, own_ticks=True)  # layers differ in size, and so do the axes
    for ax in grid.ravel():
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))


@style.styled
def rank_by_event(norms: Table, measure: str = "rank") -> Figure:
    """Rank of each layer, as a share of the full one, before the first and after every event.

    Args:
        norms: of `SpectrumLogger.norms()`: moment, event, site, rows, columns, blocks, the measure.
        measure: "rank", "effective_rank" or "stable_rank".

    Example:
        >>> import pandas as pd
        >>> norms = pd.DataFrame({"moment": ["before", "after"], "event": 1, "site": "a",
        ...                       "blocks": 1, "rows": 4, "columns": 3, "rank": [3, 2]})
        >>> rank_by_event(norms).axes[0].get_xlabel()
        'pruning events'
    """
    need(norms, "rank_by_event", "moment", "event", "site", "blocks", "rows", "columns", measure)
    table = around_events(norms)
    if not (table["event"] == 0).any():
        raise ValueError("rank_by_event: the table holds no pruning event")
    full = table["blocks"] * table[["rows", "columns"]].min(axis=1)
    table = table.assign(share=table[measure] / full)
    figure = Figure(figsize=(style.WIDTH, 4.0), layout="constrained")
    ax = figure.subplots()
    for site, look in style.looks(table["site"]).items():
        rows = table[table["site"] == site].sort_values("event")
        ax.plot(rows["event"], rows["share"], label=site, **look)
    ax.set_xticks(sorted(table["event"].unique()))
    ax.set(xlabel="pruning events", ylabel=f"{style.words(measure)} (% of the full rank)")
    ax.set_ylim(0, 1.05)
    style.percent(ax.yaxis)
    title = f"{style.words(measure).capitalize()} of each layer"
    return style.finish(figure, ax, title, "0: unpruned")


@style.styled
def scree(table: Table) -> Figure:
    """How much of the variance the first components hold, one panel per layer.

    Args:
        table: of `analysis.compare_low_rank(...).scree`: network, site, component, cumulative.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"network": "dense", "site": "a/kernel", "component": [1, 2],
        ...                       "cumulative": [0.9, 1.0]})
        >>> scree(table).axes[0].get_title()
        'a/kernel'
    """
    need(table, "scree", "network", "site", "component", "cumulative")
    sites, looks = list(table["site"].unique()), style.looks(table["network"])
    figure, grid = style.panels(sites, sharey=True)
    for site, ax in zip(sites, grid.ravel(), strict=False):
        for network, rows in table[table["site"] == site].groupby("network", sort=False):
            look = looks[network] | {"marker": ""}
            ax.plot(rows["component"], rows["cumulative"], label=network, **look)
        ax.set_ylim(0, 1.03)
        style.percent(ax.yaxis)
    _label_by_index(grid, "components, largest first")
    figure.supylabel("share of the variance (%)", fontsize=9)
    title = "Scree: what the first components hold"
    return style.finish(figure, grid[0, 0], title, "cumulated share of the variance")
