"""The callback that only counts."""

from collections.abc import Iterable
from typing import Any

from activation_pruning import sites
from activation_pruning.callbacks.base import AttachedCallback
from activation_pruning.evidence.gathering import activity_of
from activation_pruning.hooks.counting import STATISTICS
from activation_pruning.pruning import report
from activation_pruning.sites import Activity
from activation_pruning.support.checks import check_number
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Layers, Table


class ActivationCounter(AttachedCallback):
    """Count how often each unit is active while the model trains; changes nothing.

    frequency = active samples / samples seen. A sample counts by the share of positions at which
    a Conv is active.

    Args:
        threshold: a unit is active where its output, after the activation, is greater.
        include: layers to count (names, patterns, layers); None takes all.
        exclude: layers to leave out; the default `()` leaves out nothing.
        statistics: what to count: "frequency", "mean" and "rms" (root mean square) of the output;
            fewer are cheaper.

    Raises:
        ValueError: for an unknown statistic, or a threshold that is no finite number; at the start
            of `fit`, for an unbuilt model or an unknown layer name.

    Source: Ganguli & Chong, Algorithms 17(1):48, 2024; Hu et al. 2016 (APoZ = 1 - frequency).

    Example:
    >>> import keras, numpy as np, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "relu", name="a")])
    >>> model.compile("sgd", "mse")
    >>> counter = ap.ActivationCounter()
    >>> _ = model.fit(np.ones((8, 2)), np.ones((8, 3)), verbose=0, callbacks=[counter])
    >>> counter.table()["samples"].tolist()
    [8, 8, 8]
    """

    def __init__(
        self,
        threshold: float = 0.0,
        include: Layers = None,
        exclude: Layers = (),
        statistics: Iterable[str] = ("frequency", "mean", "rms"),
    ) -> None:
        super().__init__(include, exclude)
        if not statistics or set(statistics) - set(STATISTICS):
            raise ValueError(
                f"statistics={shown(statistics)}: give one or more of {sorted(STATISTICS)}"
            )
        check_number("threshold", threshold, hint="an output of a unit, 0 for a ReLU")
        self.threshold, self.statistics = threshold, tuple(statistics)
        self._counters: dict[Any, Any] = {}
        self._activity: dict[str, Activity] | None = None

    def _find(self, model):
        return sites.find_all(model, self.include, self.exclude)

    def _attach(self, hooks):
        self._counters = hooks.count(self, self._sites, self.threshold, self.statistics)

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self._activity = None

    def on_train_end(self, logs: Any = None) -> None:
        self._activity = activity_of(self._sites, self._counters)
        super().on_train_end(logs)

    def table(self) -> Table:
        """Tidy DataFrame: layer, unit, the statistics counted, samples, source.

        Raises:
            ValueError: before the callback has been in a `fit`.
        """
        if not (self._fitting or self._activity):
            raise ValueError("nothing counted yet: pass this callback to model.fit first")
        if self._activity is None:
            self._hooks.sync()
        activity = self._activity or activity_of(self._sites, self._counters)
        return report.activity_table(self._sites, activity)
