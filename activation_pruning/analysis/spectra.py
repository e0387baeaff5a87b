"""Singular values of every kernel, and the norms and ranks that follow from them."""

import math

import numpy as np
import pandas as pd

from activation_pruning import sites
from activation_pruning.evidence.spectrum import NORMS, Spectrum, finite_kernel
from activation_pruning.sites.unfolding import unfolding
from activation_pruning.support.types import Array, Layers, Model, Table


def spectra(model: Model, include: Layers = None, exclude: Layers = ()) -> Table:
    """Singular values of each prunable kernel, largest first.

    Column `unfolding` says how a kernel becomes a matrix: convolutions filters x (positions *
    channels), depthwise ones a matrix for each channel, all else inputs x units. Several matrices
    count as the blocks of one block-diagonal matrix.

    Args:
        model: a built `keras.Model` of any kind; it is not changed.
        include, exclude: layers to take and to leave out, see `sites.find_all`.

    Returns:
        Tidy DataFrame, one row for each singular value: layer, site, unfolding, block, index (from
        1, over all blocks), value, relative (value / largest), cumulative_energy (share of the
        squared values up to this one).

    Raises:
        ValueError: for NaN or infinite weights, an unbuilt model or an unknown layer name.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="a")])
        >>> model.layers[0].set_weights([np.array([[3.0, 0], [0, 4], [0, 0]]), np.zeros(2)])
        >>> ap.analysis.spectra(model)[["layer", "index", "value", "cumulative_energy"]]
          layer  index  value  cumulative_energy
        0     a      1    4.0               0.64
        1     a      2    3.0               1.00
    """
    found = sites.find_all(model, include, exclude).sites
    return pd.concat([Spectrum.of(site).table() for site in found], ignore_index=True)


def norms(model: Model, include: Layers = None, exclude: Layers = ()) -> Table:
    """Norms and ranks of each prunable kernel, from its singular values s_1 >= s_2 >= ...

    spectral = s_1; frobenius = sqrt(sum s_i^2); nuclear = sum s_i; rank = number of s_i above
    s_1 * max(rows, columns) * eps of the kernel's dtype (NumPy's tolerance); stable_rank =
    frobenius^2 / spectral^2; effective_rank = exp(entropy of s_i / nuclear); condition_number =
    s_1 / s_last, infinite where the last is zero; sparsity = zero weights / weights.

    Args:
        model: a built `keras.Model` of any kind; it is not changed.
        include, exclude: layers to take and to leave out, see `sites.find_all`.

    Returns:
        Tidy DataFrame, one row for each kernel: layer, site, unfolding, blocks, rows, columns,
        and the above.

    Raises:
        ValueError: for NaN or infinite weights, an unbuilt model or an unknown layer name.

    Source: Rudelson & Vershynin 2007 (stable rank); Roy & Vetterli 2007 (effective rank).

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="a")])
        >>> model.layers[0].set_weights([np.array([[3.0, 0], [0, 4], [0, 0]]), np.zeros(2)])
        >>> ap.analysis.norms(model)[["spectral", "frobenius", "rank", "sparsity"]].round(2)
           spectral  frobenius  rank  sparsity
        0       4.0        5.0     2      0.67
    """
    found = sites.find_all(model, include, exclude).sites
    return pd.DataFrame([Spectrum.of(site).norms() for site in found])


def compare(before: Model, after: Model, include: Layers = None, exclude: Layers = ()) -> Table:
    """How the norms and ranks of two models of one architecture differ, layer by layer.

    Args:
        before: a built `keras.Model`.
        after: a model with kernels of the same shapes in the same order, such as a pruned copy.
        include, exclude: layers to take and to leave out, as `before` names them.

    Returns:
        DataFrame, one row for each kernel and norm: layer, site, norm, before, after, difference
        (after - before), ratio (after / before); "difference_spectral", "difference_frobenius" and
        "difference_nuclear" are norms of the matrix after - before, with the ratio to `before`.

    Raises:
        ValueError: for models of different architecture, naming the first layer that differs.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="a")])
        >>> table = ap.analysis.compare(model, model)
        >>> table.loc[table["norm"] == "difference_nuclear", "after"].tolist()
        [0.0]
    """
    rows = []
    for site, other in matched(before, after, sites.find_all(before, include, exclude)):
        old, new = finite_kernel(site), finite_kernel(other)
        first, second = Spectrum.of(site).norms(), Spectrum.of(other).norms()
        change = Spectrum.of(site, new.astype(np.float64) - old).norms()
        rows += [_change(site, norm, first[norm], second[norm]) for norm in NORMS]
        for norm in NORMS[:3]:
            row = _change(site, f"difference_{norm}", 0.0, change[norm])
            rows.append(row | {"ratio": _ratio(change[norm], first[norm])})
    return pd.DataFrame(rows)


def matrices(model: Model, include: Layers = None, exclude: Layers = ()) -> dict[str, Array]:
    """Each prunable kernel as one matrix, inputs x units, for pictures and counts of one's own.

    Args:
        model: a built `keras.Model` of any kind; it is not changed.
        include, exclude: layers to take and to leave out, see `sites.find_all`.

    Returns:
        dict from site name to an array of shape (inputs, units); groups and channels of
        convolutions stand below one another.

    Raises:
        ValueError: for an unbuilt model or an unknown layer name.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(5, 2, name="a")])
        >>> {site: matrix.shape for site, matrix in ap.analysis.matrices(model).items()}
        {'a/kernel': (12, 5)}
    """
    found = {}
    for site in sites.find_all(model, include, exclude).sites:
        unfolded = unfolding(site)
        blocks = unfolded.unfold(site.kernel())
        blocks = blocks.transpose(0, 2, 1) if unfolded.units_first else blocks
        found[site.name] = blocks.reshape(-1, blocks.shape[-1])
    return found


def matrices_of(site: sites.LiveSite) -> Array:
    """The kernel of a live site as it lies in matrices: (blocks, rows, columns), finite."""
    return unfolding(site).unfold(finite_kernel(site))


def matched(
    before: Model, after: Model, taken: sites.Found | None = None
) -> list[tuple[sites.LiveSite, sites.LiveSite]]:
    """[(site of `before`, of those taken, the same site of `after`)]; None takes all.

    Raises ValueError for other numbers or shapes.
    """
    every = sites.find(before, exclude=()).sites
    others = sites.find(after, exclude=()).sites
    for site, other in zip(every, others, strict=False):
        if site.variable.shape != other.variable.shape:
            raise ValueError(
                f"the models differ in architecture: kernel {site.name!r} has shape "
                f"{tuple(site.variable.shape)}, the other model's {other.name!r} "
                f"{tuple(other.variable.shape)}. Compare a model with a copy of itself."
            )
    if len(every) != len(others):
        longer = every if len(every) > len(others) else others
        raise ValueError(
            f"the models differ in architecture: {len(every)} and {len(others)} kernels; "
            f"{longer[min(len(every), len(others))].name!r} is in one of them only"
        )
    wanted = {id(site.variable) for site in (taken.sites if taken else every)}
    return [pair for pair in zip(every, others, strict=True) if id(pair[0].variable) in wanted]


def _change(site, norm, before, after):
    difference = 0.0 if before == after else after - before  # inf - inf would be NaN
    numbers = {"before": before, "after": after, "difference": difference}
    place = {"layer": site.path, "site": site.name, "norm": norm}
    return place | numbers | {"ratio": _ratio(after, before)}


def _ratio(after, before):
    if after == before:
        return 1.0
    return after / before if before else math.inf
