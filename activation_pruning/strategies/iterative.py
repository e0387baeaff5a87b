"""Iterative pruning outside of one `fit`: prune an amount, retrain, and again."""

import dataclasses
import time
import warnings
from numbers import Integral, Real

import keras
import numpy as np
import pandas as pd

from activation_pruning import amounts, masks, retraining, sites
from activation_pruning.callbacks.keep_pruned import KeepPruned
from activation_pruning.pruning import report
from activation_pruning.pruning.one_shot import prune
from activation_pruning.support.checks import check_count, check_number, check_sparsity

TINY = 1e-9  # differences of metrics below this are rounding


@dataclasses.dataclass(frozen=True)
class Until:
    """Where iterative pruning stops: at the first of these that is reached.

    It stops as well where a layer would be emptied, and where the amount takes nothing more.

    Args:
        weights: alive, at least 1; the last step is cut so that no fewer stay.
        sparsity: in [0, 1); the last step is cut, too.
        metric: floor; the step after which the metric is below it is the last.
        steps: how many, at least 1.

    Raises:
        ValueError: an argument out of range; none given.

    Example:
        >>> Until(weights=500, metric=0.9)
        Until(weights=500, sparsity=None, metric=0.9, steps=None)
    """

    weights: int | None = None
    sparsity: float | None = None
    metric: float | None = None
    steps: int | None = None

    def __post_init__(self):
        given = {n: v for n, v in dataclasses.asdict(self).items() if v is not None}
        if not given:
            raise ValueError("Until() stops nowhere; give weights=, sparsity=, metric= or steps=")
        for name in given.keys() & {"weights", "steps"}:
            check_count(name, given[name], 1)
        if "sparsity" in given:
            check_sparsity("sparsity", self.sparsity)
        if "metric" in given:
            check_number("metric", self.metric)

    def most(self, weights):
        """Return the highest sparsity of a network with so many prunable weights."""
        found = [(weights - 1) / weights]
        found += [] if self.sparsity is None else [self.sparsity]
        found += [] if self.weights is None else [max(weights - self.weights, 0) / weights]
        return min(found)


@dataclasses.dataclass
class Kept:
    """A network worth keeping: one step of an iterative pruning, with its weights.

    step: its number. metric: after retraining. sparsity: measured. `restore()` puts its weights
    into the model that was pruned.
    """

    step: int
    metric: float
    sparsity: float
    model: keras.Model = dataclasses.field(repr=False)
    weights: list = dataclasses.field(repr=False)

    def restore(self):
        """Put these weights into the model, and return it."""
        self.model.set_weights(self.weights)
        return self.model


class IterativePruning:
    """What `iterative_prune` did: one row per step, and two networks of interest.

    smallest: the `Kept` network with the fewest weights whose metric is within `max_loss` of the
    dense one; None if there is none but the dense one. most_accurate: the one with the best metric
    of those with `min_sparsity` or more. stopped: why it ended.
    """

    def __init__(self, max_loss, min_sparsity):
        self.max_loss, self.min_sparsity = max_loss, min_sparsity
        self.smallest = self.most_accurate = None
        self.stopped = ""
        self._rows = []

    def table(self):
        """DataFrame, a row per step, 0 being the dense network.

        Columns: step, weights_alive, weights_pruned (in this step), sparsity, compression (weights
        / weights alive), metric_pruned (before retraining), metric, epochs, time_s (of pruning and
        retraining), epochs_total, time_total_s.
        """
        table = pd.DataFrame(self._rows)
        table["epochs_total"] = table["epochs"].cumsum()
        table["time_total_s"] = table["time_s"].cumsum()
        return table

    @property
    def dense_metric(self):
        """The metric before any pruning."""
        return self._rows[0]["metric"]

    def add(self, model, row):
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

    def __str__(self):
        lines = [self.table().to_string(index=False), f"stopped: {self.stopped}"]
        lines.append(f"smallest within {self.max_loss:g} of the dense metric: {self.smallest}")
        lines.append(f"best at {self.min_sparsity:.0%} or more: {self.most_accurate}")
        return "\n".join(lines)

    __repr__ = __str__


def iterative_prune(
    model,
    fit,
    evaluate,
    amount=0.2,
    until=0.9,
    criterion="magnitude",
    retrain=2,
    allocation="global",
    granularity="weight",
    data=None,
    include=None,
    exclude=None,
    seed=0,
    max_loss=0.01,
    min_sparsity=0.5,
    verbose=1,
):
    """Prune by an amount, retrain, and again, until a limit is reached; in place.

    Scores are made anew in every step. The optimizer keeps its state from step to step.

    Args:
        model: a compiled, trained Keras 3 model.
        fit: function that trains it: called as `fit(model, epochs=..., callbacks=[...])`, it hands
            both on to `model.fit`.
        evaluate: function of the model that measures it; higher is better, such as accuracy.
        amount: per step: a share of the weights alive in (0, 1), a number of weights, or an object
            of `amounts` (`Bucket`, `Threshold`, `InTurn`, ...). A number inside of `OneLayer` or
            `InTurn` is a sparsity of that layer.
        until: a sparsity in (0, 1), a number of weights alive, or an `Until`.
        criterion, allocation, granularity, data, include, exclude, seed: as for `prune`.
        retrain: epochs after each step, or an object of `retraining`, such as `UntilFlat`.
        max_loss: how far below the dense metric the smallest network of interest may be.
        min_sparsity: from where on the most accurate network is looked for.
        verbose: 0 for silence; else a line per step.

    Returns:
        An `IterativePruning`: `.table()`, `.smallest`, `.most_accurate`, `.stopped`. The model is
        left as the last step made it.

    Raises:
        TypeError, ValueError: as `prune`; a `fit` that does not hand the callbacks on; a metric
            that is not finite.

    Source: Han et al., NIPS 2015, section 3.4.

    Example:
        >>> import keras, numpy as np, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"),
        ...                           keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> x, y = np.ones((8, 4)), np.ones((8, 1))
        >>> fit = lambda model, **more: model.fit(x, y, verbose=0, **more)
        >>> evaluate = lambda model: -model.evaluate(x, y, verbose=0)
        >>> done = ap.iterative_prune(model, fit, evaluate, amount=0.5, until=8, verbose=0)
        >>> done.table()["weights_alive"].tolist()
        [32, 16, 8]
    """
    amount, policy, until = amounts.get(amount), retraining.get(retrain), _until(until)
    check_functions(fit, evaluate)
    check_number("max_loss", max_loss, 0, "0.01 is one point of accuracy")
    check_sparsity("min_sparsity", min_sparsity)
    how = {"criterion": criterion, "allocation": allocation, "granularity": granularity}
    how |= {"data": data, "include": include, "exclude": exclude, "seed": seed, "verbose": verbose}
    live_sites = sites.find(model, include, exclude).sites
    done = IterativePruning(max_loss, min_sparsity)
    weights, alive = _counted(live_sites)
    row = {"step": 0, "weights_alive": alive, "weights_pruned": 0, "sparsity": 1 - alive / weights}
    row |= {"compression": weights / alive, "metric_pruned": measured(evaluate, model)}
    done.add(model, row | {"metric": row["metric_pruned"], "epochs": 0, "time_s": 0.0})
    turn, idle = 0, 0  # of an amount that goes from layer to layer; turns that took nothing
    turns = len(live_sites) if hasattr(amount, "at") else 1
    while not done.stopped:
        target, done.stopped = _next(row, weights, amount, until, turn)
        if done.stopped:
            break
        begun = time.perf_counter()
        emptied = _pruned(model, target, how)
        weights, left = _counted(live_sites)
        turn, idle = turn + 1, idle + 1 if left == alive else 0
        if emptied or idle == turns:
            done.stopped = emptied or f"{amount} takes nothing more"
            break
        if idle:
            continue
        pruning = time.perf_counter() - begun
        row = {"step": row["step"] + 1, "weights_alive": left, "weights_pruned": alive - left}
        row |= {"sparsity": 1 - left / weights, "compression": weights / left}
        row["metric_pruned"], alive = measured(evaluate, model), left
        begun = time.perf_counter()
        row["epochs"] = retrained(model, fit, policy)
        row["time_s"] = time.perf_counter() - begun + pruning
        row["metric"] = measured(evaluate, model)
        done.add(model, row)
        if verbose:
            _tell(row)
    return done


def retrained(model, fit, policy):
    """Train with the pruned weights kept at zero until the policy has enough; returns the epochs.

    Args:
        model: compiled.
        fit: called as `fit(model, epochs=..., callbacks=[...])`.
        policy: see `retraining`.

    Raises:
        ValueError: the callbacks were not handed on, or to the training of another model.
    """
    if not policy.at_most:
        return 0
    watching = _Watching(policy)
    fit(model, epochs=policy.at_most, callbacks=[KeepPruned(), watching])
    if not watching.logs:
        raise ValueError(
            "fit= trained without the callbacks it was given, so nothing kept pruned weights at "
            "zero: hand them on, as in fit=lambda model, **more: model.fit(x, y, **more)"
        )
    trained = {id(variable) for variable in watching.model.variables}
    if not trained.issuperset(map(id, model.variables)):  # it may be a part of a greater model
        raise ValueError(
            f"fit= trained {watching.model.name!r}, another model than the {model.name!r} that it "
            "was given: train that one, in place"
        )
    return len(watching.logs)


def measured(evaluate, model):
    """The metric as a float.

    Raises:
        ValueError: it is none, or not finite.
    """
    found = evaluate(model)
    try:
        value = float(found)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"evaluate= returned {found!r}; it must return one number, higher is better"
        ) from error
    if not np.isfinite(value):
        raise ValueError(
            f"evaluate= returned {value}: the training diverged; lower the learning rate"
        )
    return value


def check_functions(fit, evaluate):
    """Raise unless both can be called.

    Raises:
        TypeError: names the one that cannot.
    """
    for name, value in (("fit", fit), ("evaluate", evaluate)):
        if not callable(value):
            raise TypeError(f"{name}={value!r}; it must be a function, called with the model.")


class _Watching(keras.callbacks.Callback):
    """Ends a `fit` when the retraining policy has enough."""

    def __init__(self, policy):
        super().__init__()
        self.policy, self.logs = policy, []

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(dict(logs or {}))
        if self.policy(self.logs):
            self.model.stop_training = True


def _until(spec):
    if isinstance(spec, Until):
        return spec
    if isinstance(spec, Integral) and not isinstance(spec, bool):
        return Until(weights=int(spec))
    if isinstance(spec, Real) and not isinstance(spec, bool):
        return Until(sparsity=float(spec))
    raise TypeError(
        f"until={spec!r}; give a sparsity, a number of weights alive, or strategies.Until(...)"
    )


def _counted(live_sites):
    """(prunable weights, those alive)."""
    found = report.alive_masks(live_sites).values()
    return sum(mask.size for mask in found), sum(int(mask.sum()) for mask in found)


def _next(row, weights, amount, until, turn):
    """(the target of the next step, why there is none)."""
    most = until.most(weights)
    if until.steps is not None and row["step"] >= until.steps:
        return None, f"{until.steps} steps"
    if until.metric is not None and row["step"] and row["metric"] < until.metric:
        return None, f"metric {row['metric']:.4f} below {until.metric:g}"
    pruned = weights - row["weights_alive"]
    if pruned >= round(most * weights):
        return None, f"{row['weights_alive']} weights alive, sparsity {row['sparsity']:.4f}"
    return amounts.resolved(amount, weights, pruned, turn, most), ""


def _pruned(model, target, how):
    """Prune one step; returns what was warned of if a layer would have been emptied."""
    before = model.get_weights()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", masks.EmptiedWarning)
            prune(model, target, **how)
    except masks.EmptiedWarning as warning:
        model.set_weights(before)
        return str(warning)
    return ""


def _tell(row):
    print(
        f"step {row['step']}: {row['weights_alive']:,} weights alive ({1 - row['sparsity']:.1%}), "
        f"metric {row['metric']:.4f} ({row['metric_pruned']:.4f} before retraining), "
        f"{row['epochs']} epochs, {row['time_s']:.1f} s",
        flush=True,
    )
