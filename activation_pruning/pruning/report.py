"""What a pruning did, measured from the weights themselves."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from activation_pruning import sites
from activation_pruning.evidence import gathering
from activation_pruning.hooks.counting import STATISTICS
from activation_pruning.support.counts import counted
from activation_pruning.support.types import Masks, Model, Table

_COLUMNS = ["event", "epoch", "step", "layer", "site", "target_sparsity", "total_sparsity"]
_COLUMNS += ["sparsity", "pruned", "weights"]  # of every event


def read(
    live_sites: sites.LiveSites, masks: Masks | None = None, respect_zeros: bool = True
) -> list[sites.Site]:
    """The sites as they are now, each weight read once.

    Without `masks`, {site name: True where alive}, exact zeros are pruned weights, but for a kernel
    of nothing but zeros: a fresh one, all alive. Without `respect_zeros` all weights are, too.
    """
    found = []
    for site in live_sites:
        seen = site.snapshot(masks[site.name] if masks else None)
        if masks is None and not (respect_zeros and seen.mask.any()):
            seen = dataclasses.replace(seen, mask=np.ones_like(seen.mask))
        found.append(seen)
    return found


def alive_masks(live_sites: sites.LiveSites) -> Masks:
    """{site name: True where a weight is alive}: exact zeros count as pruned, see `read`."""
    return {seen.name: seen.mask for seen in read(live_sites)}


def measure(live_sites: sites.LiveSites, masks: Masks | None = None) -> Table:
    """One row per site, measured from the weights themselves: exact zeros are pruned weights.

    Where `masks` ({site name: bool array}) says that a weight is alive, it is, though it be zero:
    one that was grown and has not moved yet.
    """
    rows = []
    for site in live_sites:
        mask = site.kernel() != 0
        if masks and site.name in masks:
            mask |= masks[site.name]
        count = counted([mask])
        removed = site.n_units - int(site.units_alive(mask).sum())
        rows.append((site.path, site.name, *count, count.sparsity, site.n_units, removed))
    columns = ["layer", "site", "weights", "pruned", "sparsity", "units", "units_removed"]
    return pd.DataFrame(rows, columns=columns)


def total_sparsity(table: Table) -> float:
    """Pruned / prunable weights over all rows of `measure`."""
    return float(table["pruned"].sum() / table["weights"].sum())


class EventHistory:
    """The pruning events of a fit: a row per event and site; with `regrow` also what has grown."""

    def __init__(self, regrow: bool) -> None:
        self._regrow, self._columns = regrow, _COLUMNS + ["grown"] * regrow
        self._events: list[list[dict]] = []

    def __len__(self) -> int:
        return len(self._events)

    def add(self, live_sites: sites.LiveSites, before: Masks, after: Masks, **facts: Any) -> None:
        """Put an event on record: the masks before and after it, and what else there is to say."""
        measured = measure(live_sites, after if self._regrow else None)
        grown = [np.count_nonzero(after[name] & ~before[name]) for name in measured["site"]]
        facts |= {"event": len(self) + 1, "total_sparsity": total_sparsity(measured)}
        self._events.append(measured.assign(grown=grown, **facts).to_dict("records"))

    def table(self) -> Table:
        """All events."""
        rows = [row for event in self._events for row in event]
        return pd.DataFrame(rows, columns=self._columns)


class PruningReport:
    """What one call of `prune` did, layer by layer; prints as a table.

    Example:
    >>> import keras, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6), keras.layers.Dense(2)])
    >>> ap.prune(model, 0.75).sparsity
    0.75
    """

    def __init__(self, table: Table, target: float | None, notes: str) -> None:
        self._table, self.target, self.notes = table, target, notes

    def table(self) -> Table:
        """DataFrame: layer, site, weights, pruned, sparsity, units, units_removed, note."""
        return self._table.copy()

    @property
    def sparsity(self) -> float:
        """Pruned / prunable weights, measured after pruning."""
        return total_sparsity(self._table.dropna(subset=["sparsity"]))

    def __str__(self) -> str:
        shown = self._table.drop(columns="layer")
        percent = shown["sparsity"].map(lambda share: f"{share:.1%}", na_action="ignore")
        text = shown.assign(sparsity=percent).to_string(index=False, na_rep="")
        pruned, weights = int(self._table["pruned"].sum()), int(self._table["weights"].sum())
        head = f"{pruned:,} of {weights:,} prunable weights pruned: {self.sparsity:.2%}"
        aim = "" if self.target is None else f" (target {self.target:.2%})"
        return f"{head}{aim}\n{text}\n{self.notes}"

    __repr__ = __str__


def report(model: Model, found: sites.Found, target: float | None, note: str = "") -> PruningReport:
    """The `PruningReport` of a model as it is now, where `found` was pruned to `target`."""
    skipped = pd.DataFrame(
        {"layer": path, "site": path, "note": f"not pruned: {reason}"}
        for path, reason in found.skipped
    )
    table = pd.concat([measure(found.sites).assign(note=""), skipped], ignore_index=True)
    # Int64: skipped layers have no counts.
    table = table.astype(dict.fromkeys(["weights", "pruned", "units", "units_removed"], "Int64"))
    held = (
        f"The model still holds {model.count_params():,} parameters: zeros in a dense kernel "
        "neither shrink the file nor speed it up by themselves."
    )
    return PruningReport(table, target, f"{held} {note}".rstrip())


def activity_table(live_sites: sites.LiveSites, activity: Mapping[str, sites.Activity]) -> Table:
    """Tidy DataFrame: layer, unit, the statistics counted, samples, source; one row per unit."""
    parts, seen = [], set()
    for site in live_sites:
        if (site.path, site.source) in seen or not site.observed:
            continue  # kernel and recurrent kernel share their units
        seen.add((site.path, site.source))
        own = activity[site.name]
        counted = {name: getattr(own, name) for name in STATISTICS}
        part: dict[str, Any] = {"layer": site.path, "unit": np.arange(site.n_units)}
        part |= {name: values for name, values in counted.items() if values is not None}
        part |= {"samples": own.samples, "source": site.source.label}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def without(found: sites.Found, left: sites.LiveSites) -> sites.Found:
    """What was found, with the sites that are not left among what is skipped; warns of them."""
    names = {site.name for site in left}
    gone = [site.path for site in found.sites if site.name not in names]
    if not gone:
        return found
    reason = gathering.warn_left_out(gone, left)
    return sites.Found(left, found.skipped + [(path, reason) for path in dict.fromkeys(gone)])
