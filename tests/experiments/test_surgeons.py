"""The experiments with surgeons: tables of numbers known by hand; each in small, end to end."""

import importlib
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

FOLDER = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(FOLDER))  # as when a script of that folder runs

differences = importlib.import_module("lab.differences")
oneshot_report = importlib.import_module("lab.oneshot_report")
brain_surgeon = importlib.import_module("brain_surgeon")
sweep = importlib.import_module("weight_pruning_sweep")


def record(arm, seed, accuracies):
    curve = [
        {
            "target_sparsity": sparsity,
            "sparsity": sparsity,
            "compression": 1 / (1 - sparsity),
            "test_accuracy": accuracy,
            "test_loss": 1.0,
            "time_s": 1.0,
        }
        for sparsity, accuracy in accuracies.items()
    ]
    settings = {"arm": arm, "seed": seed, "sparsity": 0.0, "events": 0, "backend": "tensorflow"}
    return {"settings": settings, "result": {"curve": curve, "warnings": []}}


RECORDS = [
    record("magnitude", 0, {0.0: 0.9, 0.8: 0.70, 0.9: 0.5}),
    record("magnitude", 1, {0.0: 0.9, 0.8: 0.72, 0.9: 0.5}),
    record("lobs", 0, {0.0: 0.9, 0.8: 0.80, 0.9: 0.4}),
    record("lobs", 1, {0.0: 0.9, 0.8: 0.82, 0.9: 0.7}),
]


def tables_of(records):
    curves = oneshot_report.curves_table(records)
    pairs = differences.to_baseline(curves[curves["target_sparsity"] > 0], "magnitude")
    by = ["target_sparsity"]
    return curves, differences.by_setting(pairs, by), differences.overall(pairs, by)


def test_differences_are_paired_by_seed_and_sparsity():
    each = tables_of(RECORDS)[1].set_index("target_sparsity")
    assert each.index.tolist() == [0.8, 0.9]
    assert each["pairs"].tolist() == [2, 2]
    assert each.loc[0.8, "accuracy_difference"] == pytest.approx(0.1)
    # At 80 % both seeds differ by 0.1 exactly: there is no spread to judge it by.
    assert each["verdict"].tolist() == ["too few seeds to tell"] * 2


def test_differences_overall_are_those_of_means_over_settings_of_all_seeds():
    records = [
        *RECORDS,
        record("magnitude", 2, {0.0: 0.9, 0.8: 0.70, 0.9: 0.5, 0.99: 0.1}),
        record("lobs", 2, {0.0: 0.9, 0.8: 0.81, 0.9: 0.59, 0.99: 0.9}),
        record("obd", 0, {0.0: 0.9, 0.8: 0.5}),  # a single setting: told by it
    ]
    whole = tables_of(records)[2]
    assert whole[["first", "second", "settings", "pairs"]].values.tolist() == [
        ["lobs", "magnitude", 2, 3]
    ]
    # by seed (0.1 - 0.1) / 2, (0.1 + 0.2) / 2, (0.11 + 0.09) / 2
    change = [0.0, 0.15, 0.1]
    assert whole["accuracy_difference"].iloc[0] == pytest.approx(np.mean(change))
    assert whole["p"].iloc[0] == pytest.approx(stats.ttest_1samp(change, 0).pvalue)


def test_findings_say_who_is_above_the_published_curve():
    curves, each, whole = tables_of(RECORDS)
    told = oneshot_report.findings(curves, each, whole, {0.0: 0.9, 0.8: 0.75, 0.9: 0.5})
    assert "The dense networks: 90.00% test accuracy on average." in told
    assert "lobs is above the published curve at 2 of 2 points." in told
    assert "magnitude is above the published curve at 0 of 2 points." in told
    line = next(line for line in told if line.startswith("80.0% sparsity (published: 75.00%)"))
    assert line.endswith("lobs 81.00%, magnitude 71.00%.")


def test_every_arm_has_a_panel_and_a_known_criterion():
    from activation_pruning import surgeons

    placed = [arm for arms in oneshot_report.PANELS.values() for arm in arms]
    assert len(placed) == len(set(placed))
    every = {**sweep.BY_WEIGHT, **sweep.BY_UNIT, **brain_surgeon.ARMS}
    assert set(every) == set(placed)
    for arm in every.values():
        assert surgeons.get(arm.criterion)
    assert len(sweep.SPARSITIES) == len(sweep.PUBLISHED["unit"]) == len(sweep.PUBLISHED["weight"])


RUNS = {
    "weight_pruning_sweep": ["--arms", "magnitude", "lobs", "sparsegpt_sequential", "synflow"],
    "brain_surgeon": ["--arms", "magnitude", "lobs", "lobs_2000_trained", "n2ps"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_end_to_end(tmp_path, name):
    tiny = ["--hidden", "20", "10", "--epochs", "5", "--seeds", "1", "--calibration", "500"]
    command = [sys.executable, str(FOLDER / f"{name}.py"), *tiny, *RUNS[name]]
    command += ["--out", str(tmp_path), "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    paths = [Path(line) for line in done.stdout.splitlines() if line.startswith(str(tmp_path))]
    assert {path.suffix for path in paths} == {".xlsx", ".png", ".html"}
    book = next(path for path in paths if path.suffix == ".xlsx")
    sheets = pd.read_excel(book, sheet_name=None)
    assert set(sheets) >= {"Findings", "Accuracy", "Summary", "Differences", "Settings"}
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*-seed*.json")]
    assert len(records) == 4
    dense = {record["result"]["curve"][0]["test_accuracy"] for record in records}
    assert len(dense) == 1  # every arm starts from the same network
    assert len(list((tmp_path / "networks").glob("*.npz"))) == 1
    for one in records:
        curve = one["result"]["curve"]
        weights = 64 * 20 + 20 * 10 + 10 * 10
        if one["settings"]["arm"] == "magnitude" and name == "brain_surgeon":
            for row in curve[1:]:
                budget = int(row["target_sparsity"] * weights + 0.5)
                assert round(row["sparsity"] * weights) == budget
        assert all(
            a["target_sparsity"] < b["target_sparsity"] for a, b in itertools.pairwise(curve)
        )
    again = subprocess.run(command, capture_output=True, text=True)
    assert "4 runs: 4 finished before, 0 to do" in again.stdout


def test_arms_of_the_other_granularity_are_named(capsys):
    with pytest.raises(SystemExit) as stopped:
        sweep.main(["--granularity", "unit", "--arms", "lobs"])
    assert stopped.value.code == 2
    assert "do not prune by unit" in capsys.readouterr().err
