"""What an iterative pruning did, and the networks worth keeping."""

import dataclasses
from typing import Any

import pandas as pd

from activation_pruning.support.types import Array, Model, Table

TINY = 1e-9  # differences of metrics below this are rounding


@dataclasses.dataclass
class Kept:
    """A network worth keeping: one step of an iterative pruning, with its weights.

    step: its number. metric: after retraining. sparsity: measured.
    """

    step: int
    metric: float
    sparsity: float
    model: Model = dataclasses.field(repr=False)
    weights: list[Array] = dataclasses.field(repr=False)

    def restore(self) -> Model:
        """Put these weights into the model, and return it."""
        self.model.set_weights(self.weights)
        return self.model


class IterativePruning:
    """What `iterative_prune` did: one row per step, and two networks of interest.

    smallest: the `Kept` network with the fewest weights whose metric is within `max_loss` of the
    dense one; None if there is none but the dense one. most_accurate: the one with the best metric
    of those with `min_sparsity` or more. stopped: why it ended.
    """

    def __init__(self, max_loss: float, min_sparsity: float) -> None:
        self.max_loss, self.min_sparsity = max_loss, min_sparsity
        self.smallest: Kept | None = None
        self.most_accurate: Kept | None = None
        self.stopped = ""
        self._rows: list[dict[str, Any]] = []

    def table(self) -> Table:
        """DataFrame, a row per step, 0 being the dense network.

        Columns: step, weights_alive, weights_pruned (in this step), sparsity, compression (weights
        / weights alive), metric_pruned (before retraining), metric, epochs, time_s (of pruning and
        retraining), what `on_step` returned, epochs_total, time_total_s.
        """
        table = pd.DataFrame(self._rows)
        table["epochs_total"] = table["epochs"].cumsum()
        table["time_total_s"] = table["time_s"].cumsum()
        return table

    @property
    def dense_metric(self) -> float:
        """The metric before any pruning."""
        return self._rows[0]["metric"]

    def add(self, model: Model, row: dict[str, Any]) -> None:
        """Put a step on record, and keep its network if it is the best of its kind so far."""
        self._rows.append(row)
        step, metric, sparsity = row["step"], row["metric"], row["sparsity"]
        if not step:
            return
        kept = Kept(step, metric, sparsity, model, [])
        if metric >= self.dense_metric - self.max_loss - TINY:
            self.smallest = kept  # each step is smaller than those before
        best = self.most_accurate
        if sparsity >= self.min_sparsity and (best is None or metric > best.metric):
            self.most_accurate = kept
        if kept in (self.smallest, self.most_accurate):
            kept.weights = model.get_weights()

    def __str__(self) -> str:
        return (
            f"{self.table().to_string(index=False)}\nstopped: {self.stopped}\n"
            f"smallest within {self.max_loss:g} of the dense metric: {self.smallest}\n"
            f"best at {self.min_sparsity:.0%} or more: {self.most_accurate}"
        )

    __repr__ = __str__
