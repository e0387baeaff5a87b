"""A pruned network against the dense one reduced to the same ranks, or to as many weights."""

from typing import NamedTuple

import keras
import numpy as np
import pandas as pd

from activation_pruning import rebuilding, sites
from activation_pruning.analysis import linalg
from activation_pruning.analysis.low_rank import factorize, low_rank, ranks_of
from activation_pruning.analysis.samples import check_samples
from activation_pruning.analysis.spectra import finite_kernel, matched
from activation_pruning.analysis.unfolding import unfolding
from activation_pruning.callbacks import KeepPruned
from activation_pruning.checks import check_count


class LowRankComparison(NamedTuple):
    """The tables of `compare_low_rank`.

    ranks: layer, site, full_rank, rank_dense, rank_pruned, sparsity, components (kept of the dense
        kernel), energy (share of its variance that they hold).
    accuracy: model, stage ("raw" or "fine_tuned"), epochs, and the metrics of `evaluate`.
    scree: network ("dense" or "pruned"), layer, site, component, share, cumulative.

    Example:

    >>> LowRankComparison._fields
    ('ranks', 'accuracy', 'scree')
    """

    ranks: pd.DataFrame
    accuracy: pd.DataFrame
    scree: pd.DataFrame


def compare_low_rank(
    dense,
    pruned,
    x,
    y,
    train=None,
    epochs=0,
    batch_size=32,
    method="pca",
    match="rank",
    include=None,
    exclude=None,
    seed=0,
    verbose=0,
):
    """What a pruned network has that the dense one, reduced to the same ranks, has not.

    Each kernel of `dense` is reduced (see `low_rank`) to the rank of its counterpart in `pruned`,
    or, since a sparse matrix may have full rank, to as many weights: with n weights alive, rows x
    columns of them in all, svd keeps floor(n / (rows + columns)) components, pca one less (for
    its mean); what is not pruned is not reduced. All are evaluated on x, y, raw and after the
    same number of epochs of fine-tuning on `train`.
    Each keeps what makes it small: the pruned network its zeros (`KeepPruned`), "factorized" its
    ranks, since it trains the two factors of a kernel where that saves weights. "low_rank" trains
    whole kernels, whose ranks then grow again.

    Args:
        dense: a compiled, built `keras.Model`; it is not changed.
        pruned: a pruned copy of it; it is not changed.
        x: test inputs.
        y: test labels.
        train: (x, y) to fine-tune on; needed with `epochs`.
        epochs: epochs of fine-tuning, 0 for none. Optimizers start fresh, as `dense` was compiled.
        batch_size: of the fine-tuning.
        method: "pca" or "svd".
        match: "rank" or "weights": what the reduced network shares with `pruned`.
        include: layers to reduce (names, patterns, layers); None takes all.
        exclude: layers to leave alone; None leaves out the output layer, `()` nothing.
        seed: for the order of the training samples (sets Keras's global seed).
        verbose: as in `fit`.

    Returns:
        A `LowRankComparison` of three DataFrames.

    Raises:
        ValueError: for models of different architecture, a model that is not compiled, labels of
            another length, an unknown `match`, or epochs without `train`.

    Source: Ganguli & Chong, Algorithms 17(1):48, 2024.

    Example:

    >>> import activation_pruning as ap
    >>> dense = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, name="a"),
    ...                           keras.layers.Dense(1)])
    >>> dense.compile("sgd", "mse")
    >>> pruned = keras.models.clone_model(dense)
    >>> pruned.set_weights(dense.get_weights())
    >>> report = ap.prune(pruned, 0.8)
    >>> found = ap.analysis.compare_low_rank(dense, pruned, np.ones((8, 6)), np.ones((8, 1)))
    >>> found.accuracy["model"].tolist()
    ['dense', 'pruned', 'low_rank', 'factorized']
    """
    _check(dense, pruned, x, y, train, epochs, match)
    chosen = {"include": include, "exclude": exclude}
    pairs, reduced = matched(dense, pruned, **chosen), {"method": method, **chosen}
    if match == "rank":
        reduced["like"] = pruned
    else:
        reduced["rank"] = {site.name: _as_many(site, twin, method) for site, twin in pairs}
    networks = {
        "dense": rebuilding.copy_model(dense),
        "pruned": rebuilding.copy_model(dense),  # compiled as `dense` is, so that all train alike
        "low_rank": low_rank(dense, **reduced),
    }
    networks["pruned"].set_weights(pruned.get_weights())
    if sites.is_graph(dense):  # the layers of a subclassed model cannot be exchanged
        networks["factorized"] = factorize(dense, **reduced)
    rows = []
    for name, network in networks.items():
        rows.append(_evaluated(network, x, y, batch_size, model=name, stage="raw", epochs=0))
        if epochs:
            keras.utils.set_random_seed(seed)  # the same order of samples for all
            keeping = [KeepPruned()] if name == "pruned" else []
            arguments = {"batch_size": batch_size, "epochs": epochs, "verbose": verbose}
            network.fit(*train, callbacks=keeping, **arguments)
            place = {"model": name, "stage": "fine_tuned", "epochs": epochs}
            rows.append(_evaluated(network, x, y, batch_size, **place))
    ranks = pd.DataFrame([_ranks(first, second, method, match) for first, second in pairs])
    scree = [
        _scree(network, site, method)
        for pair in pairs
        for network, site in zip(("dense", "pruned"), pair, strict=True)
    ]
    return LowRankComparison(ranks, pd.DataFrame(rows), pd.concat(scree, ignore_index=True))


def _check(dense, pruned, x, y, train, epochs, match):
    if match not in ("rank", "weights"):
        raise ValueError(f"match={match!r}; choose 'rank' or 'weights'")
    if not dense.compiled:
        raise ValueError(
            "dense is not compiled: call dense.compile(optimizer, loss, metrics) first"
        )
    check_count("epochs", epochs, 0)
    if epochs and train is None:
        raise ValueError(f"epochs={epochs}: fine-tuning needs train=(x, y)")
    if len(pruned.get_weights()) != len(dense.get_weights()):
        raise ValueError(
            f"dense holds {len(dense.get_weights())} weights and pruned "
            f"{len(pruned.get_weights())}: pruned must be a copy of dense; ap.strip unwraps one"
        )
    check_samples(x, y)
    if epochs:
        check_samples(*train)


def _evaluated(network, x, y, batch_size, **place):
    return place | network.evaluate(x, y, batch_size=batch_size, verbose=0, return_dict=True)


def _as_many(site, pruned, method):
    """Components of one matrix whose factors hold no more weights than are alive in it."""
    blocks, rows, columns = unfolding(site).shape
    kernel = pruned.kernel()
    alive = np.count_nonzero(kernel)
    if alive == kernel.size:
        return min(rows, columns)
    return max(alive // (blocks * (rows + columns)) - (method == "pca"), 0)


def _ranks(site, pruned, method, match):
    ranks = ranks_of(pruned)
    blocks, rows, columns = unfolding(site).shape
    components = ranks if match == "rank" else [_as_many(site, pruned, method)] * blocks
    kernel = pruned.kernel()
    kept = total = 0.0
    for matrix, r in zip(unfolding(site).unfold(finite_kernel(site)), components, strict=True):
        squares = linalg.decompose(matrix, method)[2][1] ** 2
        kept, total = kept + squares[:r].sum(), total + squares.sum()
    return {
        "layer": site.path,
        "site": site.name,
        "full_rank": blocks * min(rows, columns),
        "rank_dense": sum(ranks_of(site)),
        "rank_pruned": sum(ranks),
        "sparsity": 1 - np.count_nonzero(kernel) / kernel.size,
        "components": sum(components),
        "energy": kept / (total or 1.0),
    }


def _scree(network, site, method):
    """Share of the variance (of the squares, for SVD) by component, all matrices together."""
    matrices = unfolding(site).unfold(finite_kernel(site))
    squares = [linalg.decompose(matrix, method)[2][1] ** 2 for matrix in matrices]
    values = np.sort(np.concatenate(squares))[::-1]
    share = values / (values.sum() or 1.0)
    return pd.DataFrame(
        {
            "network": network,
            "layer": site.path,
            "site": site.name,
            "component": np.arange(1, len(values) + 1),
            "share": share,
            "cumulative": np.cumsum(share),
        }
    )
