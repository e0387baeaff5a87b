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

import argparse
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

import datasets
import keras
import network
import presentation
import runner

import activation_pruning as ap

CRITERIA = ("activation", "activation_magnitude", "magnitude", "random", "inactivity")
ARMS = ("dense", *CRITERIA, "tfmot")

# For options that are not given. The learning rate is one that suits the dense network; the levels
# lie between its first epochs and what a network pruned to 90 % still reaches.
DEFAULTS = {
    "digits": {"epochs": 60, "start": 0.85, "stop": 0.95, "target_accuracy": 0.999},
    "mnist": {"epochs": 30, "start": 0.90, "stop": 0.97, "target_accuracy": 0.999},
    "fashion_mnist": {"epochs": 30, "start": 0.80, "stop": 0.86, "target_accuracy": 0.98},
}


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code: 0, or 1 if a run failed."""
    parser = _parser()
    options = _completed(parser.parse_args(arguments))
    try:
        out = ap.reports.files.check_folder(options.out)
        if options.data_dir:
            os.environ[datasets.DATA_FOLDER] = options.data_dir  # the workers inherit it
        arrays = datasets.load(options.dataset)
        notes = _without_tfmot(options)
        grid = settings_grid(options, datasets.fingerprint(arrays))
        for settings in grid:
            _schedule(settings)  # raises for levels that make no sense
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
    pruned = {"start": options.start, "stop": options.stop}
    grid = []
    for seed in range(options.seeds):
        for arm in options.arms:
            for sparsity in [0.0] if arm == "dense" else options.sparsities:
                for events in options.events if arm in CRITERIA else [0]:
                    own = pruned if events else {}
                    own = {"end_share": options.tfmot_end_share} if arm == "tfmot" else own
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
        "warnings": sorted({str(warning.message) for warning in told}),
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
    pruner = ap.PruningCallback(
        _schedule(settings), criterion=settings["arm"], seed=settings["seed"]
    )

    def finished():
        return bool((pruner.table()["target_sparsity"] >= settings["sparsity"] - 1e-9).any())

    history, times = network.train(keras, model, data, settings, [pruner], finished)
    activity = []
    if settings["pictures"] and settings["arm"] not in ("magnitude", "random"):
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
    if settings["arm"] not in CRITERIA:
        return None
    return ap.schedules.AccuracyTriggered(
        start=settings["start"],
        stop=settings["stop"],
        events=settings["events"],
        final_sparsity=settings["sparsity"],
    )


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


def _completed(options):
    defaults = DEFAULTS.get(options.dataset, DEFAULTS["mnist"])
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not in (0, 1); for 80 % write 0.8")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Prune by activation, by magnitude and at random, and compare.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--dataset", default="digits", help="digits, mnist, fashion_mnist, or an .npz file")
    add("--data-dir", help=f"folder with NAME.npz; also {datasets.DATA_FOLDER}")
    add("--out", default="results/activation_vs_magnitude", help="folder of the results")
    add("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="what to compare")
    add("--sparsities", nargs="+", type=_share, default=[0.80, 0.85, 0.90], help="final ones")
    add("--events", nargs="+", type=_count, default=[5, 10], help="pruning events")
    add("--seeds", type=_count, default=3, help="how many; they are 0, 1, ...")
    add("--hidden", nargs="+", type=_count, default=[300, 200, 100, 50], help="units by layer")
    add("--learning-rate", type=_positive, default=0.1, help="of SGD")
    add("--batch-size", type=_count, default=32, help="samples in a training step")
    add("--epochs", type=_count, help="at most")
    add("--patience", type=_count, default=5, help="epochs without a lower validation loss")
    add("--start", type=_share, help="training accuracy at which the first event comes")
    add("--stop", type=_share, help="training accuracy at which the last event comes")
    add("--target-accuracy", type=_positive, help="training accuracy that ends a pruned training")
    add(
        "--tfmot-end-share",
        type=_share,
        default=0.5,
        help="share of --epochs for tfmot to prune",
    )
    add("--steps-per-execution", type=_count, default=1, help="batches in one call; faster above 1")
    add("--jobs", type=_count, default=1, help="runs side by side, one thread each")
    add("--fresh", action="store_true", help="forget the results kept in --out")
    return parser


if __name__ == "__main__":
    sys.exit(main())
