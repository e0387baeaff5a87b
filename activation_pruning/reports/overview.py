"""What a pruning did, in words and numbers: the front sheet of the report."""

import numpy as np
import pandas as pd

from .files import need

_LAYER = ["layer", "site"]


def answers(layers, events, history=None, activity=None, accuracy=None, metric=None):
    """The questions that one has after pruning, with their answers.

    Args:
        layers: of `by_layer`.
        events: of `PruningCallback.table()` or `PruningReport.table()`.
        history: one row per epoch: epoch, sparsity, and what `fit` measured; None if not known.
        activity: of `PruningCallback.activity()`, or None.
        accuracy: of `analysis.compare_low_rank(...).accuracy`, or None.
        metric: the metric that says what pruning cost; None for the first accuracy there is.

    Returns:
        DataFrame: question, answer. What was not measured says how to measure it.

    Raises:
        ValueError: `metric` is in neither table.

    Example:
        >>> events = pd.DataFrame({"layer": "a", "site": "a/kernel", "pruned": [8], "weights": 10})
        >>> answers(by_layer(events), events)["answer"][0]
        '8 of 10 prunable weights: 80.0%.'
    """
    rows = [
        ("How much was pruned?", _pruned(layers, events)),
        ("What did it cost?", _cost(history, accuracy, metric)),
        ("How did the ranks change?", _ranks(layers)),
        ("Which layer is fragile?", _fragile(layers)),
        ("Is it better than a PCA-reduced network?", _low_rank(accuracy, metric)),
        ("Are there dead units?", _dead(activity)),
        (
            "Is the model smaller or faster now?",
            "Not yet: zeros in a dense kernel are stored and multiplied as any other number. "
            "A compressed file is smaller; speed needs whole units removed, or a sparse runtime.",
        ),
    ]
    return pd.DataFrame(rows, columns=["question", "answer"])


def by_layer(events, norms=None, sensitivity=None):
    """One row per layer: what was pruned, the ranks before and after, the loss when pruned alone.

    Args:
        events: of `PruningCallback.table()` or `PruningReport.table()`: the last row of each site
            counts.
        norms: of `SpectrumLogger.norms()`, or None: before is the state before the first event
            (without events the first one kept), after the last one kept.
        sensitivity: of `analysis.sensitivity`, or None: `alone_sparsity` is the highest sparsity
            tried, `alone_change` the mean change of the metric there over the criteria.

    Returns:
        DataFrame: layer, site, weights, pruned, sparsity, then full_rank, rank_before,
        rank_after, effective_rank_before, effective_rank_after, nuclear_ratio, then metric,
        alone_sparsity, alone_change, as far as they are known.

    Raises:
        ValueError: a table is empty, or lacks a column.

    Example:
        >>> events = pd.DataFrame({"layer": "a", "site": "a/kernel", "pruned": [5, 8],
        ...                        "weights": 10})
        >>> by_layer(events)["sparsity"].tolist()
        [0.8]
    """
    need(events, "by_layer", *_LAYER, "pruned", "weights")
    events = events.dropna(subset=["weights"])  # layers that were skipped
    table = events.drop_duplicates("site", keep="last")[[*_LAYER, "weights", "pruned"]]
    table = table.astype({"weights": "int64", "pruned": "int64"}).reset_index(drop=True)
    table["sparsity"] = table["pruned"] / table["weights"]
    if norms is not None:
        table = table.merge(_change_of_ranks(norms), on="site", how="left")
    if sensitivity is not None:
        need(sensitivity, "by_layer", "site", "sparsity", "metric", "change")
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
    need(norms, "by_layer", "moment", "event", "site", "blocks", "rows", "columns", "rank")
    start = norms[(norms["moment"] == "before") & (norms["event"] == 1)]
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


def _pruned(layers, events):
    pruned, weights = layers["pruned"].sum(), layers["weights"].sum()
    text = f"{pruned:,} of {weights:,} prunable weights: {pruned / weights:.1%}"
    if "event" in events and events["event"].nunique():
        first = events.drop_duplicates("event")
        epochs = ", ".join(str(epoch) for epoch in first.get("epoch", []))
        count = len(first)
        text += f", in {count} event{'s' * (count > 1)}" + (f" (epochs {epochs})" if epochs else "")
    if len(layers) > 1:
        most, least = (layers.loc[layers["sparsity"].agg(at)] for at in ("idxmax", "idxmin"))
        text += (
            f". Most in {most['site']} ({most['sparsity']:.1%}), least in {least['site']} "
            f"({least['sparsity']:.1%})"
        )
    return text + "."


def _cost(history, accuracy, metric):
    parts = []
    if accuracy is not None:
        raw = accuracy[accuracy["stage"] == "raw"].set_index("model")
        name = metric_of(raw, metric)
        if name:
            dense, pruned = raw.loc["dense", name], raw.loc["pruned", name]
            told = f"{name}: {_number(name, dense)} dense, {_number(name, pruned)} pruned"
            parts.append(f"{told} ({_difference(name, pruned - dense)})")
    if history is not None and len(history) and "sparsity" in history:
        parts += _in_training(history, metric)
    if metric is not None and not parts:
        raise ValueError(f"metric={metric!r} is in no table that the report has been given")
    if not parts:
        return (
            "Not measured: give history= (of fit with validation data) or low_rank= "
            "(of analysis.compare_low_rank)."
        )
    return ". ".join(parts) + "."


def _in_training(history, metric):
    """What the metric was in the last epoch before anything was pruned, and in the last of all."""
    validated = history[[name for name in history if name.startswith("val_")]]
    name = metric_of(validated, metric and f"val_{metric.removeprefix('val_')}")
    name = name or metric_of(history.drop(columns=validated.columns), metric)
    if not name:
        return []
    # The metrics of an epoch are measured before the event at its end.
    dense = history[history["sparsity"].shift(fill_value=0.0) == 0]
    if dense.empty or len(dense) == len(history):
        return []
    before, after = dense[name].iloc[-1], history[name].iloc[-1]
    told = f"{name} while training: {_number(name, before)} in the last epoch of the unpruned "
    told += f"network (epoch {dense['epoch'].iloc[-1]}), {_number(name, after)} in the last one"
    return [f"{told} ({_difference(name, after - before)})"]


def _ranks(layers):
    if "rank_after" not in layers:
        return "Not measured: give norms= (of a SpectrumLogger in the same fit)."
    known = layers.dropna(subset=["rank_after"])
    whole, before = int(known["full_rank"].sum()), int(known["rank_before"].sum())
    after = int(known["rank_after"].sum())
    text = f"From {before:,} to {after:,} of {whole:,} over all layers"
    fell = known.loc[((known["rank_before"] - known["rank_after"]) / known["full_rank"]).idxmax()]
    if after < before:
        text += (
            f"; most in {fell['site']}: {int(fell['rank_before'])} to {int(fell['rank_after'])} of "
            f"{int(fell['full_rank'])}"
        )
    ratio = known["effective_rank_after"].sum() / known["effective_rank_before"].sum()
    text += f". Effective ranks are {ratio:.0%} of what they were"
    return text + f", singular values in sum {known['nuclear_ratio'].mean():.0%} (mean of layers)."


def _fragile(layers):
    if "alone_change" not in layers:
        return "Not measured: give sensitivity= (of analysis.sensitivity)."
    known = layers.dropna(subset=["alone_change"])
    name = known["metric"].iloc[0]
    harm = known["alone_change"] * (1 if _falls(name) else -1)
    worst, best = known.loc[harm.idxmax()], known.loc[harm.idxmin()]

    def told(row):
        return f"{_difference(name, row['alone_change'])} at {row['alone_sparsity']:.0%} sparsity"

    text = f"{worst['site']}: pruned alone, {name} changes by {told(worst)}"
    if len(known) > 1:
        text += f". The most robust is {best['site']}: {told(best)}"
    return text + "."


def _low_rank(accuracy, metric):
    if accuracy is None:
        return "Not measured: give low_rank= (of analysis.compare_low_rank)."
    name = metric_of(accuracy, metric) or "loss"
    parts = []
    for stage, rows in accuracy.groupby("stage", sort=False):
        values = rows.set_index("model")[name]
        told = ", ".join(f"{model} {_number(name, value)}" for model, value in values.items())
        parts.append(f"{stage.replace('_', '-')}: {told}")
    return f"{name}, {'; '.join(parts)}."


def _dead(activity):
    if activity is None:
        return "Not counted: give activity= (of a criterion that counts, or an ActivationCounter)."
    need(activity, "answers", "layer", "frequency")
    counted = activity.dropna(subset=["frequency"])
    dead = counted[counted["frequency"] == 0].groupby("layer", sort=False).size()
    text = f"{dead.sum():,} of {len(counted):,} units were never active while counted"
    where = ", ".join(f"{layer} {count}" for layer, count in dead.items())
    return text + (f": {where}." if where else ".")


def metric_of(table, wanted=None):
    """The wanted column, or the first accuracy, or the loss; None where there is none of these."""
    if wanted is not None:
        return wanted if wanted in table else None
    names = [name for name in table if "accuracy" in name] + [
        n for n in table if n.endswith("loss")
    ]
    return names[0] if names else None


def _falls(metric):
    """Whether a lower value is better, by the metric's name."""
    return any(word in metric for word in ("loss", "error", "mse", "mae"))


def _number(metric, value):
    return f"{value:.2%}" if "accuracy" in metric else f"{value:.4g}"


def _difference(metric, value):
    if not np.isfinite(value):
        return "not finite"
    return f"{value * 100:+.2f} points" if "accuracy" in metric else f"{value:+.3g}"
