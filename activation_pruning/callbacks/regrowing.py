"""Sparse training: the alive weights change places, while their number stays."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from activation_pruning import masks, regrowth
from activation_pruning.pruning import Event, Settings, report
from activation_pruning.sites import LiveSites
from activation_pruning.support.names import quoted
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Array, Masks


class Exchange:
    """Plans an exchange at a pruning event, and makes it when the next training step begins.

    Args:
        regrow: a rule of `regrowth`, or the name of one; None: nothing is ever planned.
        settings, schedule: of the pruning.

    Raises:
        ValueError: for settings or a schedule under which weights can't change places or come back.
    """

    def __init__(self, regrow: Any, settings: Settings, schedule: Any) -> None:
        self.rule: Any = regrowth.get(regrow)
        if self.rule is not None and not isinstance(settings.granularity, masks.Weight):
            raise ValueError(
                f"regrow={shown(regrow)} with granularity={settings.granularity}: only single "
                "weights change places; leave granularity at 'weight'"
            )
        if self.rule is not None and schedule.relative:
            raise ValueError(
                f"regrow={shown(regrow)} keeps a sparsity, but schedule={shown(schedule)} prunes "
                "further at each event; use one with a target, such as schedules.Constant"
            )
        if self.rule is not None and schedule.releases:
            raise ValueError(
                f"regrow={shown(regrow)} keeps a sparsity, but schedule={shown(schedule)} gives "
                "pruned weights back; leave out regrow, or use schedules.Constant"
            )
        if schedule.releases and isinstance(settings.granularity, masks.Unit):
            raise ValueError(
                f"granularity={settings.granularity} with schedule={shown(schedule)}: a unit that "
                "comes back without weights and bias may never learn; leave granularity at "
                "'weight', or give N:M or a block"
            )
        # loaded: the masks were read from weights just loaded. A weight that was grown and never
        # moved is a zero there and looks pruned, so it is given a place again.
        self.loaded = False
        self._planned: Any = None

    @property
    def due(self) -> bool:
        """Whether an exchange waits for the next step."""
        return self._planned is not None

    def begin(self, end: int | None, shared: LiveSites) -> None:
        """A fit begins, whose pruning ends at `end`; others mask the sites `shared` as well.

        Raises ValueError for shared sites, and for a decay whose end is not known.
        """
        self._planned = None
        if self.rule is None:
            return
        self.rule.fraction_at(0, end)
        if shared:
            raise ValueError(
                f"{quoted(site.path for site in shared)} are masked by another callback as "
                "well, which would keep weights pruned that regrow= grows. Let one callback have "
                "these layers: exclude= in the other."
            )

    def plan(self, target: Any, time: int) -> None:
        """Exchange as soon as a step begins, at a sparsity, on account of the event at `time`."""
        if self.rule is not None:
            self._planned = target, time

    def may_start(self, stepped: bool) -> bool:
        """Whether one is due and what the rule needs is there; `stepped`: a step is over."""
        return self.due and (stepped or not self.rule.needs)

    def chosen(
        self, event: Event, tracked: Mapping[str, dict[str, Array]], end: int | None
    ) -> tuple[Any, Masks]:
        """Take up what was planned: (the target, the masks after the exchange).

        `event` has the weights and masks of now, `tracked` what the rule needs, {site name:
        {statistic: array}}; `end` is that of `begin`.
        """
        (target, time), self._planned = self._planned, None
        missing = self._missing(event, target) if self.loaded else {}
        fraction, found = self.rule.fraction_at(time, end), {}
        for seen in event.snapshots:
            seen = dataclasses.replace(seen, statistics=tracked.get(seen.name, {}))
            scores, lacking = self.rule.scores(seen, time), missing.get(seen.name, 0)
            found[seen.name] = regrowth.exchange(seen, fraction, scores, lacking)
        return target, found

    def _missing(self, event, target):
        """How many weights each site lacks of its share of `target`: {site name: count}."""
        whole = [
            dataclasses.replace(seen, mask=np.ones_like(seen.mask)) for seen in event.snapshots
        ]
        scores = {seen.name: np.abs(seen.kernel) for seen in whole}
        wanted = masks.select(whole, scores, target, "weight", event.settings.allocation)
        return regrowth.shortfall(event.masks, wanted)

    def restored(self, live_sites: LiveSites, alive: Masks) -> Masks | None:
        """The masks of weights restored from another epoch, when they are as sparse as `alive`.

        None when no weight lives outside of `alive`, or when a site has more of them than it may.
        """
        if self.rule is None:
            return None
        found = report.alive_masks(live_sites)
        outside = any((found[name] > mask).any() for name, mask in alive.items())
        fitting = all(found[name].sum() <= mask.sum() for name, mask in alive.items())
        return found if outside and fitting else None

    def warn_idle(self, grown: Sequence[int]) -> None:
        """Warn where there were events, but nothing has `grown` at any."""
        if len(grown) and not any(grown):
            warnings.warn(
                f"no weight has changed places under regrow={self.rule}: training went on after "
                "no event but the first, or the fraction comes to less than one weight. Use a "
                "schedule with more events, such as schedules.Constant, or train longer.",
                stacklevel=3,
            )
