"""What the callbacks of this package have in common."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras.callbacks import CallbackList

from activation_pruning import allocations, criteria, sites
from activation_pruning.hooks.attachment import attachment
from activation_pruning.keras_private import frames
from activation_pruning.sites.choice import as_list
from activation_pruning.support import names
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Layers, Model


class AttachedCallback(keras.callbacks.Callback):
    """Attaches when a `fit` takes the callback up and detaches when it ends.

    `set_model` comes before Keras builds the training step of this `fit`, which is when hooks
    must be in place; `evaluate` and `predict` pass through here too and leave nothing behind.
    In the `fit` of a `keras.distillation.Distiller` it sees the student alone: that is its `model`.
    A callback is in one `fit` at a time, once. Keras calls nobody when that raises: what is left
    is `abandoned`, and the next fit, with or without callbacks of ours, takes it away.
    """

    def __init__(self, include: Layers = None, exclude: Layers = None) -> None:
        super().__init__()
        self.include, self.exclude = _lasting("include", include), _lasting("exclude", exclude)
        self._sites: list[sites.LiveSite] = []
        self._fitting = False
        self._within: str | None = None  # the call of Keras that it is for; None in other loops

    def set_model(self, model: Model) -> None:
        begun = self._running()
        if begun is model:  # it evaluates or predicts meanwhile, with the same callbacks
            return
        if begun is not None:
            raise ValueError(self._elsewhere("a fit of another model that is still running"))
        if getattr(self, "_model", None) is not None:
            self._release()  # a `fit` that died left it
        super().set_model(model)
        self._fitting = False
        self._take_up()

    @property
    def model(self) -> Any:
        """The model that learns: where a teacher teaches it, the student."""
        return sites.learner(self.trainer)

    @property
    def trainer(self) -> Any:
        """The model whose `fit` it is, with the training step and the optimizer in use."""
        return super().model

    @property
    def abandoned(self) -> bool:
        """Whether it was attached for a `fit` that has died since."""
        known = {None, *(run.name for run in frames.runs(self))}
        return self._within not in known

    def on_train_begin(self, logs: Any = None) -> None:
        self._running()
        if not any(owner is self for owner in self._hooks.owners):  # a CallbackList used again
            self._take_up()
        self._within = self._call()
        self._fitting = True

    def on_train_end(self, logs: Any = None) -> None:
        self._fitting = False
        self._release()

    def on_test_end(self, logs: Any = None) -> None:
        if not self._fitting and self.model is not None:
            self._release()

    on_predict_end = on_test_end

    def __repr__(self) -> str:
        return names.called(self)

    @property
    def _hooks(self):
        return attachment(self.trainer)

    def _find(self, model):
        """The sites that the callback is about."""
        return sites.find(model, self.include, self.exclude)

    def _take_up(self):
        self._hooks.release_abandoned()
        self._sites = self._find(self.model).sites
        self._check()
        self._within = self._call()
        self._attach(self._hooks)

    def _call(self):
        return next((run.name for run in frames.runs(self)), None)

    def _running(self):
        """The model of the `fit` that has begun with this callback, or None.

        Raises ValueError where it is in two, or in one twice.
        """
        fits = [run for run in frames.runs(self) if run.name == "fit"]
        if sum(run.times for run in fits) > 1:
            raise ValueError(self._elsewhere("another fit that is still running, or here twice"))
        begun = [run.model for run in fits if isinstance(run.callbacks, CallbackList)]
        return begun[0] if begun else None

    def _elsewhere(self, where):
        return (
            f"this {type(self).__name__} is in {where} (by a callback that fits, in another "
            "thread). It holds what it knows of one fit: make an object of its own for each."
        )

    def _release(self):
        self._hooks.release(self)

    def _check(self):
        """Raise for settings that cannot work with these sites, before training starts."""

    def _attach(self, hooks):
        """Ask the model's attachment for what this callback needs."""


class Last(keras.callbacks.Callback):
    """Joins the callbacks of a running `fit` at their end, so that it sees what all have written.

    Args:
        epoch_end, train_end: called without arguments.
    """

    def __init__(self, epoch_end: Callable[[], None], train_end: Callable[[], None]) -> None:
        super().__init__()
        self._epoch_end, self._train_end = epoch_end, train_end

    def join(self, callback: keras.callbacks.Callback) -> None:
        """Become the last in the list that has `callback`; not in loops of users' own."""
        for run in frames.runs(callback)[:1]:
            if not any(one is self for one in run.callbacks.callbacks):
                run.callbacks.callbacks.append(self)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._epoch_end()

    def on_train_end(self, logs: Any = None) -> None:
        self._train_end()


class EventListener(AttachedCallback):
    """Hears of every event of a `PruningCallback` in the same fit, right after it.

    Subclasses say what to do as the fit begins, `_begin(epoch)`, and at an event that is not among
    those `_known`, {(epoch, step)}, from an older fit: `_event(rows, epoch, step)`, with its rows
    of `pruner.table()`.
    """

    def __init__(self, pruner: Any = None) -> None:
        if pruner is not None and not hasattr(pruner, "table"):
            raise ValueError(
                f"pruner={shown(pruner)}; it must be the PruningCallback of the same fit, or None "
                "where nothing is pruned"
            )
        super().__init__(getattr(pruner, "include", None), getattr(pruner, "exclude", None))
        self.pruner = pruner
        self._known: set[tuple[int, int]] = set()

    def _find(self, model):
        settings = getattr(self.pruner, "settings", None)
        find = sites.find if settings is None else settings.find
        return find(model, self.include, self.exclude)

    def _attach(self, hooks):
        hooks.listen(self, self._around_event)

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self._begun, self._heard = False, 0
        if self.pruner is not None and self.pruner not in self._hooks.owners:
            warnings.warn(
                f"the pruner of this {type(self).__name__} is not in this fit, so that there will "
                "be no event to log: give fit both, callbacks=[pruner, log], the very same pruner",
                stacklevel=2,
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if not self._begun:
            self._begun = True
            self._begin(epoch)

    def _around_event(self, moment, epoch):
        self.on_epoch_begin(epoch)  # an event before the first step may come before our own hook
        if moment == "after" and self.pruner is not None:
            table = self.pruner.table()
            new = table[table["event"] > self._heard]  # none: the event was another callback's
            for event, rows in new.groupby("event"):
                self._heard = event
                epoch, step = (int(rows[name].iloc[0]) for name in ("epoch", "step"))
                if (epoch, step) not in self._known:
                    self._event(rows, epoch, step)

    def _begin(self, epoch):
        """The fit begins, after so many epochs: more than 0 where it goes on with an older one."""

    def _event(self, rows, epoch, step):
        """There has been an event."""


def _lasting(argument, layers):
    """The layers as given, checked; those of a generator as a list, to be read at each fit."""
    found = as_list(argument, layers)
    return found if isinstance(layers, Iterator) else layers


def settings(pruner: Any) -> dict[str, Any]:
    """{name: text or number} of what a `PruningCallback` was made with."""
    shared = pruner.settings
    found: dict[str, Any] = {"schedule": repr(pruner.schedule)}
    found["criterion"] = names.name_of(shared.criterion, criteria.CRITERIA)
    found["allocation"] = names.name_of(shared.allocation, allocations.ALLOCATIONS)
    found |= {"granularity": repr(shared.granularity), "seed": shared.seed}
    for key in ("include", "exclude"):
        layers = getattr(pruner, key)
        named = [getattr(one, "name", one) for one in as_list(key, layers)]
        found[key] = None if layers is None else named
    found |= {key: getattr(pruner, key) for key in ("threshold", "respect_zeros", "reset_counts")}
    return found | {"regrow": None if pruner.regrow is None else repr(pruner.regrow)}


def described(pruner: Any) -> str:
    """A `PruningCallback` in a line."""
    told = settings(pruner)
    named = ("criterion", "allocation", "granularity", "regrow")
    said = [f"{name}={told[name]}" for name in named if told[name] is not None]
    return f"PruningCallback({told['schedule']}, {', '.join(said)})"
