"""Pictures of a pruning: each function takes a tidy table and returns a matplotlib Figure.

Arms and layers differ by line, marker and lightness as well as by hue, so that a grey print is
readable. No window opens and nothing is left in pyplot's memory.
"""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from . import style
from .files import PALETTE, need
from .heatmaps import kernel_heatmap, mask_heatmap
from .intervals import intervals
from .mean_figures import mean_curves, mean_dots
from .ranking import ranking
from .spectral_figures import (
    low_rank_accuracy,
    rank_by_event,
    scree,
    sensitivity_curves,
    singular_values,
)
from .style import save

__all__ = [
    "accuracy_against_sparsity",
    "activation_frequency",
    "intervals",
    "kernel_heatmap",
    "low_rank_accuracy",
    "mask_heatmap",
    "mean_curves",
    "mean_dots",
    "rank_by_event",
    "ranking",
    "save",
    "scree",
    "sensitivity_curves",
    "singular_values",
    "sparsity_by_layer",
    "training_curves",
]

_CURVES = {"train_accuracy": ("--", "#7a9cc6"), "validation_accuracy": ("-", PALETTE[0])}


@style.styled
def accuracy_against_sparsity(results, metric="test_accuracy", reference=None):
    """Accuracy against sparsity: mean and 95 % t-interval over the seeds, one line per arm.

    Args:
        results: one row per run: arm, sparsity (in [0, 1]), the metric, and, for one panel per
            value, events.
        metric: column to draw, in [0, 1].
        reference: the metric's values of the dense runs, drawn as a line with its interval.

    Returns:
        The figure.

    Raises:
        ValueError: the table is empty, or lacks a column.

    Example:
        >>> runs = pd.DataFrame({"arm": "magnitude", "sparsity": [0.8, 0.9],
        ...                      "test_accuracy": [0.98, 0.97]})
        >>> len(accuracy_against_sparsity(runs).axes)
        1
    """
    need(results, "accuracy_against_sparsity", "arm", "sparsity", metric)
    panels = _levels(results, "events")
    keys = ["arm", "sparsity", *(["events"] if "events" in results else [])]
    table = intervals(results, keys, metric)
    looks = style.looks(table["arm"])
    offsets = _dodge(table["sparsity"], looks)
    figure = Figure(figsize=(style.WIDTH, 4.4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, ax in zip(panels, axes, strict=True):
        part = table if panel is None else table[table["events"] == panel]
        if reference is not None:
            _draw_reference(ax, reference)
        _draw_arms(ax, part, metric, looks, offsets)
        ax.set_xlabel("sparsity (% of the weights pruned)")
        if panel is not None:
            ax.set_title(f"{panel} pruning events")
    name = style.words(metric)
    axes[0].set_ylabel(f"{name} (%)")
    style.head(figure, f"{name.capitalize()} against sparsity", style.spread(table["runs"]))
    style.legend(figure, axes[0])
    return figure


def _draw_arms(ax, table, metric, looks, offsets):
    """One line with error bars per arm; a tick at every sparsity."""
    for arm, rows in table.groupby("arm", sort=False, observed=True):
        rows = rows.sort_values("sparsity")
        bars = (rows[metric] - rows[f"{metric}_low"]).fillna(0)
        ax.errorbar(
            rows["sparsity"] + offsets[arm], rows[metric], bars, label=arm, capsize=3,
            elinewidth=1, **looks[arm],
        )  # fmt: skip
    ticks = sorted(table["sparsity"].unique())
    ax.set_xticks(ticks, [style.share(tick) for tick in ticks])
    style.percent(ax.yaxis)


def _draw_reference(ax, values):
    values = pd.DataFrame({"arm": "dense", "value": np.ravel(np.asarray(values, dtype=float))})
    row = intervals(values, ["arm"], "value").iloc[0]
    label = "dense" if row["runs"] == 1 else "dense, mean and interval"
    ax.axhline(row["value"], color="#444444", linestyle=(0, (6, 3)), linewidth=1.2, label=label)
    if row["runs"] > 1:
        ax.axhspan(row["value_low"], row["value_high"], color="#444444", alpha=0.12, linewidth=0)


def _dodge(sparsity, looks):
    """A small shift per arm, so that the error bars stand side by side."""
    gap = np.diff(np.sort(sparsity.unique())).min(initial=0.05)
    count = len(looks)
    return {arm: 0.4 * gap * ((i + 0.5) / count - 0.5) for i, arm in enumerate(looks)}


@style.styled
def training_curves(history, events):
    """Training and validation accuracy by epoch, with the pruning events and their sparsity.

    One panel per arm, one thin pair of curves per seed; below each, the sparsity. Dotted vertical
    lines mark the events of the first seed, labelled with the sparsity reached.

    Args:
        history: one row per epoch and run: arm, seed, epoch, train_accuracy,
            validation_accuracy, sparsity (fractions).
        events: one or more rows per event and run: arm, seed, epoch, total_sparsity; epochs
            counted as in `history`. May have no rows (a dense run).

    Returns:
        The figure.

    Raises:
        ValueError: `history` is empty, or a column is missing.

    Example:
        >>> history = pd.DataFrame({"arm": "a", "seed": 0, "epoch": [0, 1], "sparsity": [0, 0.5],
        ...                         "train_accuracy": 0.9, "validation_accuracy": 0.8})
        >>> events = pd.DataFrame({"arm": ["a"], "seed": 0, "epoch": 1, "total_sparsity": 0.5})
        >>> [ax.get_ylabel() for ax in training_curves(history, events).axes]
        ['accuracy (%)', 'sparsity (%)']
    """
    need(history, "training_curves", "arm", "seed", "epoch", "sparsity", *_CURVES)
    need(events, "training_curves", "arm", "seed", "epoch", "total_sparsity", empty=True)
    arms = list(history["arm"].unique())
    columns = min(len(arms), 3)
    lines = math.ceil(len(arms) / columns)
    figure = Figure(figsize=(style.WIDTH, 1.0 + 2.9 * lines), layout="constrained")
    grid = figure.subplots(
        2 * lines, columns, squeeze=False, sharex=True, sharey="row",
        height_ratios=[2.2, 1] * lines,
    )  # fmt: skip
    for i, arm in enumerate(arms):
        line, column = divmod(i, columns)
        top, bottom = grid[2 * line : 2 * line + 2, column]
        runs = history[history["arm"] == arm].sort_values("epoch")
        _draw_runs(top, bottom, runs)
        marks = events[(events["arm"] == arm) & (events["seed"] == runs["seed"].min())]
        _mark_events(top, bottom, marks.drop_duplicates("epoch"))
        top.set_title(arm)
        _scale(top, bottom, history, left=column == 0, last=i + columns >= len(arms))
    for ax in grid.T.ravel():
        ax.set_visible(ax.has_data())
    runs = style.count_runs(history.groupby("arm")["seed"].nunique())
    note = f"{runs} per arm, the first in full strength; dotted lines: its pruning events"
    style.head(figure, "Accuracy while training and pruning", note)
    style.legend(figure, grid[0, 0])
    return figure


def _draw_runs(top, bottom, runs):
    """The curves of every seed above, its sparsity below; the first seed in full strength."""
    for seed, run in runs.groupby("seed"):
        first = seed == runs["seed"].min()
        strength = {"lw": 1.3, "zorder": 3} if first else {"lw": 0.9, "alpha": 0.35}
        for name, (line, colour) in _CURVES.items():
            label = style.words(name) if first else None
            top.plot(run["epoch"], run[name], line, color=colour, label=label, **strength)
        bottom.step(run["epoch"], run["sparsity"], where="post", color=PALETTE[0], **strength)


def _mark_events(top, bottom, marks):
    """Vertical lines through both panels; a label where it does not touch the last one."""
    end, labelled = top.get_xlim()[1] - top.get_xlim()[0], -math.inf
    for _, mark in marks.sort_values("epoch", ascending=False).iterrows():
        for ax in (top, bottom):
            ax.axvline(mark["epoch"], color="#777777", linestyle=":", linewidth=1)
        bottom.plot(mark["epoch"], mark["total_sparsity"], "o", color=PALETTE[0], markersize=3.5)
        # Backwards, so that the sparsity reached last always has its label.
        if labelled == -math.inf or labelled - mark["epoch"] > 0.2 * end:
            bottom.annotate(
                f"{mark['total_sparsity']:.0%}", (mark["epoch"], mark["total_sparsity"]),
                xytext=(-3, 3), textcoords="offset points", ha="right", path_effects=style.HALO,
            )  # fmt: skip
            labelled = mark["epoch"]


def _scale(top, bottom, history, left, last):
    """Equal axes in all panels, labelled at the left and at the last of each column."""
    bottom.set_xlabel("epoch" if last else "")
    bottom.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for ax, name in ((top, "accuracy (%)"), (bottom, "sparsity (%)")):
        style.percent(ax.yaxis)
        ax.set_ylabel(name if left else "")
    low, high = history[list(_CURVES)].min().min(), history[list(_CURVES)].max().max()
    top.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))
    bottom.set_ylim(0, 1.25)
    bottom.set_yticks([0, 0.5, 1])
    bottom.tick_params(labelbottom=last)


@style.styled
def activation_frequency(activity):
    """Activation frequency of every unit, sorted, one panel per layer; dead units are counted.

    A dead unit has frequency 0. Several seeds of an arm are pooled.

    Args:
        activity: one row per unit: layer, unit, frequency (in [0, 1]), and, for one line per
            value, arm.

    Returns:
        The figure.

    Raises:
        ValueError: the table is empty, or lacks a column.

    Example:
        >>> activity = pd.DataFrame({"layer": "dense", "unit": [0, 1], "frequency": [0.0, 0.5]})
        >>> activation_frequency(activity).axes[0].texts[0].get_text()
        '1 of 2 units dead'
    """
    need(activity, "activation_frequency", "layer", "unit", "frequency")
    layers, arms = list(activity["layer"].unique()), _levels(activity, "arm", least=1)
    looks = style.looks([""] if arms == [None] else arms)
    columns = min(len(layers), 3 if len(layers) > 4 and arms == [None] else 2)
    lines = math.ceil(len(layers) / columns)
    height = 1.2 + (1.8 + 0.15 * len(arms)) * lines  # room for a line of text per arm
    figure = Figure(figsize=(style.WIDTH, height), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for ax, layer in zip(grid.ravel(), layers, strict=False):
        part = activity[activity["layer"] == layer]
        notes = [_sorted_curve(ax, part, arm, looks[arm or ""]) for arm in arms]
        ax.set_title(layer)
        ax.text(0.02, 0.04, "\n".join(notes), transform=ax.transAxes, ha="left", va="bottom")
        style.percent(ax.xaxis)
        style.percent(ax.yaxis)
        ax.set_ylim(-0.02, 1.02)
    style.label_bottom(grid, len(layers), "units, most active first (%)")
    figure.supylabel("activation frequency (% of samples)", fontsize=9)
    note = "dead: never active on the samples counted"
    style.head(figure, "How often each unit is active", note)
    if arms != [None]:
        style.legend(figure, grid[0, 0])
    return figure


def _sorted_curve(ax, units, arm, look):
    """One arm's line over the units' rank; returns the count of dead units in words."""
    units = units if arm is None else units[units["arm"] == arm]
    values = np.sort(units["frequency"].dropna().to_numpy())[::-1]
    share = (np.arange(len(values)) + 0.5) / max(len(values), 1)
    look = {**look, "marker": ""}
    ax.plot(share, values, label=arm, **look)
    if arm is None:
        ax.fill_between(share, values, color=look["color"], alpha=0.15, linewidth=0)
    dead = f"{int((values == 0).sum())} of {len(values)} units dead"
    return dead if arm is None else f"{arm}: {dead}".replace(" units", "")


@style.styled
def sparsity_by_layer(events):
    """Sparsity of every layer after every event: one row per layer, dots from light to dark.

    Several seeds are averaged.

    Args:
        events: one row per event and site: event, layer, sparsity (in [0, 1]); optionally site
            (names the rows), total_sparsity (drawn as a line), arm (one panel each).

    Returns:
        The figure.

    Raises:
        ValueError: the table is empty, or lacks a column.

    Example:
        >>> events = pd.DataFrame({"event": [1, 2], "layer": "dense", "sparsity": [0.4, 0.8]})
        >>> sparsity_by_layer(events).axes[0].get_xlabel()
        'sparsity (% of the weights pruned)'
    """
    need(events, "sparsity_by_layer", "event", "layer", "sparsity")
    row = "site" if "site" in events else "layer"
    panels, names = _levels(events, "arm"), list(events[row].unique())
    steps = sorted(events["event"].unique())
    greys = np.linspace(0.8, 0.0, len(steps)) if steps[1:] else [0.0]
    shades = dict(zip(steps, greys, strict=True))
    columns = min(len(panels), 2)
    lines = math.ceil(len(panels) / columns)
    height = 1.3 + lines * (0.6 + 0.27 * len(names))
    figure = Figure(figsize=(style.WIDTH, height), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for panel, ax in zip(panels, grid.ravel(), strict=False):
        part = events if panel is None else events[events["arm"] == panel]
        _draw_dots(ax, part, row, names, shades)
        ax.set_title(panel or "")
    style.label_bottom(grid, len(panels), "sparsity (% of the weights pruned)")
    note = "after each event, light to dark; number: after the last"
    style.head(figure, "Sparsity of each layer", note)
    style.legend(figure, grid[0, 0])
    return figure


def _draw_dots(ax, part, row, names, shades):
    table = part.groupby([row, "event"], sort=False, observed=True)["sparsity"].mean().reset_index()
    last = table["event"].max()
    for event, dots in table.groupby("event"):
        edge = {"markeredgecolor": "#222222", "markeredgewidth": 0.7}
        label = f"event {event}" if event in (min(shades), max(shades)) else None
        where = [names.index(name) for name in dots[row]]
        grey = str(shades[event])
        ax.plot(dots["sparsity"], where, "o", color=grey, label=label, markersize=6, **edge)
        for x, y in zip(dots["sparsity"], where, strict=True):
            if event == last:
                ax.annotate(
                    f"{x:.1%}", (x, y), xytext=(6, 0), textcoords="offset points", va="center",
                    path_effects=style.HALO,
                )  # fmt: skip
    if "total_sparsity" in part:
        total = part.loc[part["event"] == last, "total_sparsity"].mean()
        ax.axvline(total, color="#777777", linestyle="--", lw=1, label="all layers, last event")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(0, 1.14)  # room for the numbers
    ax.set_xticks(np.linspace(0, 1, 6))
    style.percent(ax.xaxis)


def _levels(table, name, least=2):
    """Values of an optional column that make panels or lines; [None] where there is no choice."""
    values = list(table[name].dropna().unique()) if name in table else []
    return values if len(values) >= least else [None]
