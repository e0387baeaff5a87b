"""One trial of a pruning strategy: a trained network, pruned and retrained to the end."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import time
import warnings

import keras
import numpy as np

import activation_pruning as ap
from lab import datasets, dense, network

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
STRATEGIES = SINGLE | ITERATIVE | FIXED
RETRAINING = {
    "2_epochs": ap.retraining.Epochs(2),
    "variable": ap.retraining.UntilFlat(improvement=0.001, at_most=10, monitor="val_accuracy"),
}


def kind(strategy: str) -> str:
    """single, iterative or fixed."""
    return strategy.partition("_")[0]


def family(strategy: str) -> tuple:
    """(the amount of one step, where it stops)."""
    amount = STRATEGIES[strategy]
    return amount, ap.Until(steps=1) if strategy in SINGLE else ap.Until(weights=END)


def work(settings: dict) -> tuple[dict, dict]:
    """Prune the dense network of a seed by one criterion and strategy; runs in a worker process."""
    logging.getLogger("tensorflow").setLevel("ERROR")
    data = split(settings)
    model = trained(settings, data)
    how = CRITERIA[settings["criterion"]]
    measure = Measure(data)
    policy = RETRAINING[settings["retraining"]]
    amount, until = family(settings["strategy"])
    wall, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        done = ap.iterative_prune(
            model,
            functools.partial(fit, settings, data, itertools.count(1)),
            measure,
            amount,
            until,
            how.criterion,
            policy,
            how.allocation,
            data=calibration(settings, data) if how.looks else None,
            exclude=(),
            seed=settings["seed"],
            verbose=0,
        )
    result = {"time_s": time.perf_counter() - wall, "cpu_time_s": time.process_time() - cpu}
    curve = done.table().rename(columns={"metric": "validation_accuracy"})
    curve["test_accuracy"] = [measure.tests[0], *measure.tests[2::2]][: len(curve)]
    curve["train_accuracy"] = [measure.trains[0], *measure.trains[2::2]][: len(curve)]
    result |= {"curve": curve.to_dict("records"), "stopped": done.stopped}
    result |= {"warnings": sorted({str(w.message) for w in told if _users(w)})}
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


class Measure:
    """Accuracies of a model: returns that on the validation part, keeps the others."""

    def __init__(self, data: datasets.Data):
        parts = {
            "validation": (data.x_validation, data.y_validation),
            "test": (data.x_test, data.y_test),
            # As many as of the others: enough to see the gap.
            "train": (data.x_train[: len(data.x_test)], data.y_train[: len(data.y_test)]),
        }
        self._x = keras.ops.convert_to_tensor(np.concatenate([x for x, _ in parts.values()]))
        self._y = [y for _, y in parts.values()]
        self.tests, self.trains = [], []

    def __call__(self, model) -> float:
        found = keras.ops.convert_to_numpy(model(self._x, training=False))
        ends = np.cumsum([len(y) for y in self._y])[:-1]
        pairs = zip(np.split(found, ends), self._y, strict=True)
        validation, test, train = (network.graded(p, y)["accuracy"] for p, y in pairs)
        self.tests.append(test)
        self.trains.append(train)
        return validation


def split(settings: dict) -> datasets.Data:
    """The data of a seed: a sixth of the training data validates, the rest may be cut to size."""
    data = datasets.split(datasets.load(settings["dataset"]), settings["seed"], share=1 / 6)
    size = settings["images"] or len(data.x_train)
    # The parts are sorted by place in the data set, so a subset has to be drawn.
    chosen = np.random.default_rng(settings["seed"]).permutation(len(data.x_train))[:size]
    return dataclasses.replace(data, x_train=data.x_train[chosen], y_train=data.y_train[chosen])


def trained(settings: dict, data: datasets.Data) -> keras.Model:
    """The dense network of a seed, trained or read where it was before."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(settings["seed"])
    sizes = data.x_train.shape[1], settings["hidden"], data.classes
    model = network.build(keras, *sizes, settings["seed"])
    network.compile_as(keras, model, settings)

    def train():
        size = settings["batch_size"]
        batches = network.batches(data.x_train, data.y_train, size, settings["seed"])
        model.fit(batches, epochs=settings["epochs"], shuffle=False, verbose=0)

    return dense.kept(model, settings, (*dense.TRAINING, "images"), train)


def fit(settings: dict, data: datasets.Data, calls, model, epochs: int, callbacks) -> None:
    """Retrain after a pruning step, in an order of samples that is new in each step."""
    seed = settings["seed"] * 10_000 + next(calls)
    model.fit(
        network.batches(data.x_train, data.y_train, settings["batch_size"], seed),
        epochs=epochs,
        validation_data=(data.x_validation, data.y_validation),
        validation_batch_size=1000,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )


def calibration(settings: dict, data: datasets.Data):
    """The training images that criteria look at."""
    size = settings["calibration"]
    return data.x_train[:size], data.y_train[:size]


def _users(told):
    return issubclass(told.category, UserWarning)
