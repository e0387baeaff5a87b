"""Dense networks that several arms start from: trained once for each seed, then kept."""

import hashlib
import json
import os
from pathlib import Path

import keras
import numpy as np

from activation_pruning.support import files
from activation_pruning.support.files import replacing
from lab import datasets, network

FOLDER = "ACTIVATION_PRUNING_NETWORKS"  # where the workers keep them
TRAINING = ("dataset", "data", "seed", "hidden", "biases", "init", "l2", "learning_rate")
TRAINING += ("batch_size", "epochs", "backend", "keras")


def trained(settings: dict) -> tuple[keras.Model, dict[str, np.ndarray]]:
    """(the compiled dense network of a run, the data): trained, or read where it was before.

    All training data is used: nothing is chosen by looking at a validation part. Two workers may
    train the same network at a time; they write the same weights.
    """
    arrays = datasets.load(settings["dataset"])
    classes = int(arrays["y_train"].max()) + 1
    keras.backend.clear_session()
    keras.utils.set_random_seed(settings["seed"])
    model = network.build(
        keras,
        arrays["x_train"].shape[1],
        settings["hidden"],
        classes,
        settings["seed"],
        regularizer=keras.regularizers.L2(settings["l2"]) if settings["l2"] else None,
        biases=settings["biases"],
        init=settings["init"],
    )
    network.compile_as(keras, model, settings)

    def train():
        data = arrays["x_train"], arrays["y_train"]
        network.fit(model, data, settings, settings["epochs"])

    return kept(model, settings, TRAINING, train), arrays


def kept(model: keras.Model, settings: dict, names: tuple[str, ...], train) -> keras.Model:
    """The model with the weights that `train()` gives it, or gave it under these settings before.

    names: of the settings that decide on the weights.
    """
    told = json.dumps({name: settings[name] for name in names}, sort_keys=True)
    path = Path(os.environ[FOLDER], f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.npz")
    if path.exists():
        try:
            found = files.arrays(path)
            model.set_weights([found[f"w{i}"] for i in range(len(found))])
            return model
        except (ValueError, KeyError) as error:
            print(f"{path}: cannot be used ({error}); the network is trained again", flush=True)
    train()
    with replacing(path) as part:
        np.savez(part, **{f"w{i}": w for i, w in enumerate(model.get_weights())})
    return model
