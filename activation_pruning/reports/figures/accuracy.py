"""Accuracy: of all runs against their sparsity, and of each while it is trained and pruned."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from activation_pruning.reports.figures import style
from activation_pruning.reports.figures.means import bars, bounded_means
from activation_pruning.reports.formats import PALETTE
from activation_pruning.reports.tables import need
from activation_pruning.support.types import Table

_CURVES = {"train_accuracy": ("--", "#7a9cc6"), "validation_accuracy": ("-", PALETTE[0])}


@style.styled
def accuracy_against_sparsity(
    results: Table, metric: str = "test_accuracy", reference: Iterable[float] | None = None
) -> Figure:
    """Accuracy against sparsity: mean and 95 % t-interval over the seeds, one line per arm.

    Args:
        results: one row per run: arm, sparsity (in [0, 1]), the metric; optionally events (one
            panel each).
        metric: column to draw, in [0, 1].
        reference: the metric's values of the dense runs, drawn as a line with its interval.

    Example:
        >>> runs = pd.DataFrame({"arm": "magnitude", "sparsity": [0.8, 0.9],
        ...                      "test_accuracy": [0.98, 0.97]})
        >>> len(accuracy_against_sparsity(runs).axes)
        1
    """
    need(results, "accuracy_against_sparsity", "arm", "sparsity", metric)
    keys = ["arm", "sparsity", *(["events"] if "events" in results else [])]
    table = bounded_means(results, keys, metric)
    panels, looks = style.parts(table, "events", least=2), style.looks(table["arm"])
    offsets = _dodge(table["sparsity"], looks)
    figure = Figure(figsize=(style.WIDTH, 4.4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for (events, part), ax in zip(panels, axes, strict=True):
        if reference is not None:
            _draw_reference(ax, reference, metric)
        _draw_arms(ax, part, metric, looks, offsets)
        ax.set_xlabel("sparsity (% of the weights pruned)")
        ax.set_title(f"{events} pruning events" if events != "" else "")
    name = style.words(metric)
    axes[0].set_ylabel(f"{name} (%)")
    title = f"{name.capitalize()} against sparsity"
    return style.finish(figure, axes[0], title, style.spread(table["runs"]))


def _draw_arms(ax, table, metric, looks, offsets):
    """One line with error bars per arm; a tick at every sparsity."""
    for arm, rows in table.groupby("arm", sort=False, observed=True):
        rows = rows.sort_values("sparsity")
        look, ends = looks[arm] | {"capsize": 3, "elinewidth": 1}, bars(rows, metric)
        ax.errorbar(rows["sparsity"] + offsets[arm], rows[metric], ends, label=arm, **look)
    ticks = sorted(table["sparsity"].unique())
    ax.set_xticks(ticks, [style.share(tick) for tick in ticks])
    style.percent(ax.yaxis)


def _draw_reference(ax, values, metric):
    values = pd.DataFrame({"arm": "dense", metric: np.ravel(np.asarray(values, dtype=float))})
    row = bounded_means(values, ["arm"], metric).iloc[0]
    label = "dense" if row["runs"] == 1 else "dense, mean and interval"
    ax.axhline(row[metric], label=label, **style.REFERENCE)
    if row["runs"] > 1:
        low, high = (row[f"{metric}_{end}"] for end in ("low", "high"))
        ax.axhspan(low, high, color="#444444", alpha=0.12, linewidth=0)


def _dodge(sparsity, looks):
    """A small shift per arm, so that the error bars stand side by side."""
    gap = np.diff(np.sort(sparsity.unique())).min(initial=0.05)
    return {arm: 0.4 * gap * ((i + 0.5) / len(looks) - 0.5) for i, arm in enumerate(looks)}


@style.styled
def training_curves(history: Table, events: Table) -> Figure:
    """Training and validation accuracy by epoch, with the pruning events and their sparsity.

    One panel per arm, one thin pair of curves per seed; below each, the sparsity. Dotted vertical
    lines mark the events of the first seed, labelled with the sparsity reached.

    Args:
        history: a row per epoch and run: arm, seed, epoch, train_accuracy, validation_accuracy,
            sparsity (fractions).
        events: at least a row per event and run, or none: arm, seed, epoch, total_sparsity.

    Example:
        >>> history = pd.DataFrame({"arm": "a", "seed": 0, "epoch": [0, 1], "sparsity": [0, 0.5],
        ...                         "train_accuracy": 0.9, "validation_accuracy": 0.8})
        >>> events = pd.DataFrame({"arm": ["a"], "seed": 0, "epoch": 1, "total_sparsity": 0.5})
        >>> [ax.get_ylabel() for ax in training_curves(history, events).axes]
        ['accuracy (%)', 'sparsity (%)']
    """
    need(history, "training_curves", "arm", "seed", "epoch", "sparsity", *_CURVES)
    need(events, "training_curves", "arm", "seed", "epoch", "total_sparsity", empty=True)
    arms = style.parts(history, "arm")
    columns = min(len(arms), 3)
    lines = math.ceil(len(arms) / columns)
    figure = Figure(figsize=(style.WIDTH, 1.0 + 2.9 * lines), layout="constrained")
    share: dict[str, Any] = {"sharex": True, "sharey": "row", "height_ratios": [2.2, 1] * lines}
    grid = figure.subplots(2 * lines, columns, squeeze=False, **share)
    for i, (arm, runs) in enumerate(arms):
        line, column = divmod(i, columns)
        top, bottom = grid[2 * line : 2 * line + 2, column]
        _draw_runs(top, bottom, runs.sort_values("epoch"))
        marks = events[(events["arm"] == arm) & (events["seed"] == runs["seed"].min())]
        _mark_events(top, bottom, marks.drop_duplicates("epoch"))
        top.set_title(arm)
        _scale(top, bottom, history, left=column == 0, last=i + columns >= len(arms))
    for ax in grid.T.ravel():
        ax.set_visible(ax.has_data())
    runs = style.count_runs(history.groupby("arm")["seed"].nunique())
    note = f"{runs} per arm, the first in full strength; dotted lines: its pruning events"
    return style.finish(figure, grid[0, 0], "Accuracy while training and pruning", note)


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
    marks = marks.sort_values("epoch", ascending=False)
    for epoch, sparsity in zip(marks["epoch"], marks["total_sparsity"], strict=True):
        for ax in (top, bottom):
            ax.axvline(epoch, color="#777777", linestyle=":", linewidth=1)
        bottom.plot(epoch, sparsity, "o", color=PALETTE[0], markersize=3.5)
        # Backwards, so that the sparsity reached last always has its label.
        if labelled == -math.inf or labelled - epoch > 0.2 * end:
            style.number(bottom, f"{sparsity:.0%}", epoch, sparsity, (-3, 3), ha="right")
            labelled = epoch


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
