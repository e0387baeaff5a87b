"""What criteria need to know of a model, gathered from data."""

import itertools
import warnings
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from activation_pruning import keras_private
from activation_pruning.evidence import batches, reading
from activation_pruning.evidence.statistic import COUNTED, STATISTICS, Statistic, look_up
from activation_pruning.hooks import attachment
from activation_pruning.sites import Activity, LiveSites, padding
from activation_pruning.support.names import quoted
from activation_pruning.support.progress import no_progress
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Data, Model, Progress

_NOTHING: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
_UNREACHED = "no data or gradient reaches"
REASON = f"{_UNREACHED} it"  # why a site is left out, in a report


class Gathered(NamedTuple):
    """What was gathered for one site: its `sites.Activity`, or None, and statistics by name."""

    activity: Activity | None
    statistics: dict[str, Any]


NOTHING = Gathered(None, {})


def check(needs: Collection[str]) -> None:
    """Raise ValueError for needs that nobody can gather; it lists those that are known."""
    unknown = sorted(set(needs) - set(STATISTICS))
    if unknown:
        raise ValueError(f"criterion needs {unknown}; known are {sorted(STATISTICS)}")


def check_data(needs: Collection[str], criterion: object, data: Data) -> None:
    """Raise ValueError where a criterion needs data and there is none; it says what to give."""
    tracked = sorted(one.name for one in look_up(needs, "training"))
    if tracked:
        raise ValueError(
            f"criterion {shown(criterion)} needs the gradients of training steps, which there are "
            "in a fit only: give it to ap.PruningCallback(schedule, criterion=...), and that to "
            "model.fit(callbacks=[...])"
        )
    if data is None and look_up(needs, "activity"):
        raise ValueError(
            f"criterion {shown(criterion)} needs activity: pass data=..., a sample of the training "
            "inputs, or use PruningCallback, which counts while the model trains"
        )
    if data is None and look_up(needs, "inputs", "labels"):
        labels = look_up(needs, "labels")
        taken = "data=(x, y), inputs and labels" if labels else "data=x, inputs"
        raise ValueError(
            f"criterion {shown(criterion)} needs {', '.join(sorted(needs))}: pass {taken} from the "
            "training data, some thousand samples"
        )


def check_passes(needs: Collection[str], data: Data, again: bool = False) -> None:
    """Raise ValueError where data that can be read only once would be read several times.

    With `again` it is gathered from several times, whatever the needs.
    """
    passes = sum(own[0].passes for own in _by_function(needs).values())
    if (again or passes > 1) and _reads(needs) and reading.once(data):
        raise ValueError(
            "data is a generator, which can be read only once, and is needed several times; give "
            "arrays, a list of batches, or a dataset"
        )


def check_first(model: Model, data: Data, needs: Collection[str]) -> None:
    """Raise ValueError where the first batch of data does not fit the model, or has no labels.

    Data must be no generator, and the needs none that only training gives.
    """
    if data is not None and _reads(needs):
        read = batches.pairs_of if look_up(needs, "labels") else batches.inputs_of
        next(iter(read(data, model=model)))


def gather(
    model: Model,
    live_sites: LiveSites,
    data: Data,
    needs: Collection[str],
    seed: int = 0,
    progress: Progress = no_progress,
    asked: Mapping[str, Mapping[str, Any]] = _NOTHING,
) -> dict[str, Gathered]:
    """Gather from data, in inference mode, all that a criterion needs.

    Args: see `statistic`; data is walked through once for each kind of statistic.
        needs: names in `statistic.STATISTICS`, but those that only training gives.
        seed: for statistics that are estimates.
        asked: {name: further arguments of the function that gathers it}.

    Returns {site name: `Gathered`}, empty when nothing is needed; without the sites that the data
    does not reach.

    Example:
        >>> import keras
        >>> from activation_pruning import sites
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="a")])
        >>> live = sites.find(model, exclude=()).sites
        >>> gather(model, live, np.ones((4, 2)), {"input_norm"})["a/kernel"].statistics
        {'input_norm': array([[2.],
               [2.]], dtype=float32)}
    """
    if not needs:
        return {}
    if data is not None:
        data, live_sites = reached(model, live_sites, data)
    activity: dict[str, Activity] = {}
    statistics: dict[str, dict[str, Any]] = {site.name: {} for site in live_sites}
    for function, own in _by_function(needs).items():
        names, first = [one.name for one in own], own[0]
        if function is None:
            activity = observe(model, live_sites, data, statistics=names)
            continue
        options: dict[str, Any] = {"seed": seed} if first.seeded else {}
        options |= {"progress": progress} if first.slow else {}
        options |= {"needs": names} if first.shared else {}
        options |= asked.get(first.name, {})
        for site, values in function(model, live_sites, data, **options).items():
            statistics[site] |= values if first.shared else {first.name: values}
    found = {
        site.name: Gathered(activity.get(site.name), statistics[site.name]) for site in live_sites
    }
    return known(found, needs)


def reached(model: Model, live_sites: LiveSites, data: Data) -> tuple[Data, LiveSites]:
    """(the data, not read any further; those of `live_sites` that the first batch reaches).

    All of them where no call of any is seen, as behind a `tf.function` around the model's call.
    """
    seen: set[int] = set()

    def noted(layer: Any) -> Callable[..., Any]:
        call = layer.call

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            seen.add(id(layer))
            return call(*args, **kwargs)

        return wrapped

    again, data = reading.peeked(data)
    layers = {id(one): one for site in live_sites for one in (site.layer, site.source.layer)}
    with keras_private.overridden((one, "call", noted(one)) for one in layers.values()):
        for x, _ in itertools.islice(batches.to_run(again, 1, model), 1):
            model(x, training=False)
    found = [site for site in live_sites if seen & {id(site.layer), id(site.source.layer)}]
    return data, found or live_sites


def known(found: Mapping[str, Gathered], needs: Collection[str]) -> dict[str, Gathered]:
    """Without the sites of which something is not known: no data or gradient reaches them.

    A loss whose derivatives are zeros throughout a site, but not everywhere, does not depend on it.
    """
    kept = {n: one for n, one in found.items() if one.activity is None or one.activity.samples}
    for need in look_up(needs, "inputs", "weights", "labels", "training"):
        kept = {name: one for name, one in kept.items() if need.name in one.statistics}
        if need.of in ("labels", "training"):
            sloping = {n: one for n, one in kept.items() if np.any(one.statistics[need.name])}
            kept = sloping or kept
    return kept


def warn_left_out(live_sites: LiveSites, left: LiveSites) -> LiveSites:
    """Warn of the sites that a criterion knows nothing of; returns those that are not `left`.

    Raises ValueError where none is left.
    """
    gone = [site for site in live_sites if site not in left]
    names = quoted(site.path for site in gone)
    if not left:
        raise ValueError(
            f"no data or gradient was seen to reach any of the layers {names}; give other data, "
            "take a tf.function or jit from around the model's call, or choose a criterion that "
            "needs none, such as 'magnitude'"
        )
    if gone:
        warnings.warn(
            f"{_UNREACHED} {names}: they are left out, as by exclude=, and the target is that of "
            "the other layers",
            stacklevel=4,
        )
    return gone


def _by_function(needs: Collection[str]) -> dict[Callable[..., Any] | None, list[Statistic]]:
    """What is gathered together; None stands for what hooks count."""
    found: dict[Callable[..., Any] | None, list[Statistic]] = {}
    for one in look_up(needs, "activity", "inputs", "labels", "weights"):
        found.setdefault(one.gather, []).append(one)
    return found


def _reads(needs):
    return any(one.of != "weights" for one in look_up(needs))


def observe(
    model: Model,
    live_sites: LiveSites,
    data: Data,
    threshold: float = 0.0,
    statistics: Collection[str] = tuple(COUNTED),
) -> dict[str, Activity]:
    """Activity of `live_sites` over `data`, in inference mode: {site name: Activity}.

    Args: see `statistic`; ValueError when `data` holds no samples.
        threshold: a unit is active where its output is greater.
        statistics: which of "frequency", "mean" and "rms" to gather.
    """
    owner = object()
    hooks = attachment.attachment(model)
    counters = hooks.count(owner, live_sites, threshold, statistics)
    try:
        for x, samples in batches.to_run(data, model=model):
            with hooks.observing(padding.Filling(samples, batches.length(x))):
                model(x, training=False)
        return activity_of(live_sites, counters)
    finally:
        hooks.release(owner)


def activity_of(live_sites: LiveSites, counters: Mapping[Any, Any]) -> dict[str, Activity]:
    """{site name: Activity} from an attachment's counters.

    Units that never show in an output (the first half of a SeparableConv) are given the mean of
    the units that do, which leaves their order to the weights.
    """
    found = {site.name: counters[site.source].read() for site in live_sites}
    for site in live_sites:
        if not site.observed:
            own, names = found[site.name], counters[site.source].statistics
            means = {name: np.full(site.n_units, getattr(own, name).mean()) for name in names}
            found[site.name] = Activity(own.samples, **means)
    return found
