"""The callback that prunes within `model.fit`: thin, the work is done elsewhere."""

from typing import Any

from activation_pruning import amounts, masks, schedules
from activation_pruning.callbacks.agenda import Agenda, Clock
from activation_pruning.callbacks.base import described
from activation_pruning.callbacks.keep_pruned import KeepPruned
from activation_pruning.callbacks.other_callbacks import Monitors, check_monitor
from activation_pruning.callbacks.regrowing import Exchange
from activation_pruning.callbacks.training_evidence import TrainingEvidence
from activation_pruning.evidence.gathering import warn_left_out
from activation_pruning.evidence.reading import first
from activation_pruning.hooks.masking import clear_momenta
from activation_pruning.hooks.remembered import pruned_last, remember
from activation_pruning.pruning import Event, Settings, report
from activation_pruning.support.checks import check_flags, check_number
from activation_pruning.support.counts import counted
from activation_pruning.support.progress import ProgressBar
from activation_pruning.support.types import Criterion, Data, Layers, Named, Table


class PruningCallback(KeepPruned):
    """Count, prune on schedule, and keep pruned weights at exactly zero, all within `fit`.

    Works in place on the compiled model: no clone, no wrapper, no second compile. Whenever it
    prunes, callbacks that watch a metric (EarlyStopping, ModelCheckpoint, ReduceLROnPlateau)
    start their comparison over: their best value belongs to a denser network.

    With `regrow` alive weights of each site change places while their number stays (sparse
    training), at every event that finds the network sparse already, after the pruning that is due.
    The exchange waits for the next training step: epochs end with a trained network, and metrics
    are compared on. What is grown, or given back by `schedules.Alternating`, starts at zero, with
    zero momenta; by `sparsity` it is alive. What EarlyStopping restores stays as it is.
    `spending` is what came of the last event, where the schedule goes to a budget; else None.

    Args:
        schedule: an object of `activation_pruning.schedules`, or of tfmot.
        criterion, allocation, granularity, include, exclude, seed: as for `prune`.
        threshold: output above which a unit counts as active.
        respect_zeros: whether exact zeros found at the start count as pruned already.
        reset_counts: count anew after each event instead of over the whole training.
        data: samples of the training data, as for `prune`, for criteria that need more than is
            gathered from the training itself.
        regrow: None, "set", "rigl", or an object of `regrowth`; for single weights only.
        steps: how many batches of `data` to read, see `prune`.

    Raises:
        ValueError: before the first step, for unknown names, shapes that the granularity can't
            divide, non-finite weights, frozen layers that need gradients, or an unknown metric.

    Source: Ganguli & Chong, Algorithms 17(1):48, 2024.

    Example:
    >>> import keras, numpy as np, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> pruner = ap.PruningCallback(ap.schedules.OneShot(0.75, at=1))
    >>> fit = model.fit(np.ones((8, 4)), np.ones((8, 1)), epochs=2, verbose=0, callbacks=[pruner])
    >>> fit.history["sparsity"]
    [0.75, 0.75]
    """

    spending: Any = None  # a `budgets.Spending`, after an event

    def __init__(
        self,
        schedule: Any,
        criterion: Criterion = "activation_magnitude",
        allocation: Named = "global",
        granularity: Any = "weight",
        include: Layers = None,
        exclude: Layers = None,
        seed: int = 0,
        threshold: float = 0.0,
        respect_zeros: bool = True,
        reset_counts: bool = False,
        data: Data = None,
        regrow: Any = None,
        steps: int | None = None,
    ) -> None:
        super().__init__(include, exclude)
        check_number("threshold", threshold, hint="an output of a unit, 0 for a ReLU")
        check_flags(respect_zeros=respect_zeros, reset_counts=reset_counts)
        self.schedule = schedules.get(schedule)
        self.settings = Settings(criterion, allocation, granularity, seed)
        self.threshold, self.respect_zeros = threshold, respect_zeros
        self.reset_counts, self.data = reset_counts, first(data, steps)
        self._exchange = Exchange(regrow, self.settings, self.schedule)
        self.regrow = self._exchange.rule
        self.revives = self.regrow is not None or self.schedule.releases
        self._evidence = TrainingEvidence(self.settings, criterion, self.data, self.regrow)
        self._skipped: list[tuple[str, str]] = []
        self._begin_history()

    def __repr__(self) -> str:
        return described(self)

    def table(self) -> Table:
        """The events, one row per event and site.

        Columns: event, epoch, step, layer, site, target_sparsity, total_sparsity, sparsity (of the
        site, measured after the event), pruned, weights. Where weights may come back also grown:
        those alive that were not before the event.
        """
        return self._history.table()

    def activity(self) -> Table:
        """Tidy DataFrame of the activity counted: layer, unit, frequency, mean, rms, ...

        Raises ValueError before the callback has been in a `fit`, and when the criterion needs no
        activity, so that nothing is counted.
        """
        return self._evidence.table()

    def left_out(self) -> Table:
        """DataFrame: layer, reason; what is not pruned in this fit, or was not in the last one."""
        return report.left_out(self._skipped)

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        report.note_counted(self.model, self._hooks.masked(PruningCallback))
        self._begin_history()
        self._evidence.begin()
        self._clock = Clock(self.params, self.schedule.by)
        check_monitor(self, self.schedule.monitor)
        self._agenda = Agenda(self.schedule, self._clock, lambda: self._count)
        self._exchange.begin(self._agenda.end, self._hooks.shared(self))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._clock.begin_epoch()
        if self._monitors is None:
            self._begin(epoch)
        else:
            self._settle()
            self._monitors.begin_epoch()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._exchange.may_start(self._clock.stepped):
            self._hooks.sync()
            self._keep(self._evidence.reached(self._sites))
            event, tracked = self._event(), self._evidence.tracked()
            target, chosen = self._exchange.chosen(event, tracked, self._agenda.end)
            if self._differ(chosen):
                self._change(event, chosen, target)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        steps = self._clock.end_batch(batch)
        if self.schedule.by == "step":
            # One by one: with steps_per_execution the steps in between are over unseen.
            self._follow(logs or {}, steps)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = {} if logs is None else logs
        self._settle()
        late = self._clock.end_epoch(epoch, logs)
        if late:
            self._resume(late.start - 1)
        if late or self.schedule.by == "epoch":
            self._follow(logs, late or [self._clock.step])
        logs["sparsity"], logs["target_sparsity"] = self._measured(), self._target

    def on_train_end(self, logs: Any = None) -> None:
        if self._monitors is not None:
            self._monitors.end()
        self._evidence.end()
        super().on_train_end(logs)
        if self._masks is None:  # there was no epoch
            return
        if self.regrow is not None:
            self._exchange.warn_idle(self.table()["grown"])
        self._agenda.warn_short(len(self._history))

    def _find(self, model):
        found = self.settings.find(model, self.include, self.exclude)
        self._skipped = found.skipped
        return found

    def _check(self):
        Event(self.model, self._sites, self.settings).check()
        self.settings.check_target(self.schedule.final_sparsity)
        self._evidence.check(self.model, self._sites)

    def _attach(self, hooks):
        super()._attach(hooks)
        self._evidence.attach(self, hooks, self._sites, self.threshold)

    def _begin_history(self):
        self._history = report.EventHistory(regrow=self.revives)
        self._target, self._monitors, self.spending = 0.0, None, None

    def _begin(self, epoch):
        self._monitors = Monitors(self)  # by now each has begun its own training
        self._clock.start(epoch)
        event = self._event()
        self._take_masks(event)
        self._agenda.granule = masks.granule(event.snapshots, self.settings.granularity)
        self._exchange.loaded = True
        if epoch == 0:
            self._follow({}, [0])  # once before training
            return
        self._resume(self._clock.step)

    def _resume(self, step):
        owed = self._agenda.resume(step)
        if owed is not None and self._agenda.falls(owed):
            self._prune(owed)  # what is zero is alive: a weight that has not moved yet
        elif owed is not None and self._count.sparsity > 0:
            self._exchange.plan(owed, self._clock.time)

    def _wanted(self, found):
        # Not every zero: alive weights may pass through zero, or start there.
        gone = {site.name: pruned_last(site.variable) for site in self._sites}
        return {
            name: mask if gone[name] is None else mask & (found[name] | ~gone[name])
            for name, mask in self._masks.items()
        }

    def _write(self, masks, values=None, everything=False):
        before = self._count
        super()._write(masks, values, everything)
        if self._monitors is not None and before not in (None, self._count):
            self._monitors.pruned()

    def _reapply(self):
        best = self._exchange.restored(self._sites, self._masks) if self._masks else None
        if best is None:
            super()._reapply()
        else:
            self._masks = best  # the best epoch's: as sparse, with zeros of its own
            remember(self.model, self._sites, best)

    def _follow(self, logs, steps):
        for target in self._agenda.targets(logs, steps):
            self._hooks.sync()
            if self._evidence.lacks(self._clock.stepped):
                self._agenda.postpone(target)
            else:
                self._prune(target)

    def _event(self):
        coupling = self._silencer.coupling if self.settings.couples else None
        alive, progress = self._masks, ProgressBar(bool(self.params.get("verbose")))
        return Event(
            self.model, self._sites, self.settings,
            alive=alive, respect_zeros=self.respect_zeros, coupling=coupling, progress=progress,
        )  # fmt: skip

    def _prune(self, target):
        self._keep(self._evidence.reached(self._sites))
        gathered = self._evidence.gather(self._event())
        self._keep(self._event().only(gathered).sites)
        asked, before, event = target, self._count, self._event()
        if falls := self._agenda.falls(target):
            event = event.with_all_alive()
        chosen, kernels = event.decide(target, gathered)
        self.spending = event.spending
        if amounts.is_amount(target):  # what the scores said it comes to
            count = counted(chosen.values())
            target = count.pruned / count.weights
        self._target = target
        self._clock.note_event()
        if before.sparsity > 0:
            self._exchange.plan(target, self._clock.time)
        if not self._exchange.due or self._differ(chosen):
            self._change(event, chosen, target, kernels)
        if falls:
            clear_momenta(self.trainer)
        self._agenda.note(asked, before)
        if self.reset_counts:
            self._evidence.reset()

    def _keep(self, live_sites):
        """Go on with these sites alone, as if the others were excluded, and say so."""
        gone = warn_left_out(self._sites, live_sites)
        if gone:
            self._hooks.leave_out(self, gone)
            self._sites = live_sites
            self._masks = {site.name: self._masks[site.name] for site in live_sites}
            self._count = counted(self._masks.values())

    def _differ(self, chosen):
        return any((mask != self._masks[name]).any() for name, mask in chosen.items())

    def _change(self, event, chosen, target, kernels=None):
        """Write the masks of an event, and kernels of a surgeon, and put it on record."""
        known, values, kernels = self._masks, event.values, kernels or {}
        self._exchange.loaded = False
        with self._hooks.event(self._clock.epoch):
            if kernels:
                event.assign(chosen, kernels)
                values = {}
                # Of surgeons on units the weights that leave removed ones are zeros, too.
                chosen = {n: m & (kernels.get(n, 1) != 0) for n, m in chosen.items()}
            whole = isinstance(self.settings.granularity, masks.Unit)
            self._write(chosen, values, everything=whole)
            self._silencer.hold(set(kernels) - set(chosen))
            now = {"epoch": self._clock.epoch, "step": self._clock.step, "target_sparsity": target}
            self._history.add(self._sites, known, chosen, **now)  # before listeners hear of its end
