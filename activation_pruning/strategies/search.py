"""The largest sparsity that costs no more than a given loss of a metric."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from activation_pruning import sites
from activation_pruning.amounts import Budget
from activation_pruning.pruning.one_shot import prune
from activation_pruning.schedules import retraining
from activation_pruning.strategies.record import TINY
from activation_pruning.strategies.trial import (
    check_functions,
    check_loss,
    measured,
    prune_options,
    retrained,
)
from activation_pruning.support import types
from activation_pruning.support.checks import check_number, check_sparsity
from activation_pruning.support.files import arrays, check_folder, replacing, sealed, unsealed
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Array, Model, Table

FORMAT = 1


class SparsitySearch:
    """What `find_sparsity` found, trial by trial.

    sparsity: the largest that held, 0.0 where none did. metric: of that network.
    dense_metric: before any pruning.
    """

    def __init__(self, dense_metric: float, trials: list[dict[str, Any]]) -> None:
        self.dense_metric, self._trials = dense_metric, trials
        held = [trial for trial in trials if trial["within"]]
        best = max(held, key=lambda trial: trial["sparsity"], default=None)
        self.sparsity: float = best["sparsity"] if best else 0.0
        self.metric: float = best["metric"] if best else dense_metric

    def table(self) -> Table:
        """DataFrame, a row per trial: sparsity, metric, loss, within, epochs, time_s."""
        return pd.DataFrame(
            self._trials, columns=["sparsity", "metric", "loss", "within", "epochs", "time_s"]
        )

    def __str__(self) -> str:
        return (
            f"{self.table().to_string(index=False)}\nlargest sparsity: {self.sparsity:.4f}, metric "
            f"{self.metric:.4f} (dense {self.dense_metric:.4f})"
        )

    __repr__ = __str__


def find_sparsity(
    model: Model,
    fit: Callable[..., Any],
    evaluate: Callable[[Model], Any],
    max_loss: float = 0.01,
    *,
    retrain: retraining.Policy | int = 2,
    low: float = 0.0,
    high: float = 0.99,
    tolerance: float = 0.01,
    budget: Callable[[float], Budget] | None = None,
    folder: types.Path | None = None,
    verbose: int = 1,
    **pruning: Any,
) -> SparsitySearch:
    """Find the largest sparsity within a given loss of a metric, by bisection with retraining.

    Each trial starts from the dense weights and a fresh optimizer state, is pruned in one step and
    retrained; it holds if dense metric - metric <= max_loss. `high` is tried first, then the middle
    between what held (and is taken to hold below) and what did not, until `tolerance` apart.

    Args:
        model: a compiled, trained Keras 3 model; left with the best weights that held, or dense.
        fit, evaluate: as for `iterative_prune`.
        max_loss: of the metric, in its unit, at least 0: 0.01 is one point of accuracy. For a
            metric in (0, 1] below that of the dense network.
        retrain: epochs, or an object of `retraining`.
        low, high: sparsities to look between, in [0, 1).
        tolerance: at least 1e-6.
        budget: a class of `budgets`, such as `budgets.MultiplyAdds`, or another function of the
            fraction of the cost that is left: a trial at "sparsity" 0.6 then prunes to
            `budget(0.4)`. None prunes to sparsities.
        folder: where finished trials and the best weights are kept; the same call with the dense
            model goes on from there. None keeps nothing.
        verbose: 0 for silence; else a line per trial.
        **pruning: criterion, allocation, granularity, data, ...: handed on to `prune`. The seed
            is that of Keras in each trial as well (on JAX a second `fit` of a process shuffles
            otherwise whatever the seed: for equal trials give `fit` batches in an order of yours).

    Returns:
        A `SparsitySearch`: `.sparsity`, `.metric`, `.table()`.

    Raises:
        TypeError, ValueError: as `iterative_prune`; an argument out of range; a folder of another
            search.
        OSError: the folder cannot be written.

    Example:
        >>> import keras, numpy as np, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"),
        ...                           keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> x, y = np.ones((8, 4)), np.ones((8, 1))
        >>> fit = lambda model, **more: model.fit(x, y, verbose=0, **more)
        >>> quality = lambda model: 1 - (model.layers[0].get_weights()[0] == 0).mean()
        >>> ap.find_sparsity(model, fit, quality, max_loss=0.5, tolerance=0.1, verbose=0).sparsity
        0.495
    """
    _check(max_loss, low, high, tolerance)
    sites.check_model(model, layers=False)
    check_functions(fit=fit, evaluate=evaluate)
    policy, options, start = retraining.get(retrain), prune_options(pruning), _Start(model)
    if budget is not None and not callable(budget):
        raise TypeError(
            f"budget={shown(budget)}; it must be a class such as ap.budgets.MultiplyAdds, or a "
            "function of the fraction that is left, which returns a budget"
        )
    asked = {"max_loss": max_loss, "low": low, "high": high, "retrain": policy, "model": start.name}
    asked |= {} if budget is None else {"budget": budget}
    # False is as good as not said: folders may be older than the option.
    said = {name: v for name, v in options.items() if name != "data" and v is not False}
    kept = _Kept(folder, said | asked)
    dense = kept.dense_metric(measured(evaluate, model))
    check_loss(max_loss, dense)
    trials = kept.state["trials"]
    while (sparsity := _middle(trials, low, high, tolerance)) is not None:
        if sparsity in {trial["sparsity"] for trial in trials}:
            raise ValueError(f"sparsity {sparsity} came up twice; give a greater tolerance")
        start.restore()
        keras.utils.set_random_seed(options["seed"])
        begun = time.perf_counter()
        target = budget(1 - sparsity) if budget and sparsity else sparsity
        prune(model, target, verbose=verbose, **options)
        epochs = retrained(model, fit, policy)
        trial = {"sparsity": sparsity, "epochs": epochs, "time_s": time.perf_counter() - begun}
        trial["metric"] = measured(evaluate, model)
        trial["loss"] = dense - trial["metric"]
        trial["within"] = trial["loss"] <= max_loss + TINY
        trials.append(trial)
        kept.add(trial, model.get_weights() if trial["within"] else None)
        if verbose:
            _tell(trial)
    model.set_weights(start.weights if kept.best is None else kept.best)
    return SparsitySearch(dense, list(trials))


def _check(max_loss: float, low: float, high: float, tolerance: float) -> None:
    check_sparsity("low", low)
    check_sparsity("high", high)
    if high <= low:
        raise ValueError(f"high={shown(high)} is not above low={shown(low)}")
    check_number("max_loss", max_loss, 0, "0.01 is one point of accuracy")
    check_number("tolerance", tolerance, 1e-6, "0.01 is one percent of the weights")


def _middle(
    trials: list[dict[str, Any]], low: float, high: float, tolerance: float
) -> float | None:
    """The next sparsity to try, None when it is found."""
    held = [trial["sparsity"] for trial in trials if trial["within"]]
    failed = [trial["sparsity"] for trial in trials if not trial["within"]]
    if not trials:
        return high
    low, high = max([low, *held]), min([high, *failed])
    return None if not failed or high - low <= tolerance else (low + high) / 2


class _Start:
    """The dense network: weights and optimizer state, to begin every trial from."""

    def __init__(self, model: Model) -> None:
        self.model, self.weights = model, [np.array(w) for w in model.get_weights()]
        digest = hashlib.sha256()
        for array in self.weights:
            digest.update(np.ascontiguousarray(array).tobytes())
        self.name = digest.hexdigest()[:16]
        optimizer = model.optimizer
        if optimizer is not None and not optimizer.built:
            optimizer.build(model.trainable_variables)
        known = [] if optimizer is None else optimizer.variables
        # Copies: on JAX an array may be a view of memory that a training step uses again.
        self._state = [(v, np.array(keras.ops.convert_to_numpy(v))) for v in known]

    def restore(self) -> None:
        self.model.set_weights(self.weights)
        for variable, values in self._state:
            variable.assign(values)


class _Kept:
    """What is known so far, in a folder if there is one."""

    def __init__(self, folder: types.Path | None, settings: dict[str, Any]) -> None:
        self.folder = None if folder is None else Path(check_folder(folder))
        # Of functions the name: their addresses are others in each process.
        settings = {k: getattr(v, "__qualname__", str(v)) for k, v in settings.items()}
        self.state: dict[str, Any] = {"format": FORMAT, "settings": settings, "trials": []}
        self.best: list[Array] | None = None
        path = self.folder and self.folder / "search.json"
        if path and path.exists():
            self._read(path, settings)

    def dense_metric(self, value: float) -> float:
        """The dense metric as it was kept, which must be what it is now."""
        kept = self.state.setdefault("dense_metric", value)
        if not np.isclose(kept, value, rtol=0, atol=1e-3):
            self._refuse(
                f" holds another search: its dense model measured {kept:g}, evaluate= returned "
                f"{value:g}. Give the same metric and data, or another folder"
            )
        return kept

    def _refuse(self, reason: str) -> None:
        raise ValueError(f"folder={str(self.folder)!r}{reason}")

    def _read(self, path: Path, settings: dict[str, str]) -> None:
        try:
            found = unsealed(path, ("format", "settings", "trials", "dense_metric"), FORMAT)
            version = found["format"]
            known = version != FORMAT or _sound(found["settings"], found["trials"])
        except (ValueError, TypeError, KeyError):
            known = False
        if not known:
            self._refuse(
                f": {path.name} cannot be read, it is damaged or no file of a search; delete it, "
                "or give another folder"
            )
        if version != FORMAT:
            self._refuse(
                f": {path.name} is of format {version!r}, this version reads {FORMAT}; give "
                "another folder"
            )
        then = found["settings"]
        other = [n for n in {**settings, **then} if then.get(n) != settings.get(n)]
        if other:
            hint = " (the model must be the dense one again)" if other == ["model"] else ""
            self._refuse(
                f" holds another search: {', '.join(other)} differ{hint}; give another folder, or "
                "delete this one"
            )
        self.state = found
        if any(trial["within"] for trial in found["trials"]):
            try:
                self.best = list(arrays(path.parent / "best.npz").values())
            except (ValueError, OSError) as error:
                self._refuse(f": best.npz cannot be read ({error}); delete this folder")

    def add(self, trial: dict[str, Any], weights: list[Array] | None) -> None:
        """Keep a trial; the weights of one that held, which are the best so far."""
        self.best = self.best if weights is None else weights
        if self.folder is None:
            return
        if weights is not None:  # before the trial is told, so that what it says of them is true
            with replacing(self.folder / "best.npz") as path:
                np.savez(path, *weights)
        with replacing(self.folder / "search.json") as path:
            Path(path).write_text(sealed(self.state))


def _sound(settings: Any, trials: Any) -> bool:
    """Whether a file, older than its checksum, holds what `_Kept` keeps."""
    kinds = {"sparsity": float, "metric": float, "within": bool}
    return isinstance(settings, dict) and all(
        isinstance(trial[name], kind) for trial in trials for name, kind in kinds.items()
    )


def _tell(trial: dict[str, Any]) -> None:
    held = "held" if trial["within"] else "lost too much"
    print(
        f"sparsity {trial['sparsity']:.4f}: metric {trial['metric']:.4f}, {trial['epochs']} epochs,"
        f" {held}",
        flush=True,
    )
