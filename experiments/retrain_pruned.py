"""What comes back when a pruned network is trained again?

A network is pruned while it trains, and then trained again, four ways: with its masks; without
them; with its masks from the initial weights (the lottery ticket); with its masks from other random
weights. Compared are the ranks of the hidden layers before and after, and the accuracy. All
trainings stop by the same rules.

    python retrain_pruned.py --jobs 2

Sources: Ganguli & Chong, Algorithms 17(1):48, 2024; Frankle & Carbin, The Lottery Ticket
Hypothesis, ICLR 2019.
"""

import sys

import keras
import numpy as np
import retrain_pruned_report as report

import activation_pruning as ap
from lab import arms, command_line, network, spectra, study

ARMS = ("dense", "activation", "activation_magnitude", "magnitude", "random")
MEASURED = ("sparsity", "test_accuracy", "test_loss", "validation_accuracy", "train_accuracy")
MEASURED += ("epochs",)
OTHER_SEED = 1000  # added to the seed: starting weights that no run has
QUICK = (
    "--seeds 2 --hidden 40 20 --epochs 12 --start 0.3 --stop 0.6 --sparsities 0.8 --events 2"
    " --arms dense activation magnitude"
)


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    about = "Ranks and accuracy of pruned networks trained again."
    parser = command_line.parser(report.NAME, about, ARMS)
    return study.run(parser, arguments, arms.settings_grid, work, report.publish)


def work(settings: dict) -> tuple[dict, dict]:
    """Train and prune one network, then train it again in four ways; runs in a worker process."""
    trained = arms.train(settings)
    model, data, result = trained
    result["norms"] = [row | {"way": "pruned"} for row in spectra.measured(model)[0]]
    result["ways"] = [_numbers("pruned", result) | {"diverged": False}]
    masks, kept = arms.hidden_masks(model), model.get_weights()
    starts = {"retrained": kept}
    if settings["sparsity"]:
        starts["unmasked"] = kept
        starts["rewound"] = arms.untrained(settings, data).get_weights()
        other = arms.untrained(settings, data, seed=settings["seed"] + OTHER_SEED)
        starts["random"] = other.get_weights()
    for way, weights in starts.items():
        again = arms.untrained(settings, data)
        again.set_weights(weights)
        keeping = []
        if way != "unmasked":
            _mask(again, masks)
            keeping = [ap.KeepPruned(exclude=None)]
        history, times = network.train(keras, again, data, settings, keeping)
        numbers = network.measured(again, data) | times | {"epochs": len(history)}
        diverged = not all(np.isfinite(w).all() for w in again.get_weights())
        result["ways"].append(_numbers(way, numbers) | {"diverged": diverged})
        if not diverged:  # else there are no singular values
            result["norms"] += [row | {"way": way} for row in spectra.measured(again)[0]]
    return result, {}


def _mask(model, masks):
    for layer, mask in masks.items():
        kernel = model.get_layer(layer).kernel
        kernel.assign(keras.ops.convert_to_numpy(kernel) * mask)


def _numbers(way, result):
    return {"way": way} | {name: result[name] for name in MEASURED}


if __name__ == "__main__":
    sys.exit(main())
