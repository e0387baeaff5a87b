"""The pruning events of a fit, on record."""

from typing import Any

import pandas as pd

from activation_pruning.pruning import report
from activation_pruning.support.types import Table

_COLUMNS = ["event", "epoch", "step", "layer", "site", "target_sparsity", "total_sparsity"]
_COLUMNS += ["sparsity", "pruned", "weights"]


class EventHistory:
    """One row per event and site.

    Args:
        *more: columns besides those of every event.
    """

    def __init__(self, *more: str) -> None:
        self._columns = [*_COLUMNS, *more]
        self._events: list[list[dict]] = []

    def __len__(self) -> int:
        return len(self._events)

    def add(self, measured: Table, **facts: Any) -> None:
        """Put an event on record: the table of `report.measure`, and what else there is to say."""
        facts |= {"event": len(self) + 1, "total_sparsity": report.total_sparsity(measured)}
        self._events.append(measured.assign(**facts).to_dict("records"))

    def table(self) -> Table:
        """All events, one row per event and site."""
        return pd.DataFrame([row for rows in self._events for row in rows], columns=self._columns)
