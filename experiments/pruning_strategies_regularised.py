"""Other ways against overfitting, with as many epochs as pruning has: what they are compared by."""

import time

import keras

import activation_pruning as ap
from lab import network, plain

# The strengths to choose from, by validation accuracy; 0 where there is none.
ARMS = {
    "plain": (0.0,),
    "early_stopping": (0.0,),
    "dropout": (0.2, 0.35, 0.5),
    "l1": (1e-5, 3e-5, 1e-4),
    "l2": (1e-5, 1e-4, 1e-3),
    "nuclear_norm": (1e-5, 1e-4, 1e-3),
}
MORE_EPOCHS = 16  # what 8 steps with 2 epochs take (iterative_50 or fixed_10000, to 500)
PATIENCE = 3


def trials() -> list[dict]:
    """The settings in which the arms run."""
    return [
        {"arm": f"{arm}-{strength:g}", "criterion": arm, "strategy": "none", "retraining": "none"}
        | {"strength": strength}
        for arm, strengths in ARMS.items()
        for strength in strengths
    ]


def work(settings: dict) -> tuple[dict, dict]:
    """Train from the start; runs in a worker process."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(settings["seed"])
    data = plain.split(settings)
    model = _model(settings, data)
    network.compile_as(keras, model, settings)
    measure, history = plain.Measure(data), []

    def look(epoch, logs):
        row = {"epoch": epoch + 1, "validation_accuracy": measure(model)}
        history.append(row | measure.others())

    wall, cpu = time.perf_counter(), time.process_time()
    epochs = settings["epochs"] + MORE_EPOCHS
    watching = [keras.callbacks.LambdaCallback(on_epoch_end=look)]
    network.fit(model, (data.x_train, data.y_train), settings, epochs, callbacks=watching)
    result = {"time_s": time.perf_counter() - wall, "cpu_time_s": time.process_time() - cpu}
    kept = _stopped(history) if settings["criterion"] == "early_stopping" else history
    return result | {"history": kept, "sparsity": 0.0, "epochs": len(kept)} | kept[-1], {}


def describe(result: dict) -> str:
    """Say in a few words how a trial ended."""
    return (
        f"test {result['test_accuracy']:.4f}, train {result['train_accuracy']:.4f}, "
        f"{result['epochs']} epochs, {result['time_s']:.0f} s"
    )


def _model(settings, data):
    arm, strength = settings["criterion"], settings["strength"]
    penalties = {"l1": keras.regularizers.L1, "l2": keras.regularizers.L2}
    penalties |= {"nuclear_norm": ap.regularizers.NuclearNorm}
    penalty = penalties[arm](strength) if arm in penalties else None
    sizes = data.inputs, settings["hidden"], data.classes
    model = network.build(keras, *sizes, settings["seed"], penalty)
    if arm != "dropout":
        return model
    layers = []
    for layer in model.layers[:-1]:
        layers += [layer, keras.layers.Dropout(strength, seed=settings["seed"])]
    return keras.Sequential([keras.Input(data.x_train.shape[1:]), *layers, model.layers[-1]])


def _stopped(history):
    """The epochs up to the best one that early stopping would have restored."""
    best = 0
    for number, row in enumerate(history):
        if row["validation_accuracy"] > history[best]["validation_accuracy"]:
            best = number
        if number - best >= PATIENCE:
            break
    return history[: best + 1]
