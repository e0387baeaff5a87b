"""One pruning event: read the weights, decide which go, write what is left."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from activation_pruning import masks, sites, surgeons
from activation_pruning.evidence import gathering
from activation_pruning.graph.channels import Coupling
from activation_pruning.hooks import attachment
from activation_pruning.pruning import report
from activation_pruning.pruning.settings import Settings
from activation_pruning.support.progress import no_progress
from activation_pruning.support.types import Array, Data, Masks, Model, Progress

Gathered = Mapping[str, gathering.Gathered]
_NOTHING = gathering.Gathered(None, {})


class Event:
    """One pruning event of some sites of a model.

    The weights are read once, when they are first looked at, and are finite in all that is
    decided. The event knows nothing of what its own `assign` writes; `following` does.

    Args:
        model: that holds the sites.
        live_sites: the sites that share a target.
        settings: what decides.
        alive: {site name: True where a weight is alive}; None: what is not zero.
        respect_zeros: whether exact zeros count as pruned, where `alive` is None.
        coupling: the `Coupling` of the model, where units go together; or None.
        progress: called with (work done, work in all) by what takes long.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="a")])
        >>> event = Event(model, sites.find(model, exclude=()).sites, Settings("magnitude"))
        >>> chosen, kernels = event.decide(0.5)
        >>> event.assign(chosen, kernels)
        >>> int((model.get_weights()[0] == 0).sum())
        4
    """

    def __init__(
        self,
        model: Model,
        live_sites: Sequence[sites.LiveSite],
        settings: Settings | None = None,
        alive: Masks | None = None,
        respect_zeros: bool = True,
        coupling: Coupling | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self.model, self.sites, self.settings = model, live_sites, settings or Settings()
        self.coupling, self.progress = coupling, progress
        self._alive, self._respect_zeros = alive, respect_zeros

    @functools.cached_property
    def snapshots(self) -> list[sites.Site]:
        """The sites as they are now, as plain arrays."""
        found = report.read(self.sites, self._alive, self._respect_zeros)
        units = self.coupling.units if self.coupling else {}
        return [
            dataclasses.replace(seen, seed=self.settings.seed, channels=units.get(seen.name))
            for seen in found
        ]

    @functools.cached_property
    def _finite(self) -> list[sites.Site]:
        for seen in self.snapshots:
            if not np.isfinite(seen.kernel).all():
                raise ValueError(
                    f"layer {seen.layer!r} has NaN or infinite weights; pruning cannot rank "
                    "them. Lower the learning rate or load weights from before they diverged."
                )
        return self.snapshots

    @property
    def alive(self) -> Masks:
        """{site name: True where a weight is alive}, before the event."""
        return self._alive or {seen.name: seen.mask for seen in self.snapshots}

    @property
    def values(self) -> dict[str, Array]:
        """{site name: what its variable holds}, where no wrapper hides that."""
        bare = {site.name for site in self.sites if site.wrapper is None}
        return {seen.name: seen.kernel for seen in self.snapshots if seen.name in bare}

    @property
    def granule(self) -> int:
        """By how many weights a target must rise so that surely something more is pruned."""
        return masks.granule(self.snapshots, self.settings.granularity)

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
                f"layers {gated} have gates that would multiply the compensated weights; make a "
                "plain model of it first: model = ap.strip(model)"
            )

    def gather(self, data: Data, needs: Iterable[str] | None = None) -> Gathered:
        """{site name: what the criterion `needs`}, from data; empty where it needs nothing."""
        needs = self.settings.needs if needs is None else needs
        more = {"seed": self.settings.seed, "progress": self.progress}
        return gathering.gather(self.model, self.sites, data, needs, **more)

    def seen(self, gathered: Gathered | None = None) -> list[sites.Site]:
        """The sites with what was gathered of them, as the criterion sees them."""
        known = gathered or {}
        own = [known.get(seen.name, _NOTHING) for seen in self._finite]
        return [
            dataclasses.replace(seen, activity=one.activity, statistics=one.statistics)
            for seen, one in zip(self._finite, own, strict=True)
        ]

    def decide(
        self, target: Any, gathered: Gathered | None = None
    ) -> tuple[Masks, dict[str, Array]]:
        """What stays alive, and new kernels where a surgeon compensates; nothing is written.

        Args:
            target: a sparsity in [0, 1), counted over all the sites, or an amount that looks at
                the scores.
            gathered: {site name: `gathering.Gathered`}; None where the criterion needs nothing.

        Returns:
            ({site name: bool array}, each a subset of `alive`; {name: array}).
        """
        settings, seen = self.settings, self.seen(gathered)
        selection = surgeons.Selection(
            target, settings.granularity, settings.allocation, self.progress
        )
        if settings.surgeon:
            return settings.surgeon.operate(seen, selection)
        scores = {site.name: settings.criterion(site) for site in seen}
        return selection.masks(seen, scores), {}

    def assign(self, chosen: Masks, kernels: Mapping[str, Array] | None = None) -> None:
        """Write masks, and kernels where a surgeon gave them, into the model.

        Args:
            chosen: {site name: bool array, True where alive}; other sites stay as they are.
            kernels: {name: array}; some may be of sites that are not pruned, or biases.
        """
        kernels = kernels or {}
        others = set(kernels) - set(chosen)
        variables = self._variables() if others else {}
        for name, values in kernels.items():
            masks.check_finite(name, values, "compensated weights")
            if name in others:
                variables[name].assign(keras.ops.cast(values, variables[name].dtype))
        values = self.values | dict(kernels)
        for site in self.sites:
            if site.name in chosen:
                attachment.assign_mask(site, chosen[site.name], values=values.get(site.name))

    def _variables(self) -> dict[str, Any]:
        """{name: variable} of everything that a surgeon may change."""
        everything = sites.find(self.model, exclude=()).sites
        found = {site.name: site.variable for site in everything}
        return found | {f"{s.path}/bias": getattr(s.layer, "bias", None) for s in everything}

    def silence(self, chosen: Masks) -> None:
        """Set to zero what is still added to units that are pruned as a whole.

        Their biases, and beta and gamma of a BatchNormalization behind them: a unit without
        weights is then zero for all inputs (but for an activation with f(0) other than zero), and
        `compact` can take it out exactly wherever it goes.
        """
        for offset, mask in self.coupling.silenced(chosen) if self.coupling else ():
            if not mask.all():
                attachment.assign_mask(offset, mask)

    def of(self, site: sites.LiveSite) -> Event:
        """The event of one of the sites alone, with a target of its own."""
        settings = dataclasses.replace(self.settings, allocation="uniform")
        return Event(self.model, [site], settings, self.alive, progress=self.progress)

    def following(self, chosen: Masks) -> Event:
        """The next event of the same sites, of which so many are alive."""
        return Event(
            self.model,
            self.sites,
            self.settings,
            alive=chosen,
            coupling=self.coupling,
            progress=self.progress,
        )
