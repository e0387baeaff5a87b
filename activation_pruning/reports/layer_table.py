"""One row per layer: what was pruned of it, its ranks, and what it loses alone."""

from activation_pruning.reports.tables import around_events, need
from activation_pruning.support.types import Table

_LAYER = ["layer", "site"]


def by_layer(events: Table, norms: Table | None = None, sensitivity: Table | None = None) -> Table:
    """One row per layer: what was pruned, the ranks before and after, the loss when pruned alone.

    Args:
        events: as `write` takes them: the last row of each site counts.
        norms: as `write` takes them: before is the state before the first event (without events
            the first one kept), after the last one kept.
        sensitivity: as `write` takes it: `alone_sparsity` is the highest sparsity tried,
            `alone_change` the mean change of the metric there over the criteria.

    Returns:
        DataFrame: layer, site, weights, pruned, sparsity, then full_rank, rank_before,
        rank_after, effective_rank_before, effective_rank_after, nuclear_ratio, then metric,
        alone_sparsity, alone_change, as far as they are known.

    Example:
        >>> import pandas as pd
        >>> events = pd.DataFrame({"layer": "a", "site": "a/kernel", "pruned": [5, 8],
        ...                        "weights": 10})
        >>> by_layer(events)["sparsity"].tolist()
        [0.8]
    """
    need(events, "by_layer (events)", *_LAYER, "pruned", "weights", empty=True)
    events = events.dropna(subset=["weights"])  # layers that were skipped
    table = events.drop_duplicates("site", keep="last")[[*_LAYER, "weights", "pruned"]]
    table = table.astype({"weights": "int64", "pruned": "int64"}).reset_index(drop=True)
    table["sparsity"] = table["pruned"] / table["weights"]
    if table.empty:  # a schedule that never came to its first event
        return table
    if norms is not None:
        table = table.merge(_change_of_ranks(norms), on="site", how="left")
    if sensitivity is not None:
        need(sensitivity, "by_layer (sensitivity)", "site", "sparsity", "metric", "change")
        # One and the same request prunes small layers to slightly other shares than large ones.
        most = sensitivity.groupby("site")["sparsity"].transform("max")
        last = sensitivity[sensitivity["sparsity"] >= most - 1e-9].groupby("site")
        alone = last.agg(
            metric=("metric", "first"), alone_sparsity=("sparsity", "max"),
            alone_change=("change", "mean"),
        )  # fmt: skip
        table = table.merge(alone.reset_index(), on="site", how="left")
    return table


def _change_of_ranks(norms):
    need(norms, "by_layer (norms)", "moment", "event", "site", "blocks", "rows", "columns", "rank")
    start = around_events(norms).query("event == 0")
    start = (start if len(start) else norms).drop_duplicates("site", keep="first")
    end = norms.drop_duplicates("site", keep="last")
    both = start.merge(end, on="site", suffixes=("_before", "_after"))
    table = both[["site"]].copy()
    table["full_rank"] = both["blocks_before"] * both[["rows_before", "columns_before"]].min(axis=1)
    for name in ("rank", "effective_rank"):
        for when in ("before", "after"):
            table[f"{name}_{when}"] = both[f"{name}_{when}"]
    table["nuclear_ratio"] = both["nuclear_after"] / both["nuclear_before"]
    return table
