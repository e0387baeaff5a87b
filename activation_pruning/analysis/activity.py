"""Whether the units that fire are the units that the leading singular vectors are made of."""

import numpy as np
import pandas as pd

from activation_pruning import sites
from activation_pruning.analysis import linalg
from activation_pruning.evidence.spectrum import finite_kernel
from activation_pruning.sites.unfolding import unfolding
from activation_pruning.support.types import Layers, Model, Table


def unit_shares(
    model: Model, energy: float = 0.5, include: Layers = None, exclude: Layers = None
) -> Table:
    """Share of each unit in the leading singular vectors of its kernel.

    share_j = sum over i <= k of s_i^2 v_ij^2 / sum over i <= k of s_i^2, where v_i are the
    singular vectors on the side of the units and k is the fewest values that hold the share
    `energy` of the squared sum. The shares of a kernel add up to 1 (to 0 for one of zeros).

    Args:
        model: a built `keras.Model`; it is not changed.
        energy: share in (0, 1] that makes singular values leading.
        include, exclude: layers to take and to leave out, see `sites.find`.

    Returns:
        Tidy DataFrame, one row for each unit of each kernel that unfolds into a single matrix:
        layer, site, unit, components (k), share.

    Raises:
        ValueError: for an energy outside (0, 1], weights that are not finite, an unbuilt model or
            an unknown layer name.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="a")])
        >>> model.layers[0].set_weights([np.diag([2.0, 1.0]), np.zeros(2)])
        >>> ap.analysis.unit_shares(model, exclude=())["share"].tolist()
        [1.0, 0.0]
    """
    linalg.check_energy(energy)
    parts = []
    for site in sites.find(model, include, exclude).sites:
        unfolded = unfolding(site)
        if unfolded.shape[0] > 1:
            continue  # one matrix for each channel: its vectors say nothing about other units
        matrix = unfolded.unfold(finite_kernel(site))[0].astype(np.float64)
        matrix = matrix.T if unfolded.units_first else matrix
        _, values, vectors = np.linalg.svd(matrix, full_matrices=False)
        k = linalg.components_for(values, energy)
        weights = (values[:k, None] * vectors[:k]) ** 2
        total = weights.sum() or 1.0
        # The gates of an LSTM repeat their units, hence the sum.
        share = np.bincount(site.units.ravel(), weights.sum(axis=0) / total, site.n_units)
        place = {"layer": site.path, "site": site.name, "unit": np.arange(site.n_units)}
        parts.append(pd.DataFrame(place | {"components": k, "share": share}))
    columns = ["layer", "site", "unit", "components", "share"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def activity_correlation(
    model: Model,
    activity: Table,
    energy: float = 0.5,
    include: Layers = None,
    exclude: Layers = None,
) -> Table:
    """Correlation between how often a unit fires and its share in the leading singular vectors.

    Pearson's r and Spearman's rho between `frequency` and the `share` of `unit_shares`, over the
    units of each kernel; missing where not defined (fewer than three units, or all alike).

    Args:
        model: a built `keras.Model`; it is not changed.
        activity: table of `ActivationCounter.table()` or `PruningCallback.activity()`.
        energy, include, exclude: as for `unit_shares`.

    Returns:
        DataFrame, one row for each kernel: layer, site, units, components, pearson, pearson_p,
        spearman, spearman_p (two-sided p-values).

    Raises:
        ValueError: as `unit_shares`; for a table without layer, unit and frequency.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, name="a")])
        >>> model.layers[0].set_weights([np.diag([3.0, 2.0, 1.0]), np.zeros(3)])
        >>> activity = pd.DataFrame({"layer": "a", "unit": [0, 1, 2], "frequency": [0.9, 0.5, 0.1]})
        >>> ap.analysis.activity_correlation(model, activity, 1.0, exclude=())["spearman"].tolist()
        [1.0]
    """
    missing = {"layer", "unit", "frequency"} - set(activity)
    if missing:
        raise ValueError(
            f"activity has no column {sorted(missing)}; give the table of an ActivationCounter"
        )
    if activity.duplicated(["layer", "unit"]).any():
        raise ValueError("activity has several rows for a layer and unit; give those of one run")
    shares = unit_shares(model, energy, include, exclude)
    both = shares.merge(activity[["layer", "unit", "frequency"]], on=["layer", "unit"])
    if both.empty:
        raise ValueError(
            f"activity has none of the layers {sorted(set(shares['layer']))}; give the table of "
            "this very model"
        )
    rows = []
    for (layer, site), part in both.groupby(["layer", "site"], sort=False):
        row = {"layer": layer, "site": site, "units": len(part)}
        row["components"] = part["components"].iloc[0]
        rows.append(row | _correlations(part["frequency"], part["share"]))
    return pd.DataFrame(rows)


def _correlations(first, second):
    from scipy import stats  # takes longer to import than the rest of this package

    names = ("pearson", "pearson_p", "spearman", "spearman_p")
    if len(first) < 3 or first.nunique() < 2 or second.nunique() < 2:
        return dict.fromkeys(names, np.nan)
    found = *stats.pearsonr(first, second), *stats.spearmanr(first, second)
    return dict(zip(names, found, strict=True))
