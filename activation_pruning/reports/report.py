"""The report of one pruning: a workbook, pictures and a page from the tables there are."""

import pandas as pd

from . import figures, overview, page, workbook
from .files import check_folder, need

NAME = "pruning"


def write(
    folder,
    events,
    history=None,
    activity=None,
    spectra=None,
    norms=None,
    sensitivity=None,
    low_rank=None,
    kernels=None,
    metric=None,
    title="Pruning report",
    **settings,
):
    """Write the report of one pruning: pruning.xlsx, pruning.html and pictures.

    The first sheet answers in words: how much was pruned, what it cost, how the ranks changed,
    which layer is fragile. What is not given is left out, and the front sheet says how to get it.

    Args:
        folder: where to; made if need be, files of an older report are replaced.
        events: of `PruningCallback.table()` or `PruningReport.table()`.
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
    folder, history = check_folder(folder), _history(history)
    accuracy = None if low_rank is None else low_rank.accuracy
    layers = overview.by_layer(events, norms, sensitivity)
    answers = overview.answers(layers, events, history, activity, accuracy, metric)
    tables = {"Overview": answers, "Layers": layers, "Events": events}
    charts, scales = [], {"Layers": _scaled(layers)}
    if history is not None:
        tables["Training"] = history
        charts += _training_charts(history)
    if spectra is not None:
        tables["Spectra"] = _around_events(spectra)
        chart = workbook.Chart("Spectra", "index", "value", "state", panel="site")
        charts += [chart] if len(tables["Spectra"]) else []
    tables |= {"Norms": norms, "Activity": activity, "Sensitivity": sensitivity}
    if sensitivity is not None:
        charts.append(workbook.Chart("Sensitivity", "sparsity", "value", "site", panel="criterion"))
        scales["Sensitivity"] = ["change"]
    if low_rank is not None:
        tables |= {"Low rank": accuracy, "Ranks": low_rank.ranks, "Scree": low_rank.scree}
        charts.append(workbook.Chart("Scree", "component", "cumulative", "network", panel="site"))
    tables = {name: table for name, table in tables.items() if table is not None and len(table)}
    pictures = _pictures(events, activity, spectra, norms, sensitivity, low_rank, kernels)
    settings = workbook.settings_table(**settings)
    paths = [workbook.write(folder / f"{NAME}.xlsx", tables, charts, settings, scales)]
    for name, (_, figure) in pictures.items():
        paths.append(figures.save(figure, folder / f"{name}.png"))
    for name in _PICTURES:  # of an older report that had more to show
        if name not in pictures:
            (folder / f"{name}.png").unlink(missing_ok=True)
    sections = [
        page.Section("Overview", table=answers),
        page.Section("Layers", table=layers),
        *(
            page.Section(heading, figure=folder / f"{name}.png")
            for name, (heading, _) in pictures.items()
        ),
        *([page.Section("Low-rank networks", table=accuracy)] if low_rank is not None else []),
        page.Section("Settings", table=settings),
    ]
    return [*paths, page.write(folder / f"{NAME}.html", title, sections)]


_PICTURES = (
    "sparsity",
    "singular_values",
    "singular_values_relative",
    "ranks",
    "sensitivity",
    "low_rank",
    "scree",
    "kernels",
    "activity",
)


def _pictures(events, activity, spectra, norms, sensitivity, low_rank, kernels):
    """{file name: (heading, figure)} of what can be drawn, in the order of the page."""
    found = {}
    if "event" in events:
        found["sparsity"] = "Sparsity by layer", figures.sparsity_by_layer(events)
    if spectra is not None and _has_events(spectra):
        drawn = figures.singular_values(spectra)
        found["singular_values"] = "Singular values", drawn
        drawn = figures.singular_values(spectra, relative=True)
        found["singular_values_relative"] = "Singular values, relative", drawn
    if norms is not None and _has_events(norms):
        found["ranks"] = "Ranks", figures.rank_by_event(norms)
    if sensitivity is not None:
        found["sensitivity"] = "Sensitivity", figures.sensitivity_curves(sensitivity)
    if low_rank is not None:
        metric = overview.metric_of(low_rank.accuracy)
        drawn = figures.low_rank_accuracy(low_rank.accuracy, metric)
        found["low_rank"] = "Pruned against low-rank networks", drawn
        found["scree"] = "Scree", figures.scree(low_rank.scree)
    if kernels is not None:
        found["kernels"] = "Sizes of the weights", figures.kernel_heatmap(kernels)
    if activity is not None:
        found["activity"] = "Activation frequency", figures.activation_frequency(activity)
    return found


def _history(history):
    """A table of one row per epoch, counted from 1."""
    history = getattr(history, "history", history)
    if history is None:
        return None
    table = pd.DataFrame(history)
    if "epoch" not in table:
        table.insert(0, "epoch", range(1, len(table) + 1))
    return table


def _training_charts(history):
    """Charts of the accuracies (or losses) and of the sparsity, by epoch."""
    names = [name for name in history if "accuracy" in name] or ["loss"]
    names = [name for name in (*names, "sparsity") if name in history]
    return [workbook.Chart("Training", "epoch", name) for name in names]


def _around_events(spectra):
    """The rows before the first event and after each, with a name for the state."""
    need(spectra, "spectra", "moment", "event", "site", "index", "value")
    after = spectra["moment"] == "after"
    rows = spectra[after | ((spectra["moment"] == "before") & (spectra["event"] == 1))]
    state = ("event " + rows["event"].astype(str)).where(rows["moment"] == "after", "unpruned")
    table = rows.assign(state=state)
    front = ["site", "state", "index", "value"]
    return table[[*front, *(name for name in ("relative", "cumulative_energy") if name in table)]]


def _has_events(table):
    return bool((table["moment"] == "after").any())


def _scaled(layers):
    return [name for name in ("sparsity", "nuclear_ratio", "alone_change") if name in layers]
