"""Do the initial weights make a sparse network a winning ticket?

A network is trained, a fifth of the weights of each hidden layer that are alive goes by magnitude,
the survivors are set back, and it is trained again; and so on. Set back to their initial weights
(`rewind_0`), or to those after a few epochs (`rewind_k`). Compared with the masks of `rewind_0` on
other random weights (`random_weights`), with masks at random, as sparse in each layer, on the
initial weights (`random_masks`), and with training on without setting back (`continued`). Every
training has as many epochs.

    python lottery_ticket.py --dataset mnist --jobs 2

Sources: Frankle & Carbin, ICLR 2019; Frankle, Dziugaite, Roy & Carbin, ICML 2020 (rewinding to
epoch k).
"""

import itertools
import sys
import time
from pathlib import Path

import keras
import numpy as np

import activation_pruning as ap
from lab import arms_report, command_line, network, plain, publication, study

NAME = "lottery_ticket"
ARMS = ("rewind_0", "rewind_k", "random_weights", "random_masks", "continued")
ANEW = ("random_weights", "random_masks")  # start otherwise, with what rewind_0 has pruned
OTHER = 1000  # added to the seed: starting weights that no trial has
SHARE = 0.2  # of the weights alive, per round
QUICK = "--seeds 2 --hidden 40 20 --epochs 8 --rounds 4 --every 2"


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    about = "Sparse networks trained from initial, early, other weights, and with random masks."
    parser = command_line.shared_parser(NAME, about, ARMS)
    plain.add_options(parser, hidden=[300, 100], epochs=8, digits=30)
    add = parser.add_argument
    add("--rounds", type=command_line.count, default=16, help="of pruning a fifth of what is alive")
    add("--every", type=command_line.count, default=4, help="rounds from one measurement on")
    add("--rewind", type=command_line.count, default=1, help="epoch k of rewind_k")
    return study.run(parser, arguments, grid, work, publish, describe)


def grid(options, data: str) -> list[dict]:
    """One settings dict per seed and arm, seeds outermost."""
    shared = plain.shared(options, data)
    if options.rewind >= options.epochs:
        raise ValueError(
            f"--rewind {options.rewind} is not before the end, --epochs {options.epochs}"
        )
    if options.every > options.rounds:
        raise ValueError(
            f"--every {options.every} is above --rounds {options.rounds}: nothing would be measured"
        )
    more = {"rounds": options.rounds, "every": options.every, "sparsity": 0.0, "events": 0}
    return [
        {"arm": arm, "seed": seed, "rewind": options.rewind if arm == "rewind_k" else 0}
        | shared
        | more
        for seed in range(options.seeds)
        for arm in options.arms
    ]


def work(settings: dict) -> tuple[dict, dict]:
    """All rounds of one arm and seed; runs in a worker process."""
    data = plain.split(settings)
    model, calls = plain.untrained(settings, data), itertools.count(1)
    initial, measure, begun = model.get_weights(), plain.Measure(data), time.perf_counter()

    def train(epochs):
        plain.fit(settings, data, calls, model, epochs, [ap.KeepPruned()])

    if settings["rewind"]:
        train(settings["rewind"])
    point = model.get_weights()
    train(settings["epochs"] - settings["rewind"])
    rows = [_row(measure, model, 0, begun)]
    for number in range(1, settings["rounds"] + 1):
        ap.prune(model, ap.amounts.Fraction(SHARE), "magnitude", "uniform", verbose=0)
        masks = [weights != 0 for weights in _kernels(model)]
        if settings["arm"] != "continued":
            _start(model, point, masks)
        train(settings["epochs"] - settings["rewind"])
        if number % settings["every"] == 0:
            trained = model.get_weights()
            if settings["arm"] in ANEW:
                _start(model, *_other(settings, data, initial, masks))
                train(settings["epochs"])
            rows.append(_row(measure, model, number, begun))
            model.set_weights(trained)
    last = {name: rows[-1][name] for name in ("test_accuracy", "sparsity", "time_s")}
    return {"points": rows} | last, {}


def describe(result: dict) -> str:
    """Say in a few words how a trial ended."""
    points = [f"{p['test_accuracy']:.4f} at {p['target_sparsity']:.4f}" for p in result["points"]]
    return f"test accuracy, sparsity: {', '.join(points)}"


@publication.publishing
def publish(records: list[dict], out: Path, options: dict) -> publication.Publication:
    """What there is to show."""
    runs = publication.rows(records, "points", {})
    dense = runs.loc[runs["target_sparsity"] == 0, "test_accuracy"].mean()
    return arms_report.compared(
        runs[runs["target_sparsity"] > 0], NAME, "Lottery tickets",
        baseline="random_weights" if "random_weights" in set(runs["arm"]) else runs["arm"].iloc[0],
        metrics=("train_accuracy", "validation_accuracy", "sparsity", "time_s"),
        about=f"Each round takes {SHARE:.0%} of the weights alive in each hidden layer.",
        told=[f"The dense networks: {dense:.2%} test accuracy on average."],
    )  # fmt: skip


def _row(measure, model, number, begun):
    validation = measure(model)
    kernels = _kernels(model)
    alive, weights = sum(int(np.count_nonzero(k)) for k in kernels), sum(k.size for k in kernels)
    found = {"round": number, "target_sparsity": 1 - (1 - SHARE) ** number}
    found |= {"validation_accuracy": validation, "sparsity": 1 - alive / weights}
    found |= measure.others()
    return found | {"time_s": time.perf_counter() - begun}


def _kernels(model):
    return [keras.ops.convert_to_numpy(layer.kernel) for layer in model.layers[:-1]]


def _start(model, weights, masks):
    """Give the model these weights under these masks, and its optimizer a fresh state."""
    model.set_weights(weights)
    for layer, mask in zip(model.layers[:-1], masks, strict=True):
        layer.kernel.assign(keras.ops.convert_to_numpy(layer.kernel) * mask)
    for variable in model.optimizer.variables:
        if "learning_rate" not in variable.path:
            variable.assign(keras.ops.zeros_like(variable))


def _other(settings, data, initial, masks):
    """(starting weights, masks) of the arms that change one of them."""
    seed = settings["seed"] + OTHER
    if settings["arm"] == "random_masks":
        random = np.random.default_rng(seed)
        return initial, [random.permuted(mask.ravel()).reshape(mask.shape) for mask in masks]
    other = network.build(keras, data.inputs, settings["hidden"], data.classes, seed)
    return other.get_weights(), masks


if __name__ == "__main__":
    sys.exit(main())
