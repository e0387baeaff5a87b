"""The experiments: data, network, runner, comparison, and the whole thing in small."""

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(FOLDER))  # as when a script of that folder runs

datasets = importlib.import_module("lab.datasets")
runner = importlib.import_module("lab.runner")
storage = importlib.import_module("lab.storage")
tfmot = importlib.import_module("activation_vs_magnitude_tfmot")


# -- data ----------------------------------------------------------------------------------


def arrays(**changed):
    """A sound data set of 12 + 4 images of 2 x 3 pixels in 3 classes, with changes."""
    sound = {
        "x_train": np.arange(72).reshape(12, 2, 3).astype("uint8"),
        "y_train": np.arange(12) % 3,
        "x_test": np.full((4, 2, 3), 71, "uint8"),
        "y_test": np.array([0, 1, 2, 0]),
    }
    return {name: array for name, array in (sound | changed).items() if array is not None}


def stored(folder, **changed):
    path = folder / "images.npz"
    np.savez(path, **arrays(**changed))
    return str(path)


BAD = {
    "missing": ({"x_test": None, "y_test": None}, "no array x_test, y_test; it holds x_train, y_t"),
    "flat": ({"x_train": np.zeros(12)}, r"x_train has shape \(12,\); expected: \(samples, height"),
    "empty": ({"x_test": np.zeros((0, 2, 3))}, r"x_test has shape \(0, 2, 3\); expected"),
    "no pixels": ({"x_train": np.zeros((12, 0))}, r"x_train has shape \(12, 0\); expected"),
    "no labels": ({"y_test": np.zeros(0, int)}, r"y_test has shape \(0,\); expected: \(samples,\)"),
    "one-hot": ({"y_train": np.eye(12, dtype=int)}, r"y_train has shape \(12, 12\); expected"),
    "length": ({"y_train": np.arange(11) % 3}, "y_train has 11 labels; expected: 12, one per x_t"),
    "pixels": ({"x_test": np.ones((4, 3, 3))}, r"x_test has samples of shape \(3, 3\); expected: "),
    "float labels": ({"y_train": np.ones(12)}, "y_train has dtype float64; expected: integers"),
    "text": ({"x_train": np.full((12, 2), "a")}, "x_train has dtype <U1; expected: numbers"),
    "negative label": ({"y_test": np.array([0, -1, 2, 0])}, "y_test has label -1; expected"),
    "unseen label": ({"y_test": np.array([0, 3, 2, 0])}, "y_test has label 3; expected: 0 to 2"),
    "one class": ({"y_train": np.zeros(12, int)}, r"y_train has 12 samples, 1 class\(es\); exp"),
    "NaN": ({"x_train": np.full((12, 6), np.nan)}, "x_train has NaN or infinite values; expected"),
    "negative": ({"x_test": np.full((4, 2, 3), -0.5)}, "x_test has the value -0.5; expected: 0 or"),
    "objects": ({"x_train": np.array([[None] * 2] * 12)}, "Expected: an .npz file of plain number"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file_names_file_array_found_and_expected(tmp_path, case):
    changed, message = BAD[case]
    with pytest.raises(ValueError, match=message) as error:
        datasets.load(stored(tmp_path, **changed))
    assert "images.npz" in str(error.value)


def test_file_that_is_no_npz(tmp_path):
    path = tmp_path / "notes.npz"
    path.write_text("not an archive")
    with pytest.raises(ValueError, match=r"notes\.npz: .*numpy\.savez"):
        datasets.load(str(path))
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"one\.npy: not a readable \.npz"):
        datasets.load(str(tmp_path / "one.npy"))


def test_unknown_name_lists_the_names_and_the_closest():
    with pytest.raises(ValueError, match=r"digits, mnist, fashion_mnist.*Did you mean 'mnist'"):
        datasets.load("mnits")


def test_pixels_are_flat_and_scaled_by_the_largest_of_training(tmp_path):
    loaded = datasets.load(stored(tmp_path, y_test=np.array([[0], [1], [2], [0]])))
    assert loaded["x_train"].shape == (12, 6)
    assert loaded["x_train"].dtype == np.float32
    np.testing.assert_array_equal(loaded["x_train"].ravel(), (np.arange(72) / 71).astype("f4"))
    assert loaded["x_test"].tolist() == [[1.0] * 6] * 4
    assert loaded["y_test"].tolist() == [0, 1, 2, 0]


def test_pixels_already_in_0_1_stay(tmp_path):
    half = np.full((12, 2, 3), 0.5)
    assert datasets.load(stored(tmp_path, x_train=half))["x_train"].max() == 0.5


def test_named_data_offline(tmp_path, monkeypatch):
    np.savez(tmp_path / "fashion_mnist.npz", **arrays())
    monkeypatch.setenv(datasets.DATA_FOLDER, str(tmp_path))
    assert len(datasets.load("fashion_mnist")["x_train"]) == 12


def test_digits():
    first, again = datasets.load("digits"), datasets.load("digits")
    assert first["x_train"].shape == (1437, 64)
    assert first["x_test"].shape == (360, 64)
    assert (first["x_train"].min(), first["x_train"].max()) == (0, 1)
    assert np.ptp(np.bincount(first["y_test"])) <= 2  # stratified: 35 to 37 of each
    assert all((first[name] == again[name]).all() for name in first)
    assert datasets.fingerprint(first) == datasets.fingerprint(again)


def test_fingerprint_sees_one_pixel():
    changed = arrays()
    changed["x_test"][0, 0, 0] += 1
    assert datasets.fingerprint(changed) != datasets.fingerprint(arrays())


def test_split_is_seeded_complete_and_of_the_given_share():
    whole = datasets.load("digits")
    data, again, other = (datasets.split(whole, seed) for seed in (3, 3, 4))
    assert (len(data.x_train), len(data.x_validation)) == (1293, 144)  # floor(143.7 + 0.5)
    assert (data.classes, data.inputs) == (10, 64)
    assert (data.x_validation == again.x_validation).all()
    assert not np.array_equal(data.x_validation, other.x_validation)
    joined = np.concatenate([data.x_train, data.x_validation])
    assert sorted(map(bytes, joined)) == sorted(map(bytes, whole["x_train"]))


# -- runner --------------------------------------------------------------------------------


def run(**changed):
    return {"arm": "magnitude", "sparsity": 0.8, "events": 5, "seed": 0} | changed


def work(settings):
    """Note the call in a file; then do what the settings say."""
    with Path(settings["log"]).open("a") as log:
        log.write(f"{settings['seed']}\n")
    if settings.get("do") == "fail" and not Path(settings["log"]).with_name("mended").exists():
        raise RuntimeError("on purpose")
    if settings.get("do") == "die":
        os._exit(3)
    return {"value": settings["seed"] * 10}, {"mask": np.arange(3) > settings["seed"]}


def calls(log):
    return sorted(map(int, log.read_text().split())) if log.exists() else []


def test_finished_runs_are_not_repeated_and_keep_the_grids_order(tmp_path, capsys):
    log = tmp_path / "log"
    grid = [run(seed=seed, log=str(log)) for seed in (2, 0, 1)]
    records = runner.run_grid(grid, work, tmp_path / "runs", jobs=2)
    assert [record["result"]["value"] for record in records] == [20, 0, 10]
    assert calls(log) == [0, 1, 2]
    printed = capsys.readouterr().out
    assert "3 runs: 0 finished before, 3 to do" in printed
    assert "[3/3] magnitude 0.80, 5 events, seed" in printed

    again = runner.run_grid(grid, work, tmp_path / "runs")
    assert again == records
    assert calls(log) == [0, 1, 2]
    assert storage.arrays_of(tmp_path / "runs", again[1])["mask"].tolist() == [False, True, True]

    more = [run(seed=0, log=str(log), learning_rate=0.2)]  # another setting is another run
    runner.run_grid(more, work, tmp_path / "runs")
    assert calls(log) == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("suffix", "content"),
    [(".json", '{"name": "mag'), (".json", '{"settings": {}}'), (".npz", "no zip")],
)
def test_damaged_record_is_done_again_with_a_message(tmp_path, capsys, suffix, content):
    log = tmp_path / "log"
    grid = [run(log=str(log)), run(log=str(log), seed=1)]
    runner.run_grid(grid, work, tmp_path / "runs")
    damaged = tmp_path / "runs" / (storage.name_of(grid[0]) + suffix)
    damaged.write_text(content)
    records = runner.run_grid(grid, work, tmp_path / "runs")
    assert calls(log) == [0, 0, 1]
    assert f"{damaged.with_suffix('.json')}: cannot be used" in capsys.readouterr().out
    assert records[0]["result"] == {"value": 0}
    assert json.loads(damaged.with_suffix(".json").read_text())["settings"] == grid[0]


def test_failure_is_recorded_the_rest_goes_on_and_it_is_tried_again(tmp_path, capsys):
    log = tmp_path / "log"
    grid = [run(log=str(log), do="fail"), run(log=str(log), seed=1)]
    records = runner.run_grid(grid, work, tmp_path / "runs")
    assert calls(log) == [0, 0, 1]  # tried once more
    assert records[0]["tries"] == 2
    assert "RuntimeError: on purpose" in records[0]["traceback"]
    assert records[1]["result"] == {"value": 10}
    assert "FAILED" in capsys.readouterr().out
    path = tmp_path / "runs" / f"{storage.name_of(grid[0])}.json"
    assert "on purpose" in json.loads(path.read_text())["traceback"]

    (tmp_path / "mended").touch()
    records = runner.run_grid(grid, work, tmp_path / "runs")
    assert records[0]["result"] == {"value": 0}
    assert calls(log) == [0, 0, 0, 1]


def test_dead_trial_is_a_failure_and_the_rest_goes_on(tmp_path):
    log = tmp_path / "log"
    grid = [run(log=str(log), do="die"), run(log=str(log), seed=1), run(log=str(log), seed=2)]
    records = runner.run_grid(grid, work, tmp_path / "runs")
    assert "died (exit code 3)" in records[0]["traceback"]
    assert [record["result"]["value"] for record in records[1:]] == [10, 20]


def test_name_and_forget(tmp_path):
    name = storage.name_of(run())
    assert name.startswith("magnitude-0.80-5-seed0-")
    assert name != storage.name_of(run(batch_size=32))
    storage.keep(tmp_path, {"name": name, "settings": run(), "result": {}}, {"a": np.ones(2)})
    others = ["seeds.json", "notes.txt"]
    for other in (*others, f"{name}.json.part", f".{name}-0123456789ab.json"):
        (tmp_path / other).touch()
    assert len(list(tmp_path.iterdir())) == 6
    storage.forget(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(others)


INTERRUPTED = """
import signal, sys, time
from pathlib import Path
from lab import runner

# What starts in the background of a script inherits an ignored SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)

def work(settings):
    if settings["seed"]:
        Path(settings["folder"], "under way").touch()
        time.sleep(60)
    return {}, {}

if __name__ == "__main__":
    folder = sys.argv[1]
    grid = [{"arm": "a", "sparsity": 0.5, "events": 1, "seed": s, "folder": folder} for s in (0, 1)]
    try:
        runner.run_grid(grid, work, Path(folder, "runs"))
    except KeyboardInterrupt:
        print("stopped")
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a single process")
def test_interrupt_ends_the_workers_and_keeps_what_finished(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(FOLDER)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    limit = time.monotonic() + 60
    while not (tmp_path / "under way").exists() and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)  # the pipes close once the workers are gone too
    assert out.endswith("stopped\n")
    assert "Traceback" not in errors  # TensorFlow has its say there as it is imported
    kept = [path.name for path in (tmp_path / "runs").iterdir() if path.name != storage.STUDY]
    assert [name.startswith("a-0.50-1-seed0-") for name in kept] == [True]


def test_older_records_are_read_in_the_words_of_today(tmp_path):
    point = {"sparsity": 0.8, "measured_sparsity": 0.79}
    older = {"curve": [point], "measured_sparsity": 0.79, "history": [{"sparsity": 0.5}]}
    record = {"name": storage.name_of(run()), "settings": run(), "result": older}
    storage.keep(tmp_path, record, {})
    assert storage.stored(tmp_path, run())["result"] == {
        "curve": [{"target_sparsity": 0.8, "sparsity": 0.79}],
        "sparsity": 0.79,
        "history": [{"sparsity": 0.5}],
    }


# -- network -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    return importlib.import_module("lab.network")


def test_scores_by_hand(network):
    class Fixed:
        def predict(self, x, **_):
            return x

    probabilities = np.array([[0.5, 0.2, 0.3], [0.4, 0.4, 0.2], [0.1, 0.1, 0.8]])
    found = network.scores(Fixed(), probabilities, np.array([0, 1, 0]))
    assert found["accuracy"] == pytest.approx(1 / 3)  # the tie of row 2 goes to class 0, as argmax
    assert found["loss"] == pytest.approx(-np.log([0.5, 0.4, 0.1]).mean())
    assert found["top_5"] == 1.0
    lost = network.scores(Fixed(), np.full((2, 10), np.nan), np.array([0, 1]))
    assert (lost["accuracy"], lost["top_5"]) == (0.0, 0.0)  # a network that diverged knows nothing
    many = np.tile(np.linspace(0.2, 0.0, 10), (2, 1))
    assert network.scores(Fixed(), many, np.array([4, 5]))["top_5"] == 0.5


def test_starting_weights_depend_on_the_seed_alone(network):
    import keras

    keras.utils.set_random_seed(1)
    first = network.build(keras, 6, [5, 4], 3, seed=7)
    keras.utils.set_random_seed(2)
    again, other = (network.build(keras, 6, [5, 4], 3, seed=seed) for seed in (7, 8))
    kernels = network.hidden_kernels(first)
    assert {name: kernel.shape for name, kernel in kernels.items()} == {
        "dense_1": (6, 5),
        "dense_2": (5, 4),
    }
    assert all(
        (a == b).all() for a, b in zip(first.get_weights(), again.get_weights(), strict=True)
    )
    assert (first.get_weights()[0] != other.get_weights()[0]).all()
    assert np.abs(kernels["dense_1"]).max() <= np.sqrt(6 / 11)


def test_batches_have_a_new_seeded_order_in_each_epoch(network):
    x, y = np.arange(40.0)[:, None], np.arange(40)
    feed, again = (network.batches(x, y, 16, seed=5) for _ in range(2))
    epochs = [np.concatenate([labels for _, labels in feed]) for _ in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(40))] * 3
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[1], epochs[2])
    assert np.array_equal(epochs[0], np.concatenate([labels for _, labels in again]))
    assert [len(labels) for _, labels in feed] == [16, 16, 8]


@pytest.mark.parametrize(("target", "epochs"), [(2.0, 3 + 2), (0.0, 3 + 1)])
def test_stopping_rules_wait_for_the_end_of_pruning(network, target, epochs):
    import keras

    data = datasets.split(
        {
            "x_train": np.ones((20, 4), "f4"),
            "y_train": np.arange(20) % 2,
            "x_test": np.ones((2, 4), "f4"),
            "y_test": np.arange(2),
        },
        seed=0,
    )
    model = network.build(keras, 4, [3], 2, seed=0)
    began = iter([False, False, False, *[True] * 20])
    history, times = network.train(
        keras,
        model,
        data,
        {
            "seed": 0,
            "learning_rate": 1e-30,  # nothing changes, so no epoch is better than the first seen
            "batch_size": 10,
            "epochs": 20,
            "patience": 1,
            "target_accuracy": target,
            "steps_per_execution": 1,
        },
        finished=lambda: next(began),
    )
    assert [row["epoch"] for row in history] == list(range(1, epochs + 1))
    assert times["time_s"] > 0
    assert history[0]["sparsity"] == 0


def test_tfmots_last_update_is_on_its_last_step():
    plan = tfmot.plan(samples=54_000, batch_size=32, epochs=30, end_share=0.5)
    assert plan == {"begin_step": 0, "end_step": 25_300, "frequency": 100}  # of 50,640 steps
    short = tfmot.plan(samples=1293, batch_size=32, epochs=2, end_share=0.5)
    assert short == {"begin_step": 0, "end_step": 40, "frequency": 4}
    tiny = tfmot.plan(samples=10, batch_size=32, epochs=1, end_share=0.5)
    assert tiny == {"begin_step": 0, "end_step": 1, "frequency": 1}


# -- comparison ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def comparison():
    return importlib.import_module("activation_vs_magnitude_report")


def runs_of(comparison, *rows):
    """Rows of (arm, events, seed, test accuracy, reached) at 80 % as a table of runs."""
    table = pd.DataFrame(rows, columns=["arm", "events", "seed", "test_accuracy", "reached"])
    others = [name for name in comparison.MEASURED if name != "test_accuracy"]
    return table.assign(target_sparsity=0.8, **dict.fromkeys(others, 0.5))


def test_summary_interval_by_hand(comparison):
    accuracies = [0.7, 0.8, 0.9]
    rows = [("magnitude", 5, seed, value, seed < 2) for seed, value in enumerate(accuracies)]
    summary = comparison.summary_table(runs_of(comparison, *rows)).iloc[0]
    assert summary["test_accuracy"] == pytest.approx(0.8)
    # t(0.975, 2 degrees) = 4.302653, standard deviation 0.1: 4.302653 * 0.1 / sqrt(3)
    assert summary["test_accuracy_ci95"] == pytest.approx(0.248414, abs=1e-6)
    assert (summary["runs"], summary["runs_reached"]) == (3, 2)


def test_one_run_has_no_interval(comparison):
    summary = comparison.summary_table(runs_of(comparison, ("random", 5, 0, 0.7, True)))
    assert summary["test_accuracy_ci95"].isna().all()


def test_differences_are_paired_by_seed_and_judged_together(comparison):
    rows = []
    for seed, base in enumerate([0.6, 0.7, 0.8]):  # wide spread between seeds, none within a pair
        rows += [
            ("magnitude", 5, seed, base, True),
            ("activation_magnitude", 5, seed, base + 0.010 + 0.001 * seed, True),
            ("activation", 5, seed, base + (0.01, -0.01, 0.002)[seed], True),
            ("tfmot", 0, seed, base + 0.02 + 0.001 * seed, True),
        ]
    rows.append(("magnitude", 5, 3, 0.1, False))  # not reached: no pair
    rows.append(("activation_magnitude", 5, 3, 0.9, True))
    table = comparison.differences_tables(runs_of(comparison, *rows))[0]
    table = table.set_index(["first", "second"])
    assert table.loc[("activation_magnitude", "magnitude"), "verdict"] == "higher"
    assert table.loc[("activation_magnitude", "magnitude"), "pairs"] == 3
    difference = table.loc[("activation_magnitude", "magnitude"), "accuracy_difference"]
    assert difference == pytest.approx(0.011)
    assert table.loc[("activation", "magnitude"), "verdict"] == "too few seeds to tell"
    assert table.loc[("magnitude", "tfmot"), "verdict"] == "lower"
    assert table.loc[("magnitude", "tfmot"), "events"] == 5


def test_findings_rank_the_arms_and_tell_what_was_missed(comparison):
    runs = runs_of(
        comparison,
        ("magnitude", 5, 0, 0.95, True),
        ("activation", 5, 0, 0.90, True),
        ("inactivity", 5, 0, 0.99, False),
    )
    said = "\n".join(comparison.findings(runs, *comparison.differences_tables(runs)))
    assert "80% sparsity, 5 events, best mean first: magnitude 95.00%, activation 90.00%." in said
    assert "activation against magnitude: too few seeds to tell in 1 of 1 settings" in said
    assert "inactivity at 80% with 5 events: 1 run(s) ended below the target" in said


# -- the whole thing -----------------------------------------------------------------------


def experiment(out, *options):
    command = [sys.executable, str(FOLDER / "activation_vs_magnitude.py"), "--out", str(out)]
    return subprocess.run([*command, *options], capture_output=True, text=True)


def test_bad_options_stop_before_any_training(tmp_path):
    done = experiment(tmp_path / "out", "--dataset", str(tmp_path / "none.npz"))
    assert done.returncode == 2
    assert "neither a known data set" in done.stderr
    assert not (tmp_path / "out" / "runs").exists()


@pytest.mark.slow
def test_end_to_end_and_rerun(tmp_path):
    tiny = ("--hidden", "16", "8", "--epochs", "4", "--start", "0.05", "--stop", "0.06")
    grid = ("--seeds", "2", "--sparsities", "0.5", "--events", "2", "--jobs", "2")
    arms = ["dense", "activation_magnitude", "magnitude", "magnitude_gradual"]
    arms += ["tfmot"] if importlib.util.find_spec("tf_keras") else []
    options = (*tiny, *grid, "--arms", *arms)
    done = experiment(tmp_path, *options)
    assert done.returncode == 0, done.stderr
    count = 2 * len(arms)
    assert f"[{count}/{count}]" in done.stdout
    paths = [Path(line) for line in done.stdout.splitlines() if line.startswith(str(tmp_path))]
    assert {path.name for path in paths} >= {
        "activation_vs_magnitude.xlsx",
        "activation_vs_magnitude.html",
        "test_accuracy.png",
        "training_curves.png",
        "activation_frequency.png",
        "masks.png",
    }
    assert all(path.stat().st_size > 5000 for path in paths)

    sheets = pd.read_excel(paths[0], sheet_name=None)
    runs = sheets["Runs"]
    assert len(runs) == count
    assert runs["reached"].all()
    assert set(runs.loc[runs["arm"] != "dense", "sparsity"]) == {0.5}
    # Same split and starting weights; magnitude differs from dense by the pruning only.
    first = sheets["Training"].query("epoch == 1 and seed == 0").set_index("arm")
    keras_3 = ["dense", "activation_magnitude", "magnitude"]
    assert first.loc[keras_3, "train_accuracy"].nunique() == 1
    gradual = sheets["Training"].query("arm == 'magnitude_gradual' and seed == 0")["sparsity"]
    assert gradual.tolist() == pytest.approx([0.5 * 7 / 8, 0.5, 0.5, 0.5], abs=1e-3)  # 1 - (1/2)³
    events = sheets["Events"].query("arm == 'magnitude' and seed == 0")
    assert events.groupby("event")["total_sparsity"].first().tolist() == pytest.approx(
        [0.5 / 1.8, 0.5], abs=1e-3
    )
    settings = sheets["Settings"].set_index("key")["value"]
    assert "activation_vs_magnitude.py" in settings["command"]
    assert settings["seeds"] == "0, 1"

    again = experiment(tmp_path, *options)
    assert again.returncode == 0
    assert f"{count} runs: {count} finished before, 0 to do" in again.stdout
    assert "starts" not in again.stdout

    alone = experiment(tmp_path, *tiny, *grid, "--arms", "dense")  # has no masks to show
    assert alone.returncode == 0, alone.stderr
    assert not (tmp_path / "masks.png").exists()
