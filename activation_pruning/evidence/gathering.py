"""What criteria need to know of a model, gathered from data."""

from typing import NamedTuple

import keras
import numpy as np

from activation_pruning import sites
from activation_pruning.evidence import (
    batches,
    consumers,
    curvature,
    gradients,
    inputs,
    significance,
)
from activation_pruning.hooks import attachment
from activation_pruning.hooks.tracking import TRACKED
from activation_pruning.support.progress import no_progress

ACTIVITY = tuple(attachment.STATISTICS)
_GATHERERS = (
    curvature.gauss_newton,
    curvature.gauss_newton_matrix,
    curvature.hessian_diagonal,
    curvature.hutchinson,
    gradients.activation_gradient,
    gradients.gradient,
    gradients.hessian_gradient,
    gradients.squared_gradient,
    gradients.synaptic_flow,
    consumers.consumers,
    consumers.outgoing,
    significance.sigmoid,
)
GATHERERS = {function.__name__: function for function in _GATHERERS}
STATISTICS = (*inputs.STATISTICS, *GATHERERS)
BY_UNIT = {
    "activation_gradient",
    "outgoing",
    "sigmoid",
}  # one value for each unit; the others have one for each weight
LABELLED = {
    "activation_gradient", "gradient", "hessian_diagonal", "hessian_gradient", "hutchinson",
    "squared_gradient",
}  # fmt: skip
SEEDED, READ_TWICE = {"hutchinson"}, {"hessian_gradient"}
SLOW = {"gauss_newton", "gauss_newton_matrix", "hessian_diagonal", "hutchinson"}
WITHOUT_DATA = {"outgoing", "synaptic_flow"}


class Gathered(NamedTuple):
    """What was gathered for one site: its `sites.Activity`, or None, and statistics by name."""

    activity: sites.Activity | None
    statistics: dict


def check(needs):
    """Raise for needs that nobody can gather.

    Raises:
        ValueError: lists those that are known.

    Example:
        >>> check({"frequency", "input_norm"})
    """
    known = {*ACTIVITY, *STATISTICS, *TRACKED}
    if set(needs) - known:
        raise ValueError(f"criterion needs {sorted(set(needs) - known)}; known are {sorted(known)}")


def check_data(needs, criterion, data):
    """Raise where a criterion needs data and there is none.

    Raises:
        ValueError: says what to give.

    Example:
        >>> check_data(frozenset(), "magnitude", None)
    """
    if set(needs) & set(TRACKED):
        raise ValueError(
            f"criterion {criterion!r} needs {sorted(set(needs) & set(TRACKED))}, which only "
            "training gives: use PruningCallback(schedule, criterion=...) in model.fit"
        )
    if data is None and set(needs) & set(ACTIVITY):
        raise ValueError(
            f"criterion {criterion!r} needs activity: pass data=..., a sample of the training "
            "inputs, or use PruningCallback, which counts while the model trains"
        )
    if data is None and set(needs) - WITHOUT_DATA:
        labels = "data=(x, y), inputs and labels" if set(needs) & LABELLED else "data=x, inputs"
        raise ValueError(
            f"criterion {criterion!r} needs {', '.join(sorted(needs))}: pass {labels} from the "
            "training data, some thousand samples"
        )


def check_passes(needs, data, again=False):
    """Raise where data would be read several times that can be read only once.

    Args:
        needs: of the criterion.
        data: as for `prune`.
        again: whether it is gathered from several times.

    Raises:
        ValueError: says what to give.

    Example:
        >>> check_passes({"input_norm"}, (x for x in []))
    """
    kinds = len([name for name in GATHERERS if name in needs])
    kinds += bool(set(needs) & set(ACTIVITY)) + bool(set(needs) & set(inputs.STATISTICS))
    twice = again or kinds > 1 or bool(set(needs) & READ_TWICE)
    if twice and set(needs) - WITHOUT_DATA and hasattr(data, "__next__"):
        raise ValueError(
            "data is a generator, which can be read only once, and is needed several times; give "
            "arrays, a list of batches, or a dataset"
        )


def check_first(model, data, needs):
    """Raise where the first batch of data does not fit the model, or has no labels to give.

    Args:
        model: the built model.
        data: as for `prune`; must not be a generator.
        needs: of the criterion, without what training gives.

    Raises:
        ValueError: see `batches.inputs_of` and `batches.pairs_of`.

    Example:
        >>> check_first(None, None, {"frequency"})
    """
    if data is None or not set(needs) - WITHOUT_DATA:
        return
    read = batches.pairs_of if set(needs) & LABELLED else batches.inputs_of
    next(iter(read(data, model=model)))


def gather(model, live_sites, data, needs, seed=0, progress=no_progress):
    """Gather from data, in inference mode, all that a criterion needs.

    Args:
        model: the built model that holds the sites.
        live_sites: from `sites.find`.
        data: as for `prune`; walked through once for each kind of statistic.
        needs: names in `ACTIVITY` and `STATISTICS`.
        seed: for statistics that are estimates.
        progress: called with (work done, work in all) by those that take long.

    Returns:
        {site name: `Gathered`}; empty when nothing is needed.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="a")])
        >>> live = sites.find(model, exclude=()).sites
        >>> gather(model, live, np.ones((4, 2)), {"input_norm"})["a/kernel"].statistics
        {'input_norm': array([[2.],
               [2.]], dtype=float32)}
    """
    if not needs:
        return {}
    activity, statistics = {}, {site.name: {} for site in live_sites}
    counted = tuple(name for name in ACTIVITY if name in needs)
    if counted:
        activity = observe(model, live_sites, data, statistics=counted)
    moments = [name for name in inputs.STATISTICS if name in needs]
    if moments:
        statistics = inputs.gather(model, live_sites, data, moments)
    for name in (name for name in GATHERERS if name in needs):
        options = {"seed": seed} if name in SEEDED else {}
        options |= {"progress": progress} if name in SLOW else {}
        for site, values in GATHERERS[name](model, live_sites, data, **options).items():
            statistics[site][name] = values
    return {
        site.name: Gathered(activity.get(site.name), statistics[site.name]) for site in live_sites
    }


def observe(model, live_sites, data, threshold=0.0, statistics=ACTIVITY):
    """Activity of `live_sites` over `data`, in inference mode: {site name: Activity}.

    Args:
        model: the built model that holds the sites.
        live_sites: from `sites.find`.
        data: as for `prune`.
        threshold: a unit is active where its output is greater.
        statistics: which of "frequency", "mean" and "rms" to gather.

    Raises:
        ValueError: when `data` holds no samples.
    """
    owner = object()
    hooks = attachment.attachment(model)
    counters = hooks.count(owner, live_sites, threshold, statistics)
    try:
        samples = 0
        with hooks.observing():
            for x in batches.inputs_of(data, model=model):
                model(x, training=False)
                samples += len(keras.tree.flatten(x)[0])
        if samples == 0:
            raise ValueError("data is empty: activity needs at least one sample")
        return activity_of(live_sites, counters)
    finally:
        hooks.release(owner)


def activity_of(live_sites, counters):
    """{site name: Activity} from an attachment's counters.

    Units that never show in an output (the first half of a SeparableConv) are given the mean of
    the units that do, which leaves their order to the weights.
    """
    found = {}
    for site in live_sites:
        activity = counters[site.source].read()
        if not site.observed:
            means = {
                name: np.full(site.n_units, getattr(activity, name).mean())
                for name in counters[site.source].statistics
            }
            activity = sites.Activity(activity.samples, **means)
        found[site.name] = activity
    return found
