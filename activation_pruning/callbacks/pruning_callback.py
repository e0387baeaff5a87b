"""The callback that prunes within `model.fit`: thin, the work is done elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from activation_pruning import amounts, masks, schedules
from activation_pruning.callbacks import weight_exchange
from activation_pruning.callbacks.clock import Clock
from activation_pruning.callbacks.keep_pruned import KeepPruned
from activation_pruning.callbacks.neighbours import Monitors, check_monitor
from activation_pruning.callbacks.training_evidence import TrainingEvidence, check_trainable
from activation_pruning.hooks import attachment
from activation_pruning.hooks.attachment import Attachment
from activation_pruning.pruning import Event, Settings, report
from activation_pruning.support.progress import ProgressBar
from activation_pruning.support.types import Array, Criterion, Data, Layers, Masks, Named, Table


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
    ) -> None:
        super().__init__(include, exclude)
        self.schedule = schedules.get(schedule)
        self.settings = Settings(criterion, allocation, granularity, seed)
        self.threshold, self.respect_zeros = threshold, respect_zeros
        self.reset_counts, self.data = reset_counts, data
        self._exchange = weight_exchange.exchange(regrow, self.settings, self.schedule)
        self.regrow = self._exchange and self._exchange.rule
        needs = getattr(self.regrow, "needs", ())
        self._evidence = TrainingEvidence(self.settings, data, threshold, needs)
        self._evidence.check_data(criterion)
        self._events: list[list[dict[str, Any]]] = []

    # -- tables ----------------------------------------------------------------------------

    def table(self) -> Table:
        """The events, one row per event and site.

        Columns: event, epoch, step, layer, site, target_sparsity, total_sparsity, sparsity,
        pruned, weights. `sparsity` is that of the site, measured after the event. With `regrow`
        also grown: weights alive that were not before the event, as many as were dropped.
        """
        columns = ["event", "epoch", "step", "layer", "site", "target_sparsity"]
        columns += ["total_sparsity", "sparsity", "pruned", "weights"]
        columns += ["grown"] if self._exchange else []
        return pd.DataFrame([row for event in self._events for row in event], columns=columns)

    def activity(self) -> Table:
        """Tidy DataFrame of the activity counted: layer, unit, frequency, mean, rms, ...

        Raises:
            ValueError: when the criterion needs no activity, so nothing was counted.
        """
        if not self._evidence.counts:
            raise ValueError(
                "nothing counted: the criterion needs no activity; add ap.ActivationCounter()"
            )
        attachment.attachment(self.model).sync()
        return report.activity_table(self._sites, self._evidence.activity())

    # -- Keras's hooks ---------------------------------------------------------------------

    def _check(self) -> None:
        Event(self.model, self._sites, self.settings).check()
        self.settings.check_target(self.schedule.final_sparsity)
        self._evidence.check(self.model, self._sites)
        if self._exchange:
            check_trainable(self._sites)

    def _attach(self, hooks: Attachment) -> None:
        super()._attach(hooks)
        self._evidence.attach(self, hooks, self._sites)

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self._events, self._monitors = [], None
        self._target, self._owed = 0.0, None  # the last one; one that waits for a training step
        self._evidence.begin()
        self._clock = Clock(self.params, self.schedule.by)
        monitor = getattr(self.schedule, "monitor", None)
        if monitor is not None:
            check_monitor(self, monitor)
        if self._exchange:
            shared = attachment.attachment(self.model).shared(self)
            self._exchange.begin(self._end(), shared)
        message = self.schedule.unreachable(self._clock.epochs, self._clock.steps)
        if message:
            warnings.warn(message, stacklevel=2)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._clock.begin_epoch()
        if self._monitors is None:
            self._begin(epoch)
        else:
            self._monitors.begin_epoch()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._exchange and self._exchange.may_start(self._clock.stepped):
            attachment.attachment(self.model).sync()
            event = self._event()
            tracked = self._evidence.tracked()
            target, chosen = self._exchange.chosen(event, tracked, self._end())
            if self._differ(chosen):
                self._change(event, chosen, target)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        steps = self._clock.end_batch(batch)
        if self.schedule.by == "step":
            # One by one: with steps_per_execution the steps in between are over unseen.
            self._ask(logs or {}, steps)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = {} if logs is None else logs
        self._clock.end_epoch(epoch, logs)
        if self.schedule.by == "epoch":
            self._ask(logs, [self._clock.step])
        logs["sparsity"], logs["target_sparsity"] = self._measured(), self._target

    def on_train_end(self, logs: Any = None) -> None:
        if self._monitors is not None:
            self._monitors.end()
        self._evidence.end()
        super().on_train_end(logs)
        if self._masks is not None:  # there was an epoch
            self._warn_short()

    # -- the schedule ----------------------------------------------------------------------

    def _begin(self, epoch: int) -> None:
        self._monitors = Monitors(self)  # by now each has begun its own training
        self._clock.start(epoch)
        event = self._event(respect_zeros=self.respect_zeros)
        self._take_masks(event)
        self._granule = event.granule
        if self._exchange:
            self._exchange.loaded = True
        if epoch == 0:
            self._ask({}, [0])  # once before training
        elif not self._relative:
            # Resumed from weights that may have been saved just before the event of their
            # epoch; it is made up for when the schedule is asked next and activity is counted.
            # Not where a schedule takes from what is there: it would take it a second time.
            self._owed = self._answer({}, self._clock.step)
            if self._exchange and self._owed is not None and self._sparsity() > 0:
                self._exchange.plan(self._owed, self._clock.time)

    @property
    def _relative(self) -> bool:
        return getattr(self.schedule, "relative", False)

    def _end(self) -> int | None:
        """When the schedule, or else the fit, ends; None if unknown."""
        end = getattr(self.schedule, "end", None)
        return self._clock.last if end is None else end

    def _answer(self, logs: Any, step: int) -> Any:
        """The schedule's target at `step`, or None."""
        now = {"sparsity": self._sparsity(), "weights": self._weights, "granule": self._granule}
        return self.schedule(self._clock.progress(step, logs, **now))

    def _ask(self, logs: Any, steps: Sequence[int]) -> None:
        """Prune to the last target that the schedule gives for `steps`, if any."""
        if self._relative and len(steps) > 1:
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

    def _lacks(self, target: Any) -> bool:
        """Whether `target` is further off than whole weights, units or blocks can explain."""
        if amounts.is_amount(target):
            return True
        return target * self._weights - (self._weights - self._alive) >= self._granule

    def _sparsity(self) -> float:
        return 1 - self._alive / self._weights

    # -- one event -------------------------------------------------------------------------

    def _event(self, respect_zeros: bool = True) -> Event:
        return Event(
            self.model,
            self._sites,
            self.settings,
            alive=self._masks,
            respect_zeros=respect_zeros,
            coupling=self._silencer.coupling if self.settings.couples else None,
            progress=ProgressBar(bool(self.params.get("verbose"))),
        )

    def _prune(self, target: Any) -> None:
        attachment.attachment(self.model).sync()
        if self._evidence.lacks(self._clock.stepped):
            self._postpone(target)
            return
        before, event = self._sparsity(), self._event()
        chosen, kernels = event.decide(target, self._evidence.gather(event))
        if amounts.is_amount(target):  # what the scores said it comes to
            weights, pruned = report.counted(chosen)
            target = pruned / weights
        self._target = target
        self._clock.note_event()
        if self._exchange and before > 0:
            self._exchange.plan(target, self._clock.time)
        if not (self._exchange and self._exchange.due) or self._differ(chosen):
            self._change(event, chosen, target, kernels)
        if self._sparsity() != before:
            self._monitors.pruned()
        if self.reset_counts:
            self._evidence.reset()

    def _differ(self, chosen: Masks) -> bool:
        return any((mask != self._masks[name]).any() for name, mask in chosen.items())

    def _change(
        self, event: Event, chosen: Masks, target: Any, kernels: Mapping[str, Array] | None = None
    ) -> None:
        """Write the masks of an event, and kernels of a surgeon, and put it on record."""
        known, values, kernels = self._masks, event.values, kernels or {}
        if self._exchange:
            self._exchange.loaded = False
        with attachment.attachment(self.model).event(self._clock.epoch):
            if kernels:
                event.assign(chosen, kernels)
                values = {}
                # Of surgeons on units the weights that leave removed ones are zeros, too.
                chosen = {n: m & (kernels.get(n, 1) != 0) for n, m in chosen.items()}
            whole = isinstance(self.settings.granularity, masks.Unit)
            self._write(chosen, values, everything=whole)
            self._silencer.hold(set(kernels) - set(chosen))
            self._record(target, known)  # before listeners hear that it is over

    def _postpone(self, target: Any) -> None:
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

    def _record(self, target: Any, known: Masks) -> None:
        table = report.measure(self._sites, self._masks if self._exchange else None)
        table = table.assign(
            grown=[np.count_nonzero(self._masks[name] & ~known[name]) for name in table["site"]],
            event=len(self._events) + 1,
            epoch=self._clock.epoch,
            step=self._clock.step,
            target_sparsity=target,
            total_sparsity=report.total_sparsity(table),
        )
        self._events.append(table.to_dict("records"))

    # -- when the fit is over ----------------------------------------------------------------

    def _reapply(self) -> None:
        best = weight_exchange.restored(self._sites, self._masks) if self._exchange else None
        if best is None:
            super()._reapply()
        else:
            self._masks = best  # the best epoch's: as sparse, with zeros of its own

    def _warn_short(self) -> None:
        if self._exchange:
            self._exchange.warn_idle(self.table()["grown"])
        final, reached = self.schedule.final_sparsity, self._sparsity()
        if final is not None and self._lacks(final):
            warnings.warn(
                f"training ended after {self._clock.epoch} epochs at sparsity {reached:.4f}, "
                f"before the schedule reached {final:.4f} ({len(self._events)} events fired). "
                "Train longer, let the schedule end earlier, or give EarlyStopping more patience.",
                stacklevel=2,
            )
