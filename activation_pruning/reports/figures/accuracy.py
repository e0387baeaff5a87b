"""What sparsity costs: the picture that compares criteria."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from activation_pruning.reports.figures import style
from activation_pruning.reports.statistics.confidence import intervals
from activation_pruning.reports.tables import need
from activation_pruning.support.types import Table


@style.styled
def accuracy_against_sparsity(
    results: Table, metric: str = "test_accuracy", reference: Iterable[float] | None = None
) -> Figure:
    """Accuracy against sparsity: mean and 95 % t-interval over the seeds, one line per arm.

    Args:
        results: one row per run: arm, sparsity (in [0, 1]), the metric, and, for one panel per
            value, events.
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
    table = intervals(results, keys, metric)
    panels = style.parts(table, "events", least=2)
    looks = style.looks(table["arm"])
    offsets = _dodge(table["sparsity"], looks)
    figure = Figure(figsize=(style.WIDTH, 4.4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for (events, part), ax in zip(panels, axes, strict=True):
        if reference is not None:
            _draw_reference(ax, reference)
        _draw_arms(ax, part, metric, looks, offsets)
        ax.set_xlabel("sparsity (% of the weights pruned)")
        if events is not None:
            ax.set_title(f"{events} pruning events")
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
    ax.axhline(row["value"], label=label, **style.REFERENCE)
    if row["runs"] > 1:
        ax.axhspan(row["value_low"], row["value_high"], color="#444444", alpha=0.12, linewidth=0)


def _dodge(sparsity, looks):
    """A small shift per arm, so that the error bars stand side by side."""
    gap = np.diff(np.sort(sparsity.unique())).min(initial=0.05)
    count = len(looks)
    return {arm: 0.4 * gap * ((i + 0.5) / count - 0.5) for i, arm in enumerate(looks)}
