"""A pruned network against the dense one reduced to the same ranks, or to as many weights."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd

from activation_pruning import sites
from activation_pruning.analysis import linalg
from activation_pruning.analysis.low_rank import factorize, low_rank, ranks_of
from activation_pruning.analysis.running import check_samples, evaluated, whole_batches
from activation_pruning.analysis.spectra import matched, matrices_of
from activation_pruning.callbacks.keep_pruned import KeepPruned
from activation_pruning.graph import copies
from activation_pruning.sites.unfolding import unfolding
from activation_pruning.support.checks import check_count, is_number
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Layers, Model, Table


class LowRankComparison(NamedTuple):
    """The tables of `compare_low_rank`.

    ranks: match, layer, site, full_rank, rank_dense, rank_pruned, sparsity, components (kept of the
        dense kernel), energy (share of its variance that they hold).
    accuracy: model, match (empty for "dense" and "pruned"), stage ("raw" or "fine_tuned"), epochs,
        learning_rate, samples (of the test data), and the metrics of `evaluate`.
    scree: network ("dense" or "pruned"), layer, site, component, share, cumulative.

    Example:
        >>> LowRankComparison._fields
        ('ranks', 'accuracy', 'scree')
    """

    ranks: Table
    accuracy: Table
    scree: Table


def compare_low_rank(
    dense: Model,
    pruned: Model,
    x: Any,
    y: Any,
    train: tuple | None = None,
    epochs: int = 0,
    learning_rates: float | Sequence[float] | None = None,
    validation: tuple | None = None,
    batch_size: int = 32,
    method: str = "pca",
    match: str | tuple[str, ...] = "rank",
    include: Layers = None,
    exclude: Layers = None,
    seed: int = 0,
    verbose: int = 0,
) -> LowRankComparison:
    """What a pruned network has that the dense one, reduced to the same ranks, has not.

    Each kernel of `dense` is reduced (see `low_rank`) to the rank of its counterpart in `pruned`,
    or, since a sparse matrix may have full rank, to as many weights: with n weights alive, rows x
    columns of them in all, svd keeps floor(n / (rows + columns)) components, pca one less (for
    its mean); what is not pruned is not reduced. All are evaluated on x, y, raw and after the
    same number of epochs of fine-tuning on `train`. Then the pruned network keeps its zeros
    (`KeepPruned`) and "factorized" its ranks, since it trains the two factors of a kernel where
    that saves weights; "low_rank" trains whole kernels, whose ranks grow again.

    Args:
        dense: a compiled, built `keras.Model`; it is not changed.
        pruned: a pruned copy of it; it is not changed.
        x, y: test inputs and labels.
        train: (x, y) to fine-tune on; needed with `epochs`.
        epochs: of fine-tuning, 0 for none. Optimizers start fresh, as `dense` was compiled.
        learning_rates: rates to try, None for that of `dense`; each network keeps the one with the
            lowest loss on `validation` (what suits a kernel is often too high for two factors).
        validation: (x, y) to choose the rate by, needed with several of them.
        batch_size: of the fine-tuning.
        method: "pca" or "svd".
        match: "rank", "weights" or both in a tuple: what reduced networks share with `pruned`.
        include, exclude: layers to take and to leave out, see `sites.find`.
        seed: for the order of the training samples (sets Keras's global seed).
        verbose: as in `fit`.

    Returns:
        A `LowRankComparison` of three DataFrames.

    Raises:
        ValueError: for models of different architecture or not compiled, labels of another length,
            an unknown `match`, epochs without `train`, several rates without `validation`.

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
    check_count("batch_size", batch_size, 1)
    check_count("seed", seed, 0)
    matches = (match,) if isinstance(match, str) else tuple(match)
    samples = _check(dense, pruned, (x, y), train, epochs, matches)
    rates = _checked_rates(learning_rates, validation) if epochs else [None]
    chosen = {"method": method, "include": include, "exclude": exclude}
    pairs = matched(dense, pruned, sites.find(dense, include, exclude))
    rows = []
    for (name, equal), network in list(_networks(dense, pruned, pairs, matches, chosen)):
        place = {"model": name, "match": equal, "stage": "raw", "epochs": 0, "learning_rate": None}
        place["samples"] = samples
        rows.append(place | _evaluated(network, (x, y), batch_size))
        if epochs:
            options: dict[str, Any] = {"callbacks": [KeepPruned()] if name == "pruned" else []}
            options |= {"batch_size": batch_size, "epochs": epochs, "verbose": verbose}
            tuned, rate = _fine_tuned(network, train, validation, rates, seed=seed, options=options)
            place |= {"stage": "fine_tuned", "epochs": epochs, "learning_rate": rate}
            rows.append(place | _evaluated(tuned, (x, y), batch_size))
    found = [_ranks(first, second, method, equal) for equal in matches for first, second in pairs]
    scree = [
        _scree(network, site, method, named=pair[0])
        for pair in pairs
        for network, site in zip(("dense", "pruned"), pair, strict=True)
    ]
    tables = pd.DataFrame(found), pd.DataFrame(rows), pd.concat(scree, ignore_index=True)
    return LowRankComparison(*tables)


def _networks(dense, pruned, pairs, matches, chosen):
    """((name, match), network) of all that is compared, compiled as `dense` is."""
    yield ("dense", ""), copies.copy_model(dense)
    sparse = copies.copy_model(dense)
    sparse.set_weights(pruned.get_weights())
    yield ("pruned", ""), sparse
    for equal in matches:
        reduced = chosen | {"like": pruned}
        if equal == "weights":
            ranks = {site.name: _as_many(site, twin, chosen["method"]) for site, twin in pairs}
            reduced = chosen | {"rank": ranks}
        yield ("low_rank", equal), low_rank(dense, **reduced)
        if sites.is_graph(dense):  # the layers of a subclassed model cannot be exchanged
            yield ("factorized", equal), factorize(dense, **reduced)


def _fine_tuned(network, train, validation, rates, *, seed, options):
    """(a copy of the network, fine-tuned at the rate that suits it best; that rate)."""
    best, lowest = None, math.inf
    *train, size = whole_batches(network, *train, options["batch_size"])
    options |= {"batch_size": size}
    for rate in rates:
        tuned = copies.copy_model(network)
        if rate is not None:
            tuned.optimizer.learning_rate = rate
        keras.utils.set_random_seed(seed)  # the same order of samples for all
        tuned.fit(*train, **options)
        loss = 0.0
        if len(rates) > 1:
            loss = _evaluated(tuned, validation, options["batch_size"])["loss"]
        if best is None or loss < lowest:  # False for the NaN of a training that diverged
            best, lowest = (tuned, rate), loss if math.isfinite(loss) else math.inf
    tuned, rate = best
    return tuned, _rate_of(tuned) if rate is None else rate


def _rate_of(network):
    """The learning rate that it was compiled with; None where that is a schedule."""
    rate = keras.optimizers.serialize(network.optimizer)["config"]["learning_rate"]
    return float(f"{rate:.6g}") if isinstance(rate, float) else None  # 0.1 is kept in float32


def _check(dense, pruned, test, train, epochs, matches):
    if not matches:
        raise ValueError("match=() names nothing to compare; choose 'rank', 'weights' or both")
    for match in matches:
        if match not in ("rank", "weights"):
            raise ValueError(f"match={shown(match)}; choose 'rank' or 'weights'")
    for model in (dense, pruned):
        sites.check_model(model)
    if not dense.compiled:
        raise ValueError(
            "dense is not compiled: call dense.compile(optimizer, loss, metrics) first"
        )
    check_count("epochs", epochs, 0)
    if len(pruned.get_weights()) != len(dense.get_weights()):
        raise ValueError(
            f"dense holds {len(dense.get_weights())} weights and pruned "
            f"{len(pruned.get_weights())}: pruned must be a copy of dense; ap.strip unwraps one"
        )
    samples = check_samples(*test)
    if epochs:
        _check_data(f"epochs={epochs}: fine-tuning needs", "train", train)
    return samples


def _checked_rates(rates, validation):
    """The learning rates to try; [None] for the one that the model was compiled with."""
    if rates is None:
        return [None]
    rates = [rates] if isinstance(rates, Real) else list(rates)
    for rate in rates:
        if not (is_number(rate) and 0 < rate < math.inf):
            raise ValueError(f"learning_rates holds {shown(rate)}; each must be a number above 0")
    if not rates:
        raise ValueError("learning_rates is empty; give at least one, or None")
    if len(rates) > 1:
        _check_data("several learning_rates need", "validation", validation)
    return rates


def _check_data(reason, name, data):
    if data is None:
        raise ValueError(f"{reason} {name}=(x, y)")
    check_samples(*data)


def _evaluated(network, data, batch_size):
    *whole, size = whole_batches(network, *data, batch_size)
    return evaluated(network, *whole, size)


def _as_many(site, pruned, method):
    """Components of one matrix whose factors hold no more weights than are alive in it."""
    blocks, rows, columns = unfolding(site).shape
    kernel = pruned.kernel()
    alive = np.count_nonzero(kernel)
    if alive == kernel.size:
        return min(rows, columns)
    return max(alive // (blocks * (rows + columns)) - (method == "pca"), 0)


def _ranks(site, pruned, method, match):
    ranks, kernel = ranks_of(pruned), pruned.kernel()
    blocks, rows, columns = unfolding(site).shape
    components = ranks if match == "rank" else [_as_many(site, pruned, method)] * blocks
    squares = _squares(site, method)
    kept = sum(own[:r].sum() for own, r in zip(squares, components, strict=True))
    total = sum(own.sum() for own in squares)
    return {
        "match": match,
        "layer": site.path,
        "site": site.name,
        "full_rank": blocks * min(rows, columns),
        "rank_dense": sum(ranks_of(site)),
        "rank_pruned": sum(ranks),
        "sparsity": 1 - np.count_nonzero(kernel) / kernel.size,
        "components": sum(components),
        "energy": kept / (total or 1.0),
    }


def _squares(site, method):
    """Variances of the components of each matrix of a kernel (squares of its values, for SVD)."""
    return [linalg.decompose(matrix, method)[2][1] ** 2 for matrix in matrices_of(site)]


def _scree(network, site, method, named):
    """Share of the variance (of the squares, for SVD) by component, all matrices together.

    Both networks of a pair are `named` alike: Keras may have numbered the layers of the second on.
    """
    values = np.sort(np.concatenate(_squares(site, method)))[::-1]
    share = values / (values.sum() or 1.0)
    place = {"network": network, "layer": named.path, "site": named.name}
    place |= {"component": np.arange(1, len(values) + 1)}
    return pd.DataFrame(place | {"share": share, "cumulative": np.cumsum(share)})
