"""What a criterion needs to know, taken from the training itself as far as it can be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from activation_pruning import sites
from activation_pruning.evidence import gathering
from activation_pruning.hooks.attachment import Attachment
from activation_pruning.pruning import Event, Settings
from activation_pruning.support.types import Array, Data, Model


class TrainingEvidence:
    """Activity counted and gradients tracked in a fit, and the rest from data at an event.

    Args:
        settings: of the pruning.
        data: as for `prune`, for what the training does not give; or None.
        threshold: output above which a unit counts as active.
        more: names in `TRACKED` that are wanted besides what the criterion needs.
    """

    def __init__(
        self, settings: Settings, data: Data, threshold: float, more: Iterable[str] = ()
    ) -> None:
        self.settings, self.data, self.threshold = settings, data, threshold
        self._tracked = {*settings.tracked, *more}
        self._from_data = settings.needs - {*settings.statistics, *settings.tracked}
        self._live_sites: Sequence[sites.LiveSite] = ()
        self._counters: dict[Any, Any] = {}
        self._trackers: dict[str, Any] = {}
        self._final: dict[str, sites.Activity] | None = None  # when the fit is over

    def check_data(self, criterion: Any) -> None:
        """Raise where there is no data for a criterion, named as the user did, that needs some."""
        gathering.check_data(self._from_data, criterion, self.data)
        gathering.check_passes(self._from_data, self.data, again=True)

    def check(self, model: Model, live_sites: Sequence[sites.LiveSite]) -> None:
        """Raise for data that does not fit the model, or where gradients are not to be had.

        Raises:
            ValueError: names the layers and says what to do.
        """
        gathering.check_first(model, self.data, self._from_data)
        if self._tracked:
            check_trainable(live_sites)
        wrapped = [site.path for site in live_sites if site.mask_variable is not None]
        if wrapped and "last_gradient" in self._tracked:
            raise ValueError(
                f"the gradients of pruned weights are hidden by PrunedLayer in {wrapped}. Use the "
                "plain model, ap.strip(model), or regrow='set'."
            )

    def attach(self, owner: Any, hooks: Attachment, live_sites: Sequence[sites.LiveSite]) -> None:
        """Count and track from now on."""
        self._live_sites, self._counters, self._trackers = live_sites, {}, {}
        statistics = self.settings.statistics
        if statistics:
            self._counters = hooks.count(owner, live_sites, self.threshold, statistics)
        if self._tracked:
            self._trackers = hooks.track(owner, live_sites, self._tracked)

    @property
    def counts(self) -> bool:
        """Whether activity is counted."""
        return bool(self._counters)

    def begin(self) -> None:
        """A fit begins: what was counted in an older one is over."""
        self._final = None

    def end(self) -> None:
        """The fit is over: keep what was counted."""
        self._final = self.activity()

    def activity(self) -> dict[str, sites.Activity]:
        """{site name: Activity}; empty where nothing is counted. On JAX, sync the model before."""
        if not self._counters:
            return {}
        return self._final or gathering.activity_of(self._live_sites, self._counters)

    def tracked(self) -> dict[str, dict[str, Array]]:
        """{site name: {statistic: array}}; empty where nothing is tracked."""
        return {name: tracker.read() for name, tracker in self._trackers.items()}

    def lacks(self, stepped: bool) -> bool:
        """Whether what is needed of the training is not there yet; `stepped`: a step is over."""
        if self.settings.tracked and not stepped:
            return True
        return any(counted.samples == 0 for counted in self.activity().values())

    def gather(self, event: Event) -> dict[str, gathering.Gathered]:
        """{site name: all that the criterion needs}: from the training so far, and data now."""
        found = event.gather(self.data, self._from_data)
        activity, tracked = self.activity(), self.tracked()
        statistics = {name: one.statistics for name, one in found.items()}
        return {
            site.name: gathering.Gathered(
                activity.get(site.name),
                tracked.get(site.name, {}) | statistics.get(site.name, {}),
            )
            for site in self._live_sites
        }

    def reset(self) -> None:
        """Count anew."""
        for one in (*self._counters.values(), *self._trackers.values()):
            one.reset()


def check_trainable(live_sites: Sequence[sites.LiveSite]) -> None:
    """Raise for frozen layers.

    Raises:
        ValueError: names them and says what to do.
    """
    frozen = [site.path for site in live_sites if not site.variable.trainable]
    if frozen:
        raise ValueError(
            f"{frozen} are frozen (trainable=False): there are no gradients, and a weight grown "
            "there would stay zero. Leave these layers out by exclude=."
        )
