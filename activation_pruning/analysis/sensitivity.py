"""How much each layer can lose before a metric suffers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import pandas as pd

from activation_pruning import sites
from activation_pruning.analysis.running import check_samples, evaluated, whole_batches
from activation_pruning.evidence import gathering
from activation_pruning.pruning import Event, Settings
from activation_pruning.support.checks import check_count, check_sparsity
from activation_pruning.support.counts import counted
from activation_pruning.support.progress import ProgressBar
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Criterion, Data, Layers, Model, Table


def sensitivity(
    model: Model,
    x: Data,
    y: Data,
    criteria: Criterion | Sequence[Criterion] = ("magnitude",),
    sparsities: float | Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
    metric: str = "accuracy",
    include: Layers = None,
    exclude: Layers = None,
    seed: int = 0,
    batch_size: int = 256,
    verbose: int = 1,
) -> Table:
    """Evaluate the model with one layer pruned at a time; the weights are as before afterwards.

    Each point is one `model.evaluate` with k = floor(sparsity * n + 0.5) of the n weights of one
    kernel at zero, those with the lowest scores; exact zeros that are there count among them. For
    each, stateful recurrent layers start from zeros; their states are as before afterwards, too.

    Args:
        model: a compiled, built `keras.Model`.
        x: inputs to evaluate on, an array or a list or dict of arrays.
        y: the labels, as many as samples.
        criteria: names in `criteria.CRITERIA` or functions; activity is taken from `x`.
        sparsities: fractions in [0, 1).
        metric: name of a metric that `evaluate` returns, or "loss".
        include, exclude: layers to try and to leave alone, see `sites.find`.
        seed: for criteria that are random.
        batch_size: samples per batch.
        verbose: 0 for no progress bar.

    Returns:
        Tidy DataFrame, one row for each layer, criterion and sparsity: layer, site, criterion,
        sparsity (measured), metric, value, change (value - value of the model as it is).

    Raises:
        ValueError: for labels of another length than the inputs, a model that is not compiled, a
            metric that it lacks, a sparsity outside [0, 1), or weights that are not finite.

    Source: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, section 3.2.

    Example:
    >>> import numpy as np, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, name="a"),
    ...                           keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> table = ap.analysis.sensitivity(model, np.ones((8, 4)), np.ones((8, 1)), metric="loss",
    ...                                 sparsities=[0.5, 0.8], verbose=0)
    >>> table[["layer", "sparsity"]].values.tolist()
    [['a', 0.5], ['a', 0.8]]
    """
    check_samples(x, y)
    check_count("batch_size", batch_size, 1)
    names = [criteria] if isinstance(criteria, str) or callable(criteria) else list(criteria)
    shares = list(sparsities) if isinstance(sparsities, Iterable) else [sparsities]
    for sparsity in shares:
        check_sparsity("sparsities", sparsity)
    found = sites.find(model, include, exclude).sites
    chosen = [Settings(criterion, seed=seed) for criterion in names]
    for settings in chosen:
        Event(model, found, settings).check()
    evaluate = _evaluation(model, x, y, metric, batch_size)
    dense, rows = evaluate(), []
    bar, total = ProgressBar(verbose), len(chosen) * len(found) * len(shares)
    for criterion, settings in zip(names, chosen, strict=True):
        gathered = gathering.gather(model, found, (x, y), settings.needs, asked=settings.asked)
        live_sites = Event(model, found, settings).only(gathered).sites
        gathering.warn_left_out(found, live_sites)
        for site in live_sites:
            event = Event(model, [site], settings)
            place = {"layer": site.path, "site": site.name, "criterion": _name(criterion)}
            for sparsity in shares:
                with _put_back(event):
                    masks, kernels = event.decide(sparsity, gathered)
                    event.assign(masks, kernels)
                    value = evaluate()
                measured = {"sparsity": counted(masks.values()).sparsity, "metric": metric}
                rows.append(place | measured | {"value": value, "change": value - dense})
                bar(len(rows), total)
    return pd.DataFrame(rows)


def _name(criterion: Any) -> str:
    named = criterion if isinstance(criterion, str) else repr(criterion)
    return getattr(criterion, "__name__", named)


@contextlib.contextmanager
def _put_back(event: Event) -> Iterator[None]:
    """Put all weights back that the event may change, whatever comes."""
    surgery = event.settings.surgeon is not None
    changed = sites.find(event.model, exclude=()).sites if surgery else event.sites
    # The variables themselves: `site.kernel()` would lose what lies under a wrapper's mask.
    variables = [one.variable for one in changed] + [one.mask_variable for one in changed]
    kept = [(v, keras.ops.convert_to_numpy(v).copy()) for v in variables if v is not None]
    try:
        yield
    finally:
        for variable, values in kept:
            variable.assign(values)


def _evaluation(
    model: Model, x: Data, y: Data, metric: str, batch_size: int
) -> Callable[[], float]:
    """A function without arguments that returns the metric now."""
    if not model.compiled:
        raise ValueError(
            "model is not compiled: evaluate needs its loss and metrics; call "
            "model.compile(loss=..., metrics=[...]) first"
        )

    x, y, batch_size = whole_batches(model, x, y, batch_size)

    def evaluate() -> float:
        results = evaluated(model, x, y, batch_size)
        if metric not in results:
            raise ValueError(
                f"metric={shown(metric)} is not among what evaluate returns: {sorted(results)}; "
                "add it to compile(metrics=[...]) or choose one of these"
            )
        return float(results[metric])

    return evaluate
