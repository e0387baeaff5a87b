"""What a pruning did: a table with a row per layer, and answers in words."""

import pandas as pd

from activation_pruning.reports.costs import better, cost, difference, low_rank
from activation_pruning.reports.tables import around_events, need
from activation_pruning.support.types import Table

_NAMED = 8  # layers that a sentence names at most
_RANKS = ["full_rank", "rank_before", "rank_after"]
_RATIOS = ["effective_rank_before", "effective_rank_after", "nuclear_ratio"]


def by_layer(events: Table, norms: Table | None = None, sensitivity: Table | None = None) -> Table:
    """One row per layer: what was pruned, the ranks before and after, the loss when pruned alone.

    Args:
        events: as `write` takes them: the last row of each site counts.
        norms: as `write` takes them: before is the state before the first event (without events
            the first one kept), after the last one kept.
        sensitivity: as `write` takes it: `alone_sparsity` is the highest sparsity tried,
            `alone_change` the mean change of the metric there over the criteria.

    Returns:
        DataFrame: layer, site, weights, pruned, sparsity; with norms full_rank, rank_before,
        rank_after, effective_rank_before, effective_rank_after, nuclear_ratio; with sensitivity
        metric, alone_sparsity, alone_change.

    Example:
        >>> events = {"layer": "a", "site": "a/kernel", "pruned": [5, 8], "weights": 10}
        >>> by_layer(pd.DataFrame(events))["sparsity"].tolist()
        [0.8]
    """
    need(events, "by_layer (events)", "layer", "site", "pruned", "weights", empty=True)
    events = events.dropna(subset=["weights"])  # layers that were skipped
    table = events.drop_duplicates("site", keep="last")[["layer", "site", "weights", "pruned"]]
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
        chosen = {"alone_sparsity": ("sparsity", "max"), "alone_change": ("change", "mean")}
        alone = last.agg(metric=("metric", "first"), **chosen).reset_index()
        table = table.merge(alone, on="site", how="left")
    return table


def _change_of_ranks(norms):
    need(norms, "by_layer (norms)", "moment", "event", "site", "blocks", "rows", "columns", "rank")
    start = around_events(norms).query("event == 0")
    start = (start if len(start) else norms).drop_duplicates("site", keep="first")
    end = norms.drop_duplicates("site", keep="last")
    both = start.merge(end, on="site", suffixes=("_before", "_after"))
    both["full_rank"] = both["blocks_before"] * both[["rows_before", "columns_before"]].min(axis=1)
    both["nuclear_ratio"] = both["nuclear_after"] / both["nuclear_before"]
    return both[["site", *_RANKS, *_RATIOS]]


def answers(
    layers: Table, events: Table, history: Table | None = None, activity: Table | None = None,
    accuracy: Table | None = None, metric: str | None = None,
) -> Table:  # fmt: skip
    """The questions that one has after pruning, with their answers: columns question, answer.

    The arguments are those of `write`, with the table `by_layer`, one row of history per epoch,
    and the accuracy of `analysis.compare_low_rank`. What was not measured says how to measure it.
    Raises ValueError where `metric` is in neither history nor accuracy.

    Example:
        >>> events = pd.DataFrame({"layer": "a", "site": "a/kernel", "pruned": [8], "weights": 10})
        >>> answers(by_layer(events), events)["answer"][0]
        '8 of 10 prunable weights: 80.0%.'
    """
    rows = [
        ("How much was pruned?", _pruned(layers, events)),
        ("What did it cost?", cost(history, events, accuracy, metric)),
        ("How did the ranks change?", _ranks(layers)),
        ("Which layer is fragile?", _fragile(layers)),
        ("Is it better than a PCA-reduced network?", low_rank(accuracy, metric)),
        ("Are there dead units?", _dead(activity)),
        (
            "Is the model smaller or faster now?",
            "Not yet: zeros in a dense kernel are stored and multiplied as any other number. "
            "A compressed file is smaller; speed needs whole units removed, or a sparse runtime.",
        ),
    ]
    return pd.DataFrame(rows, columns=["question", "answer"])


def _pruned(layers, events):
    if layers.empty:
        return "Nothing: there was no pruning event."
    pruned, weights = layers["pruned"].sum(), layers["weights"].sum()
    text = f"{pruned:,} of {weights:,} prunable weights: {pruned / weights:.1%}"
    if "event" in events:
        # Several callbacks may have pruned in one fit, each with its own numbers.
        key = [name for name in ("event", "epoch", "step") if name in events]
        first = events.drop_duplicates(key)
        count, epochs = len(first), ", ".join(map(str, first.get("epoch", [])))
        text += f", in {count} event{'s' * (count > 1)}" + (f" (epochs {epochs})" if epochs else "")
    if len(layers) > 1:
        most, least = (layers.loc[layers["sparsity"].agg(at)] for at in ("idxmax", "idxmin"))
        text += (
            f". Most in {most['site']} ({most['sparsity']:.1%}), least in {least['site']} "
            f"({least['sparsity']:.1%})"
        )
    return text + "."


def _ranks(layers):
    if "rank_after" not in layers:
        return "Not measured: give norms= (of a SpectrumLogger in the same fit)."
    known = layers.dropna(subset=["rank_before", "rank_after"])
    if known.empty:
        return "Not known: the table of norms holds no ranks of these layers."
    whole, before, after = (int(known[name].sum()) for name in _RANKS)
    text = f"From {before:,} to {after:,} of {whole:,} over all layers"
    fell = known.loc[((known["rank_before"] - known["rank_after"]) / known["full_rank"]).idxmax()]
    if after < before:
        text += f"; most in {fell['site']}: {fell['rank_before']:.0f} to {fell['rank_after']:.0f}"
        text += f" of {fell['full_rank']:.0f}"
    ratio = known["effective_rank_after"].sum() / known["effective_rank_before"].sum()
    text += f". Effective ranks are {ratio:.0%} of what they were"
    return text + f", singular values in sum {known['nuclear_ratio'].mean():.0%} (mean of layers)."


def _fragile(layers):
    known = layers.dropna(subset=["alone_change"]) if "alone_change" in layers else layers.head(0)
    if known.empty:
        return "Not measured: give sensitivity= (of analysis.sensitivity)."
    name = known["metric"].iloc[0]
    sign = better(name)
    harm = -sign * known["alone_change"] if sign else known["alone_change"].abs()
    worst, best = known.loc[harm.idxmax()], known.loc[harm.idxmin()]

    def told(row):
        return f"{difference(name, row['alone_change'])} at {row['alone_sparsity']:.0%} sparsity"

    if len(known) > 1 and harm.max() == harm.min():
        return f"All alike: pruned alone, each changes {name} by {told(worst)}."
    if sign and harm.max() <= 0:
        return f"None: whichever is pruned alone, {name} gets no worse ({told(worst)} at most)."
    how = "" if sign else "most, "
    text = f"{worst['site']}: pruned alone, {name} changes {how}by {told(worst)}"
    if len(known) > 1:
        least = "The most robust is" if sign else "It changes least with"
        text += f". {least} {best['site']}: {told(best)}"
    return text + "."


def _dead(activity):
    if activity is None:
        return "Not counted: give activity= (of a criterion that counts, or an ActivationCounter)."
    need(activity, "answers", "layer", "frequency")
    counted = activity.dropna(subset=["frequency"])
    dead = counted[counted["frequency"] == 0].groupby("layer", sort=False).size()
    text = f"{dead.sum():,} of {len(counted):,} units were never active while counted"
    most = dead.sort_values(ascending=False, kind="stable").head(_NAMED)
    where = ", ".join(f"{layer} {count}" for layer, count in most.items())
    more = f" and {len(dead) - _NAMED} more layers" if len(dead) > _NAMED else ""
    return text + (f": {where}{more}." if where else ".")
