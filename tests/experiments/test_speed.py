"""The experiment with compacted networks: ratios known by hand; in small, end to end."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

FOLDER = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(FOLDER))  # as when a script of that folder runs

report = importlib.import_module("unit_pruning_speed_report")
dense = importlib.import_module("lab.dense")
speed = importlib.import_module("unit_pruning_speed")


def settings(arm, seed=0):
    more = {"sparsity": 0.0, "events": 0, "shares": [0.0, 0.5]}
    return {"arm": arm, "seed": seed, "backend": "tensorflow"} | more


def pruned(arm, seed, compacted=0.8):
    curve = [
        {"target_sparsity": 0.0, "units": "8-2", "parameters": 400, "multiply_adds": 400},
        {"target_sparsity": 0.5, "units": "4-2", "parameters": 100, "multiply_adds": 100},
    ]
    accuracies = {"test_accuracy": 0.8, "accuracy_compacted": compacted, "largest_difference": 0.0}
    result = {"curve": [row | accuracies for row in curve], "warnings": []}
    return {"name": f"{arm}{seed}", "settings": settings(arm, seed), "result": result}


def timing():
    measured = {  # time on the wall and of the processor, in the three rounds
        0.0: [(10, 8), (20, 8), (30, 8)],
        0.5: [(5, 2), (5, 2), (10, 2)],
    }
    times = [
        {
            "round": number,
            "runtime": "onnx",
            "target_sparsity": share,
            "time_ms": wall,
            "cpu_ms": cpu,
        }
        for share, pairs in measured.items()
        for number, (wall, cpu) in enumerate(pairs, 1)
    ]
    files = {"keras_bytes": 4000, "litert_bytes": 2000, "onnx_bytes": 1000}
    sizes = [
        {"target_sparsity": 0.0, "units": "8-2"} | files,
        {"target_sparsity": 0.5, "units": "4-2"}
        | {name: size // 2 for name, size in files.items()},
    ]
    return {"settings": settings(report.TIMING), "result": {"times": times, "sizes": sizes}}


def tables(records):
    runs = report.publication.rows(records, "curve")
    rounds, sizes = report.rounds_table(records), report.sizes_table(records, runs)
    return runs, rounds, sizes, report.times_table(rounds, sizes)


def test_ratios_are_taken_within_a_round():
    _, rounds, sizes, times = tables([pruned("unit_obs", 0), timing()])
    assert rounds["ratio"].round(4).tolist() == [1, 1, 1, 0.5, 0.25, 0.3333]
    assert sizes["multiply_adds_compression"].tolist() == [1, 4]
    row = times.set_index("target_sparsity").loc[0.5]
    assert row["runtime"] == "ONNX Runtime"
    assert (row["median_ms"], row["cpu_median_ms"], row["theory"]) == (5, 2, 4)
    # The median of the ratios, not the ratio of the medians: 20 / 5 would be 4.
    assert (row["speed_up"], row["cpu_speed_up"]) == pytest.approx((3, 4))
    assert row["speed_up_low"] == pytest.approx(2)
    assert row["speed_up_high"] == pytest.approx(4)


def test_findings_name_changed_accuracies_and_keep_the_published_ones_apart():
    records = [pruned("unit_norm", 0), pruned("unit_obs", 0, compacted=0.79), timing()]
    runs, _, sizes, times = tables(records)
    options = {"predict_batch": 1000}
    told = report.findings(runs, times, sizes, report.published_table(), options)
    assert told[0].startswith("Taking the pruned units out changed the accuracy of 2 of 4")
    assert "by at most 1.00 points" in told[0]
    line = next(line for line in told if line.startswith("Published"))
    assert "25.5 ms at 90% (14.2 x)" in line
    assert sum("published" in line.lower() for line in told) == 1
    summary = report.summary_table(runs, times, sizes).set_index(["arm", "target_sparsity"])
    assert summary.loc[("unit_norm", 0.5), "onnx_runtime_speed_up"] == pytest.approx(3)
    assert summary.loc[("unit_obs", 0.5), "onnx_bytes"] == 500


def test_without_times_the_rest_is_published(tmp_path):
    records = [pruned("unit_obs", 0)]
    report.publish(records, tmp_path, {"dataset": "mnist", "predict_batch": 10})
    sheets = pd.read_excel(tmp_path / f"{report.NAME}.xlsx", sheet_name=None)
    assert sheets["Times"]["runtime"].unique().tolist() == [report.ELSEWHERE]
    assert not (tmp_path / f"{report.NAME}_times.png").exists()


def test_the_clock_tells_the_time_of_the_processor_beside(monkeypatch):
    clock = speed._Clocks()
    wall, cpu = iter([1.0, 3.0, 4.0, 9.0]), iter([0.5, 1.5, 1.5, 1.75])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(wall))
    monkeypatch.setattr(speed.time, "process_time", lambda: next(cpu))
    assert [clock() for _ in range(4)] == [1, 3, 4, 9]
    monkeypatch.undo()
    assert clock.cpu_ms().tolist() == [1000, 250]


@pytest.mark.slow
def test_end_to_end(tmp_path, monkeypatch, capsys):
    options = ["--hidden", "20", "10", "--epochs", "5", "--seeds", "1", "--calibration", "500"]
    options += ["--arms", "unit_obs", "--sparsities", "0.5", "--rounds", "2"]
    options += ["--out", str(tmp_path)]
    command = [sys.executable, str(FOLDER / "unit_pruning_speed.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    paths = [Path(line) for line in done.stdout.splitlines() if line.startswith(str(tmp_path))]
    assert {path.suffix for path in paths} == {".xlsx", ".png", ".html"}
    sheets = pd.read_excel(tmp_path / f"{report.NAME}.xlsx", sheet_name=None)
    wanted = {"Findings", "Summary", "Times", "Sizes", "Runs", "Rounds", "Settings"}
    assert set(sheets) >= wanted
    runs = sheets["Runs"]
    assert runs["units"].tolist() == ["20-10-10", "10-5-10"]
    assert runs["parameters"].tolist() == [64 * 20 + 20 * 10 + 100, 64 * 10 + 10 * 5 + 50]
    assert runs["test_accuracy"].tolist() == runs["accuracy_compacted"].tolist()
    assert sheets["Times"].groupby("runtime").size().tolist() == [2] * 4
    stem = next((tmp_path / "runs").glob("unit_obs*.json")).stem
    for suffix, name in ((".keras", "keras"), (".tflite", "litert"), (".onnx", "onnx")):
        size = (tmp_path / "networks" / f"{stem}-50{suffix}").stat().st_size
        assert sheets["Sizes"].set_index("target_sparsity").loc[0.5, f"{name}_bytes"] == size
    timed = json.loads(next((tmp_path / "runs").glob("timing*.json")).read_text())
    assert len(timed["result"]["times"]) == 2 * 2 * 4
    monkeypatch.setenv(dense.FOLDER, os.environ.get(dense.FOLDER, ""))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert speed.main(options) == 0
    assert capsys.readouterr().out.count("1 runs: 1 finished before, 0 to do") == 2


def test_one_round_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        speed.main(["--rounds", "1"])
    assert stopped.value.code == 2
    assert "--rounds 1 is too few" in capsys.readouterr().err
