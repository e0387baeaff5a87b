"""The options that the experiments share, with defaults that suit the data set."""

from __future__ import annotations

import argparse

from lab import datasets

# For options that are not given. The learning rates come from a short look at the dense network
# alone, two seeds that no comparison uses, by validation loss: on digits 0.1 and 0.3 were close and
# 0.03 worse, on Fashion-MNIST 0.03 was best of 0.01, 0.03, 0.1; on MNIST 0.03, 0.1, 0.2 were close.
# The levels of digits and Fashion-MNIST are ones that a network pruned to 90 % at random has
# reached: above what it can reach, the last events never come. Those of MNIST were not tried.
DEFAULTS = {
    "digits": {
        "learning_rate": 0.1,
        "epochs": 60,
        "start": 0.85,
        "stop": 0.95,
        "target_accuracy": 0.999,
    },
    "mnist": {
        "learning_rate": 0.1,
        "epochs": 30,
        "start": 0.90,
        "stop": 0.97,
        "target_accuracy": 0.999,
    },
    "fashion_mnist": {
        "learning_rate": 0.03,
        "epochs": 30,
        "start": 0.80,
        "stop": 0.88,
        "target_accuracy": 0.98,
    },
}


def shared_parser(
    name: str, description: str, arms: tuple[str, ...], more: tuple[str, ...] = ()
) -> argparse.ArgumentParser:
    """Make a parser of what every experiment has: data, folder, arms, seeds, jobs.

    name: of the experiment, and of the folder of its results. arms run by default, more are there
    to be chosen.
    """
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = options.add_argument
    add("--dataset", default="digits", help="digits, mnist, fashion_mnist, or an .npz file")
    add("--data-dir", help=f"folder with NAME.npz; also {datasets.DATA_FOLDER}")
    add("--out", default=f"results/{name}", help="folder of the results")
    choice = {"choices": (*arms, *more), "metavar": "ARM"}
    told = f"what to compare; there are {', '.join(choice['choices'])}"
    add("--arms", nargs="+", default=list(arms), help=told, **choice)
    add("--seeds", type=count, default=3, help="how many; they are 0, 1, ...")
    add("--jobs", type=count, default=1, help="runs side by side, one thread each")
    add("--fresh", action="store_true", help="forget the results kept in --out")
    return options


def parser(
    name: str,
    description: str,
    arms: tuple[str, ...],
    more: tuple[str, ...] = (),
    sparsities: tuple[float, ...] = (0.8,),
    events: tuple[int, ...] = (5,),
) -> argparse.ArgumentParser:
    """Make the parser of an experiment that prunes while it trains; it may add options.

    name, description, arms, more: see `shared_parser`. sparsities, events: defaults.
    """
    options = shared_parser(name, description, arms, more)
    add = options.add_argument

    def by_data_set(flag, kind, text):
        key = flag.strip("-").replace("-", "_")
        values = ", ".join(f"{data_set} {own[key]}" for data_set, own in DEFAULTS.items())
        add(flag, type=kind, default=argparse.SUPPRESS, help=f"{text} (default: {values})")

    add("--sparsities", nargs="+", type=share, default=list(sparsities), help="final ones")
    add("--events", nargs="+", type=count, default=list(events), help="pruning events")
    add("--hidden", nargs="+", type=count, default=[300, 200, 100, 50], help="units by layer")
    by_data_set("--learning-rate", positive, "of SGD")
    add("--batch-size", type=count, default=32, help="samples in a training step")
    by_data_set("--epochs", count, "at most")
    add("--patience", type=count, default=5, help="epochs without a lower validation loss")
    by_data_set("--start", share, "training accuracy at which the first event comes")
    by_data_set("--stop", share, "training accuracy at which the last event comes")
    by_data_set("--target-accuracy", positive, "training accuracy that ends it, once pruned")
    add("--steps-per-execution", type=count, default=1, help="batches in one call; faster above 1")
    return options


def completed(options: argparse.Namespace) -> argparse.Namespace:
    """Fill in what was not given with what suits the data set; drop what was given twice."""
    for name in ("arms", "sparsities", "events"):
        setattr(options, name, list(dict.fromkeys(getattr(options, name))))
    defaults = DEFAULTS.get(options.dataset, DEFAULTS["mnist"])
    for name, value in defaults.items():
        if not hasattr(options, name):
            setattr(options, name, value)
    return options


def check(options: argparse.Namespace, grid: list[dict]) -> None:
    """Raise for levels that cannot work in the runs of a grid, before any training."""
    if options.start > options.stop:
        raise ValueError(f"--start {options.start} is above --stop {options.stop}")
    most = max(settings["events"] for settings in grid)  # 0 for arms without events
    if most > options.epochs:
        raise ValueError(
            f"--events {most} does not fit into --epochs {options.epochs}: "
            "there is at most one event per epoch"
        )


def share(text: str) -> float:
    """A number in (0, 1)."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not in (0, 1); for 80 % write 0.8")
    return value


def count(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return value


def positive(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value
