"""One pruning event: read the weights, decide which go, write what is left."""

import dataclasses
import functools
from collections.abc import Mapping, Set
from types import MappingProxyType
from typing import Any, Self

import keras
import numpy as np

from activation_pruning import masks, surgeons
from activation_pruning.amounts import Budget
from activation_pruning.evidence import gathering
from activation_pruning.graph.channels import Coupling
from activation_pruning.hooks.masking import assign_mask
from activation_pruning.hooks.remembered import remember
from activation_pruning.pruning import report
from activation_pruning.pruning.settings import Settings
from activation_pruning.sites import LiveSites, Site, find
from activation_pruning.support.names import quoted
from activation_pruning.support.progress import no_progress
from activation_pruning.support.types import Array, Data, Masks, Model, Progress

Gathered = Mapping[str, gathering.Gathered]
_NONE: Mapping[str, Any] = MappingProxyType({})


@dataclasses.dataclass(eq=False)
class Event:
    """One pruning event of some sites of a model; the next one is another object.

    The weights are read once, when they are first looked at, and checked before a decision.

    Args:
        model: that holds the sites.
        sites: the live sites that share a target.
        settings: what decides.
        alive: {site name: True where a weight is alive}; None: what is not zero.
        respect_zeros: whether exact zeros count as pruned, where `alive` is None.
        coupling: of the model, where units go together; or None.
        progress: called with (work done, work in all) by what takes long.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="a")])
        >>> event = Event(model, find(model, exclude=()).sites, Settings("magnitude"))
        >>> event.assign(*event.decide(0.5))
        >>> int((model.get_weights()[0] == 0).sum())
        4
    """

    model: Model
    sites: LiveSites
    settings: Settings = dataclasses.field(default_factory=Settings)
    alive: Masks | None = None
    respect_zeros: bool = True
    coupling: Coupling | None = None
    progress: Progress = no_progress
    spending: Any = dataclasses.field(default=None, repr=False)  # of the last budget it went by

    @functools.cached_property
    def snapshots(self) -> list[Site]:
        """The sites as they are now, as plain arrays."""
        units = self.coupling.units if self.coupling else {}
        return [
            dataclasses.replace(seen, seed=self.settings.seed, channels=units.get(seen.name))
            for seen in report.read(self.sites, self.alive, self.respect_zeros)
        ]

    @functools.cached_property
    def _finite(self) -> list[Site]:
        for seen in self.snapshots:
            if not np.isfinite(seen.kernel).all():
                raise ValueError(
                    f"layer {seen.layer!r} has NaN or infinite weights; pruning cannot rank "
                    "them. Lower the learning rate or load weights from before they diverged."
                )
        return self.snapshots

    @property
    def masks(self) -> Masks:
        """{site name: True where a weight is alive}, before the event."""
        return self.alive or {seen.name: seen.mask for seen in self.snapshots}

    @property
    def values(self) -> dict[str, Array]:
        """{site name: what its variable holds}, where no wrapper hides that."""
        bare = {site.name for site in self.sites if site.wrapper is None}
        return {seen.name: seen.kernel for seen in self.snapshots if seen.name in bare}

    def forget(self) -> None:
        """Let go of the weights that were read: a model's worth of memory. The masks stay."""
        # A mask that hides nothing takes no memory.
        self.alive = {
            name: np.broadcast_to(np.True_, mask.shape) if mask.all() else mask
            for name, mask in self.masks.items()
        }
        for name in ("snapshots", "_finite"):
            vars(self).pop(name, None)

    def with_all_alive(self) -> Self:
        """The same event where no weight is pruned before it."""
        alive = {name: np.ones_like(mask) for name, mask in self.masks.items()}
        return dataclasses.replace(self, alive=alive)

    def check(self) -> None:
        """Raise where these sites could never be pruned.

        Raises:
            ValueError: for non-finite weights, shapes that the granularity cannot divide, or
                gates that multiply what a surgeon compensates.
        """
        for seen in self._finite:
            self.settings.granularity.items(seen, seen.kernel)
        gated = [s.path for s in self.sites if s.wrapper is not None and s.mask_variable is None]
        if self.settings.surgeon and gated:
            raise ValueError(
                f"layers {quoted(gated)} have gates that would multiply the compensated weights; "
                "make a plain model of it first: model = ap.strip(model)"
            )

    def gather(self, data: Data, needs: Set[str] | None = None) -> Gathered:
        """{site name: what the criterion `needs`}, from data; empty where it needs nothing."""
        needs = self.settings.needs if needs is None else needs
        own = self.settings
        return gathering.gather(
            self.model, self.sites, data, needs,
            seed=own.seed, progress=self.progress, asked=own.asked,
        )  # fmt: skip

    def only(self, gathered: Gathered) -> Self:
        """The same event without the sites of which nothing was gathered, though it is needed.

        Raises ValueError where none is left.
        """
        left = [site for site in self.sites if not self.settings.needs or site.name in gathered]
        if len(left) == len(self.sites):
            return self
        if not left:
            gathering.warn_left_out(self.sites, left)
        alive = {site.name: self.masks[site.name] for site in left}
        return dataclasses.replace(self, sites=left, alive=alive)

    def seen(self, gathered: Gathered) -> list[Site]:
        """The sites as the criterion sees them, with what was gathered."""
        own = [gathered.get(seen.name, gathering.NOTHING) for seen in self._finite]
        return [
            dataclasses.replace(seen, activity=one.activity, statistics=one.statistics)
            for seen, one in zip(self._finite, own, strict=True)
        ]

    def decide(self, target: Any, gathered: Gathered = _NONE) -> tuple[Masks, dict[str, Array]]:
        """What stays alive, and new kernels where a surgeon compensates; nothing is written.

        Args:
            target: a sparsity in [0, 1) over all the sites, or an amount that looks at the scores.
            gathered: {site name: `gathering.Gathered`}; empty where the criterion needs nothing.

        Returns:
            ({site name: bool array}, each a subset of `masks`; {name: array}).
        """
        own, seen = self.settings, self.seen(gathered)
        if isinstance(target, Budget):
            target = self.spending = target.of(self.model, self.coupling, self.sites)
        selection = surgeons.Selection(target, own.granularity, own.allocation, self.progress)
        if own.surgeon:
            return own.surgeon.operate(seen, selection)
        scores = {site.name: own.criterion(site) for site in seen}
        return selection.masks(seen, scores), {}

    def assign(self, chosen: Masks, kernels: Mapping[str, Array] = _NONE) -> None:
        """Write masks, and kernels where a surgeon gave them, into the model.

        Args:
            chosen: {site name: bool array, True where alive}; other sites stay as they are.
            kernels: {name: array}; some may be of sites that are not pruned, or biases.
        """
        others = self._variables() if kernels.keys() - chosen.keys() else {}
        for name, values in kernels.items():
            masks.check_finite(name, values, "compensated weights")
            if name not in chosen:
                others[name].assign(keras.ops.cast(values, others[name].dtype))
        known = {**self.values, **kernels}
        remember(self.model, self.sites, chosen)
        for site in self.sites:
            if site.name in chosen:
                assign_mask(site, chosen[site.name], values=known.get(site.name))

    def _variables(self) -> dict[str, Any]:
        """{name: variable} of everything that a surgeon may change."""
        everything = find(self.model, exclude=()).sites
        found = {site.name: site.variable for site in everything}
        return found | {f"{s.path}/bias": getattr(s.layer, "bias", None) for s in everything}
