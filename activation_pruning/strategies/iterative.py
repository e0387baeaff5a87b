"""Iterative pruning outside of one `fit`: prune an amount, retrain, and again."""

import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from activation_pruning import amounts, masks
from activation_pruning.allocations import rounded
from activation_pruning.pruning import Settings, report
from activation_pruning.pruning.one_shot import prune
from activation_pruning.schedules import retraining
from activation_pruning.strategies.distillation import taught
from activation_pruning.strategies.record import IterativePruning
from activation_pruning.strategies.trial import (
    check_functions,
    check_loss,
    measured,
    prune_options,
    retrained,
)
from activation_pruning.support.checks import (
    check_count,
    check_number,
    check_sparsity,
    is_integer,
    is_number,
)
from activation_pruning.support.counts import Count, counted
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Model


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

    def __post_init__(self) -> None:
        given = {n: v for n, v in dataclasses.asdict(self).items() if v is not None}
        if not given:
            raise ValueError("Until() stops nowhere; give weights=, sparsity=, metric= or steps=")
        for name in given.keys() & {"weights", "steps"}:
            check_count(name, given[name], 1)
        if "sparsity" in given:
            check_sparsity("sparsity", self.sparsity)
        if "metric" in given:
            check_number("metric", self.metric)

    def most(self, weights: int) -> float:
        """Return the highest sparsity of a network with so many prunable weights."""
        sparsity = 1.0 if self.sparsity is None else self.sparsity
        alive = self.weights or 1
        return min(sparsity, max(weights - alive, 0) / weights)


def iterative_prune(
    model: Model,
    fit: Callable[..., Any],
    evaluate: Callable[[Model], Any],
    amount: amounts.Amount | float = 0.2,
    until: Until | float = 0.9,
    *,
    retrain: retraining.Policy | int = 2,
    max_loss: float = 0.01,
    min_sparsity: float = 0.5,
    teacher: Any = None,
    on_step: Callable[[Model, dict[str, Any]], Mapping[str, Any] | None] | None = None,
    verbose: int = 1,
    **pruning: Any,
) -> IterativePruning:
    """Prune by an amount, retrain, and again, until a limit is reached; in place.

    Scores are made anew in every step. The optimizer keeps its state from step to step.

    Args:
        model: a compiled, trained Keras 3 model.
        fit: function that trains it: called as `fit(model, epochs=..., callbacks=[...])`, it hands
            both on to `model.fit`. Its model is `model` itself, or a Distiller around it where
            there is a teacher.
        evaluate: function of the model that measures it, always `model` itself; higher is better,
            such as accuracy.
        amount: per step: a share of the weights alive in (0, 1), a number of weights, or an object
            of `amounts` (`Bucket`, `Threshold`, `InTurn`, ...). A number inside of `OneLayer` or
            `InTurn` is a sparsity of that layer.
        until: a sparsity in (0, 1), a number of weights alive, or an `Until`.
        retrain: epochs after each step, or an object of `retraining`, such as `UntilFlat`.
        max_loss: how far below the dense metric the smallest network of interest may be.
        min_sparsity: from where on the most accurate network is looked for.
        teacher: what teaches the model in every retraining: "dense" for a frozen copy of it as it
            is now, another model, or for settings of your own a function of the model that returns
            `ap.distiller(model, ...)`; None for nobody.
        on_step: function called as `on_step(model, row)` when a step is over, and before the first
            one with the dense network as step 0. `row` is its row of `.table()`; a dict that it
            returns becomes further columns, such as the accuracy on test data.
        verbose: 0 for silence; else the plan, then a line per step.
        **pruning: criterion, allocation, granularity, data, ...: handed on to `prune`.

    Returns:
        An `IterativePruning`: `.table()`, `.smallest`, `.most_accurate`, `.stopped`. The model is
        left as the last step made it.

    Raises:
        TypeError, ValueError: as `prune`; a `fit` that does not hand the callbacks on; a metric
            that is not finite; a name that `prune` does not know.

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
    taken, policy, end = amounts.get(amount), retraining.get(retrain), _limits(until)
    tell = on_step or (lambda model, row: None)
    check_functions(fit=fit, evaluate=evaluate, on_step=tell)
    fit = taught(fit, teacher, model)
    check_number("max_loss", max_loss, 0, "0.01 is one point of accuracy")
    check_sparsity("min_sparsity", min_sparsity)
    options = prune_options(pruning) | {"verbose": verbose}
    decided = {one.name: options[one.name] for one in dataclasses.fields(Settings)}
    live_sites = Settings(**decided).find(model, options["include"], options["exclude"]).sites
    done = IterativePruning(max_loss, min_sparsity)
    count = counted(report.alive_masks(live_sites).values())
    row = _row(0, count, count.alive) | {"metric_pruned": measured(evaluate, model)}
    check_loss(max_loss, row["metric_pruned"])
    print(plan(count, taken, end, policy.at_most), flush=True) if verbose else None
    row |= {"metric": row["metric_pruned"], "epochs": 0, "time_s": 0.0}
    done.add(model, row | _more(tell, model, row))
    turns = len(live_sites) if isinstance(taken, amounts.InTurn) else 1
    turn = idle = 0  # of an amount that goes from layer to layer; turns that took nothing
    while not done.stopped:
        target, done.stopped = _next(row, count, taken, end, turn)
        if done.stopped:
            break
        begun = time.perf_counter()
        emptied = _pruned(model, target, options)
        before, count = count, counted(report.alive_masks(live_sites).values())
        turn, idle = turn + 1, idle + 1 if count == before else 0
        if emptied or idle == turns:
            done.stopped = emptied or f"{taken} takes nothing more"
        if done.stopped or idle:
            continue
        spent = time.perf_counter() - begun
        row = _row(row["step"] + 1, count, before.alive)
        row["metric_pruned"] = measured(evaluate, model)
        begun = time.perf_counter()
        row["epochs"] = retrained(model, fit, policy)
        row["time_s"] = time.perf_counter() - begun + spent
        row["metric"] = measured(evaluate, model)
        done.add(model, row | _more(tell, model, row))
        _tell(row) if verbose else None
    return done


def plan(count: Count, amount: amounts.Amount, until: Until, epochs: int) -> str:
    """How many steps and epochs it takes, if weights go one by one and the metric holds.

    Example:
        >>> plan(Count(400, 0), amounts.Number(100), Until(weights=50), epochs=2)
        'plan: 4 steps, from 400 weights alive to 50, with up to 2 epochs each: 8 epochs in all'
    """
    begun, steps, each = count.alive, 0, f"with up to {epochs} epochs each"
    while True:
        row = {"step": steps, "metric": math.inf}
        target, stopped = _next(row, count, amount, until, steps)
        if amounts.is_amount(target):
            known = "" if until.steps is None else f" at most {until.steps},"
            return f"plan: steps of {amount},{known} {each}; how many depends on the scores"
        pruned = count.pruned if stopped else rounded(target, count.weights)
        if pruned <= count.pruned:
            break
        count, steps = Count(count.weights, pruned), steps + 1
    fewer = "" if until.metric is None else f"; fewer if the metric falls below {until.metric:g}"
    return (
        f"plan: {steps:,} steps, from {begun:,} weights alive to {count.alive:,}, {each}: "
        f"{steps * epochs:,} epochs in all{fewer}"
    )


def _limits(spec: Until | float) -> Until:
    """An `Until`: a number in (0, 1) is a sparsity, an integer a number of weights alive."""
    if isinstance(spec, Until):
        return spec
    if is_number(spec):
        if is_integer(spec):
            return Until(weights=int(spec))
        try:
            return Until(sparsity=float(spec))
        except ValueError as error:
            raise ValueError(f"until={spec}: {error} A number of weights is an integer.") from error
    raise TypeError(
        f"until={shown(spec)}; give a sparsity, a number of weights alive, or strategies.Until(...)"
    )


def _row(step: int, count: Count, before: int) -> dict[str, Any]:
    """What the table says of the size of the network after a step."""
    row = {"step": step, "weights_alive": count.alive, "weights_pruned": before - count.alive}
    return row | {"sparsity": count.sparsity, "compression": count.weights / count.alive}


def _more(tell: Callable[..., Any], model: Model, row: dict[str, Any]) -> dict[str, Any]:
    """Further columns of the table: what `on_step` returns."""
    found = tell(model, dict(row))
    taken = {*row, "epochs_total", "time_total_s"}
    if found is None:
        return {}
    if isinstance(found, Mapping) and not taken & found.keys():
        return dict(found)
    raise ValueError(
        f"on_step= returned {shown(found)}; it must return None, or a dict of columns other than "
        f"{sorted(taken)}"
    )


def _next(
    row: Mapping[str, Any], count: Count, amount: amounts.Amount, until: Until, turn: int
) -> tuple[Any, str]:
    """(the target of the next step, why there is none)."""
    most = until.most(count.weights)
    if until.steps is not None and row["step"] >= until.steps:
        return None, f"{until.steps} steps"
    if until.metric is not None and row["step"] and row["metric"] < until.metric:
        return None, f"metric {row['metric']:.4f} below {until.metric:g}"
    if count.pruned >= round(most * count.weights):
        return None, f"{count.alive} weights alive, sparsity {count.sparsity:.4f}"
    return amounts.resolved(amount, *count, turn, most), ""


def _pruned(model: Model, target: Any, options: dict[str, Any]) -> str:
    """Prune one step; returns what was warned of if a layer would have been emptied."""
    before = model.get_weights()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", masks.EmptiedWarning)
            prune(model, target, **options)
    except masks.EmptiedWarning as warning:
        model.set_weights(before)
        return str(warning)
    return ""


def _tell(row: Mapping[str, Any]) -> None:
    print(
        f"step {row['step']}: {row['weights_alive']:,} weights alive ({1 - row['sparsity']:.1%}), "
        f"metric {row['metric']:.4f} ({row['metric_pruned']:.4f} before retraining), "
        f"{row['epochs']} epochs, {row['time_s']:.1f} s",
        flush=True,
    )
