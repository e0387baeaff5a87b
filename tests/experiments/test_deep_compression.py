"""The experiment on compression: findings from numbers known by hand; the whole in small."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

FOLDER = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(FOLDER))  # as when a script of that folder runs

report = importlib.import_module("deep_compression_report")
experiment = importlib.import_module("deep_compression")


def record(seed, dense, trained):
    """trained: {(sparsity, bits): (accuracy, ratio)}."""
    plain = {"sparsity": 0.0, "test_loss": 0.1, "ratio_of_weights": None}
    rows = [
        plain
        | {"stage": "dense", "target_sparsity": 0.0, "bits": 32, "test_accuracy": dense}
        | {"ratio": 1.0, "size_bytes": 1000}
    ]
    for (sparsity, bits), (accuracy, ratio) in trained.items():
        row = {
            "stage": "trained",
            "target_sparsity": sparsity,
            "bits": bits,
            "test_accuracy": accuracy,
        }
        rows.append(plain | row | {"ratio": ratio, "size_bytes": 1000 / ratio})
    settings = {"arm": "lenet_300_100", "seed": seed, "sparsity": 0.0, "events": 0}
    return {"settings": settings, "result": {"stages": rows, "tensors": []}}


def test_the_best_ratio_is_that_without_loss():
    records = [
        record(
            0, 0.980, {(0.9, 5): (0.980, 30.0), (0.95, 5): (0.979, 50.0), (0.98, 5): (0.97, 90)}
        ),
        record(
            1, 0.982, {(0.9, 5): (0.984, 32.0), (0.95, 5): (0.981, 52.0), (0.98, 5): (0.97, 92)}
        ),
    ]
    stages = report.stages_table(records)
    told = report.findings(stages, report.differences_table(stages))
    assert told[0] == "lenet_300_100: 98.10% test accuracy when dense."
    assert "95% sparsity, 5 bits: 51.0 times smaller" in told[2]
    assert "-0.10 points to dense" in told[2]
    assert told[-1] == (
        "lenet_300_100: within 0.1 points of dense at most 51.0 times smaller, at 95% sparsity "
        "and 5 bits (published: 40, on MNIST)."
    )
    lost = report.stages_table([record(0, 0.98, {(0.9, 5): (0.9, 30.0)})])
    assert "no setting stays within" in report.findings(lost, report.differences_table(lost))[-1]


def test_networks_are_the_published_ones():
    arrays = importlib.import_module("numpy")
    data = {"x_train": arrays.zeros((2, 784)), "y_train": arrays.array([0, 9])}
    assert experiment.build("lenet_300_100", data).count_params() == 266_610
    assert experiment.build("lenet_5", data).count_params() == 431_080


def test_options_that_cannot_work(capsys):
    for options, told in (
        (["--dataset", "digits"], "needs images of at least 16 x 16"),
        (["--dataset", "digits", "--sparsities", "0.9", "0.8"], "must rise"),
    ):
        with pytest.raises(SystemExit) as stopped:
            experiment.main(options)
        assert stopped.value.code == 2
        assert told in capsys.readouterr().err


@pytest.mark.slow
def test_end_to_end(tmp_path):
    command = [sys.executable, str(FOLDER / "deep_compression.py"), "--dataset", "digits"]
    command += ["--arms", "lenet_300_100", "--seeds", "1", "--epochs", "8", "--pruning-epochs", "8"]
    command += ["--tuning-epochs", "2", "--sparsities", "0.8", "0.9", "--bits", "2", "4"]
    command += ["--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    book = tmp_path / "deep_compression.xlsx"
    sheets = pd.read_excel(book, sheet_name=None)
    assert set(sheets) >= {"Findings", "Summary", "Differences", "Stages", "Tensors", "Settings"}
    stored = json.loads(next((tmp_path / "runs").glob("*-seed*.json")).read_text())
    rows = pd.DataFrame(stored["result"]["stages"])
    assert rows["stage"].tolist() == ["dense"] + 4 * ["pruned", "shared", "trained"]
    assert rows["sparsity"].round(3).tolist() == [0.0] + 6 * [0.8] + 6 * [0.9]
    trained = rows[rows["stage"] == "trained"].set_index(["target_sparsity", "bits"])["ratio"]
    assert trained[0.9, 2] > trained[0.9, 4] > trained[0.8, 4] > 5
    assert rows["test_accuracy"].min() > 0.8
    assert (tmp_path / "deep_compression.html").exists()
    again = subprocess.run(command, capture_output=True, text=True)
    assert "1 runs: 1 finished before, 0 to do" in again.stdout
