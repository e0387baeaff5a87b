"""Layer by layer: how active its units are, how sparse it has become, how much it can lose."""

import numpy as np
from matplotlib.figure import Figure

from activation_pruning.reports.figures import style
from activation_pruning.reports.tables import need
from activation_pruning.support.types import Table


@style.styled
def activation_frequency(activity: Table) -> Figure:
    """Activation frequency of every unit, sorted, one panel per layer; dead units (0) are counted.

    Args:
        activity: one row per unit: layer, unit, frequency (in [0, 1]); optionally arm (one line
            each). Several seeds of an arm are pooled.

    Example:
        >>> import pandas as pd
        >>> activity = pd.DataFrame({"layer": "dense", "unit": [0, 1], "frequency": [0.0, 0.5]})
        >>> activation_frequency(activity).axes[0].texts[0].get_text()
        '1 of 2 units dead'
    """
    need(activity, "activation_frequency", "layer", "unit", "frequency")
    layers = list(activity["layer"].unique())
    arms = [arm for arm, _ in style.parts(activity, "arm")]
    looks = style.looks(arms)
    columns = 3 if len(layers) > 4 and arms == [""] else 2
    height = 1.8 + 0.15 * len(arms)  # room for a line of text per arm
    figure, grid = style.panels(layers, columns, base=1.2, row=height, sharex=True, sharey=True)
    for layer, ax in zip(layers, grid.ravel(), strict=False):
        units = activity[activity["layer"] == layer]
        notes = [_sorted_curve(ax, units, arm, looks[arm]) for arm in arms]
        ax.text(0.02, 0.04, "\n".join(notes), transform=ax.transAxes, ha="left", va="bottom")
        style.percent(ax.xaxis)
        style.percent(ax.yaxis)
        ax.set_ylim(-0.02, 1.02)
    style.label(grid, "units, most active first (%)")
    figure.supylabel("activation frequency (% of samples)", fontsize=9)
    named = grid[0, 0] if arms != [""] else None
    note = "dead: never active on the samples counted"
    return style.finish(figure, named, "How often each unit is active", note)


def _sorted_curve(ax, units, arm, look):
    """One arm's line over the units' rank; returns the count of dead units in words."""
    units = units[units["arm"] == arm] if arm else units
    values = np.sort(units["frequency"].dropna().to_numpy())[::-1]
    share = (np.arange(len(values)) + 0.5) / max(len(values), 1)
    ax.plot(share, values, label=arm or None, **look | {"marker": ""})
    if not arm:
        ax.fill_between(share, values, color=look["color"], alpha=0.15, linewidth=0)
    dead = f"{int((values == 0).sum())} of {len(values)} units dead"
    return f"{arm}: {dead}".replace(" units", "") if arm else dead


@style.styled
def sparsity_by_layer(events: Table) -> Figure:
    """Sparsity of every layer after every event: one row per layer, dots from light to dark.

    Args:
        events: one row per event and site: event, layer, sparsity (in [0, 1]); optionally site
            (names the rows), total_sparsity (drawn as a line), arm (one panel each). Several
            seeds are averaged.

    Example:
        >>> import pandas as pd
        >>> events = pd.DataFrame({"event": [1, 2], "layer": "dense", "sparsity": [0.4, 0.8]})
        >>> sparsity_by_layer(events).axes[0].get_xlabel()
        'sparsity (% of the weights pruned)'
    """
    need(events, "sparsity_by_layer", "event", "layer", "sparsity")
    row = "site" if "site" in events else "layer"
    arms, names = style.parts(events, "arm", least=2), list(events[row].unique())
    steps = sorted(events["event"].unique())
    shades = dict(zip(steps, style.greys(len(steps), 0.8), strict=True))
    titles, height = [arm for arm, _ in arms], 0.6 + 0.27 * len(names)
    figure, grid = style.panels(titles, row=height, sharex=True, sharey=True)
    for (_, part), ax in zip(arms, grid.ravel(), strict=False):
        _draw_dots(ax, part, row, names, shades)
    style.label(grid, "sparsity (% of the weights pruned)")
    note = "after each event, light to dark; number: after the last"
    return style.finish(figure, grid[0, 0], "Sparsity of each layer", note)


def _draw_dots(ax, part, row, names, shades):
    table = part.groupby([row, "event"], sort=False, observed=True)["sparsity"].mean().reset_index()
    last = table["event"].max()
    for event, dots in table.groupby("event"):
        edge = {"markeredgecolor": "#222222", "markeredgewidth": 0.7, "markersize": 6}
        label = f"event {event}" if event in (min(shades), max(shades)) else None
        where = [names.index(name) for name in dots[row]]
        ax.plot(dots["sparsity"], where, "o", color=shades[event], label=label, **edge)
        for x, y in zip(dots["sparsity"], where, strict=True):
            if event == last:
                # In a column at the right, where neither dots nor the line of all layers are.
                style.number(ax, f"{x:.1%}", 1.0, y, (8, 0), va="center")
    if "total_sparsity" in part:
        total = part.loc[part["event"] == last, "total_sparsity"].mean()
        ax.axvline(total, color="#777777", linestyle="--", lw=1, label="all layers, last event")
    style.name_rows(ax, names)
    ax.set_xlim(0, 1.16)  # room for the numbers
    ax.set_xticks(np.linspace(0, 1, 6))
    style.percent(ax.xaxis)


@style.styled
def sensitivity_curves(table: Table) -> Figure:
    """What each layer can lose: metric against the sparsity of that layer alone.

    One panel per criterion; dashed: the network as it is.

    Args:
        table: of `analysis.sensitivity`: site, criterion, sparsity, metric (one), value, change.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"site": "a", "criterion": "magnitude", "sparsity": [0.5, 0.9],
        ...                       "metric": "accuracy", "value": [0.9, 0.5], "change": [0, -0.4]})
        >>> sensitivity_curves(table).axes[0].get_title()
        'magnitude'
    """
    need(table, "sensitivity_curves", "site", "criterion", "sparsity", "metric", "value", "change")
    metrics = list(table["metric"].dropna().unique())
    if len(metrics) > 1:
        raise ValueError(f"sensitivity_curves: the table holds {metrics=}; draw one at a time")
    metric = style.words(metrics[0])
    criteria, looks = list(table["criterion"].unique()), style.looks(table["site"])
    figure, grid = style.panels(criteria, sharey=True)
    for criterion, ax in zip(criteria, grid.ravel(), strict=False):
        part = table[table["criterion"] == criterion]
        for site, rows in part.groupby("site", sort=False):
            rows = rows.sort_values("sparsity")
            ax.plot(rows["sparsity"], rows["value"], label=site, **looks[site])
        dense = (part["value"] - part["change"]).iloc[0]
        ax.axhline(dense, label="as it is", **style.REFERENCE)
        for axis in (ax.xaxis, ax.yaxis) if "accuracy" in metric else (ax.xaxis,):
            style.percent(axis)
    y = metric + (" (%)" if "accuracy" in metric else "")
    style.label(grid, "sparsity of the layer (% of its weights)", y)
    title = "Sensitivity of each layer"
    return style.finish(figure, grid[0, 0], title, "one layer pruned at a time")
