"""What a criterion needs to know, taken from the training itself as far as it can be."""

from typing import Any

from activation_pruning.evidence import gathering
from activation_pruning.hooks.attachment import Attachment
from activation_pruning.pruning import Event, Settings, report
from activation_pruning.sites import Activity, LiveSites
from activation_pruning.support.names import quoted
from activation_pruning.support.types import Array, Data, Model, Table


class TrainingEvidence:
    """Activity counted and gradients tracked in a fit, and the rest from data at an event.

    Args:
        settings: of the pruning.
        criterion: of the settings, as the user named it.
        data: as for `prune`, for what the training does not give; or None.
        rule: of `regrowth`, which needs something, too; or None.

    Raises:
        ValueError: where there is no data, or no second pass over it, for what needs one.
    """

    def __init__(self, settings: Settings, criterion: Any, data: Data, rule: Any = None) -> None:
        self.settings, self.data = settings, data
        self._tracked = {*settings.tracked, *getattr(rule, "needs", ())}
        self._trains = bool(self._tracked) or rule is not None
        self._from_data = settings.needs - {*settings.statistics, *settings.tracked}
        gathering.check_data(self._from_data, criterion, data)
        gathering.check_passes(self._from_data, data, again=True)
        self._counters: dict[Any, Any] = {}
        self._trackers: dict[str, Any] = {}
        self._final: dict[str, Activity] | None = None  # when the fit is over

    def check(self, model: Model, live_sites: LiveSites) -> None:
        """Raise ValueError for data that does not fit the model, or layers without gradients."""
        gathering.check_first(model, self.data, self._from_data)
        frozen = [site.path for site in live_sites if not site.variable.trainable]
        if frozen and self._trains:
            raise ValueError(
                f"{quoted(frozen)} are frozen (trainable=False): there are no gradients, and a "
                "weight grown there would stay zero. Leave these layers out by exclude=."
            )
        wrapped = [site.path for site in live_sites if site.mask_variable is not None]
        if wrapped and "last_gradient" in self._tracked:
            raise ValueError(
                f"the gradients of pruned weights are hidden by PrunedLayer in {quoted(wrapped)}. "
                "Use the plain model, ap.strip(model), or regrow='set'."
            )

    def attach(self, owner: Any, hooks: Attachment, sites: LiveSites, threshold: float) -> None:
        """Count and track from now on; a unit is active where its output exceeds `threshold`."""
        self._hooks, self._sites, statistics = hooks, sites, self.settings.statistics
        self._counters = hooks.count(owner, sites, threshold, statistics) if statistics else {}
        self._trackers = hooks.track(owner, sites, self._tracked) if self._tracked else {}

    def begin(self) -> None:
        """A fit begins: what was counted in an older one is over."""
        self._final = None

    def end(self) -> None:
        """The fit is over: keep what was counted."""
        self._final = self.activity()

    def activity(self) -> dict[str, Activity]:
        """{site name: Activity}; empty where nothing is counted."""
        if self._final is not None or not self._counters:
            return self._final or {}
        self._hooks.sync()
        return gathering.activity_of(self._sites, self._counters)

    def table(self) -> Table:
        """The activity, one row per unit; ValueError where nothing was counted."""
        if not self.settings.statistics:
            raise ValueError(
                "nothing counted: the criterion needs no activity; add ap.ActivationCounter()"
            )
        if not self._counters:
            raise ValueError("nothing counted yet: pass this callback to model.fit first")
        return report.activity_table(self._sites, self.activity())

    def tracked(self) -> dict[str, dict[str, Array]]:
        """{site name: {statistic: array}}; empty where nothing is tracked."""
        return {name: tracker.read() for name, tracker in self._trackers.items()}

    def lacks(self, stepped: bool) -> bool:
        """Whether what is needed of the training is not there yet; `stepped`: a step is over."""
        unseen, counted = self.settings.tracked and not stepped, self.activity()
        return bool(unseen) or (counted != {} and not any(s.samples for s in counted.values()))

    def reached(self, live_sites: LiveSites) -> LiveSites:
        """Those of the sites that the training has reached; all where nothing is asked of it."""
        found = gathering.known(self._seen(live_sites), self._tracked)
        return [site for site in live_sites if site.name in found] or live_sites

    def gather(self, event: Event) -> dict[str, gathering.Gathered]:
        """{site name: all that the criterion needs}: from the training so far, and data now."""
        found, shown = event.gather(self.data, self._from_data), self._seen(event.sites)
        if not self._from_data:
            return shown
        return {
            name: gathering.Gathered(one.activity, one.statistics | found[name].statistics)
            for name, one in shown.items()
            if name in found
        }

    def _seen(self, live_sites: LiveSites) -> dict[str, gathering.Gathered]:
        """{site name: what the training so far has shown}."""
        activity, tracked = self.activity(), self.tracked()
        return {
            site.name: gathering.Gathered(activity.get(site.name), tracked.get(site.name, {}))
            for site in live_sites
        }

    def reset(self) -> None:
        """Count anew."""
        for one in (*self._counters.values(), *self._trackers.values()):
            one.reset()
