"""What a pruning did, in words and numbers: the questions one has, and their answers."""

import pandas as pd

from activation_pruning.reports.costs import better, cost, difference, low_rank
from activation_pruning.reports.layer_table import by_layer
from activation_pruning.reports.tables import need
from activation_pruning.support.types import Table

__all__ = ["answers", "by_layer"]

_NAMED = 8  # layers that a sentence names at most


def answers(
    layers: Table, events: Table, history: Table | None = None, activity: Table | None = None,
    accuracy: Table | None = None, metric: str | None = None,
) -> Table:  # fmt: skip
    """The questions that one has after pruning, with their answers.

    The arguments are those of `write`, with the table `by_layer`, one row of history per epoch,
    and the accuracy of `analysis.compare_low_rank`.

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
