"""One trial of a pruning strategy: a trained network, pruned and retrained to the end."""

import dataclasses
import functools
import itertools
import time

import numpy as np

import activation_pruning as ap
from lab import plain, study

END = 500  # weights alive


@dataclasses.dataclass(frozen=True)
class Criterion:
    """Which weights go, as `ap.prune` takes it."""

    criterion: str
    allocation: str = "global"
    looks: bool = False  # at data


CRITERIA = {
    "random": Criterion("random"),
    "class_blind": Criterion("magnitude"),
    "class_uniform": Criterion("magnitude", "uniform"),
    "class_distributed": Criterion("magnitude", "distributed"),
    "obd": Criterion("obd", looks=True),
    "lobs": Criterion("lobs", looks=True),
    "activation_magnitude": Criterion("activation_magnitude", looks=True),
}
SINGLE = {f"single_{share:.0%}".rstrip("%"): share for share in (0.8, 0.85, 0.9)}
ITERATIVE = {f"iterative_{share:.0%}".rstrip("%"): share for share in (0.25, 0.5, 0.75)}
FIXED = {f"fixed_{number}": number for number in (1000, 5000, 10000)}
KINDS = {"single": SINGLE, "iterative": ITERATIVE, "fixed": FIXED}
STRATEGIES = SINGLE | ITERATIVE | FIXED
RETRAINING = {
    "2_epochs": ap.retraining.Epochs(2),
    "variable": ap.retraining.UntilFlat(improvement=0.001, at_most=10, monitor="val_accuracy"),
}


def kind(strategy: str) -> str:
    """single, iterative or fixed."""
    return next(name for name, members in KINDS.items() if strategy in members)


def family(strategy: str, weights: int) -> tuple:
    """(the amount of one step, where it stops) for a network with so many weights.

    A fixed number goes as often as it leaves 500 weights or more: a last step cut to leave just
    those would not be one of that number.
    """
    amount = STRATEGIES[strategy]
    if strategy in SINGLE:
        return amount, ap.Until(steps=1)
    if strategy in FIXED:
        return amount, ap.Until(END, steps=max((weights - END) // amount, 1))
    return amount, ap.Until(weights=END)


def work(settings: dict) -> tuple[dict, dict]:
    """Prune the dense network of a seed by one criterion and strategy; runs in a worker process."""
    data = plain.split(settings)
    model, measure = plain.trained(settings, data), plain.Measure(data)
    how, size = CRITERIA[settings["criterion"]], settings["calibration"]
    weights = sum(int(np.prod(layer.kernel.shape)) for layer in model.layers)
    wall, cpu = time.perf_counter(), time.process_time()
    with study.warned() as told:
        done = ap.iterative_prune(
            model,
            functools.partial(plain.fit, settings, data, itertools.count(1)),
            measure,
            *family(settings["strategy"], weights),
            criterion=how.criterion,
            retrain=RETRAINING[settings["retraining"]],
            allocation=how.allocation,
            data=(data.x_train[:size], data.y_train[:size]) if how.looks else None,
            exclude=(),
            seed=settings["seed"],
            on_step=lambda model, row: measure.others(),
            verbose=0,
        )
    result = {"time_s": time.perf_counter() - wall, "cpu_time_s": time.process_time() - cpu}
    curve = done.table().rename(columns={"metric": "validation_accuracy"})
    result |= {"curve": curve.to_dict("records"), "stopped": done.stopped, "warnings": told}
    for name, kept in (("smallest", done.smallest), ("most_accurate", done.most_accurate)):
        result[name] = None if kept is None else curve.iloc[kept.step].to_dict()
    last = curve.iloc[-1]
    result |= {"test_accuracy": last["test_accuracy"], "sparsity": last["sparsity"]}
    return result | {"epochs": int(curve["epochs"].sum()), "steps": len(curve) - 1}, {}


def describe(result: dict) -> str:
    """Say in a few words how a trial ended."""
    best = result["most_accurate"]
    told = f"best {best['test_accuracy']:.4f} at {best['sparsity']:.1%}, " if best else ""
    return (
        f"{told}last {result['test_accuracy']:.4f} at {result['sparsity']:.1%}; {result['steps']} "
        f"steps, {result['epochs']} epochs, {result['time_s']:.0f} s"
    )
