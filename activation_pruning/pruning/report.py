"""What a pruning did, measured from the weights themselves."""

import contextlib
import dataclasses
import warnings
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from activation_pruning import sites
from activation_pruning.evidence import gathering
from activation_pruning.hooks.counting import STATISTICS
from activation_pruning.hooks.remembered import pruned_before_training
from activation_pruning.support.counts import counted
from activation_pruning.support.names import quoted, shortened
from activation_pruning.support.types import Masks, Model, Table

# {id: variable} of the kernels that sparsity is counted over, of models that live.
_COUNTED: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_MANY = 5  # layers left out for one reason, each with a row of its own in print
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


def note_counted(model: Model, live_sites: sites.LiveSites) -> None:
    """Remember that sparsity is counted over these sites of a model from now on."""
    for site in sites.find_all(model).sites:
        _COUNTED.pop(id(site.variable), None)
    _COUNTED.update({id(site.variable): site.variable for site in live_sites})


def those_counted(model: Model, live_sites: sites.LiveSites) -> sites.LiveSites:
    """Of some sites those that sparsity is counted over.

    These are the ones that were to be pruned last; where nobody knows, as in a model that was
    loaded, those that `prune` takes by default.
    """
    known = [site for site in live_sites if id(site.variable) in _COUNTED]
    if not known:
        with contextlib.suppress(ValueError):  # there may be no others
            default = {id(site.variable) for site in sites.find(model).sites}
            known = [site for site in live_sites if id(site.variable) in default]
    return known or live_sites


def measure(
    live_sites: sites.LiveSites, grown: Masks | None = None, masks: Masks | None = None
) -> Table:
    """One row per site, measured from the weights themselves: exact zeros are pruned weights.

    Where `grown` ({site name: bool array}) says that a weight is alive, it is, though it be zero:
    one that was grown and has not moved yet. Of a kernel of nothing but zeros `masks` says it; it
    is fresh, all alive, without them.
    """
    rows = []
    for site in live_sites:
        mask = site.kernel() != 0
        if not mask.any():
            mask |= (masks or {}).get(site.name, np.True_)
        if grown and site.name in grown:
            mask |= grown[site.name]
        count = counted([mask])
        removed = site.n_units - int(site.units_alive(mask).sum())
        rows.append((site.path, site.name, *count, count.sparsity, site.n_units, removed))
    columns = ["layer", "site", "weights", "pruned", "sparsity", "units", "units_removed"]
    return pd.DataFrame(rows, columns=columns)


def total_sparsity(table: Table) -> float:
    """Pruned / prunable weights over all rows of `measure`."""
    return float(table["pruned"].sum() / table["weights"].sum())


def warn_revived(model: Model, stacklevel: int = 3) -> None:
    """Warn where weights that were pruned are alive again since the model was in a plain `fit`.

    Known as long as the model lives that was pruned; weights loaded since then are no training.
    """
    if all(pruned_before_training(model, variable) is None for variable in model.weights):
        return
    back, pruned = {}, 0
    for site in sites.find_all(model).sites:
        gone = pruned_before_training(model, site.variable)
        if gone is not None and (count := np.count_nonzero(site.kernel()[gone])):
            back[site.path], pruned = int(count), pruned + int(gone.sum())
    if back:
        warnings.warn(
            f"{sum(back.values()):,} of {pruned:,} pruned weights in {quoted(back)} are not zero "
            "any more: a fit without ap.KeepPruned() has trained them again. Prune once more, and "
            "give each later fit callbacks=[ap.KeepPruned()].",
            stacklevel=stacklevel,
        )


class EventHistory:
    """The pruning events of a fit: a row per event and site; with `regrow` also what has grown."""

    def __init__(self, regrow: bool) -> None:
        self._regrow, self._columns = regrow, _COLUMNS + ["grown"] * regrow
        self._events: list[list[dict]] = []

    def __len__(self) -> int:
        return len(self._events)

    def add(self, live_sites: sites.LiveSites, before: Masks, after: Masks, **facts: Any) -> None:
        """Put an event on record: the masks before and after it, and what else there is to say."""
        measured = measure(live_sites, after if self._regrow else None, after)
        grown = [np.count_nonzero(after[name] & ~before[name]) for name in measured["site"]]
        facts |= {"event": len(self) + 1, "total_sparsity": total_sparsity(measured)}
        self._events.append(measured.assign(grown=grown, **facts).to_dict("records"))

    def table(self) -> Table:
        """All events."""
        rows = [row for event in self._events for row in event]
        return pd.DataFrame(rows, columns=self._columns)


class PruningReport:
    """What one call of `prune` did, layer by layer; prints as a table.

    target: the sparsity asked for; None where it was an amount or a budget. spending: what came of
        a budget, asked, predicted and measured, see `budgets.Spending`; None without one.

    Example:
    >>> import keras, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6), keras.layers.Dense(2)])
    >>> ap.prune(model, 0.75).sparsity
    0.75
    """

    def __init__(
        self, table: Table, target: float | None, notes: str, spending: Any = None
    ) -> None:
        self._table, self.target, self.notes, self.spending = table, target, notes, spending

    def table(self) -> Table:
        """DataFrame: layer, site, weights, pruned, sparsity, units, units_removed, note."""
        return self._table.copy()

    @property
    def sparsity(self) -> float:
        """Pruned / prunable weights, measured after pruning."""
        return total_sparsity(self._table.dropna(subset=["sparsity"]))

    def __str__(self) -> str:
        shown = _brief(self._table).drop(columns="layer")
        percent = shown["sparsity"].map(lambda share: f"{share:.1%}", na_action="ignore")
        text = shown.assign(sparsity=percent).to_string(index=False, na_rep="")
        pruned, weights = int(self._table["pruned"].sum()), int(self._table["weights"].sum())
        head = f"{pruned:,} of {weights:,} prunable weights pruned: {self.sparsity:.2%}"
        aim = "" if self.target is None else f" (target {self.target:.2%})"
        return f"{head}{aim}\n{text}\n{self.notes}"

    __repr__ = __str__


def _brief(table: Table) -> Table:
    """The table with one row for layers that were left out for the same reason, if many were."""
    out = table["sparsity"].isna()
    many = out & (table.groupby("note")["note"].transform("size") > _MANY)
    names = table[many].groupby("note", sort=False)["site"].agg(lambda own: shortened(own, 3))
    return pd.concat([table[~many], names.reset_index()], ignore_index=True)


def report(
    model: Model,
    found: sites.Found,
    target: float | None,
    note: str = "",
    masks: Masks | None = None,
    spending: Any = None,
) -> PruningReport:
    """The `PruningReport` of a model as it is now, where `found` was pruned to `target`.

    `masks` says what is alive in kernels of nothing but zeros, see `measure`.
    """
    note_counted(model, found.sites)
    skipped = left_out(found.skipped).rename(columns={"reason": "note"})
    skipped = skipped.assign(site=skipped["layer"], note="not pruned: " + skipped["note"])
    measured = measure(found.sites, masks=masks)
    total = _in_all(model, found.sites, measured)
    table = pd.concat([measured.assign(note=""), skipped], ignore_index=True)
    # Int64: skipped layers have no counts.
    table = table.astype(dict.fromkeys(["weights", "pruned", "units", "units_removed"], "Int64"))
    held = (
        f"The model still holds {sites.parameters(model):,} parameters: zeros in a dense kernel "
        "neither shrink the file nor speed it up by themselves."
    )
    if any(site.wrapper is None for site in found.sites):
        held += (
            " A plain fit brings pruned weights back: give each later fit "
            "callbacks=[ap.KeepPruned()]."
        )
    notes = " ".join(filter(None, (total, held, note)))
    return PruningReport(table, target, notes, spending)


def left_out(skipped: Iterable[tuple[str, str]]) -> Table:
    """DataFrame: layer, reason; of what was not to be pruned."""
    return pd.DataFrame(list(skipped), columns=["layer", "reason"]).astype(object)


def _in_all(model: Model, counted: sites.LiveSites, measured: Table) -> str:
    """The sparsity of all kernels in words, where there are others than those counted."""
    own = {id(site.variable) for site in counted}
    others = [site for site in sites.find_all(model).sites if id(site.variable) not in own]
    if not others:
        return ""
    every = pd.concat([measured, measure(others)])
    return (
        f"Of all {every['weights'].sum():,} weights in kernels, those left out included, "
        f"{total_sparsity(every):.2%} are pruned."
    )


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
    gone = gathering.warn_left_out(found.sites, left)
    return found.without(dict.fromkeys(gone, gathering.REASON))
