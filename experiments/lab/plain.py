"""Plain training of a multilayer perceptron: no stopping rule, a validation part, accuracies."""

import argparse
import dataclasses

import keras
import numpy as np
import pandas as pd

import activation_pruning as ap
from lab import command_line, datasets, dense, network, publication

SHARED = ("dataset", "hidden", "images", "epochs", "learning_rate", "batch_size")


def add_options(parser, hidden: list[int], epochs: int, digits: int) -> None:
    """Add what plain training takes to a parser; `epochs` by default, `digits` on digits."""
    add = parser.add_argument
    add("--hidden", nargs="+", type=command_line.count, default=hidden, help="units by layer")
    add("--images", type=command_line.count, help="training images used; all if not given")
    add(
        "--epochs",
        type=command_line.count,
        default=argparse.SUPPRESS,
        help=f"of a training (default: digits {digits}, others {epochs})",
    )
    add("--learning-rate", type=command_line.positive, default=0.1, help="of SGD")
    add("--batch-size", type=command_line.count, default=128, help="samples in a training step")
    parser.set_defaults(epochs_by_default=(epochs, digits))


def shared(options, data: str) -> dict:
    """The settings of an experiment that all its trials share.

    data: fingerprint of the data set.
    """
    epochs, digits = vars(options).pop("epochs_by_default")
    if not hasattr(options, "epochs"):
        options.epochs = digits if options.dataset == "digits" else epochs
    found = {name: getattr(options, name) for name in SHARED}
    found |= {"biases": True, "init": "glorot", "l2": 0.0, "steps_per_execution": 50, "data": data}
    found |= {"backend": keras.backend.backend(), "keras": keras.__version__}
    return found | {"activation_pruning": ap.__version__}


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


def untrained(settings: dict, data: datasets.Data, seed: int | None = None) -> keras.Model:
    """The compiled network with the starting weights of the trial's seed, or of another one."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(settings["seed"])
    sizes = data.inputs, settings["hidden"], data.classes
    model = network.build(keras, *sizes, settings["seed"] if seed is None else seed)
    network.compile_as(keras, model, settings)
    return model


def starting_weights(settings: dict, data: datasets.Data) -> list[np.ndarray]:
    """The starting weights of a seed."""
    sizes = data.inputs, settings["hidden"], data.classes
    return network.build(keras, *sizes, settings["seed"]).get_weights()


def trained(settings: dict, data: datasets.Data) -> keras.Model:
    """The dense network of a seed, trained or read where it was before."""
    model = untrained(settings, data)

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


def users(told) -> bool:
    """Whether a warning that was recorded is meant for users."""
    return issubclass(told.category, UserWarning)
