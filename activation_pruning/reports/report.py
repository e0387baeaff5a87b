"""The report of one pruning: a workbook, pictures and a page from the tables there are."""

import pandas as pd

from activation_pruning.support.files import check_folder

from . import figures, overview, page, workbook
from .files import need

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
    folder, history = check_folder(folder), _history(history)
    events = events.table() if hasattr(events, "table") else events
    _check(low_rank, kernels)
    accuracy = None if low_rank is None else low_rank.accuracy
    layers = overview.by_layer(events, norms, sensitivity)
    answers = overview.answers(layers, events, history, activity, accuracy, metric)
    tables = {"Overview": answers, "Layers": layers, "Events": events}
    charts, scales = [], {"Layers": _scaled(layers)} if len(layers) else {}
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
        scales["Sensitivity"] = _harm("change", sensitivity["metric"])
    if low_rank is not None:
        tables |= {"Low rank": accuracy, "Ranks": low_rank.ranks, "Scree": low_rank.scree}
        charts.append(workbook.Chart("Scree", "component", "cumulative", "network", panel="site"))
    tables = {name: table for name, table in tables.items() if table is not None and len(table)}
    pictures = _pictures(events, activity, spectra, norms, sensitivity, low_rank, kernels, metric)
    settings = workbook.settings_table(**settings)
    paths = [workbook.write(folder / f"{NAME}.xlsx", tables, charts, settings, scales)]
    for name, (_, figure, _) in pictures.items():
        paths.append(figures.save(figure, folder / f"{name}.png"))
    for name in _PICTURES:  # of an older report that had more to show
        if name not in pictures:
            (folder / f"{name}.png").unlink(missing_ok=True)
    sections = [
        page.Section("Overview", table=answers),
        *([page.Section("Layers", table=layers)] if len(layers) else []),
        *(
            page.Section(heading, figure=folder / f"{name}.png", caption=caption)
            for name, (heading, _, caption) in pictures.items()
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


def _pictures(events, activity, spectra, norms, sensitivity, low_rank, kernels, metric):
    """{file name: (heading, figure, caption)} of what can be drawn, in the order of the page."""
    found, shown = {}, _Shown(events)

    def add(name, heading, draw, table, **options):
        part, caption = shown.part(table)
        found[name] = heading, draw(part, **options), caption

    if "event" in events and len(events):
        figure = figures.sparsity_by_layer(shown.renamed(events))
        found["sparsity"] = "Sparsity by layer", figure, ""
    if spectra is not None and _has_events(spectra):
        add("singular_values", "Singular values", figures.singular_values, spectra)
        heading = "Singular values, relative to the unpruned network"
        draw = figures.singular_values
        add("singular_values_relative", heading, draw, spectra, relative=True)
    if norms is not None and _has_events(norms):
        add("ranks", "Ranks", figures.rank_by_event, norms)
    if sensitivity is not None:
        add("sensitivity", "Sensitivity", figures.sensitivity_curves, sensitivity)
    if low_rank is not None:
        names = overview.metric_of(low_rank.accuracy, metric), overview.metric_of(low_rank.accuracy)
        drawn = figures.low_rank_accuracy(low_rank.accuracy, names[0] or names[1])
        found["low_rank"] = "Pruned against low-rank networks", drawn, ""
        add("scree", "Scree", figures.scree, low_rank.scree)
    if kernels is not None:
        networks = {name: shown.kernels(kernels[name]) for name in kernels}
        found["kernels"] = "Sizes of the weights", figures.kernel_heatmap(networks), ""
    if activity is not None:
        drawn = figures.activation_frequency(activity)
        found["activity"] = "Activation frequency", drawn, ""
    return found


class _Shown:
    """Which sites the pictures show, and under which names: both must fit into a picture."""

    most, longest = 8, 28

    def __init__(self, events):
        sites = events.drop_duplicates("site", keep="last") if len(events) else events
        sites = sites.sort_values("weights", ascending=False, kind="stable")["site"]
        self._largest = list(sites[: self.most])

    def part(self, table):
        """The rows of the largest sites, renamed, and a caption that says so."""
        sites = list(table["site"].unique())
        chosen = [site for site in sites if site in self._largest] or sites[: self.most]
        caption = ""
        if len(chosen) < len(sites):
            caption = f"{len(chosen)} of {len(sites)} layers, those with the most weights; the "
            caption += "workbook has all."
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


def _check(low_rank, kernels):
    """Raise unless these two, which are no tables, are what they should be."""
    if low_rank is not None and not hasattr(low_rank, "scree"):
        raise ValueError(
            f"low_rank is a {type(low_rank).__name__}; give what analysis.compare_low_rank "
            "returns, with all its three tables"
        )
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
    names = [name for name in history if "acc" in name] or ["loss"]
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
    """Columns of Layers to be coloured, each where it is bad or large."""
    scales = {name: "high" for name in ("sparsity", "nuclear_ratio") if name in layers}
    if "alone_change" in layers:
        scales |= _harm("alone_change", layers["metric"])
    return scales


def _harm(column, metrics):
    """The end of a column of changes to be coloured: where the metric gets worse."""
    metrics = metrics.dropna()
    sign = overview.better(metrics.iloc[0]) if len(metrics) else 0
    return {column: "low" if sign > 0 else "high"} if sign else {}
