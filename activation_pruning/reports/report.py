"""The report of one pruning: a workbook, pictures and a page from the tables there are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from activation_pruning.reports import figures, page, workbook
from activation_pruning.reports.costs import better, metric_of
from activation_pruning.reports.overview import answers, by_layer
from activation_pruning.reports.tables import around_events, need, renumbered
from activation_pruning.support import types
from activation_pruning.support.files import check_folder
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Arrays, Table

NAME = "pruning"
_CHARTS = (
    workbook.Chart("Spectra", "index", "value", "state", panel="site"),
    workbook.Chart("Sensitivity", "sparsity", "value", "site", panel="criterion"),
    workbook.Chart("Scree", "component", "cumulative", "network", panel="site"),
)


def write(
    folder: types.Path, events: Any, history: Any = None, activity: Table | None = None,
    spectra: Table | None = None, norms: Table | None = None, sensitivity: Table | None = None,
    low_rank: Any = None, kernels: dict[str, Arrays] | None = None, metric: str | None = None,
    title: str = "Pruning report", **settings: Any,
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
        The paths written: workbook, pictures, page. Raises TypeError for events that are
        no table; ValueError for a table that is empty
        or lacks a column, and for an unknown metric; OSError where the folder cannot be written.

    Example:
        >>> write("report", pruner.table(), history, norms=logger.norms())   # doctest: +SKIP
        [PosixPath('report/pruning.xlsx'), ..., PosixPath('report/pruning.html')]
    """
    events = events.table() if hasattr(events, "table") else events
    if not isinstance(events, pd.DataFrame):
        raise TypeError(
            f"events={shown(events)}; after the folder give what PruningCallback.table() or "
            "PruningReport.table() returns, or one of these objects"
        )
    place, history = check_folder(folder), _history(history)
    _check_kernels(kernels)
    accuracy, ranks, scree = _tables_of(low_rank)
    kernels, ranks, scree = _named_alike(events, kernels, ranks, scree)
    layers = by_layer(events, norms, sensitivity)
    tables = {
        "Overview": answers(layers, events, history, activity, accuracy, metric),
        "Layers": layers, "Events": events, "Training": history,
        "Spectra": _spectra_sheet(spectra), "Norms": norms, "Activity": activity,
        "Sensitivity": sensitivity, "Low rank": accuracy, "Ranks": ranks, "Scree": scree,
    }  # fmt: skip
    tables = {name: table for name, table in tables.items() if table is not None and len(table)}
    charts = [chart for chart in (*_training_charts(history), *_CHARTS) if chart.sheet in tables]
    drawn = _pictures(tables, spectra, kernels, metric)
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
    """Accuracy, ranks and scree of `analysis.compare_low_rank`; None each without it."""
    if low_rank is None:
        return None, None, None
    if not hasattr(low_rank, "scree"):
        raise ValueError(
            f"low_rank is a {type(low_rank).__name__}; give what analysis.compare_low_rank "
            "returns, with all its three tables"
        )
    return low_rank.accuracy, low_rank.ranks, low_rank.scree


def _named_alike(events, kernels, *tables):
    """Kernels and tables with the names of the pruned sites, where only Keras's numbers differ."""
    need(events, "write: events", "site", "weights", empty=True)
    pruned = list(events.dropna(subset=["weights"])["site"].unique())
    named = [table if table is None else _renamed(table, pruned) for table in tables]
    if not kernels:
        return kernels, *named
    lists = [list(network) for network in kernels.values()]
    known = next((own for own in lists if set(pruned) <= set(own)), lists[0])
    alike = {}
    for name, network in kernels.items():
        new = renumbered(list(network), known)
        alike[name] = {new.get(site, site): matrix for site, matrix in network.items()}
    return alike, *named


def _renamed(table, sites):
    new = renumbered(list(table["site"].unique()), sites)
    return table.assign(site=table["site"].replace(new)) if new else table


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
    names = [*([name for name in known if "acc" in name] or ["loss"]), "sparsity"]
    return [workbook.Chart("Training", "epoch", name) for name in names if name in known]


def _spectra_sheet(spectra):
    """The rows before the first event and after each, with a name for the state."""
    if spectra is None:
        return None
    need(spectra, "spectra", "moment", "event", "site", "index", "value")
    columns = ["site", "state", "index", "value", "relative", "cumulative_energy"]
    return around_events(spectra).filter(columns)


def _scales(tables):
    """Columns of Layers and of Sensitivity to be coloured, each where it is bad or large."""
    scales = {}
    for title, column in (("Layers", "alone_change"), ("Sensitivity", "change")):
        if title in tables:
            table = tables[title]
            metrics = table["metric"].dropna() if column in table else ()
            sign = better(metrics.iloc[0]) if len(metrics) else 0
            scales[title] = {column: "low" if sign > 0 else "high"} if sign else {}
    if "Layers" in tables:
        large = {n: "high" for n in ("sparsity", "nuclear_ratio") if n in tables["Layers"]}
        scales["Layers"] = large | scales["Layers"]
    return scales


def _pictures(tables, spectra, kernels, metric):
    """All pictures by file name, in the order of the page; None for one that cannot be drawn."""
    events, accuracy = tables.get("Events"), tables.get("Low rank")
    shown = _Shown(events)

    def by_site(heading, draw, table, **options):
        if table is None or ("moment" in table and "after" not in set(table["moment"])):
            return None
        part, caption = shown.part(table)
        return page.Section(heading, figure=draw(part, **options), caption=caption)

    def whole(heading, draw, data, **options):
        return None if data is None else page.Section(heading, figure=draw(data, **options))

    pruned = None if events is None or "event" not in events else shown.renamed(events)
    networks = kernels and {name: shown.kernels(kernels[name]) for name in kernels}
    names = () if accuracy is None else accuracy
    measured = metric_of(names, metric) or metric_of(names)
    ratio = "Singular values, relative to the unpruned network"
    against = "Pruned against low-rank networks"
    norms, sensitivity, activity = map(tables.get, ("Norms", "Sensitivity", "Activity"))
    return {
        "sparsity": whole("Sparsity by layer", figures.sparsity_by_layer, pruned),
        "singular_values": by_site("Singular values", figures.singular_values, spectra),
        "singular_values_relative": by_site(ratio, figures.singular_values, spectra, relative=True),
        "ranks": by_site("Ranks", figures.rank_by_event, norms),
        "sensitivity": by_site("Sensitivity", figures.sensitivity_curves, sensitivity),
        "low_rank": whole(against, figures.low_rank_accuracy, accuracy, metric=measured),
        "scree": by_site("Scree", figures.scree, tables.get("Scree")),
        "kernels": whole("Sizes of the weights", figures.kernel_heatmap, networks),
        "activity": whole("Activation frequency", figures.activation_frequency, activity),
    }


class _Shown:
    """Which sites the pictures show, and under which names: both must fit into a picture."""

    most, longest = 8, 28

    def __init__(self, events):
        self._largest = []
        if events is not None:
            sites = events.drop_duplicates("site", keep="last")
            sites = sites.sort_values("weights", ascending=False, kind="stable")["site"]
            self._largest = list(sites[: self.most])

    def part(self, table):
        """The rows of the largest sites, renamed, and a caption that says so."""
        sites = list(table["site"].unique())
        chosen = [site for site in sites if site in self._largest] or sites[: self.most]
        told = f"{len(chosen)} of {len(sites)} layers, those with the most weights; the workbook "
        caption = f"{told}has all." if len(chosen) < len(sites) else ""
        return self.renamed(table[table["site"].isin(chosen)]), caption

    def renamed(self, table):
        """The table with the middle of long names left out."""
        names = {site: self._short(site, i) for i, site in enumerate(table["site"].unique(), 1)}
        return table.assign(site=table["site"].map(names))

    def kernels(self, network):
        """The kernels of the largest sites, or the first ones of a network that has others."""
        chosen = [site for site in network if site in self._largest] or list(network)[: self.most]
        return {self._short(site, list(network).index(site)): network[site] for site in chosen}

    def _short(self, site, number):
        if len(site) <= self.longest:
            return site
        half = self.longest // 2 - 2
        return f"{site[:half]}…{site[-half:]} ({number})"  # the number keeps names apart
