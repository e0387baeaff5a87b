"""Networks whose kernels are replaced by reconstructions of lower rank."""

from __future__ import annotations

import warnings

import keras
import numpy as np

from activation_pruning import sites
from activation_pruning.analysis import linalg
from activation_pruning.analysis.spectra import matched, matrices_of
from activation_pruning.evidence.spectrum import Spectrum, rank
from activation_pruning.graph import configurations, copies, holding
from activation_pruning.layers import wrapping
from activation_pruning.sites.layer_classes import CONVOLUTIONS
from activation_pruning.sites.unfolding import unfolding
from activation_pruning.support.checks import check_flags, is_integer
from activation_pruning.support.names import quoted
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Layers, Model


def low_rank(
    model: Model,
    rank: int | dict[str, int] | None = None,
    like: Model | None = None,
    energy: float | None = None,
    method: str = "pca",
    standardize: bool = False,
    include: Layers = None,
    exclude: Layers = None,
) -> Model:
    """A copy of the model with each kernel rebuilt from a few directions.

    Each matrix of a kernel (see `spectra` for how kernels unfold) is replaced by

    svd: A_r = sum over i <= r of s_i u_i v_i^T, the nearest matrix of rank r;
    pca: A_r = 1 m^T + (A - 1 m^T) V_r V_r^T, m the column means, V_r the leading right singular
    vectors of A - 1 m^T: scikit-learn's `PCA(r)`, transformed and back, rows being samples.

    They differ in the mean, which PCA keeps beside its r components: its rank is up to r + 1 and
    its error at most that of the truncated SVD. Where r is the full rank the kernel is not
    touched. Give exactly one of `rank`, `like` and `energy`.

    Args:
        model: a built `keras.Model`; it is not changed.
        rank: number of components r, at least 0, for all kernels or as {site or layer name: r}.
        like: a pruned copy of `model`: each kernel gets the rank of its counterpart there.
        energy: share in (0, 1] of the squared singular values (of the variance, for PCA) that
            the components must hold; the fewest that do are kept.
        method: "pca" or "svd".
        standardize: divide the columns by their standard deviation first (PCA only).
        include, exclude: layers to take and to leave out, see `sites.find`.

    Returns:
        A new `keras.Model`, compiled alike.

    Raises:
        ValueError: for a rank larger than a matrix, an energy outside (0, 1], an unknown method
            or name, weights that are not finite, or a `like` of different architecture.
        TypeError: for a layer that cannot be copied; names it.

    Source: Ganguli & Chong, Algorithms 17(1):48, 2024 (pruning as dimensionality reduction).

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, name="a"),
        ...                           keras.layers.Dense(2, name="b")])
        >>> small = ap.analysis.low_rank(model, rank=2, method="svd")
        >>> ap.analysis.norms(small)["rank"].tolist()
        [2, 2]
    """
    found = sites.find(model, include, exclude).sites
    ranks = _ranks(model, found, rank, like, energy, method, standardize)
    return _reduced(model, found, ranks, method, standardize)[0]


def factorize(
    model: Model,
    rank: int | dict[str, int] | None = None,
    like: Model | None = None,
    energy: float | None = None,
    method: str = "pca",
    standardize: bool = False,
    include: Layers = None,
    exclude: Layers = None,
) -> Model:
    """The network of `low_rank` with fewer weights: each kernel as a product of two.

    A Dense kernel A_r = B C becomes Dense(r) without bias, then Dense; a Conv kernel becomes a
    convolution with r filters, then one of size 1. PCA needs one component more for its mean.
    Only where that saves weights: r (rows + columns) < rows * columns. Other kernels (grouped,
    depthwise, recurrent, attention) are those of `low_rank`. The two layers stand in a Sequential
    of the old layer's name, without the old kernel's regularizer and constraint.

    Args:
        model: a built Sequential or Functional model; it is not changed.
        rank, like, energy, method, standardize, include, exclude: as for `low_rank`.

    Returns:
        A new `keras.Model` with the outputs of `low_rank` (up to rounding), compiled alike.

    Raises:
        TypeError, ValueError: as `low_rank`; a TypeError for every subclassed model.

    Warns:
        UserWarning: kernels of reduced rank are left in one piece, or none is reduced at all.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((60,)), keras.layers.Dense(50, name="a"),
        ...                           keras.layers.Dense(2, name="b")])
        >>> ap.analysis.factorize(model, rank=4, method="svd").count_params(), model.count_params()
        (592, 3152)
    """
    if not sites.is_graph(model):
        raise TypeError(
            f"factorize(model) needs a Sequential or Functional model, received the subclassed "
            f"{type(model).__name__}: its layers cannot be exchanged. low_rank works on it."
        )
    found = sites.find(model, include, exclude).sites
    ranks = _ranks(model, found, rank, like, energy, method, standardize)
    reduced, twins = _reduced(model, found, ranks, method, standardize)
    factors = [_factors(site, ranks[site.name], method, standardize) for site in found]
    tied = holding.ties(reduced)
    pairs = {
        id(twin.layer): pair
        for twin, pair in zip(twins, factors, strict=True)
        if pair is not None and id(twin.variable) not in tied
    }
    _tell(model, found, ranks, [id(twin.layer) in pairs for twin in twins])

    def replace(layer, copy):
        pair = pairs.get(id(layer))
        return _two_layers(layer, pair[0].shape[-1]) if pair else copy(layer)

    def transfer(layer, new):
        new.set_weights([*pairs[id(layer)], *layer.get_weights()[1:]])

    return copies.rebuild(reduced, replace, transfer)


def ranks_of(site: sites.LiveSite) -> list[int]:
    """Numerical rank of each matrix of a live site's kernel, by NumPy's tolerance."""
    found = Spectrum.of(site)
    return [rank(values, found.unfolding.shape[1:], found.eps) for values in found.values]


def _reduced(model, found, ranks, method, standardize):
    """(a copy of `model` with the kernels of `found` reduced, their twins in the copy)."""
    reduced = copies.copy_model(model)
    twins = {id(site.variable): twin for site, twin in matched(model, reduced)}
    for site in found:
        before = matrices_of(site)
        after = [
            # At full rank nothing is to be reduced, and the kernel stays as it is to the last bit.
            matrix if r >= min(matrix.shape) else linalg.reconstruct(matrix, r, method, standardize)
            for matrix, r in zip(before, ranks[site.name], strict=True)
        ]
        kernel = unfolding(site).fold(after).astype(before.dtype)
        twins[id(site.variable)].variable.assign(kernel)
    return reduced, [twins[id(site.variable)] for site in found]


def _ranks(model, found, rank, like, energy, method, standardize):
    """{site name: [components for each matrix]}, from whichever of the three was given."""
    wrapping.check_plain(found, ", whose masks or gates would cut the result")
    if method not in ("pca", "svd"):
        raise ValueError(f"method={shown(method)}; choose 'pca' or 'svd'")
    check_flags(standardize=standardize)
    if standardize and method == "svd":
        raise ValueError("standardize=True needs method='pca': a truncated SVD is not centred")
    if sum(given is not None for given in (rank, like, energy)) != 1:
        raise ValueError("give exactly one of rank=, like= and energy=")
    if like is not None:
        twins = {id(site.variable): twin for site, twin in matched(model, like)}
        return {site.name: ranks_of(twins[id(site.variable)]) for site in found}
    if energy is not None:
        linalg.check_energy(energy)
        return {site.name: _enough(site, energy, method, standardize) for site in found}
    wanted = rank if isinstance(rank, dict) else {site.name: rank for site in found}
    unknown = set(wanted) - {name for site in found for name in (site.name, site.path)}
    if unknown:
        known = quoted(sorted(site.name for site in found))
        raise ValueError(
            f"rank={quoted(sorted(unknown))} names no kernel to reduce; there are {known} (the "
            "output layer is among them with exclude=())"
        )
    return {site.name: _given(site, wanted) for site in found}


def _enough(site, energy, method, standardize):
    found = [linalg.decompose(matrix, method, standardize)[2] for matrix in matrices_of(site)]
    return [linalg.components_for(values, energy) for _, values, _ in found]


def _given(site, wanted):
    blocks, rows, columns = unfolding(site).shape
    full = min(rows, columns)
    r = wanted.get(site.name, wanted.get(site.path, full))
    if not (is_integer(r) and 0 <= r <= full):
        raise ValueError(
            f"rank={shown(r)} for kernel {site.name!r}: its matrix is {rows} x {columns}, so the "
            f"rank must be an integer in [0, {full}]. Give ranks by layer as a dict, or exclude it."
        )
    return [r] * blocks


def _factors(site, ranks, method, standardize):
    """The two kernels whose product is the reduced one, or None where that saves nothing."""
    blocks, rows, columns = unfolding(site).shape
    exact = type(site.layer) in (keras.layers.Dense, *CONVOLUTIONS)
    inner = min(ranks[0] + (method == "pca"), min(rows, columns))
    if not exact or blocks > 1 or inner == 0 or inner * (rows + columns) >= rows * columns:
        return None
    matrix = linalg.reconstruct(matrices_of(site)[0], ranks[0], method, standardize)
    u, values, v = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(values[:inner])
    left, right = u[:, :inner] * root, root[:, None] * v[:inner]
    if type(site.layer) is keras.layers.Dense:
        return left, right
    # Rows are filters: the convolution comes first and the filters are mixed from its results.
    *positions, channels, filters = site.variable.shape
    first = np.moveaxis(right.reshape(inner, *positions, channels), 0, -1)
    return first, left.T.reshape(*(1 for _ in positions), inner, filters)


def _tell(model, found, ranks, split):
    """Warn where two factors would not be smaller than the kernel, or are not possible."""
    whole = {}
    for site, done in zip(found, split, strict=True):
        _, rows, columns = unfolding(site).shape
        if not done and min(ranks[site.name]) < min(rows, columns):
            whole[site.name] = f"rank {max(ranks[site.name])} of {rows} x {columns}"
    if not whole and not any(split):
        warnings.warn(
            f"factorize: every kernel of {model.name!r} keeps its full rank", stacklevel=3
        )
    elif whole:
        listed = ", ".join(f"{name!r} ({what})" for name, what in whole.items())
        warnings.warn(
            f"factorize: not made of two factors: {listed}. Two have fewer weights below rows * "
            "columns / (rows + columns) components, and only Dense and Conv kernels that no other "
            "layer shares can be exchanged; these are now those of low_rank",
            stacklevel=3,
        )


def _two_layers(layer, inner):
    """A narrow layer without bias, then one of the old width, with the old activation."""
    config = configurations.config_of(layer) | {
        "kernel_regularizer": None,
        "kernel_constraint": None,
    }
    name = config.pop("name")
    plain = {"use_bias": False, "activation": None, "activity_regularizer": None}
    if isinstance(layer, keras.layers.Dense):
        narrow, wide = config | plain | {"units": inner}, dict(config)
    else:
        ones = 1 if isinstance(layer, keras.layers.Conv1D) else (1,) * layer.rank
        still = {"kernel_size": ones, "strides": ones, "dilation_rate": ones, "padding": "valid"}
        narrow, wide = config | plain | {"filters": inner}, config | still
    pair = narrow | {"name": f"{name}_reduce"}, wide | {"name": f"{name}_expand"}
    return keras.Sequential([configurations.made(layer, one) for one in pair], name=name)
