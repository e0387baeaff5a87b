"""Does it pay to prune by how often units fire? The main comparison of Ganguli & Chong (2024).

A multilayer perceptron (784-300-200-100-50-10 on MNIST) is trained with SGD and pruned while it
trains, by AccuracyTriggered: at an epoch's end, whenever the training accuracy has reached the next
of `--events` levels between `--start` and `--stop`. The arms differ only in the criterion; "dense"
is not pruned, and "tfmot" is prune_low_magnitude with PolynomialDecay as an outside peer. For each
seed, all arms share the data split and the starting weights.

    python activation_vs_magnitude.py --jobs 2

What finished is kept under <out>/runs: the same command goes on where it was stopped.

Source: Ganguli & Chong, Activation-Based Pruning of Neural Networks, Algorithms 17(1):48, 2024.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import command_line
import datasets
import keras
import network
import presentation
import runner

import activation_pruning as ap

CRITERIA = ("activation", "activation_magnitude", "magnitude", "random", "inactivity")
ARMS = ("dense", *CRITERIA, "tfmot")
# Not among the default arms: tfmot's schedule and its equal sparsity per layer, pruned by this
# package. They tell apart what a criterion does and what a schedule does.
GRADUAL = {
    "magnitude_gradual": "magnitude",
    "activation_magnitude_gradual": "activation_magnitude",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code: 0, or 1 if a run failed."""
    parser = command_line.parser(ARMS, tuple(GRADUAL))
    options = command_line.completed(parser.parse_args(arguments))
    try:
        out = ap.reports.files.check_folder(options.out)
        if options.data_dir:
            os.environ[datasets.DATA_FOLDER] = options.data_dir  # the workers inherit it
        arrays = datasets.load(options.dataset)
        notes = _without_tfmot(options)
        grid = settings_grid(options, datasets.fingerprint(arrays))
        command_line.check(options, grid)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if options.fresh:
        runner.forget(out / "runs")
    try:
        records = runner.run_grid(grid, work, out / "runs", options.jobs, describe)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", flush=True)
        return 130
    failed = [record for record in records if "traceback" in record]
    for record in failed:
        last = record["traceback"].strip().splitlines()[-1]
        print(f"failed: {record['name']}: {last}", file=sys.stderr)
    if len(failed) < len(records):
        presentation.report(records, out, vars(options), notes)
    return 1 if failed else 0


def settings_grid(options, data: str) -> list[dict]:
    """One settings dict per run, seeds outermost: an interrupted experiment has whole comparisons.

    data: fingerprint of the data set.
    """
    training = ("learning_rate", "batch_size", "epochs", "patience", "target_accuracy")
    shared = {name: getattr(options, name) for name in ("dataset", "hidden", *training)}
    shared |= {
        "steps_per_execution": options.steps_per_execution,
        "data": data,
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "activation_pruning": ap.__version__,
    }
    levels = {"start": options.start, "stop": options.stop}
    window = {"end_share": options.tfmot_end_share}
    grid = []
    for seed in range(options.seeds):
        for arm in options.arms:
            for sparsity in [0.0] if arm == "dense" else options.sparsities:
                for events in options.events if arm in CRITERIA else [0]:
                    own = {} if arm == "dense" else levels if arm in CRITERIA else window
                    run = {"arm": arm, "sparsity": sparsity, "events": events, "seed": seed}
                    grid.append(run | shared | own | {"pictures": seed == 0})
    return grid


def work(settings: dict) -> tuple[dict, dict]:
    """Train, prune and measure one network; runs in a worker process."""
    if settings["arm"] == "tfmot":
        return _peer(settings), {}
    logging.getLogger("tensorflow").setLevel("ERROR")  # its advice on retracing is not for us
    keras.backend.clear_session()
    keras.utils.set_random_seed(settings["seed"])
    data = datasets.split(_arrays(settings["dataset"]), settings["seed"])
    model = network.build(keras, data.inputs, settings["hidden"], data.classes, settings["seed"])
    with warnings.catch_warnings(record=True) as told:  # kept with the result, shown in the table
        warnings.simplefilter("default")
        history, times, events, activity = _trained(model, data, settings)
    result = network.measured(model, data) | times
    result |= {
        "epochs": len(history),
        "events_fired": len({row["event"] for row in events}),
        "history": history,
        "events": events,
        "activity": activity,
        "warnings": sorted({str(w.message) for w in told if w.category is UserWarning}),
    }
    masks = network.hidden_kernels(model) if settings["pictures"] else {}
    return result, {layer: kernel != 0 for layer, kernel in masks.items()}


def describe(result: dict) -> str:
    """Say in a few words how a run ended."""
    return (
        f"test accuracy {result['test_accuracy']:.4f}, sparsity {result['sparsity']:.4f}, "
        f"{result['epochs']} epochs, {result['time_s']:.0f} s"
    )


def _trained(model, data, settings):
    """Train, pruning or not: history, times, and the rows of the event and activity tables."""
    if settings["arm"] == "dense":
        return *network.train(keras, model, data, settings), [], []
    gradual = settings["arm"] in GRADUAL
    pruner = ap.PruningCallback(
        _gradual_schedule(settings) if gradual else _schedule(settings),
        criterion=GRADUAL.get(settings["arm"], settings["arm"]),
        allocation="uniform" if gradual else "global",
        seed=settings["seed"],
    )

    def finished():
        return bool((pruner.table()["target_sparsity"] >= settings["sparsity"] - 1e-9).any())

    history, times = network.train(keras, model, data, settings, [pruner], finished)
    activity = []
    if settings["pictures"] and "activ" in settings["arm"]:  # the others do not count
        activity = pruner.activity().to_dict("records")
    return history, times, pruner.table().to_dict("records"), activity


def _peer(settings):
    """Run tfmot_peer.py: importing tfmot switches a whole process to legacy Keras."""
    script = Path(__file__).with_name("tfmot_peer.py")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "settings.json"), Path(folder, "result.json")
        source.write_text(json.dumps(settings))
        done = subprocess.run(
            [sys.executable, str(script), str(source), str(target)],
            env=os.environ | {"TF_USE_LEGACY_KERAS": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"tfmot_peer.py failed:\n{done.stderr[-4000:]}")
        return json.loads(target.read_text()) | {"events": [], "activity": []}


def _schedule(settings):
    return ap.schedules.AccuracyTriggered(
        start=settings["start"],
        stop=settings["stop"],
        events=settings["events"],
        final_sparsity=settings["sparsity"],
    )


def _gradual_schedule(settings):
    """tfmot's cubic rise over the same share of the epochs, but an event per epoch."""
    end = max(1, round(settings["epochs"] * settings["end_share"]))
    return ap.schedules.Polynomial(final_sparsity=settings["sparsity"], begin=0, end=end)


@functools.lru_cache(maxsize=1)
def _arrays(dataset):
    return datasets.load(dataset)


def _without_tfmot(options) -> list[str]:
    missing = [
        name
        for name in ("tf_keras", "tensorflow_model_optimization")
        if importlib.util.find_spec(name) is None
    ]
    if "tfmot" not in options.arms or not missing:
        return []
    options.arms = [arm for arm in options.arms if arm != "tfmot"]
    note = (
        f"The tfmot arm was left out: {' and '.join(missing)} not installed "
        f'(pip install "activation-pruning[tfmot]").'
    )
    print(note, flush=True)
    return [note]


if __name__ == "__main__":
    sys.exit(main())
