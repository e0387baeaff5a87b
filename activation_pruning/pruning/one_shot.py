"""Score, allocate, mask, compensate, assign: a pruning event, shared by `prune` and callbacks."""

import dataclasses
import warnings
from numbers import Real

import keras
import numpy as np

from activation_pruning import allocations, amounts, masks, sites, surgeons
from activation_pruning.evidence import gathering
from activation_pruning.graph.channels import Coupling
from activation_pruning.hooks import attachment
from activation_pruning.hooks.tracking import TRACKED
from activation_pruning.pruning import report
from activation_pruning.support.checks import check_count
from activation_pruning.support.progress import ProgressBar


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides a pruning event, checked once and looked up by name.

    Raises:
        ValueError: for an unknown criterion, allocation or granularity, or a granularity that a
            surgeon cannot work with.
    """

    criterion: object = "magnitude"
    allocation: object = "global"
    granularity: object = "weight"
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "criterion", surgeons.get(self.criterion))
        object.__setattr__(self, "allocation", allocations.get(self.allocation))
        object.__setattr__(self, "granularity", masks.granularity(self.granularity))
        check_count("seed", self.seed, 0)
        gathering.check(self.needs)
        grain = type(self.granularity).__name__.lower()
        if grain in getattr(self.criterion, "not_for", ()):
            raise ValueError(
                f"granularity={grain!r} does not go with criterion {self.criterion.__name__!r}, "
                "whose scores compare weights within units only; choose 'weight' or another one"
            )
        if self.surgeon:
            self.surgeon.check(self.granularity)

    @property
    def surgeon(self):
        """The criterion if it is one that also changes the surviving weights, else None."""
        return self.criterion if isinstance(self.criterion, surgeons.Surgeon) else None

    @property
    def needs(self):
        """What the criterion needs to be gathered, each at a price."""
        return frozenset(getattr(self.criterion, "needs", ()))

    @property
    def statistics(self):
        """Those of its needs that are counted while a model trains."""
        return tuple(name for name in attachment.STATISTICS if name in self.needs)

    @property
    def tracked(self):
        """What the criterion needs of the gradients of training steps, names in `TRACKED`."""
        needs = getattr(self.criterion, "needs", ())
        return tuple(name for name in TRACKED if name in needs)

    def check(self, live_sites, sparsity):
        """Raise before training when these sites could never be pruned to `sparsity`.

        The same steps as an event, on equal scores: shapes that a granularity cannot divide,
        sparsities out of range and non-finite weights show themselves here.
        """
        snapshots = [site.snapshot() for site in live_sites]
        for snapshot in snapshots:
            if not np.isfinite(snapshot.kernel).all():
                raise ValueError(
                    f"layer {snapshot.layer!r} has NaN or infinite weights; pruning cannot rank "
                    "them. Lower the learning rate or load weights from before they diverged."
                )
            self.granularity.items(snapshot, np.abs(snapshot.kernel))
        gated = [s.path for s in live_sites if s.wrapper is not None and s.mask_variable is None]
        if self.surgeon and gated:
            raise ValueError(
                f"layers {gated} have gates that would multiply the compensated weights; make a "
                "plain model of it first: model = ap.strip(model)"
            )
        if sparsity is None:  # a schedule that does not say where it ends
            return
        most = getattr(self.granularity, "max_sparsity", 1.0)
        if amounts.is_amount(sparsity) and most == 1:
            return
        if not (isinstance(sparsity, Real) and 0 <= sparsity < 1 and sparsity <= most):
            allowed = "[0, 1)" if most == 1 else f"[0, {most:g}] with {self.granularity}"
            schedule = hasattr(sparsity, "final_sparsity")
            more = "; a schedule is for PruningCallback" if schedule else ""
            raise ValueError(f"sparsity must be in {allowed}, received {sparsity!r}{more}")

    @property
    def couples(self):
        """Whether units that can only go together are ranked together."""
        return isinstance(self.granularity, masks.Unit) and not self.surgeon

    def snapshots(self, live_sites, alive, gathered, coupling=None):
        """The `sites.Site`s that the criterion sees; arguments as for `decide`."""
        nothing, found = gathering.Gathered(None, {}), []
        for site in live_sites:
            own = gathered.get(site.name, nothing)
            seen = site.snapshot(alive[site.name], own.activity, self.seed, own.statistics)
            channels = coupling and coupling.units.get(site.name)
            found.append(dataclasses.replace(seen, channels=channels))
        return found

    def decide(self, live_sites, alive, sparsity, gathered=None, progress=None, coupling=None):
        """New masks for one event, and new kernels where a surgeon compensates.

        Args:
            live_sites: the sites that share the target.
            alive: {site name: bool array}, True where a weight is alive now.
            sparsity: the target, in [0, 1), counted over all the sites, or an amount that looks at
                the scores.
            gathered: {site name: `gathering.Gathered`}; nothing where the criterion needs none.
            progress: function of (work done, work in all) for surgeons, or None.
            coupling: the `Coupling` of the model, or None.

        Returns:
            ({site name: bool array}, each a subset of `alive`; {site name: array}).
        """
        snapshots = self.snapshots(live_sites, alive, gathered or {}, coupling)
        selection = surgeons.Selection(sparsity, self.granularity, self.allocation)
        if self.surgeon:
            if progress:
                selection = dataclasses.replace(selection, progress=progress)
            return self.surgeon.operate(snapshots, selection)
        scores = {snapshot.name: self.criterion(snapshot) for snapshot in snapshots}
        return selection.masks(snapshots, scores), {}


def silence(coupling, alive):
    """Set to zero what is still added to units that are pruned as a whole.

    Their biases, and beta and gamma of a BatchNormalization behind them: a unit without weights
    is then zero for all inputs (but for an activation with f(0) other than zero), and `compact`
    can take it out exactly wherever it goes.

    Args:
        coupling: the `Coupling` of the model.
        alive: {site name: bool array}.
    """
    for offset, mask in coupling.silenced(alive):
        if not mask.all():
            attachment.assign_mask(offset, mask)


def prune(
    model,
    sparsity=None,
    criterion="magnitude",
    allocation="global",
    granularity="weight",
    data=None,
    include=None,
    exclude=None,
    seed=0,
    respect_zeros=True,
    sequential=False,
    between=None,
    verbose=1,
):
    """Prune a built Keras 3 model, in place.

    k = floor(sparsity * n + 0.5) of the n prunable weights are exact zeros afterwards, those
    with the lowest scores; weights that are zeros already count among them. With the allocation
    "uniform" k is taken layer by layer; units and blocks come as close as whole ones allow.

    Args:
        model: a built Sequential, Functional, nested or subclassed `keras.Model`.
        sparsity: target fraction in [0, 1) over all prunable weights, or rising fractions: the
            model is pruned to one after the other, scoring anew each time. Or an object of
            `amounts`, which counts from what is alive now. With N:M granularity it may be left
            out and is then 1 - N/M.
        criterion: a name in `criteria.CRITERIA` or `surgeons.SURGEONS`, `f(site) -> scores`, or
            an object of `surgeons`; surgeons change the surviving weights as well.
        allocation: "global", "uniform", "distributed", "erk", or a callable.
        granularity: "weight", "unit", "2:4", a block `(height, width)`, or an object of `masks`.
            Units that can only be removed together (branches that meet in an Add, ...) are one,
            and lose biases, betas and gammas with their weights; with `sequential` each layer
            is ranked alone.
        data: samples for criteria that look at data: an array, `(x, y)`, a `tf.data.Dataset`,
            a `keras.utils.PyDataset`, or an iterable of batches; with labels for criteria that
            look at the loss. What is walked through several times must not be a generator.
        include: layers to prune (names, patterns, layers); None takes all.
        exclude: layers to leave alone; None leaves out the output layer (of a subclassed model,
            which does not say, the layer that it made last), `()` nothing.
        seed: for criteria that are random.
        respect_zeros: whether exact zeros count as pruned already.
        sequential: prune layer by layer, in the order of the model (a subclassed one: in which
            it made them), each with what its inputs have become by the pruning of those before;
            how many weights each loses is allocated before.
        between: function of the model, called between two of several sparsities, to train it.
        verbose: 0 for no progress bar; there is one for what takes long: surgeons, second
            derivatives, criteria that go to a target in rounds.

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
    settings = Settings(criterion, allocation, granularity, seed)
    if between is not None and not callable(between):
        raise ValueError(f"between={between!r}; it must be a function of the model, or None")
    targets = _targets(sparsity, settings)
    found = sites.find(model, include, exclude)
    for target in targets:
        settings.check(found.sites, target)
    gathering.check_data(settings.needs, criterion, data)
    again = len(targets) > 1 or sequential or getattr(settings.criterion, "rounds", 1) > 1
    gathering.check_passes(settings.needs, data, again)
    alive = report.alive_masks(found.sites, respect_zeros)
    coupling = Coupling(model) if settings.couples and not sequential else None
    progress = ProgressBar(verbose)
    for number, target in enumerate(targets):
        if number and between is not None:
            between(model)
        target = _resolved(target, alive, settings)
        steps = _rounds(alive, target, settings)
        for done, step in enumerate(steps, 1):
            with warnings.catch_warnings():
                if step != target:  # it will be said at the end
                    warnings.filterwarnings("ignore", "target sparsity")
                how = alive, step, data, sequential, progress, coupling
                alive = _event(model, found.sites, settings, *how)
            if len(steps) > 1:
                progress(done, len(steps))
    notes = [getattr(part, "note", "") for part in (settings.surgeon, settings.granularity)]
    notes += [coupling.note(found.sites, alive)] if coupling else []
    note = " ".join(filter(None, notes))
    return report.report(model, found, None if amounts.is_amount(target) else target, note)


def scores(model, criterion, data=None, include=None, exclude=None, seed=0, verbose=1):
    """What a criterion says of every weight; nothing is pruned.

    Args:
        model, criterion, data, include, exclude, seed, verbose: as for `prune`.

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
    settings = Settings(criterion, seed=seed)
    live_sites = sites.find(model, include, exclude).sites
    settings.check(live_sites, None)
    gathering.check_data(settings.needs, criterion, data)
    gathering.check_passes(settings.needs, data)
    progress = ProgressBar(verbose)
    gathered = gathering.gather(model, live_sites, data, settings.needs, seed, progress)
    snapshots = settings.snapshots(live_sites, report.alive_masks(live_sites), gathered)
    if settings.surgeon:
        return settings.surgeon.scores(snapshots, progress)
    found = {snapshot.name: settings.criterion(snapshot) for snapshot in snapshots}
    for name, values in found.items():
        masks.check_finite(name, np.asarray(values))
    return found


def _targets(sparsity, settings):
    """The sparsities to go through, one after the other."""
    if sparsity is None:
        most = getattr(settings.granularity, "max_sparsity", 1.0)
        if most == 1.0:
            raise ValueError("sparsity=None: give a fraction in [0, 1); only N:M implies its own")
        return [most]
    if np.ndim(sparsity):
        targets = list(sparsity)
        numbers = bool(targets) and all(isinstance(target, Real) for target in targets)
        if not numbers or targets != sorted(targets):
            raise ValueError(f"sparsity={targets}: several sparsities must be rising fractions")
        return [float(target) for target in targets]
    return [sparsity]


def _resolved(target, alive, settings):
    """The target as a sparsity, but for amounts that have to see the scores."""
    pruned = sum(int(np.count_nonzero(~mask)) for mask in alive.values())
    target = amounts.resolved(target, sum(mask.size for mask in alive.values()), pruned)
    if amounts.is_amount(target) and getattr(settings.criterion, "rounds", 1) > 1:
        raise ValueError(
            f"sparsity={target!r} looks at one set of scores, but this criterion goes to its "
            "target in rounds, scoring anew in each; give a fraction in [0, 1)"
        )
    return target


def _rounds(alive, target, settings):
    """The sparsities on the way to a target: one, but for criteria that want to go slowly."""
    rounds = getattr(settings.criterion, "rounds", 1)
    if rounds == 1:
        return [target]
    left = sum(int(mask.sum()) for mask in alive.values()) / sum(m.size for m in alive.values())
    # The same share of what is left goes in each round (Tanaka et al. 2020).
    steps = [1 - left * ((1 - target) / left) ** (k / rounds) for k in range(1, rounds)]
    return [step for step in steps if step < target] + [target]


def _event(model, live_sites, settings, alive, sparsity, data, sequential, progress, coupling):
    """Prune once; returns the new masks."""
    how = data, settings.needs, settings.seed, progress
    gathered = gathering.gather(model, live_sites, *how)
    chosen, kernels = settings.decide(live_sites, alive, sparsity, gathered, progress, coupling)
    if not sequential:
        assign(model, live_sites, chosen, kernels)
        if coupling is not None:
            silence(coupling, chosen)
        return chosen
    alone = dataclasses.replace(settings, allocation="uniform")  # each has its share already
    for site in live_sites:
        share = 1 - np.count_nonzero(chosen[site.name]) / chosen[site.name].size
        gathered = gathering.gather(model, [site], *how)
        own, kernels = alone.decide([site], alive, share, gathered, progress)
        assign(model, [site], own, kernels)
        chosen |= own
    return chosen


def assign(model, live_sites, chosen, kernels):
    """Write masks, and kernels where a surgeon gave them, into a model.

    Args:
        model: the model that holds the sites.
        live_sites: those that were pruned.
        chosen: {site name: bool array, True where alive}.
        kernels: {name: array}; some may be of sites that were not pruned, or biases.
    """
    variables = {site.name: site.variable for site in live_sites}
    if set(kernels) - set(variables):
        everything = sites.find(model, exclude=()).sites
        variables |= {site.name: site.variable for site in everything}
        variables |= {f"{site.path}/bias": getattr(site.layer, "bias", None) for site in everything}
    for name, values in kernels.items():
        masks.check_finite(name, values, "compensated weights")
        variables[name].assign(keras.ops.cast(values, variables[name].dtype))
    for site in live_sites:
        attachment.assign_mask(site, chosen[site.name])
