"""What a pruning did, measured from the weights themselves."""

import numpy as np
import pandas as pd

from activation_pruning.hooks import attachment


def alive_masks(live_sites, respect_zeros=True):
    """{site name: True where a weight is alive}: exact zeros count as pruned.

    A kernel of nothing but zeros is a fresh zero initialisation, not a pruned layer, so all of
    its weights count as alive.
    """
    found = {}
    for site in live_sites:
        mask = site.kernel() != 0
        found[site.name] = mask if respect_zeros and mask.any() else np.ones_like(mask)
    return found


def measure(live_sites, masks=None):
    """One row per site, measured from the weights themselves: exact zeros are pruned weights.

    Where `masks` ({site name: bool array}) says that a weight is alive, it is, though it be zero:
    one that was grown and has not moved yet.
    """
    rows = []
    for site in live_sites:
        mask = site.kernel() != 0
        if masks and site.name in masks:
            mask |= masks[site.name]
        rows.append(
            {
                "layer": site.path,
                "site": site.name,
                "weights": mask.size,
                "pruned": int(mask.size - np.count_nonzero(mask)),
                "sparsity": 1 - np.count_nonzero(mask) / mask.size,
                "units": site.n_units,
                "units_removed": site.n_units - int(site.units_alive(mask).sum()),
            }
        )
    return pd.DataFrame(rows)


def total_sparsity(table):
    """Pruned / prunable weights over all the rows of `measure`."""
    return float(table["pruned"].sum() / table["weights"].sum())


class PruningReport:
    """What one call of `prune` did, layer by layer; prints as a table.

    Example:

    >>> import keras, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6), keras.layers.Dense(2)])
    >>> ap.prune(model, 0.75).sparsity
    0.75
    """

    def __init__(self, table, target, notes):
        self._table, self.target, self.notes = table, target, notes

    def table(self):
        """DataFrame: layer, site, weights, pruned, sparsity, units, units_removed, note."""
        return self._table.copy()

    @property
    def sparsity(self):
        """Pruned / prunable weights, measured after pruning."""
        return total_sparsity(self._table.dropna(subset=["sparsity"]))

    def __str__(self):
        shown = self._table.drop(columns="layer")
        percent = shown["sparsity"].map(lambda share: f"{share:.1%}", na_action="ignore")
        text = shown.assign(sparsity=percent).to_string(index=False, na_rep="")
        pruned, weights = int(self._table["pruned"].sum()), int(self._table["weights"].sum())
        head = f"{pruned:,} of {weights:,} prunable weights pruned: {self.sparsity:.2%}"
        aim = "" if self.target is None else f" (target {self.target:.2%})"
        return f"{head}{aim}\n{text}\n{self.notes}"

    __repr__ = __str__


def report(model, found, target, note=""):
    """The `PruningReport` of a model as it is now.

    Args:
        model: the model.
        found: the `sites.Found` that was pruned.
        target: the sparsity that was asked for, or None.
        note: what else to say.
    """
    skipped = [
        {"layer": path, "site": path, "note": f"not pruned: {reason}"}
        for path, reason in found.skipped
    ]
    table = pd.concat([measure(found.sites).assign(note=""), pd.DataFrame(skipped)])
    counts = dict.fromkeys(["weights", "pruned", "units", "units_removed"], "Int64")
    table = table.reset_index(drop=True).astype(counts)  # Int64: skipped layers have no counts
    return PruningReport(table, target, " ".join(filter(None, [_physical(model), note])))


def activity_table(live_sites, activity):
    """Tidy DataFrame: layer, unit, the statistics counted, samples, source; one row per unit."""
    parts, seen = [], set()
    for site in live_sites:
        if (site.path, site.source) in seen or not site.observed:
            continue  # kernel and recurrent kernel share their units
        seen.add((site.path, site.source))
        counted = activity[site.name]
        found = {name: getattr(counted, name) for name in attachment.STATISTICS}
        part = {"layer": site.path, "unit": np.arange(site.n_units)}
        part |= {name: values for name, values in found.items() if values is not None}
        part |= {"samples": counted.samples, "source": site.source.label}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def _physical(model):
    return (
        f"The model still holds {model.count_params():,} parameters: zeros in a dense kernel "
        "neither shrink the file nor speed it up by themselves."
    )
