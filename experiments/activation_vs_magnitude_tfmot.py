"""Train one network with tfmot's prune_low_magnitude, in a process of its own.

    python activation_vs_magnitude_tfmot.py settings.json result.json

tfmot works with legacy Keras only and switches the whole process to it, hence the process. The
network, the data, the starting weights, the optimizer and the stopping rules are those of the other
arms (network.py); the sparsity rises by tfmot's PolynomialDecay, the same in every layer.
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


def train(settings: dict) -> dict:
    """Train and measure one network; the result has the fields of the other arms' results."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # before the first import of TensorFlow
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras

    from lab import datasets, network

    keras.utils.set_random_seed(settings["seed"])
    arrays = datasets.load(settings["dataset"])
    data = datasets.split(arrays, settings["seed"])
    steps = plan(
        len(data.x_train), settings["batch_size"], settings["epochs"], settings["end_share"]
    )
    schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, settings["sparsity"], **steps)
    plain = network.build(keras, data.inputs, settings["hidden"], data.classes, settings["seed"])
    model = _wrapped(keras, tfmot.sparsity.keras, plain, schedule)
    history, times = network.train(
        keras,
        model,
        data,
        settings,
        callbacks=[tfmot.sparsity.keras.UpdatePruningStep()],
        finished=lambda: int(model.optimizer.iterations.numpy()) >= steps["end_step"],
    )
    taken = int(model.optimizer.iterations.numpy())
    stripped = tfmot.sparsity.keras.strip_pruning(model)
    result = network.measured(stripped, data) | times
    return result | {
        "epochs": len(history),
        "events_fired": min(taken, steps["end_step"]) // steps["frequency"],
        "history": history,
    }


def _wrapped(keras, sparsity, model, schedule):
    def wrap(layer):
        if layer.name == "output":
            return layer
        return sparsity.prune_low_magnitude(layer, pruning_schedule=schedule)

    return keras.models.clone_model(model, clone_function=wrap)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    target.write_text(json.dumps(train(json.loads(source.read_text()))))
