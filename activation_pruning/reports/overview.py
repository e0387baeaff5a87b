"""What a pruning did, in words and numbers: the front sheet of the report."""

import numpy as np
import pandas as pd

from .files import need

_LAYER = ["layer", "site"]
_NAMED = 8  # layers that a sentence names at most


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
        ("What did it cost?", _cost(history, events, accuracy, metric)),
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
    if layers.empty:
        return "Nothing: there was no pruning event."
    pruned, weights = layers["pruned"].sum(), layers["weights"].sum()
    text = f"{pruned:,} of {weights:,} prunable weights: {pruned / weights:.1%}"
    if "event" in events:
        # Several callbacks may have pruned in one fit, each with its own numbers.
        key = [name for name in ("event", "epoch", "step") if name in events]
        first = events.drop_duplicates(key)
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


def _cost(history, events, accuracy, metric):
    parts = []
    if accuracy is not None:
        raw = accuracy[accuracy["stage"] == "raw"].set_index("model")
        name = metric_of(raw, metric)
        if name:
            dense, pruned = raw.loc["dense", name], raw.loc["pruned", name]
            told = f"{name}: {_number(name, dense)} dense, {_number(name, pruned)} pruned"
            parts.append(f"{told} ({_difference(name, pruned - dense)})")
    if history is not None and "epoch" in events:
        parts += _in_training(history, events, metric)
    if metric is not None and not parts and (history is not None or accuracy is not None):
        known = [*(() if history is None else history), *(() if accuracy is None else accuracy)]
        if metric not in known:
            raise ValueError(f"metric={metric!r} is in no table given; there are {known}")
    if not parts:
        return (
            "Not measured: give history= (of a fit with epochs before the first event, best with "
            "validation data) or low_rank= (of analysis.compare_low_rank)."
        )
    return ". ".join(parts) + "."


def _in_training(history, events, metric):
    """What the metric was in the last epoch before the first event, and in the last of all."""
    validated = history[[name for name in history if name.startswith("val_")]]
    name = metric_of(validated, metric and f"val_{metric.removeprefix('val_')}")
    name = name or metric_of(history.drop(columns=validated.columns), metric)
    pruning = events[events["pruned"] > 0]
    if not name or pruning.empty:
        return []
    # The metrics of an epoch are measured before the event at its end; an event within the next
    # epoch has the same number of epochs behind it.
    before = history[history["epoch"] <= pruning["epoch"].min()]
    if before.empty or len(before) == len(history):
        return []
    start, end = before.iloc[-1], history.iloc[-1]
    told = f"{name} while training: {_number(name, start[name])} before the first event (epoch "
    told += f"{start['epoch']:.0f}), {_number(name, end[name])} in the last epoch"
    return [f"{told} ({_difference(name, end[name] - start[name])})"]


def _ranks(layers):
    if "rank_after" not in layers:
        return "Not measured: give norms= (of a SpectrumLogger in the same fit)."
    known = layers.dropna(subset=["rank_before", "rank_after"])
    if known.empty:
        return "Not known: the table of norms holds no ranks of these layers."
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
    known = layers.dropna(subset=["alone_change"]) if "alone_change" in layers else layers.head(0)
    if known.empty:
        return "Not measured: give sensitivity= (of analysis.sensitivity)."
    name = known["metric"].iloc[0]
    sign = better(name)
    harm = -sign * known["alone_change"] if sign else known["alone_change"].abs()
    worst, best = known.loc[harm.idxmax()], known.loc[harm.idxmin()]

    def told(row):
        return f"{_difference(name, row['alone_change'])} at {row['alone_sparsity']:.0%} sparsity"

    if len(known) > 1 and harm.max() == harm.min():
        return f"All alike: pruned alone, each changes {name} by {told(worst)}."
    if sign and harm.max() <= 0:
        return f"None: whichever is pruned alone, {name} gets no worse ({told(worst)} at most)."
    text = (
        f"{worst['site']}: pruned alone, {name} changes {'' if sign else 'most, '}by {told(worst)}"
    )
    if len(known) > 1:
        least = "The most robust is" if sign else "It changes least with"
        text += f". {least} {best['site']}: {told(best)}"
    return text + "."


def _low_rank(accuracy, metric):
    if accuracy is None:
        return "Not measured: give low_rank= (of analysis.compare_low_rank)."
    name = metric_of(accuracy, metric)
    if name is None:
        return f"Not measured: the table of low_rank has no {metric or 'accuracy or loss'}."
    table = accuracy if "match" in accuracy else accuracy.assign(match="")
    parts = []
    for stage, rows in table.groupby("stage", sort=False):
        pruned = rows.loc[rows["model"] == "pruned", name].iloc[0]
        others = rows[rows["model"].isin(["low_rank", "factorized"])]
        if stage == "raw":  # they compute the same before they are trained
            others = others[others["model"] == "low_rank"]
        for row in others.to_dict("records"):
            equal = f" of equal {row['match']}" if row["match"] else ""
            network = row["model"].replace("_", "-")
            parts.append(
                f"{_judged(name, pruned - row[name])}, {stage.replace('_', '-')}: "
                f"{_number(name, pruned)} against {_number(name, row[name])} ({network}{equal})"
            )
    return f"By {name}: {'; '.join(parts)}."


def _judged(metric, difference):
    sign = better(metric)
    if not sign or not np.isfinite(difference) or difference == 0:
        return "the same" if difference == 0 else "compared"
    return "better" if sign * difference > 0 else "worse"


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


def metric_of(table, wanted=None):
    """The wanted column, or the first accuracy, or the loss; None where there is none of these.

    Example:
        >>> metric_of(["epochs", "loss", "accuracy"]), metric_of(["loss"], "val_loss")
        ('accuracy', 'loss')
    """
    if wanted is not None:
        return next((name for name in (wanted, wanted.removeprefix("val_")) if name in table), None)
    names = [name for name in table if "acc" in name] + [n for n in table if n.endswith("loss")]
    return names[0] if names else None


_UP = ("acc", "auc", "precision", "recall", "f1", "fbeta", "iou", "dice", "r2", "score", "top")
_DOWN = (
    *("loss", "error", "mse", "mae", "mape", "msle", "rmse", "entropy", "xent", "perplexity"),
    *("hinge", "nll", "divergence", "poisson", "logcosh", "false"),
)


def better(metric):
    """1 where more of a metric is better, -1 where less is, 0 where its name does not tell.

    Example:
        >>> better("val_accuracy"), better("mape"), better("my_metric")
        (1, -1, 0)
    """
    if any(word in metric.lower() for word in _DOWN):
        return -1
    return int(any(word in metric.lower() for word in _UP))


def _number(metric, value):
    if not np.isfinite(value):
        return "not finite"
    return f"{value:.2%}" if "acc" in metric else f"{value:.4g}"


def _difference(metric, value):
    if not np.isfinite(value):
        return "not finite"
    return f"{value * 100:+.2f} points" if "acc" in metric else f"{value:+.3g}"
