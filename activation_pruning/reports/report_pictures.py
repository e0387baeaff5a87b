"""The pictures of a report: those that can be drawn, of the layers that fit into them."""

from activation_pruning.reports import figures
from activation_pruning.reports.costs import metric_of
from activation_pruning.reports.page import Section
from activation_pruning.support.types import Array, Table


def pictures(
    tables: dict[str, Table],
    spectra: Table | None,
    kernels: dict[str, dict[str, Array]] | None,
    metric: str | None,
) -> dict[str, Section | None]:
    """All pictures of a report by file name, in the order of the page; None if not to be drawn.

    tables: by sheet, as far as there are any. spectra, kernels, metric: as `write` takes them.
    """
    events, accuracy = tables.get("Events"), tables.get("Low rank")
    shown = _Shown(events)

    def by_site(heading, draw, table, **options):
        if table is None or ("moment" in table and "after" not in set(table["moment"])):
            return None
        part, caption = shown.part(table)
        return Section(heading, figure=draw(part, **options), caption=caption)

    def whole(heading, draw, data, **options):
        return None if data is None else Section(heading, figure=draw(data, **options))

    pruned = None if events is None or "event" not in events else shown.renamed(events)
    networks = kernels and {name: shown.kernels(kernels[name]) for name in kernels}
    names = () if accuracy is None else accuracy
    measured = metric_of(names, metric) or metric_of(names)
    ratio = "Singular values, relative to the unpruned network"
    norms, sensitivity = tables.get("Norms"), tables.get("Sensitivity")
    return {
        "sparsity": whole("Sparsity by layer", figures.sparsity_by_layer, pruned),
        "singular_values": by_site("Singular values", figures.singular_values, spectra),
        "singular_values_relative": by_site(ratio, figures.singular_values, spectra, relative=True),
        "ranks": by_site("Ranks", figures.rank_by_event, norms),
        "sensitivity": by_site("Sensitivity", figures.sensitivity_curves, sensitivity),
        "low_rank": whole(
            "Pruned against low-rank networks", figures.low_rank_accuracy, accuracy, metric=measured
        ),
        "scree": by_site("Scree", figures.scree, tables.get("Scree")),
        "kernels": whole("Sizes of the weights", figures.kernel_heatmap, networks),
        "activity": whole(
            "Activation frequency", figures.activation_frequency, tables.get("Activity")
        ),
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
