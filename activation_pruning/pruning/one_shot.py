"""Prune at once, outside of training; or look at the scores alone."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from activation_pruning import amounts, masks
from activation_pruning.evidence import gathering, reading
from activation_pruning.graph.channels import Coupling
from activation_pruning.hooks.silencing import silence
from activation_pruning.pruning import layer_by_layer, report
from activation_pruning.pruning.event import Event
from activation_pruning.pruning.settings import Settings
from activation_pruning.support.checks import check_flags, is_number
from activation_pruning.support.counts import Count, counted
from activation_pruning.support.names import shortened
from activation_pruning.support.progress import ProgressBar
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Criterion, Data, Layers, Model, Named, Scores


def prune(
    model: Model,
    sparsity: Any = None,
    criterion: Criterion = "magnitude",
    allocation: Named = "global",
    granularity: Any = "weight",
    data: Data = None,
    include: Layers = None,
    exclude: Layers = None,
    seed: int = 0,
    respect_zeros: bool = True,
    sequential: bool = False,
    between: Callable[[Model], Any] | None = None,
    verbose: int = 1,
    steps: int | None = None,
) -> report.PruningReport:
    """Prune a built Keras 3 model, in place.

    k = floor(sparsity * n + 0.5) of the n prunable weights are exact zeros afterwards, those
    with the lowest scores; weights that are zeros already count among them. With the allocation
    "uniform" k is taken layer by layer; units and blocks come as close as whole ones allow.
    Prunable are the weights of the layers chosen by `include` and `exclude`, without those that
    the granularity cannot divide; the report lists what was left out, and why.

    Args:
        model: a built Sequential, Functional, nested or subclassed `keras.Model`.
        sparsity: target fraction in [0, 1) over all prunable weights; rising fractions, pruned to
            one after the other, scoring anew each time; an object of `amounts`, which counts from
            what is alive now; or one of `budgets`, for granularity "unit": what the compacted model
            may cost. None, with N:M granularity only, is 1 - N/M.
        criterion: a name in `criteria.CRITERIA` or `surgeons.SURGEONS`, `f(site) -> scores`, or
            an object of `surgeons`; surgeons change the surviving weights as well.
        allocation: "global", "uniform", "distributed", "erk", or a callable.
        granularity: "weight", "unit", "2:4", a block `(height, width)`, or an object of `masks`.
            Units that can only be removed together (branches that meet in an Add, ...) are one,
            and lose biases, betas and gammas with their weights; with `sequential` each layer
            is ranked alone.
        data: samples for criteria that look at data: an array, `(x, y)`, a `tf.data.Dataset`,
            a `keras.utils.PyDataset`, or an iterable of batches; with labels for criteria that
            look at the loss. Where it is needed several times it must not be a generator.
        include: layers to prune (names, patterns, layers), whatever is left out by default: the
            output layer (of a subclassed model, which does not say, the layer that it made last)
            and what is frozen, `trainable=False`. None takes all others.
        exclude: layers to leave alone besides; `()` leaves out nothing at all.
        seed: for criteria that are random.
        respect_zeros: whether exact zeros count as pruned already.
        sequential: prune layer by layer, in the order of their calls, each with what its inputs
            have become by the pruning of those before; how many weights each loses is allocated
            before. For criteria that look at inputs ("wanda", "lobs", "sparsegpt") the model is
            run once: the data's hidden states are kept from layer to layer, beyond 1 GiB in
            temporary files. For others, and where the graph of a model is not known (then in the
            order in which it made its layers), it is run from the start for every layer. With
            the allocations "uniform" and "erk" one Hessian is in memory at a time, with others
            all of them at first. A layer that has lost its share already is left alone, so that
            with these two a run that was stopped goes on where it was: call it again.
        between: function of the model, called between two of several sparsities, to train it.
        verbose: 0 for no progress bar of what takes long (surgeons, second derivatives, rounds).
        steps: how many batches of `data` to read, where it comes in batches (a generator without
            an end, ...); None reads all, at most 2,000 of what does not say how many it has.

    Returns:
        A `PruningReport`; print it, or take `.table()`.

    Raises:
        TypeError: when `model` is not a Keras 3 model.
        ValueError: for an unknown name, a sparsity out of range, an unbuilt model, non-finite
            weights, when the criterion needs `data` and there is none, or what only training gives.

    Example:
    >>> import keras, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6), keras.layers.Dense(2)])
    >>> ap.prune(model, 0.75).table()["pruned"].tolist()[:1]
    [36]
    """
    check_flags(respect_zeros=respect_zeros, sequential=sequential)
    settings = Settings(criterion, allocation, granularity, seed)
    if between is not None and not callable(between):
        raise ValueError(f"between={shown(between)}; it must be a function of the model, or None")
    targets, data = _targets(sparsity, settings, sequential), reading.first(data, steps)
    found = settings.find(model, include, exclude)
    coupling = Coupling(model) if settings.couples and not sequential else None
    progress = ProgressBar(verbose)
    event = Event(
        model, found.sites, settings,
        respect_zeros=respect_zeros, coupling=coupling, progress=progress,
    )  # fmt: skip
    event.check()
    for target in targets:
        settings.check_target(target)
    gathering.check_data(settings.needs, criterion, data)
    again = len(targets) > 1 or sequential or settings.rounds > 1
    gathering.check_passes(settings.needs, data, again)
    if settings.needs and data is not None:
        data, live_sites = gathering.reached(model, event.sites, data)
        event = event.only({site.name: gathering.NOTHING for site in live_sites})
    before, zeros = counted(event.masks.values()), _zeros(event)
    for number, target in enumerate(targets):
        if number and between is not None:
            between(model)
        rounds = _steps(target, counted(event.masks.values()), settings)
        target = rounds[-1]
        for done, step in enumerate(rounds, 1):
            with warnings.catch_warnings():
                if step != target:  # it will be said at the end
                    warnings.filterwarnings("ignore", "target sparsity")
                event = _pruned(event, step, data, sequential)
            if len(rounds) > 1:
                progress(done, len(rounds))
    final = None if amounts.is_amount(target) else target
    note, left = _notes(before, zeros, event, final), report.without(found, event.sites)
    return report.report(model, left, final, note, event.masks, event.spending)


def scores(
    model: Model,
    criterion: Criterion,
    data: Data = None,
    include: Layers = None,
    exclude: Layers = None,
    seed: int = 0,
    verbose: int = 1,
    steps: int | None = None,
) -> dict[str, Scores]:
    """What a criterion says of every weight; nothing is pruned.

    Args:
        model, criterion, data, include, exclude, seed, verbose, steps: as for `prune`.

    Returns:
        {site name: float array of the kernel's shape}; low scores would go first.

    Raises:
        TypeError, ValueError: as `prune`.

    Example:
    >>> import keras, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="a")])
    >>> model.layers[0].set_weights([np.array([[-2.0], [1.0]]), np.zeros(1)])
    >>> ap.scores(model, "magnitude", exclude=())["a/kernel"].ravel().tolist()
    [2.0, 1.0]
    """
    settings, progress = Settings(criterion, seed=seed), ProgressBar(verbose)
    data, found = reading.first(data, steps), settings.find(model, include, exclude)
    event = Event(model, found.sites, settings, progress=progress)
    event.check()
    gathering.check_data(settings.needs, criterion, data)
    gathering.check_passes(settings.needs, data)
    gathered = event.gather(data)
    event = event.only(gathered)
    report.without(found, event.sites)
    seen = event.seen(gathered)
    if settings.surgeon:
        return settings.surgeon.scores(seen, progress)
    values = {site.name: settings.criterion(site) for site in seen}
    for name, own in values.items():
        masks.check_finite(name, np.asarray(own))
    return values


def _targets(sparsity: Any, settings: Settings, sequential: bool) -> list[Any]:
    """The sparsities to go through, one after the other."""
    if sequential and isinstance(sparsity, amounts.Budget):
        raise ValueError(
            f"sequential=True does not go with sparsity={shown(sparsity)}: units that go together "
            "are decided on together; leave sequential out"
        )
    if sparsity is None:
        if settings.granularity.max_sparsity == 1.0:
            raise ValueError("sparsity=None: give a fraction in [0, 1); only N:M implies its own")
        return [settings.granularity.max_sparsity]
    if np.ndim(sparsity):
        targets = list(sparsity)
        numbers = bool(targets) and all(map(is_number, targets))
        if not numbers or targets != sorted(targets):
            told = shown(sparsity)
            raise ValueError(f"sparsity={told}: several sparsities must be rising fractions")
        return [float(target) for target in targets]
    return [sparsity]


def _notes(count: Count, zeros: Mapping[str, str], last: Event, target: float | None) -> str:
    """What is to be said of a pruning besides its numbers; `count` and `zeros` are of before."""
    own = last.settings
    notes = [getattr(part, "note", "") for part in (own.surgeon, own.granularity)]
    notes += [last.coupling.note(last.sites, last.masks)] if last.coupling else []
    notes += [_not_followed(last.model)] if last.coupling and last.coupling.graph is None else []
    notes += [str(last.spending or ""), _already(count, last, target), _fresh(zeros, last)]
    return " ".join(filter(None, notes))


def _not_followed(model: Model) -> str:
    return (
        f"How channels run through {model.name!r} is not known, so each unit was ranked alone and "
        "ap.compact can take none out: ap.inline(model) names the line that is in the way."
    )


def _already(count: Count, last: Event, target: float | None) -> str:
    """What to say where nothing was pruned because the model was sparser than asked; warns.

    count: of the weights before.
    """
    above = target is not None and count.pruned > round(target * count.weights)
    if not above or count != counted(last.masks.values()):
        return ""
    found = (
        f"The model was sparser than asked already, so nothing was pruned: {count.sparsity:.2%} "
        f"of its prunable weights were zeros, sparsity={target:g} asks for {target:.2%}."
    )
    more = "To prune a share of what is left, give ap.amounts.Fraction(...) in place of a number."
    warnings.warn(f"{found} {more}", stacklevel=4)
    return found


def _zeros(event: Event) -> dict[str, str]:
    """{site name: layer} of kernels in which nothing but zeros is to be seen, and no mask."""
    bare = {site.name for site in event.sites if site.mask_variable is None}
    return {s.name: s.layer for s in event.snapshots if s.name in bare and not s.kernel.any()}


def _fresh(zeros: Mapping[str, str], last: Event) -> str:
    """What to say of such kernels that were pruned."""
    pruned = [layer for name, layer in zeros.items() if not np.all(last.masks.get(name, True))]
    if not pruned:
        return ""
    return (
        f"{shortened(pruned)}: nothing but zeros, as fresh kernels are, so what was pruned there "
        "cannot be told from the weights and comes back in training. Leave such layers out with "
        "exclude=, or train first."
    )


def _steps(target: Any, count: Count, settings: Settings) -> list[Any]:
    """The targets on the way, the last resolved; one, but for criteria that go in rounds."""
    target, rounds = amounts.resolved(target, count.weights, count.pruned), settings.rounds
    if rounds == 1:
        return [target]
    if amounts.is_amount(target):
        raise ValueError(
            f"sparsity={shown(target)} looks at one set of scores, but this criterion goes to its "
            "target in rounds, scoring anew in each; give a fraction in [0, 1)"
        )
    left = count.alive / count.weights
    # The same share of what is left goes in each round (Tanaka et al. 2020).
    steps = [1 - left * ((1 - target) / left) ** (k / rounds) for k in range(1, rounds)]
    return [step for step in steps if step < target] + [target]


def _pruned(event: Event, target: Any, data: Data, sequential: bool) -> Event:
    """Carry an event out; returns it with the new masks, and without sites that no data reaches."""
    if sequential:
        return layer_by_layer.pruned(event, target, data)
    gathered = event.gather(data)
    event = event.only(gathered)
    chosen, kernels = event.decide(target, gathered)
    event.assign(chosen, kernels)
    if event.coupling:
        silence(event.coupling, chosen)
    return dataclasses.replace(event, alive=chosen)
