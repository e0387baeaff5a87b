"""The report of one pruning: a workbook, pictures and a page from the tables there are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from activation_pruning.reports import figures, overview, page, workbook
from activation_pruning.reports.costs import better
from activation_pruning.reports.layer_table import by_layer
from activation_pruning.reports.report_pictures import pictures
from activation_pruning.reports.tables import around_events, need
from activation_pruning.reports.workbook import Chart
from activation_pruning.support import types
from activation_pruning.support.files import check_folder
from activation_pruning.support.types import Array, Table

NAME = "pruning"
_CHARTS = (
    Chart("Spectra", "index", "value", "state", panel="site"),
    Chart("Sensitivity", "sparsity", "value", "site", panel="criterion"),
    Chart("Scree", "component", "cumulative", "network", panel="site"),
)


def write(
    folder: types.Path, events: Any, history: Any = None, activity: Table | None = None,
    spectra: Table | None = None, norms: Table | None = None, sensitivity: Table | None = None,
    low_rank: Any = None, kernels: dict[str, dict[str, Array]] | None = None,
    metric: str | None = None, title: str = "Pruning report", **settings: Any,
) -> list[Path]:  # fmt: skip
    """Write the report of one pruning: pruning.xlsx, pruning.html and pictures.

    The first sheet answers in words: how much was pruned, what it cost, how the ranks changed,
    which layer is fragile. What is not given is left out, and the front sheet says how to get it.

    Args:
        folder: where to; made if need be, files of an older report are replaced.
        events: of `PruningCallback.table()` or `PruningReport.table()`, or one of these objects.
        history: the `History` of `fit`, or its dict.
        activity: of `PruningCallback.activity()` or `ActivationCounter.table()`.
        spectra, norms: of a `SpectrumLogger`: `table()` and `norms()`.
        sensitivity: of `analysis.sensitivity`.
        low_rank: of `analysis.compare_low_rank`.
        kernels: network -> dict of site -> 2-D array (`analysis.matrices(model)`), to be shown
            side by side: {"dense": ..., "activation": ..., "magnitude": ...}.
        metric: that says what pruning cost; None for the first accuracy there is.
        title: of the page.
        **settings: of yours, for the sheet Settings (seeds, learning rates, ...).

    Returns:
        The paths written: workbook, pictures, page.

    Raises:
        ValueError: a table that is empty or lacks a column, or an unknown metric.
        OSError: the folder cannot be written.

    Example:
        >>> write("report", pruner.table(), history, norms=logger.norms(),  # doctest: +SKIP
        ...       spectra=logger.table(), sensitivity=sensitivity)
        [PosixPath('report/pruning.xlsx'), ..., PosixPath('report/pruning.html')]
    """
    place, history = check_folder(folder), _history(history)
    events = events.table() if hasattr(events, "table") else events
    _check_kernels(kernels)
    accuracy, ranks, scree = _tables_of(low_rank)
    layers = by_layer(events, norms, sensitivity)
    tables = {
        "Overview": overview.answers(layers, events, history, activity, accuracy, metric),
        "Layers": layers, "Events": events, "Training": history,
        "Spectra": _spectra_sheet(spectra), "Norms": norms, "Activity": activity,
        "Sensitivity": sensitivity, "Low rank": accuracy, "Ranks": ranks, "Scree": scree,
    }  # fmt: skip
    tables = {name: table for name, table in tables.items() if table is not None and len(table)}
    charts = [chart for chart in (*_training_charts(history), *_CHARTS) if chart.sheet in tables]
    drawn = pictures(tables, spectra, kernels, metric)
    used = workbook.settings_table(**settings)
    book = workbook.write(place / f"{NAME}.xlsx", tables, charts, used, _scales(tables))
    saved = _saved(drawn, place)
    front = [page.Section(n, table=tables[n]) for n in ("Overview", "Layers") if n in tables]
    back = [] if accuracy is None else [page.Section("Low-rank networks", table=accuracy)]
    sections = [*front, *saved, *back, page.Section("Settings", table=used)]
    paths = [section.figure for section in saved]
    return [book, *paths, page.write(place / f"{NAME}.html", title, sections)]


def _saved(drawn, folder):
    """The sections with the paths of their pictures; what an older report had besides is gone."""
    saved = []
    for name, section in drawn.items():
        path = folder / f"{name}.png"
        if section is None:
            path.unlink(missing_ok=True)
        else:
            saved.append(replace(section, figure=figures.save(section.figure, path)))
    return saved


def _tables_of(low_rank):
    """The tables of `analysis.compare_low_rank`: accuracy, ranks, scree; None each without it."""
    if low_rank is None:
        return None, None, None
    if not hasattr(low_rank, "scree"):
        raise ValueError(
            f"low_rank is a {type(low_rank).__name__}; give what analysis.compare_low_rank "
            "returns, with all its three tables"
        )
    return low_rank.accuracy, low_rank.ranks, low_rank.scree


def _check_kernels(kernels):
    if kernels is not None and not (
        isinstance(kernels, dict) and all(isinstance(value, dict) for value in kernels.values())
    ):
        raise ValueError(
            "kernels must be a dict of network -> dict of site -> 2-D array, such as "
            '{"dense": analysis.matrices(dense), "pruned": analysis.matrices(pruned)}'
        )


def _history(history):
    """A table of one row per epoch, counted from 1, or from where the fit began."""
    epochs = getattr(history, "epoch", None)
    history = getattr(history, "history", history)
    if history is None:
        return None
    try:
        table = pd.DataFrame(history)
    except ValueError as error:
        raise ValueError(f"history cannot be read as one row per epoch: {error}") from error
    if not all(isinstance(name, str) for name in table):
        raise ValueError(
            f"history is a {type(history).__name__}; give what fit returns, or a dict of lists"
        )
    if "epoch" not in table:
        whole = epochs is not None and len(epochs) == len(table)
        table.insert(0, "epoch", [e + 1 for e in epochs] if whole else range(1, len(table) + 1))
    return table


def _training_charts(history):
    """Charts of the accuracies (or losses) and of the sparsity, by epoch."""
    known = () if history is None else tuple(history)
    names = [name for name in known if "acc" in name] or ["loss"]
    return [Chart("Training", "epoch", name) for name in (*names, "sparsity") if name in known]


def _spectra_sheet(spectra):
    """The rows before the first event and after each, with a name for the state."""
    if spectra is None:
        return None
    need(spectra, "spectra", "moment", "event", "site", "index", "value")
    columns = ["site", "state", "index", "value", "relative", "cumulative_energy"]
    return around_events(spectra).filter(columns)


def _scales(tables):
    """Columns of Layers and of Sensitivity to be coloured, each where it is bad or large."""
    layers, scales = tables.get("Layers", ()), {}
    if len(layers):
        scales["Layers"] = {n: "high" for n in ("sparsity", "nuclear_ratio") if n in layers}
        if "alone_change" in layers:
            scales["Layers"] |= _harm("alone_change", layers["metric"])
    if "Sensitivity" in tables:
        scales["Sensitivity"] = _harm("change", tables["Sensitivity"]["metric"])
    return scales


def _harm(column, metrics):
    """The end of a column of changes to be coloured: where the metric gets worse."""
    metrics = metrics.dropna()
    sign = better(metrics.iloc[0]) if len(metrics) else 0
    return {column: "low" if sign > 0 else "high"} if sign else {}
