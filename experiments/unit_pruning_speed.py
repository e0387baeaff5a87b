"""How much faster and smaller does a network get when whole units are pruned and taken out?

A network 784-1000-1000-500-200-10 without biases is trained on MNIST by SGD (learning rate 0.1,
batch size 64) for four epochs. Units are pruned in one step, the same share of every hidden layer,
by their norm or with compensation (`unit_obs`, 2,048 training images calibrate), and `compact`
takes them out. Then, with no other run beside and all in turn, the networks of the first seed and
the last arm predict the same 10,000 images, dense and compacted: by Keras, LiteRT and ONNX Runtime,
each with one thread. Measured is the time on the wall, and that of the processor, which does not
grow when other programs want the processor, too.

    python unit_pruning_speed.py --dataset mnist --jobs 2
"""

import functools
import os
import sys
import time
from pathlib import Path

import keras
import numpy as np
import unit_pruning_speed_report as report
from unit_pruning_speed_report import KERAS, LITERT, ON_BATCH, ONNX, TIMING

import activation_pruning as ap
from lab import command_line, datasets, dense, oneshot, storage, study
from lab.oneshot import Arm

SPARSITIES = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
ARMS = {name: Arm(name, "uniform", "unit") for name in ("unit_norm", "unit_obs")}
SUFFIXES = {KERAS: ".keras", LITERT: ".tflite", ONNX: ".onnx"}
IMAGES = 10_000
QUICK = "--hidden 100 60 --epochs 20 --seeds 2 --calibration 500 --sparsities 0.5 0.9 --rounds 5"


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; return the exit code, see `study.run`."""
    about = "Time, size and accuracy of networks whose pruned units are taken out."
    parser = command_line.shared_parser(report.NAME, about, tuple(ARMS))
    add = parser.add_argument
    hidden, told = [1000, 1000, 500, 200], "share of the units of every hidden layer"
    add("--sparsities", nargs="+", type=command_line.share, default=list(SPARSITIES), help=told)
    oneshot.add_options(parser, hidden, epochs=4, digits=40, calibration=2048)
    add("--predict-batch", type=command_line.count, default=1000, help="images in one call")
    add("--rounds", type=command_line.count, default=20, help="of timing, at least 2")
    return study.run(parser, arguments, grid, work, report.publish, describe, timings)


def grid(options, data: str) -> list[dict]:
    """One settings dict per seed and arm."""
    if options.rounds < 2:
        raise ValueError(f"--rounds {options.rounds} is too few: an interval wants 2, better 20")
    shares = [0.0, *sorted(set(options.sparsities))]
    return oneshot.grid(options, data, init="fan_in", biases=False, l2=0.0, shares=shares)


def timings(options, records: list[dict]) -> list[dict]:
    """The settings of the one run that measures time: networks of the last arm, first seed.

    Both arms leave equally many units of every layer, so that their networks take equally long.
    """
    found = [r for r in records if "result" in r and r["settings"]["seed"] == 0]
    if not found:
        return []
    timed = found[-1]
    more = {"predict_batch": options.predict_batch, "rounds": options.rounds}
    return [timed["settings"] | {"arm": TIMING, "timed": timed["name"]} | more]


def work(settings: dict) -> tuple[dict, dict]:
    """One arm and seed pruned and compacted, or what comes last, the timing; in a worker."""
    if settings["arm"] == TIMING:
        return timed(settings), {}
    model, arrays, calibration, _ = oneshot.begin(settings)
    start, rows, told, arm = model.get_weights(), [], [], ARMS[settings["arm"]]
    for share in settings["shares"]:
        model.set_weights(start)
        begun = time.perf_counter()
        if share:
            told += oneshot.prune(model, arm, [share], calibration, settings["seed"])
        row = oneshot.measured(model, arrays, share, time.perf_counter() - begun)
        rows.append(row | _compacted(model, share, arrays, settings))
    return oneshot.finished(rows, told), {}


def timed(settings: dict) -> dict:
    """Export the compacted networks and let them predict in turn: sizes and times of each."""
    arrays = datasets.load(settings["dataset"])
    images = arrays["x_test"][np.arange(IMAGES) % len(arrays["x_test"])]
    runs, places, sizes = {}, {}, []
    for share in settings["shares"]:
        paths = _paths(settings["timed"], share)
        model = keras.saving.load_model(paths[KERAS])
        for runtime in (LITERT, ONNX):
            ap.export(model, paths[runtime], data=images[:256])
        for runtime, run in _ways(model, paths, settings["predict_batch"]).items():
            runs[f"{runtime} {share}"] = run
            places[f"{runtime} {share}"] = {"runtime": runtime, "target_sparsity": share}
        found = {f"{runtime}_bytes": path.stat().st_size for runtime, path in paths.items()}
        sizes.append({"target_sparsity": share, "units": _units(model)} | found)
    clock = _Clocks()
    more = {"rounds": settings["rounds"], "warmup": 2, "clock": clock}
    times = ap.analysis.latency_compare(runs, images, IMAGES, **more).times
    times = times.assign(cpu_ms=clock.cpu_ms()).drop(columns="ratio").to_dict("records")
    return {"times": [row | places[row.pop("name")] for row in times], "sizes": sizes}


class _Clocks:
    """The time on the wall, in seconds, which notes the time of the processor beside."""

    def __init__(self):
        self.cpu = []

    def __call__(self):
        self.cpu.append(time.process_time())
        return time.perf_counter()

    def cpu_ms(self):
        """Processor time of each call that was timed: from each odd reading to the next."""
        return 1000 * np.subtract(self.cpu[1::2], self.cpu[::2])


def describe(result: dict) -> str:
    """Say in a few words how a run ended."""
    if "times" in result:
        return f"{len(result['times'])} times measured"
    return oneshot.describe(result)


def _compacted(model, share, arrays, settings):
    """Take out what is pruned and keep the file; what the smaller network is and does."""
    begun = time.perf_counter()
    small = ap.compact(model) if share else model
    seconds = time.perf_counter() - begun
    small.save(_paths(storage.name_of(settings), share)[KERAS])
    predict = functools.partial(keras.Model.predict, x=arrays["x_test"], batch_size=1024, verbose=0)
    cost = ap.analysis.cost(small).total
    return {
        "accuracy_compacted": oneshot.measured(small, arrays, share, 0.0)["test_accuracy"],
        "largest_difference": float(np.abs(predict(model) - predict(small)).max()),
        "units": _units(small),
        "parameters": int(cost["parameters"]),
        "multiply_adds": int(cost["multiply_adds"]),
        "compact_time_s": seconds,
    }


def _units(model):
    return "-".join(str(layer.units) for layer in model.layers)


def _paths(name, share):
    stem = f"{name}-{100 * share:g}"
    return {kind: Path(os.environ[dense.FOLDER], stem + end) for kind, end in SUFFIXES.items()}


def _ways(model, paths, size):
    """The network as functions that predict in batches, by runtime."""
    runs = {name: ap.load_exported(paths[name], threads=1) for name in (LITERT, ONNX)}
    runs[ON_BATCH] = model.predict_on_batch
    found = {name: functools.partial(_in_batches, run, size) for name, run in runs.items()}
    return {KERAS: functools.partial(model.predict, batch_size=size, verbose=0)} | found


def _in_batches(run, size, x):
    return np.concatenate([run(x[i : i + size]) for i in range(0, len(x), size)])


if __name__ == "__main__":
    sys.exit(main())
