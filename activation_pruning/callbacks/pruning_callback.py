"""The callback that prunes within `model.fit`: thin, the work is done elsewhere."""

import warnings

import numpy as np
import pandas as pd

from activation_pruning import amounts, masks, regrowth, schedules
from activation_pruning.callbacks import weight_exchange
from activation_pruning.callbacks.keep_pruned import KeepPruned
from activation_pruning.callbacks.other_callbacks import Monitors, check_monitor
from activation_pruning.evidence import gathering
from activation_pruning.hooks import attachment
from activation_pruning.pruning import one_shot, report
from activation_pruning.support.progress import ProgressBar


class PruningCallback(KeepPruned):
    """Count, prune on schedule, and keep pruned weights at exactly zero, all within `fit`.

    Works in place on the compiled model: no clone, no wrapper, no second compile. Whenever it
    prunes, callbacks that watch a metric (EarlyStopping, ModelCheckpoint, ReduceLROnPlateau)
    start their comparison over: their best value belongs to a denser network.

    With `regrow` the alive weights of each site change places while their number stays (sparse
    training): at every event that finds the network sparse already, which is pruned to the target
    first if that has risen. The exchange itself waits for the next training step to begin: what
    epochs end with (metrics, checkpoints, best weights) is a trained network, none is made after
    the last step, and comparisons of metrics need not start over. Grown weights start at zero, with
    zero momenta; sparsity is that of the masks, in which they are alive. Weights of another epoch
    that EarlyStopping restores stay as they are, with the zeros of that epoch.

    Args:
        schedule: an object of `activation_pruning.schedules`, or of tfmot.
        criterion: a name in `criteria.CRITERIA` or `surgeons.SURGEONS`, `f(site) -> scores`, or
            an object of `surgeons`; low scores go first.
        allocation: "global", "uniform", "distributed", "erk", or a callable.
        granularity: "weight", "unit", "2:4", a block `(height, width)`, or an object of `masks`.
        include: layers to prune (names, patterns, layers); None takes all.
        exclude: layers to leave alone; None leaves out the output layer, `()` nothing.
        seed: for criteria that are random.
        threshold: output above which a unit counts as active.
        respect_zeros: whether exact zeros found at the start count as pruned already.
        reset_counts: count anew after each event instead of over the whole training.
        data: samples of the training data, as for `prune`, for criteria that need more than is
            gathered from the training itself.
        regrow: None, "set", "rigl", or an object of `regrowth`; for single weights only.

    Raises:
        ValueError: before the first step, for unknown names, shapes that the granularity does
            not divide, non-finite weights, frozen layers where gradients are needed, or a watched
            metric that `fit` does not produce.

    Source: Ganguli & Chong, Algorithms 17(1):48, 2024.

    Example:

    >>> import keras, numpy as np, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"),
    ...                           keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> pruner = ap.PruningCallback(ap.schedules.OneShot(0.75, at=1))
    >>> history = model.fit(np.ones((8, 4)), np.ones((8, 1)), epochs=2, verbose=0,
    ...                     callbacks=[pruner])
    >>> history.history["sparsity"]
    [0.75, 0.75]
    """

    def __init__(
        self,
        schedule,
        criterion="activation_magnitude",
        allocation="global",
        granularity="weight",
        include=None,
        exclude=None,
        seed=0,
        threshold=0.0,
        respect_zeros=True,
        reset_counts=False,
        data=None,
        regrow=None,
    ):
        super().__init__(include, exclude)
        self.schedule = schedules.get(schedule)
        self.settings = one_shot.Settings(criterion, allocation, granularity, seed)
        self.data = data
        self._from_data = self.settings.needs - {*self.settings.statistics, *self.settings.tracked}
        gathering.check_data(self._from_data, criterion, data)
        gathering.check_passes(self._from_data, data, again=True)
        self.threshold, self.respect_zeros = threshold, respect_zeros
        self.reset_counts, self.regrow = reset_counts, regrowth.get(regrow)
        if self.regrow is not None and not isinstance(self.settings.granularity, masks.Weight):
            raise ValueError(
                f"regrow={regrow!r} with granularity={granularity!r}: only single weights change "
                "places; leave granularity at 'weight'"
            )
        if self.regrow is not None and self.schedule.relative:
            raise ValueError(
                f"regrow={regrow!r} keeps a sparsity, but schedule={schedule!r} prunes further at "
                "each event; use one with a target, such as schedules.Constant"
            )
        self._events, self._counters, self._activity = [], {}, None
        self._needs = {*self.settings.tracked, *getattr(self.regrow, "needs", ())}
        self._trackers = {}

    # -- tables ----------------------------------------------------------------------------

    def table(self):
        """The events, one row per event and site.

        Columns: event, epoch, step, layer, site, target_sparsity, total_sparsity, sparsity,
        pruned, weights. `sparsity` is that of the site, measured after the event. With `regrow`
        also grown: weights alive that were not before the event, as many as were dropped.
        """
        columns = ["event", "epoch", "step", "layer", "site", "target_sparsity"]
        columns += ["total_sparsity", "sparsity", "pruned", "weights"]
        columns += [] if self.regrow is None else ["grown"]
        return pd.DataFrame([row for event in self._events for row in event], columns=columns)

    def activity(self):
        """Tidy DataFrame of the activity counted: layer, unit, frequency, mean, rms, ...

        Raises:
            ValueError: when the criterion needs no activity, so nothing was counted.
        """
        if not self._counters:
            raise ValueError(
                "nothing counted: the criterion needs no activity; add ap.ActivationCounter()"
            )
        return report.activity_table(self._sites, self._read_activity())

    # -- Keras's hooks ---------------------------------------------------------------------

    def _check(self):
        self.settings.check(self._sites, self.schedule.final_sparsity)
        gathering.check_first(self.model, self.data, self._from_data)
        weight_exchange.check_sites(self._sites, self._needs, self.regrow)

    def _attach(self, hooks):
        super()._attach(hooks)
        self._counters = {}
        if self.settings.statistics:
            statistics = self.settings.statistics
            self._counters = hooks.count(self, self._sites, self.threshold, statistics)
        self._trackers = hooks.track(self, self._sites, self._needs) if self._needs else {}

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._events, self._activity = [], None
        self._check_fit()
        if self.regrow is not None:
            self._check_regrow()
        self._epoch, self._step, self._steps_before = 0, 0, 0
        self._target, self._owed, self._due = 0.0, None, None
        self._fired, self._since = 0, []  # events of this fit; logs of the epochs since the last
        self._restart_monitors = False
        message = self.schedule.unreachable(self.params["epochs"], self.params.get("steps"))
        if message:
            warnings.warn(message, stacklevel=2)

    def on_epoch_begin(self, epoch, logs=None):
        self._steps_before = self._step
        if self._masks is None:
            self._begin(epoch)
        elif self._restart_monitors:
            self._monitors.restart()
            self._restart_monitors = False

    def on_train_batch_begin(self, batch, logs=None):
        stepped = self._step > self._first_step
        if self._due is not None and (stepped or not self.regrow.needs):
            due, self._due = self._due, None
            self._exchange(*due)

    def on_train_batch_end(self, batch, logs=None):
        # With steps_per_execution the last batch number of an epoch may lie beyond its end.
        done = min(batch + 1, self.params.get("steps") or batch + 1)
        before, self._step = self._step, self._steps_before + done
        if self.schedule.by == "step":
            # One by one: with steps_per_execution the steps in between are over unseen.
            self._ask(logs or {}, range(before + 1, self._step + 1))

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = epoch + 1
        logs = {} if logs is None else logs
        self._since.append(dict(logs))
        if self.schedule.by == "epoch":
            self._ask(logs, [self._step])
        logs["sparsity"], logs["target_sparsity"] = self._measured(), self._target

    def on_train_end(self, logs=None):
        if self._restart_monitors:
            outdated = self._monitors.outdated()
            self._monitors.restart()  # a best epoch restored now would be a denser network
            if outdated:
                warnings.warn(
                    f"weights were pruned after {outdated} was saved for the last time, so it "
                    "holds a denser network. Let the schedule end before the last epoch, or list "
                    "ModelCheckpoint after this callback.",
                    stacklevel=2,
                )
        if self._counters:
            self._activity = gathering.activity_of(self._sites, self._counters)
        super().on_train_end(logs)
        if self._masks is not None:  # there was an epoch
            self._warn_short()

    # -- one event -------------------------------------------------------------------------

    def _begin(self, epoch):
        self._monitors = Monitors(self)  # by now each has begun its own training
        self._epoch = epoch
        self._first_step = epoch * (self.params.get("steps") or 0)
        self._step = self._steps_before = self._first_step
        self._take_masks(self.respect_zeros)
        self._found = True  # the masks are those found in the weights
        coupling = self._silencer.coupling if self.settings.couples else None
        snapshots = self.settings.snapshots(self._sites, self._masks, {}, coupling)
        self._weights = sum(snapshot.kernel.size for snapshot in snapshots)
        self._granule = masks.granule(snapshots, self.settings.granularity)
        if epoch == 0:
            self._ask({}, [0])  # once before training
        else:
            # Resumed from weights that may have been saved just before the event of their
            # epoch; it is made up for when the schedule is asked next and activity is counted.
            # Not where a schedule takes from what is there: it would take it a second time.
            if not self.schedule.relative:
                self._owed = self._answer({}, self._step)
            if self.regrow is not None and self._owed is not None and self._sparsity() > 0:
                self._due = self._owed, self._time()

    def _answer(self, logs, step):
        """The schedule's target at `step`, or None."""
        progress = schedules.Progress(
            epoch=self._epoch,
            step=step,
            logs=logs,
            sparsity=self._sparsity(),
            epochs=self.params["epochs"],
            steps_per_epoch=self.params.get("steps"),
            weights=self._weights,
            granule=self._granule,
            events=self._fired,
            since=tuple(self._since),
        )
        return self.schedule(progress)

    def _ask(self, logs, steps):
        """Prune to the last target that the schedule gives for `steps`, if any."""
        if self.schedule.relative and len(steps) > 1:
            for step in steps:  # each takes from what the one before has left
                self._ask(logs, [step])
            return
        targets = [self._answer(logs, step) for step in steps]
        targets = [target for target in targets if target is not None]
        owed, self._owed = self._owed, None
        if targets:
            self._prune(targets[-1])
        elif owed is not None and self._lacks(owed):
            self._prune(owed)

    def _prune(self, target):
        hooks = attachment.attachment(self.model)
        hooks.sync()
        activity = self._read_activity() if self._counters else {}
        unseen = self.settings.tracked and self._step == self._first_step
        if unseen or any(counted.samples == 0 for counted in activity.values()):
            self._postpone(target)
            return
        before = self._sparsity()
        progress = ProgressBar(bool(self.params.get("verbose")))
        gathered = self._gather(activity, progress)
        coupling = self._silencer.coupling if self.settings.couples else None
        known = self._sites, self._masks, target, gathered, progress
        chosen, kernels = self.settings.decide(*known, coupling)
        if amounts.is_amount(target):  # an amount: what the scores said it comes to
            pruned = sum(int(np.count_nonzero(~mask)) for mask in chosen.values())
            target = pruned / self._weights
        self._target, self._fired, self._since = target, self._fired + 1, []
        if self.regrow is not None and before > 0:
            self._due = target, self._time()
        if self._due is None or self._differ(chosen):
            self._change(chosen, target, kernels)
        if self._sparsity() != before:
            self._monitors.restart()
            # And once more when this epoch is over: its metrics are of the denser network.
            self._restart_monitors = True
        if self.reset_counts:
            for gathered in (*self._counters.values(), *self._trackers.values()):
                gathered.reset()

    def _gather(self, activity, progress):
        """What the criterion needs: from the training so far, the rest from `data` now."""
        how = self.data, self._from_data, self.settings.seed, progress
        found = gathering.gather(self.model, self._sites, *how)
        tracked, nothing = self._tracked(), gathering.Gathered(None, {})
        return {
            site.name: gathering.Gathered(
                activity.get(site.name),
                tracked.get(site.name, {}) | found.get(site.name, nothing).statistics,
            )
            for site in self._sites
        }

    def _tracked(self):
        """{site name: {statistic: array}} of the trackers."""
        return {name: tracker.read() for name, tracker in self._trackers.items()}

    def _exchange(self, target, time):
        """Let a fraction of the alive weights of each site change places."""
        attachment.attachment(self.model).sync()
        missing = dict.fromkeys(self._masks, 0)
        if self._found:
            allocation = self.settings.allocation
            missing = weight_exchange.missing(self._sites, self._masks, target, allocation)
        fraction = self.regrow.fraction_at(time, self._end())
        state = self._sites, self._masks, self.settings.seed, self._tracked()
        chosen = weight_exchange.exchanged(self.regrow, *state, fraction, time, missing)
        if self._differ(chosen):
            self._change(chosen, target)

    def _time(self):
        return self._epoch if self.schedule.by == "epoch" else self._step

    def _end(self):
        """When the schedule, or else `fit`, ends, in the unit of the schedule; None if unknown."""
        end = getattr(self.schedule, "end", None)
        per_epoch = 1 if self.schedule.by == "epoch" else self.params.get("steps")
        return end if end is not None else per_epoch and per_epoch * self.params["epochs"]

    def _differ(self, chosen):
        return any((mask != self._masks[name]).any() for name, mask in chosen.items())

    def _change(self, chosen, target, kernels=None):
        """Write the masks of an event, and kernels of a surgeon, and put it on record."""
        known, self._found = self._masks, False
        with attachment.attachment(self.model).event(self._epoch):
            if kernels:
                one_shot.assign(self.model, self._sites, chosen, kernels)
                # Of surgeons on units the weights that leave removed ones are zeros, too.
                chosen = {n: m & (kernels.get(n, 1) != 0) for n, m in chosen.items()}
            whole = isinstance(self.settings.granularity, masks.Unit)
            self._write(chosen, everything=whole)
            self._silencer.hold(set(kernels or ()) - set(chosen))
            self._record(target, known)  # before listeners hear that it is over

    def _postpone(self, target):
        """Before the first step no activity has been counted: prune when asked next."""
        self._owed = target
        if self._lacks(target):
            how = f"by {target}" if amounts.is_amount(target) else f"to {target:.4f}"
            warnings.warn(
                f"the schedule prunes {how} before any training step, when nothing of "
                f"what the criterion needs is there: done after the first {self.schedule.by} "
                "instead. Let it begin later, or use a criterion such as 'magnitude'.",
                stacklevel=2,
            )

    def _record(self, target, known):
        table = report.measure(self._sites, None if self.regrow is None else self._masks)
        table = table.assign(
            grown=[np.count_nonzero(self._masks[name] & ~known[name]) for name in table["site"]],
            event=len(self._events) + 1,
            epoch=self._epoch,
            step=self._step,
            target_sparsity=target,
            total_sparsity=report.total_sparsity(table),
        )
        self._events.append(table.to_dict("records"))

    def _sparsity(self):
        return 1 - self._alive / self._weights

    def _lacks(self, target):
        """Whether `target` is further off than whole weights, units or blocks can explain."""
        if amounts.is_amount(target):
            return True
        return target * self._weights - (self._weights - self._alive) >= self._granule

    def _read_activity(self):
        if self._activity is not None:
            return self._activity
        attachment.attachment(self.model).sync()
        return gathering.activity_of(self._sites, self._counters)

    # -- what can go wrong -----------------------------------------------------------------

    def _check_fit(self):
        if not self.params or "epochs" not in self.params:
            raise ValueError(
                "callbacks=CallbackList(...) without its parameters: give fit a plain list, or "
                "CallbackList(..., epochs=..., steps=...)"
            )
        if self.params.get("steps") == 0:
            raise ValueError("the training data is empty: there is no step in an epoch")
        monitor = getattr(self.schedule, "monitor", None)
        if monitor is not None:
            check_monitor(self, monitor)

    def _check_regrow(self):
        self.regrow.fraction_at(0, self._end())
        shared = [site.path for site in attachment.attachment(self.model).shared(self)]
        if shared:
            raise ValueError(
                f"{shared} are masked by another callback as well, which would keep weights "
                "pruned that regrow= grows. Let one callback have these layers: exclude= in the "
                "other."
            )

    def _reapply(self):
        restored = None
        if self.regrow is not None:
            restored = weight_exchange.restored(self._sites, self._masks)
        if restored is None:
            super()._reapply()
        else:
            self._masks = restored  # the best epoch's: as sparse, with zeros of its own

    def _warn_short(self):
        rows = [row for event in self._events for row in event]
        if self.regrow is not None and rows and not any(row["grown"] for row in rows):
            warnings.warn(
                f"no weight has changed places under regrow={self.regrow}: training went on after "
                "no event but the first, or the fraction comes to less than one weight. Use a "
                "schedule with more events, such as schedules.Constant, or train longer.",
                stacklevel=2,
            )
        final, reached = self.schedule.final_sparsity, self._sparsity()
        if final is not None and self._lacks(final):
            warnings.warn(
                f"training ended after {self._epoch} epochs at sparsity {reached:.4f}, before the "
                f"schedule reached {final:.4f} ({len(self._events)} events fired). Train longer, "
                "let the schedule end earlier, or give EarlyStopping more patience.",
                stacklevel=2,
            )
