"""The arms of the experiments: networks trained densely, or pruned while they train."""

import functools
from typing import NamedTuple

import keras
import numpy as np

import activation_pruning as ap
from lab import command_line, datasets, network, study

CRITERIA = ("activation", "activation_magnitude", "magnitude", "random", "inactivity")
# tfmot's schedule and its equal sparsity per layer, pruned by this package. They tell apart what a
# criterion does and what a schedule does.
GRADUAL = {"magnitude_gradual": "magnitude", "activation_magnitude_gradual": "activation_magnitude"}


@ap.criteria.criterion(needs=("frequency",))
def inactivity_magnitude(site):
    """Share of samples for which a unit does not fire, times |w|.

    What the newest published code of the paper scores by; its text says the opposite.
    """
    silent = 1 - ap.criteria.needed(site, "frequency")
    return np.abs(site.kernel) * silent[site.units]


# Criteria of this comparison alone.
OWN = {"inactivity_magnitude": inactivity_magnitude}
# The arms that count how units fire.
COUNTING = ("activation", "activation_magnitude", "inactivity", "activation_magnitude_gradual")
COUNTING += tuple(OWN)
SHARED = ("dataset", "hidden", "learning_rate", "batch_size", "epochs", "patience")
SHARED += ("target_accuracy", "steps_per_execution")


class Trained(NamedTuple):
    """A trained network, the data it was trained on, and what was measured (JSON-able)."""

    model: keras.Model
    data: datasets.Data
    result: dict


def variants(arm: str, options) -> list[dict]:
    """The settings in which one arm runs: sparsity, events and what else is its own."""
    if arm not in CRITERIA and arm not in OWN:
        return [{"sparsity": 0.0, "events": 0}]
    return [
        {"sparsity": sparsity, "events": events, "start": options.start}
        | {"stop": last_level(options, events)}
        for sparsity in options.sparsities
        for events in options.events
    ]


def last_level(options, events: int) -> float:
    """The training accuracy that the last of some events waits for.

    The paper puts event k of n at start + k / n * (stop - start), k from 0 on: the last one comes a
    step before `stop`.
    """
    if options.protocol != "paper":
        return options.stop
    return round(options.start + (events - 1) / events * (options.stop - options.start), 6)


def settings_grid(options, data: str, variants=variants, **more) -> list[dict]:
    """One settings dict per run, seeds outermost: an interrupted experiment has whole comparisons.

    data: fingerprint of the data set. variants: (arm, options) -> settings of the arm's own.
    more: settings of the experiment, the same for all runs.

    Raises ValueError for options that cannot work together.
    """
    command_line.completed(options)
    shared = {name: getattr(options, name) for name in SHARED} | more
    shared |= {"data": data} | study.versions()
    if options.protocol != "short":  # which was there first: its trials keep their names
        shared["protocol"] = options.protocol
    grid = [
        {"arm": arm, "seed": seed} | variant | shared | {"pictures": seed == 0}
        for seed in range(options.seeds)
        for arm in options.arms
        for variant in variants(arm, options)
    ]
    command_line.check(options, grid)
    return grid


def pruning(settings: dict, data: datasets.Data) -> tuple:
    """What prunes in one run: the pruner, None for none, and the callbacks to list for it."""
    pruner = _pruner(settings)
    return pruner, [pruner] if pruner else []


def train(settings: dict, callbacks=(), regularizer=None, pruning=pruning) -> Trained:
    """Train the network of one run, pruning it or not, and measure it.

    callbacks: more of them, listed before the pruning. regularizer: of the hidden kernels.
    pruning: (settings, data) -> what prunes, as the function of this name.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(settings["seed"])
    data = split(settings)
    model = untrained(settings, data, regularizer)
    pruner, own = pruning(settings, data)

    def finished():
        return not pruner or (pruner.table()["target_sparsity"] >= target).any()

    target = settings["sparsity"] - 1e-9
    with study.warned() as told:
        callbacks = [*callbacks, *own]
        history, times = network.train(keras, model, data, settings, callbacks, finished)
    events = pruner.table().to_dict("records") if pruner else []
    activity = []
    counted = settings["arm"] in COUNTING and "count_images" not in settings
    if settings["pictures"] and counted:
        activity = pruner.activity().to_dict("records")
    result = network.measured(model, data) | times
    result |= {
        "epochs": len(history),
        "events_fired": len({row["event"] for row in events}),
        "history": history,
        "events": events,
        "activity": activity,
        "warnings": told,
    }
    return Trained(model, data, result)


def split(settings: dict) -> datasets.Data:
    """The data of one run: its training and validation parts depend on the seed.

    In the paper's protocol they are the same for all seeds.
    """
    return datasets.split(_arrays(settings["dataset"]), datasets.seed_of_split(settings))


def untrained(settings: dict, data: datasets.Data, regularizer=None, seed=None) -> keras.Model:
    """The network of one run with its starting weights, or with those of another seed."""
    seed = settings["seed"] if seed is None else seed
    sizes = data.inputs, settings["hidden"], data.classes
    return network.build(keras, *sizes, seed, regularizer)


def hidden_masks(model) -> dict:
    """The masks of the hidden kernels by layer name, True where a weight is alive."""
    return {layer: kernel != 0 for layer, kernel in network.hidden_kernels(model).items()}


def criterion(arm: str):
    """The criterion of an arm: a name, or a function of this comparison's own."""
    return (GRADUAL | OWN).get(arm, arm)


def triggers(settings: dict) -> tuple:
    """First level, last level, number of events and final sparsity, as `AccuracyTriggered` has."""
    return settings["start"], settings["stop"], settings["events"], settings["sparsity"]


def _pruner(settings):
    arm, sparsity = settings["arm"], settings["sparsity"]
    if not sparsity:
        return None
    own = {"criterion": criterion(arm), "seed": settings["seed"]}
    if arm in GRADUAL:  # tfmot's cubic rise over the same share of the epochs, an event per epoch
        end = max(1, round(settings["epochs"] * settings["end_share"]))
        schedule = ap.schedules.Polynomial(final_sparsity=sparsity, begin=0, end=end)
        return ap.PruningCallback(schedule, allocation="uniform", **own)
    return ap.PruningCallback(ap.schedules.AccuracyTriggered(*triggers(settings)), **own)


@functools.lru_cache(maxsize=1)
def _arrays(dataset):
    return datasets.load(dataset)
