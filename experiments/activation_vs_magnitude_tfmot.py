"""Train one network with tfmot's prune_low_magnitude, in a process of its own.

    python activation_vs_magnitude_tfmot.py settings.json result.json

tfmot works with legacy Keras only and switches the whole process to it, hence the process. The
network, the data, the starting weights, the optimizer and the stopping rules are those of the other
arms (network.py); the sparsity rises by tfmot's PolynomialDecay, the same in every layer.

The arm "tfmot" prunes from the first step on. "tfmot_trained" does as the published code of Ganguli
& Chong: a network that was trained densely is pruned in two more epochs.
"""

import json
import os
import sys
from pathlib import Path

FREQUENCY = 100  # training steps between two mask updates: tfmot's default
UPDATES = 10  # at least, where the training is short


def plan(samples: int, batch_size: int, epochs: int, end_share: float) -> dict[str, int]:
    """Lay out the pruning steps: from step 0 over end_share of all training steps.

    The end is moved to a multiple of the frequency: tfmot updates its masks at these steps only,
    and would otherwise stop short of the final sparsity.
    """
    steps = -(-samples // batch_size) * epochs * end_share
    frequency = max(1, min(FREQUENCY, int(steps / UPDATES)))
    return {
        "begin_step": 0,
        "end_step": max(1, round(steps / frequency)) * frequency,
        "frequency": frequency,
    }


def whole_plan(samples: int, batch_size: int, epochs: int) -> dict[str, int]:
    """Lay out the pruning over all steps of a training, as the published code does."""
    steps = -(-samples // batch_size) * epochs
    frequency = max(1, min(FREQUENCY, steps // UPDATES))
    return {"begin_step": 0, "end_step": steps, "frequency": frequency}


def train(settings: dict) -> dict:
    """Train and measure one network; the result has the fields of the other arms' results."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # before the first import of TensorFlow
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras

    from lab import datasets, network

    keras.utils.set_random_seed(settings["seed"])
    arrays = datasets.load(settings["dataset"])
    data = datasets.split(arrays, datasets.seed_of_split(settings))
    model = network.build(keras, data.inputs, settings["hidden"], data.classes, settings["seed"])
    way = _trained_first if "pruning_epochs" in settings else _from_scratch
    model, steps, history, times = way(keras, tfmot.sparsity.keras, network, model, data, settings)
    taken = int(model.optimizer.iterations.numpy())
    stripped = tfmot.sparsity.keras.strip_pruning(model)
    result = network.measured(stripped, data) | times
    return result | {
        "epochs": len(history),
        "events_fired": min(taken, steps["end_step"]) // steps["frequency"],
        "history": history,
    }


def _from_scratch(keras, sparsity, network, plain, data, settings):
    """Prune over the first part of the training, as `plan` lays it out."""
    of_steps = settings["batch_size"], settings["epochs"], settings["end_share"]
    steps = plan(len(data.x_train), *of_steps)
    model = _wrapped(keras, sparsity, plain, settings["sparsity"], steps)
    pruned = [sparsity.UpdatePruningStep()]

    def finished():
        return int(model.optimizer.iterations.numpy()) >= steps["end_step"]

    return model, steps, *network.train(keras, model, data, settings, pruned, finished)


def _trained_first(keras, sparsity, network, plain, data, settings):
    """Train densely as the dense arm does; then prune over some more epochs, all of them."""
    history, times = network.train(keras, plain, data, settings)
    more = settings | {"epochs": settings["pruning_epochs"]}
    steps = whole_plan(len(data.x_train), more["batch_size"], more["epochs"])
    model = _wrapped(keras, sparsity, plain, settings["sparsity"], steps)
    pruned = [sparsity.UpdatePruningStep()]
    # "Never finished" keeps the stopping rules out.
    rows, spent = network.train(keras, model, data, more, pruned, finished=lambda: False)
    history += [row | {"epoch": row["epoch"] + len(history)} for row in rows]
    return model, steps, history, {name: times[name] + spent[name] for name in times}


def _wrapped(keras, sparsity, model, final_sparsity, steps):
    schedule = sparsity.PolynomialDecay(0.0, final_sparsity, **steps)

    def wrap(layer):
        if layer.name == "output":
            return layer
        return sparsity.prune_low_magnitude(layer, pruning_schedule=schedule)

    return keras.models.clone_model(model, clone_function=wrap)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    target.write_text(json.dumps(train(json.loads(source.read_text()))))
