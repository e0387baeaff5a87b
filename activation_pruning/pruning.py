"""Score, allocate, mask, assign: one pruning event, shared by `prune` and the callbacks."""

import dataclasses
from numbers import Real

import keras
import numpy as np
import pandas as pd

from activation_pruning import allocations, attachment, batches, criteria, masks, sites
from activation_pruning.checks import check_count
from activation_pruning.tracking import TRACKED


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides a pruning event, checked once and looked up by name.

    Raises:
        ValueError: for an unknown criterion, allocation or granularity.
    """

    criterion: object = "magnitude"
    allocation: object = "global"
    granularity: object = "weight"
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "criterion", criteria.get(self.criterion))
        object.__setattr__(self, "allocation", allocations.get(self.allocation))
        object.__setattr__(self, "granularity", masks.granularity(self.granularity))
        check_count("seed", self.seed, 0)

    @property
    def statistics(self):
        """The activity statistics that the criterion needs, each counted at a price."""
        needs = frozenset(getattr(self.criterion, "needs", ()))
        unknown = needs - set(attachment.STATISTICS) - set(TRACKED)
        if unknown:
            known = sorted([*attachment.STATISTICS, *TRACKED])
            raise ValueError(f"criterion needs {sorted(unknown)}; known are {known}")
        return tuple(name for name in attachment.STATISTICS if name in needs)

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
        if sparsity is None:  # a schedule that does not say where it ends
            return
        most = getattr(self.granularity, "max_sparsity", 1.0)
        if not (isinstance(sparsity, Real) and 0 <= sparsity < 1 and sparsity <= most):
            allowed = "[0, 1)" if most == 1 else f"[0, {most:g}] with {self.granularity}"
            raise ValueError(f"sparsity must be in {allowed}, received {sparsity!r}")

    def decide(self, live_sites, alive, sparsity, activity, statistics=None):
        """New masks for one event.

        Args:
            live_sites: the sites that share the target.
            alive: {site name: bool array}, True where a weight is alive now.
            sparsity: the target, in [0, 1), counted over all the sites.
            activity: {site name: Activity}, or {} when the criterion needs none.
            statistics: {site name: {name: array}}, what else the criterion needs.

        Returns:
            {site name: bool array}, each a subset of `alive`.
        """
        statistics = statistics or {}
        snapshots = [
            site.snapshot(
                alive[site.name], activity.get(site.name), self.seed, statistics.get(site.name)
            )
            for site in live_sites
        ]
        scores = {snapshot.name: self.criterion(snapshot) for snapshot in snapshots}
        return masks.select(snapshots, scores, sparsity, self.granularity, self.allocation)


def alive_masks(live_sites, respect_zeros=True):
    """{site name: True where a weight is alive}: exact zeros count as pruned.

    A kernel of nothing but zeros is a fresh zero initialisation, not a pruned layer, so all of
    its weights count as alive.
    """
    found = {}
    for site in live_sites:
        mask = site.kernel() != 0
        found[site.name] = mask if respect_zeros and mask.any() else np.ones_like(mask)
    return found


def measure(live_sites, masks=None):
    """One row per site, measured from the weights themselves: exact zeros are pruned weights.

    Where `masks` ({site name: bool array}) says that a weight is alive, it is, though it be zero:
    one that was grown and has not moved yet.
    """
    rows = []
    for site in live_sites:
        mask = site.kernel() != 0
        if masks and site.name in masks:
            mask |= masks[site.name]
        rows.append(
            {
                "layer": site.path,
                "site": site.name,
                "weights": mask.size,
                "pruned": int(mask.size - np.count_nonzero(mask)),
                "sparsity": 1 - np.count_nonzero(mask) / mask.size,
                "units": site.n_units,
                "units_removed": site.n_units - int(_units_alive(site, mask).sum()),
            }
        )
    return pd.DataFrame(rows)


def total_sparsity(table):
    """Pruned / prunable weights over all the rows of `measure`."""
    return float(table["pruned"].sum() / table["weights"].sum())


def _units_alive(site, mask):
    constant = tuple(axis for axis, size in enumerate(site.units.shape) if size == 1)
    alive = mask.any(axis=constant, keepdims=True)
    return np.bincount(site.units.ravel(), weights=alive.ravel(), minlength=site.n_units) > 0


class PruningReport:
    """What one call of `prune` did, layer by layer; prints as a table.

    Example:

    >>> import keras, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6), keras.layers.Dense(2)])
    >>> ap.prune(model, 0.75).sparsity
    0.75
    """

    def __init__(self, table, target, notes):
        self._table, self.target, self.notes = table, target, notes

    def table(self):
        """DataFrame: layer, site, weights, pruned, sparsity, units, units_removed, note."""
        return self._table.copy()

    @property
    def sparsity(self):
        """Pruned / prunable weights, measured after pruning."""
        return total_sparsity(self._table.dropna(subset=["sparsity"]))

    def __str__(self):
        shown = self._table.drop(columns="layer")
        percent = shown["sparsity"].map(lambda share: f"{share:.1%}", na_action="ignore")
        text = shown.assign(sparsity=percent).to_string(index=False, na_rep="")
        pruned, weights = int(self._table["pruned"].sum()), int(self._table["weights"].sum())
        head = f"{pruned:,} of {weights:,} prunable weights pruned: {self.sparsity:.2%}"
        return f"{head} (target {self.target:.2%})\n{text}\n{self.notes}"

    __repr__ = __str__


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
):
    """Prune a built Keras 3 model once, in place.

    k = floor(sparsity * n + 0.5) of the n prunable weights are exact zeros afterwards, those
    with the lowest scores; weights that are zeros already count among them. With the allocation
    "uniform" k is taken layer by layer; units and blocks come as close as whole ones allow.

    Args:
        model: a built Sequential, Functional, nested or subclassed `keras.Model`.
        sparsity: target fraction in [0, 1) over all prunable weights; with N:M granularity
            it may be left out and is then 1 - N/M.
        criterion: a name in `criteria.CRITERIA` or `f(site) -> scores`.
        allocation: "global", "uniform", "distributed", "erk", or a callable.
        granularity: "weight", "unit", "2:4", a block `(height, width)`, or an object of `masks`.
        data: samples for criteria that need activity: an array, `(x, y)`, a `tf.data.Dataset`,
            a `keras.utils.PyDataset`, or an iterable of batches.
        include: layers to prune (names, patterns, layers); None takes all.
        exclude: layers to leave alone; None leaves out the output layer, `()` nothing.
        seed: for criteria that are random.
        respect_zeros: whether exact zeros count as pruned already.

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
    if sparsity is None:
        sparsity = getattr(settings.granularity, "max_sparsity", 1.0)
        if sparsity == 1.0:
            raise ValueError("sparsity=None: give a fraction in [0, 1); only N:M implies its own")
    if settings.tracked:
        raise ValueError(
            f"criterion {criterion!r} needs {list(settings.tracked)}, which only training gives: "
            "use PruningCallback(schedule, criterion=...) in model.fit"
        )
    found = sites.find(model, include, exclude)
    settings.check(found.sites, sparsity)
    activity = {}
    if settings.statistics:
        if data is None:
            raise ValueError(
                f"criterion {criterion!r} needs activity: pass data=..., a sample of the training "
                "inputs, or use PruningCallback, which counts while the model trains"
            )
        activity = observe(model, found.sites, data, statistics=settings.statistics)
    alive = alive_masks(found.sites, respect_zeros)
    chosen = settings.decide(found.sites, alive, sparsity, activity)
    for site in found.sites:
        attachment.assign_mask(site, chosen[site.name])
    skipped = [
        {"layer": path, "site": path, "note": f"not pruned: {reason}"}
        for path, reason in found.skipped
    ]
    table = pd.concat([measure(found.sites).assign(note=""), pd.DataFrame(skipped)])
    counts = dict.fromkeys(["weights", "pruned", "units", "units_removed"], "Int64")
    table = table.reset_index(drop=True).astype(counts)  # Int64: skipped layers have no counts
    return PruningReport(table, sparsity, _physical(model))


def observe(model, live_sites, data, threshold=0.0, statistics=tuple(attachment.STATISTICS)):
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
            for inputs in batches.inputs_of(data, inputs=_inputs(model)):
                model(inputs, training=False)
                samples += len(keras.tree.flatten(inputs)[0])
        if samples == 0:
            raise ValueError("data is empty: activity needs at least one sample")
        return activity_of(live_sites, counters)
    finally:
        hooks.release(owner)


def _inputs(model):
    """How many inputs the model takes, or None for a subclassed one, which does not say."""
    return len(keras.tree.flatten(model.inputs)) if sites.is_graph(model) else None


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


def activity_table(live_sites, activity):
    """Tidy DataFrame: layer, unit, the statistics counted, samples, source; one row per unit."""
    parts, seen = [], set()
    for site in live_sites:
        if (site.path, site.source) in seen or not site.observed:
            continue  # kernel and recurrent kernel share their units
        seen.add((site.path, site.source))
        counted = activity[site.name]
        found = {name: getattr(counted, name) for name in attachment.STATISTICS}
        part = {"layer": site.path, "unit": np.arange(site.n_units)}
        part |= {name: values for name, values in found.items() if values is not None}
        part |= {"samples": counted.samples, "source": site.source.label}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def _physical(model):
    return (
        f"The model still holds {model.count_params():,} parameters: zeros in a dense kernel "
        "neither shrink the file nor speed it up by themselves."
    )
