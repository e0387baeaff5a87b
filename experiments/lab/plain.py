"""Plain training of a multilayer perceptron: no stopping rule, a validation part, accuracies."""

import argparse
import dataclasses

import keras
import numpy as np
import pandas as pd

from lab import command_line, datasets, dense, network, publication, study

SHARED = ("dataset", "hidden", "images", "epochs", "learning_rate", "batch_size")


def add_options(parser, hidden: list[int], epochs: int, digits: int) -> None:
    """Add what plain training takes to a parser; `epochs` by default, `digits` on digits."""
    add, count = parser.add_argument, command_line.count
    add("--hidden", nargs="+", type=count, default=hidden, help="units by layer")
    add("--images", type=count, help="training images used; all if not given")
    told = f"of a training (default: digits {digits}, others {epochs})"
    add("--epochs", type=count, default=argparse.SUPPRESS, help=told)
    add("--learning-rate", type=command_line.positive, default=0.1, help="of SGD")
    add("--batch-size", type=count, default=128, help="samples in a training step")
    parser.set_defaults(epochs_by_default=(epochs, digits))


def shared(options, data: str) -> dict:
    """The settings that all trials share; data: fingerprint of the data set."""
    epochs, digits = vars(options).pop("epochs_by_default")
    if not hasattr(options, "epochs"):
        options.epochs = digits if options.dataset == "digits" else epochs
    found = {name: getattr(options, name) for name in SHARED}
    found |= {"biases": True, "init": "glorot", "l2": 0.0, "steps_per_execution": 50, "data": data}
    return found | study.versions()


class Measure:
    """Accuracies of a model: returns that on the validation part, keeps the last of the others."""

    def __init__(self, data: datasets.Data):
        parts = {
            "validation": (data.x_validation, data.y_validation),
            "test": (data.x_test, data.y_test),
            # As many as of the others: enough to see the gap.
            "train": (data.x_train[: len(data.x_test)], data.y_train[: len(data.y_test)]),
        }
        self._x = keras.ops.convert_to_tensor(np.concatenate([x for x, _ in parts.values()]))
        self._y = [y for _, y in parts.values()]
        self.test = self.train = 0.0

    def __call__(self, model) -> float:
        found = keras.ops.convert_to_numpy(model(self._x, training=False))
        ends = np.cumsum([len(y) for y in self._y])[:-1]
        pairs = zip(np.split(found, ends), self._y, strict=True)
        found = (network.graded(p, y)["accuracy"] for p, y in pairs)
        validation, self.test, self.train = found
        return validation

    def others(self) -> dict[str, float]:
        """The accuracies on the other parts, of the model that was measured last."""
        return {"test_accuracy": self.test, "train_accuracy": self.train}


def split(settings: dict) -> datasets.Data:
    """The data of a seed: a sixth of the training data validates, the rest may be cut to size."""
    data = datasets.split(datasets.load(settings["dataset"]), settings["seed"], share=1 / 6)
    size = settings["images"] or len(data.x_train)
    # The parts are sorted by place in the data set, so a subset has to be drawn.
    chosen = np.random.default_rng(settings["seed"]).permutation(len(data.x_train))[:size]
    return dataclasses.replace(data, x_train=data.x_train[chosen], y_train=data.y_train[chosen])


def untrained(settings: dict, data: datasets.Data) -> keras.Model:
    """The compiled network with the starting weights of the trial's seed."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(settings["seed"])
    model = network.build(keras, data.inputs, settings["hidden"], data.classes, settings["seed"])
    network.compile_as(keras, model, settings)
    return model


def trained(settings: dict, data: datasets.Data) -> keras.Model:
    """The dense network of a seed, trained or read where it was before."""
    model = untrained(settings, data)

    def train():
        network.fit(model, (data.x_train, data.y_train), settings, settings["epochs"])

    return dense.kept(model, settings, (*dense.TRAINING, "images"), train)


def fit(settings: dict, data: datasets.Data, calls, model, epochs: int, callbacks) -> None:
    """Retrain after a pruning step, in an order of samples that is new in each step."""
    seed = settings["seed"] * 10_000 + next(calls)
    more = {"validation_data": (data.x_validation, data.y_validation), "callbacks": callbacks}
    more |= {"validation_batch_size": 1000}
    network.fit(model, (data.x_train, data.y_train), settings, epochs, seed, **more)


def runs(records: list[dict], names: tuple[str, ...]) -> pd.DataFrame:
    """One row per record: some of its settings, and the single values of its result."""
    return pd.DataFrame(
        {publication.TARGET.get(name, name): record["settings"][name] for name in names}
        | {k: v for k, v in record["result"].items() if not isinstance(v, (list, dict))}
        for record in records
    )


def of_events(table: pd.DataFrame) -> dict:
    """Where the events in the table of a `PruningCallback` ended, and how many there were."""
    measured = float(table["total_sparsity"].iloc[-1]) if len(table) else 0.0
    return {"sparsity": measured, "events_fired": int(table["event"].nunique())}
