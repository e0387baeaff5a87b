"""The other callbacks of a `fit`, and metrics that somebody watches."""

import gc
import warnings
from typing import Any

import keras
from keras.callbacks import Callback

from activation_pruning import keras_private, sites
from activation_pruning.keras_private import frames
from activation_pruning.support.shown import shown

_C = keras.callbacks


class Monitors:
    """The other callbacks that watch a metric: EarlyStopping, ModelCheckpoint and their like.

    Their best value so far belongs to a denser network whenever weights have been pruned since,
    so pruning has them start their comparison over. To be made when their training has begun.
    """

    def __init__(self, callback: Callback) -> None:
        watching: list[Any] = [item for item in others_beside(callback) if hasattr(item, "best")]
        self._first = [(neighbour, neighbour.best) for neighbour in watching]
        self._again = False

    def pruned(self) -> None:
        """Weights have been pruned now."""
        self._restart()
        self._again = True  # when this epoch is over: its metrics are of the denser network

    def begin_epoch(self) -> None:
        """An epoch of the network begins as it is now."""
        if self._again:
            self._restart()
            self._again = False

    def end(self) -> None:
        """The fit is over: a best epoch restored now would be a denser network."""
        if not self._again:
            return
        outdated = [  # checkpoints of the best epoch, not written again since the restart
            str(neighbour.filepath)
            for neighbour, best in self._first
            if getattr(neighbour, "save_best_only", False) and neighbour.best == best
        ]
        self._restart()
        if outdated:
            warnings.warn(
                f"weights were pruned after {outdated} was saved for the last time, so it "
                "holds a denser network. Let the schedule end before the last epoch, or list "
                "ModelCheckpoint after this callback.",
                stacklevel=3,
            )

    def _restart(self) -> None:
        """Forget every best value, the patience spent and the weights kept for restoring."""
        for neighbour, best in self._first:
            neighbour.best, neighbour.wait = best, 0
            if hasattr(neighbour, "best_weights"):
                neighbour.best_weights = None


def others_beside(callback: Callback) -> list[Callback]:
    """The other callbacks in the same `fit`, as far as they can be seen."""
    # Keras tells a callback nothing about the others; the lists that hold `callback` do.
    lists = [owner for owner in gc.get_referrers(callback) if isinstance(owner, list)]
    found = {id(item): item for owner in lists for item in owner if item is not callback}
    others = [item for item in found.values() if isinstance(item, Callback)]
    return [one for one in others if sites.learner(one.model) is sites.learner(callback.model)]


def check_monitor(callback: Callback, monitor: str | None) -> None:
    """Raise when the `fit` that `callback` is in cannot produce the metric `monitor`, if any.

    The ValueError names the metrics there are. What a `train_step`, a `compute_metrics` or another
    callback of users' own adds to the logs cannot be known; the schedule looks into them later.
    """
    if monitor is None:
        return
    model, others = getattr(callback, "trainer", callback.model), others_beside(callback)
    kind, methods = type(model), ("train_step", "compute_metrics")
    own = any(getattr(kind, name) is not getattr(keras.Model, name) for name in methods)
    unknown = own or any(_may_log(other) for other in others)
    runs = frames.runs(callback)[:1]  # none in a loop of the user's own
    if monitor.startswith("val_") and not all(run.validates for run in runs):
        text = (
            f"schedule watches monitor={shown(monitor)}, but this fit has no validation data. Give "
            f"validation_data= or validation_split=, or watch {monitor.removeprefix('val_')!r}."
        )
        if not unknown:
            raise ValueError(text)
        warnings.warn(text, stacklevel=2)  # a callback of the user's own may log it
    if unknown:
        return
    known = _metric_names(model)
    if any(isinstance(other, (_C.LearningRateScheduler, _C.ReduceLROnPlateau)) for other in others):
        known = known | {"learning_rate"}
    if None not in known and monitor.removeprefix("val_") not in known:
        raise ValueError(
            f"schedule watches monitor={shown(monitor)}, which this fit does not produce. Metrics "
            f"of the compiled model: {sorted(filter(None, known))} (and 'val_...' of each with "
            "validation data). Add it to compile(metrics=[...]) or choose another monitor."
        )


def _metric_names(model: keras.Model) -> set[str | None]:
    """The names that training will log, with None among them if one cannot be told.

    Read from what `compile` was given: Keras builds its metrics with the first batch only.
    """
    config = keras_private.compile_arguments(model)
    given = keras.tree.flatten([config.get("metrics"), config.get("weighted_metrics")])
    names = [
        item if isinstance(item, str) else getattr(item, "name", getattr(item, "__name__", None))
        for item in given
        if item is not None
    ]
    outputs = getattr(model, "output_names", None) or []
    if len(outputs) > 1:  # the name of the output comes in front
        names = [name and f"{output}_{name}" for name in [*names, "loss"] for output in outputs]
    trackers = [one.name for one in model.metrics if type(one) is keras.metrics.Mean]
    return {"loss", *names, *trackers}  # such as those of a Distiller


def _may_log(callback):
    home = type(callback).__module__.partition(".")[0]
    return isinstance(callback, _C.LambdaCallback) or home not in ("keras", "activation_pruning")
