"""What criteria need to know of a model, gathered from data."""

from typing import NamedTuple

import keras
import numpy as np

from activation_pruning import (
    attachment,
    batches,
    curvature,
    derivatives,
    inputs,
    outgoing,
    significance,
    sites,
)
from activation_pruning.tracking import TRACKED

ACTIVITY = tuple(attachment.STATISTICS)
_GATHERERS = (
    curvature.gauss_newton,
    curvature.gauss_newton_matrix,
    curvature.hessian_diagonal,
    curvature.hutchinson,
    derivatives.activation_gradient,
    derivatives.gradient,
    derivatives.hessian_gradient,
    derivatives.squared_gradient,
    derivatives.synaptic_flow,
    outgoing.consumers,
    outgoing.outgoing,
    significance.sigmoid,
)
GATHERERS = {function.__name__: function for function in _GATHERERS}
STATISTICS = (*inputs.STATISTICS, *GATHERERS)
BY_UNIT = {
    "activation_gradient",
    "outgoing",
    "sigmoid",
}  # one value for each unit; the others have one for each weight
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
        raise ValueError(
            f"criterion {criterion!r} needs {', '.join(sorted(needs))}: pass data=..., a sample of "
            "the training data, with labels where the loss is asked for: (x, y)"
        )


def gather(model, live_sites, data, needs):
    """Gather from data, in inference mode, all that a criterion needs.

    Args:
        model: the built model that holds the sites.
        live_sites: from `sites.find`.
        data: as for `prune`; walked through once for each kind of statistic.
        needs: names in `ACTIVITY` and `STATISTICS`.

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
        for site, values in GATHERERS[name](model, live_sites, data).items():
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
            for x in batches.inputs_of(data, inputs=batches.count_inputs(model)):
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
