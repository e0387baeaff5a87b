"""What the runner of the experiments costs, what a second worker brings, how long a report takes.

    python benchmarks/runner.py

Prints a table: what is compared, median, smallest and largest, limit. A trial trains an MLP for as
many epochs as take `--seconds` in this process; under the runner the same trials have a fresh
process each, and the start of workers and the import of Keras are included. Wants a quiet machine
with two cores and half an hour.
"""

import argparse
import contextlib
import io
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))

from lab import trial

os.environ.update(trial.ONE_THREAD)  # before Keras is imported, here as in the trials

import activation_vs_magnitude_report as comparison_report
import analysis
import keras
import numpy as np

from activation_pruning.support.texts import write_csv
from lab import arms, runner, storage, study

WIDTH, SAMPLES, INPUTS, EPOCHS = 300, 6_400, 784, 30


def work(settings):
    """Train for a number of epochs."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(settings["seed"])
    layers = [keras.layers.Dense(WIDTH, "relu") for _ in range(2)]
    model = keras.Sequential([keras.Input((INPUTS,)), *layers, keras.layers.Dense(10, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).random((SAMPLES, INPUTS), dtype="float32")
    model.fit(x, np.arange(SAMPLES) % 10, batch_size=32, epochs=settings["epochs"], verbose=0)
    return {"parameters": model.count_params()}, {}


def epochs_of(seconds):
    """How many epochs take so many seconds in this process."""
    few, more = 2, 6
    work({"seed": 0, "epochs": 1})
    least = analysis.seconds(lambda: work({"seed": 0, "epochs": few}))
    most = analysis.seconds(lambda: work({"seed": 0, "epochs": more}))
    per_epoch = (most - least) / (more - few)
    return max(1, round(few + (seconds - least) / per_epoch))


def under_runner(grid, jobs):
    """Seconds that the runner takes for all trials of a grid, from nothing."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as told:
        took = analysis.seconds(lambda: runner.run_grid(grid, work, Path(folder), jobs))
    assert "FAILED" not in told.getvalue(), told.getvalue()
    return took


def overhead(options, epochs):
    """Trials one after the other under the runner, against the same in this process."""
    grid = [{"seed": seed, "epochs": epochs} for seed in range(options.trials)]
    here = lambda: [work(settings) for settings in grid]  # noqa: E731
    return [under_runner(grid, 1) / analysis.seconds(here) for _ in range(options.rounds)]


def second_worker(options, epochs):
    """Eight equal trials on two workers, against one worker."""
    grid = [{"seed": seed, "epochs": epochs} for seed in range(8)]
    return [under_runner(grid, 2) / under_runner(grid, 1) for _ in range(options.rounds)]


def record_of(settings):
    """What activation_vs_magnitude would keep of a trial, with numbers drawn at random."""
    draw = np.random.default_rng(settings["seed"]).random
    names = ("accuracy", "loss", "top_5")
    measured = {f"test_{name}": float(draw()) for name in names}
    measured |= {f"{part}_{n}": float(draw()) for part in ("validation", "train") for n in names}
    history = [{"epoch": e} | measured | {"sparsity": 0.8} for e in range(1, EPOCHS + 1)]
    events = [
        {"event": e, "epoch": e, "step": e, "layer": f"dense_{layer}", "total_sparsity": 0.8}
        | {"target_sparsity": 0.8, "sparsity": float(draw())}
        for e in range(1, settings["events"] + 1)
        for layer in range(1, 5)
    ]
    result = measured | {
        "sparsity": settings["sparsity"],
        "epochs": EPOCHS,
        "time_s": float(draw()),
    }
    result |= {"cpu_time_s": float(draw()), "events_fired": settings["events"]}
    result |= {"history": history, "events": events, "activity": []}
    name = storage.name_of(settings)
    return {"name": name, "settings": settings, "tries": 1, "result": result}


def report(options, _):
    """Seconds to read so many records and make the table, workbook, pictures and page of them."""
    per_seed = [
        {"arm": arm, "sparsity": sparsity, "events": events, "backend": "tensorflow"}
        for arm in arms.CRITERIA
        for sparsity in (0.5, 0.6, 0.7, 0.8, 0.9)
        for events in (5, 10)
    ]
    count = range(options.records)
    grid = [per_seed[i % len(per_seed)] | {"seed": i // len(per_seed)} for i in count]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        runs = Path(folder, "runs")
        storage.claim(runs, "a benchmark")
        for settings in grid:
            storage.keep(runs, record_of(settings), {})

        def publish():
            found = [storage.stored(runs, settings) for settings in grid]
            write_csv(study.table(found), Path(folder, study.TABLE))
            comparison_report.publish(found, Path(folder), {"notes": ""})

        return [analysis.seconds(publish)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--seconds", type=float, default=20, help="of a trial")
    add("--trials", type=int, default=4, help="of which the overhead is the mean")
    add("--rounds", type=int, default=3)
    add("--records", type=int, default=5000, help="in the report")
    options = parser.parse_args()
    epochs = epochs_of(options.seconds)
    trials = f"{options.trials} trials of {options.seconds:g} s"
    print("| compared | median | min | max | limit |\n|---|---|---|---|---|")
    for text, measure, limit in (
        (f"{trials}: the runner, a fresh process each / one process", overhead, "1.25"),
        (f"8 trials of {options.seconds:g} s: two workers / one", second_worker, "0.60"),
        (f"table, workbook, page of {options.records:,} trials: seconds", report, "60"),
    ):
        found = measure(options, epochs)
        numbers = (statistics.median(found), min(found), max(found))
        print(f"| {text} | {' | '.join(f'{n:.2f}' for n in numbers)} | {limit} |", flush=True)


if __name__ == "__main__":
    main()
