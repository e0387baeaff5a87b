"""What the pruning cost, by the metric that was measured, and what a low-rank network costs."""

from collections.abc import Iterable

import numpy as np

from activation_pruning.reports import statistics
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Table


def cost(history: Table | None, events: Table, accuracy: Table | None, metric: str | None) -> str:
    """What the pruning cost, in words; arguments and errors are those of `answers`."""
    parts = []
    if accuracy is not None:
        raw = accuracy[accuracy["stage"] == "raw"].set_index("model")
        name = metric_of(raw, metric)
        if name:
            dense, pruned = raw.loc["dense", name], raw.loc["pruned", name]
            told = f"{name}: {number(name, dense)} dense, {number(name, pruned)} pruned"
            parts.append(f"{told} ({difference(name, pruned - dense)})")
    if history is not None and "epoch" in events:
        parts += _in_training(history, events, metric)
    if parts:
        return ". ".join(parts) + "."
    known = [name for table in (history, accuracy) if table is not None for name in table]
    if metric is not None and known and metric not in known:
        raise ValueError(f"metric={shown(metric)} is in no table given; there are {known}")
    return (
        "Not measured: give history= (of a fit with epochs before the first event, best with "
        "validation data) or low_rank= (of analysis.compare_low_rank)."
    )


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
    told = f"{name} while training: {number(name, start[name])} before the first event (epoch "
    told += f"{start['epoch']:.0f}), {number(name, end[name])} in the last epoch"
    return [f"{told} ({difference(name, end[name] - start[name])})"]


def low_rank(accuracy: Table | None, metric: str | None) -> str:
    """Whether the pruned network is better than the low-rank ones, in words.

    Of one run chance in the choice of the test samples is all that can be judged: with the column
    `samples` of `analysis.compare_low_rank`, by accuracies.
    """
    if accuracy is None:
        return "Not measured: give low_rank= (of analysis.compare_low_rank)."
    name = metric_of(accuracy, metric)
    if name is None:
        return f"Not measured: the table of low_rank has no {metric or 'accuracy or loss'}."
    table = accuracy if "match" in accuracy else accuracy.assign(match="")
    texts, values = [], []
    for stage, rows in table.groupby("stage", sort=False):
        pruned = rows.loc[rows["model"] == "pruned", name].iloc[0]
        # Before they are trained the two compute the same.
        shown = ["low_rank"] if stage == "raw" else ["low_rank", "factorized"]
        for row in rows[rows["model"].isin(shown)].to_dict("records"):
            equal = f" of equal {row['match']}" if row["match"] else ""
            against = f"{number(name, pruned)} against {number(name, row[name])}"
            texts.append(f"{stage}: {against} ({row['model']}{equal})".replace("_", "-"))
            values.append((pruned, row[name]))
    samples = _counted(table, name)
    if samples is None:
        return f"By {name}: {'; '.join(texts)}. One run: not tested."
    judged = [f"{v}, {t}" for v, t in zip(_judged(name, values, samples), texts, strict=True)]
    return (
        f"By {name}: {'; '.join(judged)}. One run, {samples:,} test samples: Fisher's exact test, "
        "Holm's correction."
    )


def _counted(table, metric):
    """On how many samples it was measured, where it is the share of those that are right."""
    share = "acc" in metric and table[metric].between(0, 1).all()
    known = share and "samples" in table and table["samples"].nunique() == 1
    return int(table["samples"].iloc[0]) if known and table["samples"].notna().all() else None


def _judged(metric, values, samples):
    """better, worse or not told apart, of each pair of shares, all judged together."""
    p = statistics.corrected(np.array([statistics.of_shares(*pair, samples) for pair in values]))
    change = better(metric) * np.array([first - second for first, second in values])
    named = {statistics.HIGHER: "better", statistics.LOWER: "worse"}
    return [named.get(word, word) for word in statistics.verdicts(change, p, change, change)]


def metric_of(table: Iterable[str], wanted: str | None = None) -> str | None:
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


def better(metric: str) -> int:
    """1 where more of a metric is better, -1 where less is, 0 where its name does not tell.

    Example:
        >>> better("val_accuracy"), better("mape"), better("my_metric")
        (1, -1, 0)
    """
    if any(word in metric.lower() for word in _DOWN):
        return -1
    return int(any(word in metric.lower() for word in _UP))


def number(metric: str, value: float) -> str:
    """A value of the metric as text: an accuracy in percent."""
    if not np.isfinite(value):
        return "not finite"
    return f"{value:.2%}" if "acc" in metric else f"{value:.4g}"


def difference(metric: str, value: float) -> str:
    """A change of the metric as text, with its sign: of an accuracy in percentage points."""
    if not np.isfinite(value):
        return "not finite"
    return f"{value * 100:+.2f} points" if "acc" in metric else f"{value:+.3g}"
