"""What one step of a strategy is made of: options of `prune`, retraining, a metric."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from activation_pruning.callbacks.keep_pruned import KeepPruned
from activation_pruning.pruning.one_shot import prune
from activation_pruning.schedules.retraining import Policy
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Model

_OWN = {"model", "sparsity", "respect_zeros", "between", "verbose"}  # said by the strategy


def prune_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is handed on to `prune`: what was given, for the rest its defaults.

    Example:
        >>> prune_options({"criterium": "obd"})
        Traceback (most recent call last):
            ...
        TypeError: unknown argument 'criterium'; of those of `prune` these are handed on: criterion,
        allocation, granularity, data, include, exclude, seed, sequential, steps.
    """
    parameters = inspect.signature(prune).parameters.values()
    known = {one.name: one.default for one in parameters if one.name not in _OWN}
    for name in given.keys() - known.keys():
        raise TypeError(
            f"unknown argument {name!r}; of those of `prune` these are handed on: "
            f"{', '.join(known)}."
        )
    return known | dict(given)


def retrained(model: Model, fit: Callable[..., Any], policy: Policy) -> int:
    """Train with the pruned weights kept at zero until the policy has enough; returns the epochs.

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


def measured(evaluate: Callable[[Model], Any], model: Model) -> float:
    """The metric as a float; a ValueError if it is none, or not finite."""
    found = evaluate(model)
    try:
        value = float(found)  # of tensors, too
        if isinstance(found, (bool, np.bool_)):
            raise TypeError("a truth value")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"evaluate= returned {shown(found)}; it must return one number, higher is better"
        ) from error
    if not np.isfinite(value):
        raise ValueError(
            f"evaluate= returned {value}: the training diverged; lower the learning rate"
        )
    return value


def check_loss(max_loss: float, dense: float) -> None:
    """Raise ValueError for a loss that a share such as an accuracy can never exceed.

    Example:
        >>> check_loss(1, dense=0.97)
        Traceback (most recent call last):
            ...
        ValueError: max_loss=1 is all of the dense metric, 0.97, so that any network would do; it is
        in the unit of the metric: 0.01 is one point of accuracy.
    """
    if 0 < dense <= 1 and max_loss >= dense:
        raise ValueError(
            f"max_loss={max_loss!r} is all of the dense metric, {dense:.4g}, so that any network "
            "would do; it is in the unit of the metric: 0.01 is one point of accuracy."
        )


def check_functions(**functions: Any) -> None:
    """Raise a TypeError that names the one that cannot be called."""
    for name, value in functions.items():
        if not callable(value):
            raise TypeError(f"{name}={shown(value)}; it must be a function, called with the model.")


class _Watching(keras.callbacks.Callback):
    """Ends a `fit` when the retraining policy has enough."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy
        self.logs: list[dict[str, Any]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.logs.append(dict(logs or {}))
        if self.policy(self.logs):
            self.model.stop_training = True
