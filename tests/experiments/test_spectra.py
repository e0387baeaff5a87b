"""The experiments on spectra: what their tables say of numbers known by hand; each in small."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from activation_pruning.reports import statistics

FOLDER = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(FOLDER))  # as when a script of that folder runs

comparison = importlib.import_module("lab.comparison")
nuclear_report = importlib.import_module("nuclear_norm_equivalence_report")
spectra_report = importlib.import_module("spectra_under_pruning_report")

RUN = {"arm": "magnitude", "target_sparsity": 0.8, "events": 1, "seed": 0, "event": 1, "site": "a"}


def around_an_event(before, after, **changed):
    parts = [
        pd.DataFrame({"index": np.arange(1, len(before) + 1), "value": values}).assign(
            moment=moment, **(RUN | changed)
        )
        for moment, values in (("before", before), ("after", after))
    ]
    return pd.concat(parts, ignore_index=True)


def test_soft_thresholding_takes_the_same_amount_from_each():
    before = np.arange(10.0, 0, -1)
    table = spectra_report.reductions(around_an_event(before, before - 0.5))
    assert table["tenth"].tolist() == list(range(1, 11))
    np.testing.assert_allclose(table["absolute_share"], 0.05)
    np.testing.assert_allclose(table["relative_share"], 0.5 / before)


def test_scaling_takes_the_same_share_from_each_and_zeros_do_not_count():
    before = np.concatenate([np.arange(20.0, 0, -1), np.zeros(5)])
    table = spectra_report.reductions(around_an_event(before, 0.9 * before))
    assert len(table) == 10
    np.testing.assert_allclose(table["relative_share"], 0.1)
    # The first tenth holds 20 and 19: a tenth of their mean, in shares of 20.
    assert table["absolute_share"].iloc[0] == pytest.approx(0.1 * 19.5 / 20)


def test_layers_too_small_for_tenths_are_left_out_on_both_sides():
    small = around_an_event(np.arange(8.0, 0, -1), np.zeros(8), site="small")
    large = around_an_event(np.arange(25.0, 0, -1), 0.9 * np.arange(25.0, 0, -1))
    table = spectra_report.reductions(pd.concat([small, large]))
    np.testing.assert_allclose(table["relative_share"], 0.1)
    assert len(table) == 10
    assert spectra_report.reductions(small).empty
    assert spectra_report.large_against_small(spectra_report.reductions(small)).empty


def test_large_against_small_is_paired_by_run():
    before = np.arange(10.0, 0, -1)
    values = pd.concat(
        [
            around_an_event(before, before * (0.9 - 0.01 * seed), seed=seed, event=event)
            for seed in range(3)
            for event in (1, 2)
        ]
    )
    table = spectra_report.large_against_small(spectra_report.reductions(values))
    table = table.set_index("reduction")
    same = table.loc["relative_share"]
    assert same["difference_share"] == pytest.approx(0)
    assert same["large_share"] == pytest.approx(0.11)
    assert table.loc["absolute_share", "verdict"] == "higher"
    assert table["pairs"].tolist() == [3, 3]


def at_the_end(arm, seed, values, events=0, site="a"):
    place = {"arm": arm, "seed": seed, "target_sparsity": 0.8 if events else 0.0, "events": events}
    table = pd.DataFrame({"index": np.arange(1, len(values) + 1), "value": values})
    return table.assign(moment="end", event=0, site=site, **place)


def test_distance_of_normalised_spectra():
    values = pd.concat(
        [
            at_the_end("activation", 0, [2.0, 1.0], events=5),
            at_the_end("activation", 0, [4.0, 4.0], events=5, site="b"),
            at_the_end("dense", 0, [10.0, 8.0]),
            at_the_end("dense", 0, [1.0, 0.0], site="b"),
        ]
    )
    table = nuclear_report.distances(nuclear_report.normalised(values)).set_index("site")
    # a: |1 - 1|, |0.5 - 0.8| -> 0.15; b: |1 - 1|, |1 - 0| -> 0.5
    assert table["distance"].to_dict() == pytest.approx({"a": 0.15, "b": 0.5, "all layers": 0.325})
    assert set(table["reference"]) == {"activation"}


def test_nearer_than_dense_is_judged_by_pairs_of_one_seed():
    values = []
    for seed in range(3):
        wide = 0.1 * seed  # between the seeds; within one, nuclear is nearer by 0.2 or more
        values += [
            at_the_end("activation", seed, [1.0, 0.2 + wide], events=5),
            at_the_end("dense", seed, [1.0, 0.7 + wide]),
            at_the_end("nuclear 0.1", seed, [1.0, 0.3 + wide + 0.01 * seed]),
        ]
    curves = nuclear_report.normalised(pd.concat(values))
    table = nuclear_report.nearer_than_dense(nuclear_report.distances(curves))
    assert table["arm"].tolist() == ["nuclear 0.1"]
    row = table.iloc[0]
    assert (row["verdict"], row["pairs"]) == ("lower", 3)
    assert row["difference"] == pytest.approx((0.11 - 0.5) / 2)  # index 1 is 1 for all
    apart = nuclear_report.seeds_apart(curves).set_index("arm")
    assert apart.loc["activation", "distance"] == pytest.approx((0.1 + 0.2 + 0.1) / 3 / 2)


def test_summary_counts_runs_and_keeps_groups_without_a_metric():
    table = pd.DataFrame({"arm": ["a", "a", "b"], "x": [1.0, 3.0, 5.0], "y": [1.0, 1.0, np.nan]})
    found = statistics.summary(table, ["arm"], ["x", "y"]).set_index("arm")
    assert found["runs"].tolist() == [2, 1]
    assert found["x"].tolist() == [2.0, 5.0]
    assert found["x_ci95"].iloc[0] == pytest.approx(12.706205)  # t(0.975, 1) * sqrt(2) / sqrt(2)
    assert np.isnan(found.loc["b", "y"])


def test_runs_that_did_not_reach_their_sparsity_are_told_and_left_out():
    def record(seed, measured):
        settings = {"arm": "activation", "sparsity": 0.8, "events": 5, "seed": seed}
        return {"settings": settings, "result": {"sparsity": measured}}

    kept, missed = comparison.reached([record(0, 0.8), record(1, 0.59), record(2, 0.6)])
    assert [one["settings"]["seed"] for one in kept] == [0]
    (sentence,) = missed
    assert sentence.startswith("activation at 80% with 5 events: 2 run(s) ended below the target")


# -- each in small -------------------------------------------------------------------------

ARMS = {
    "spectra_under_pruning": ("activation_magnitude", "magnitude"),
    "pruned_vs_pca": ("activation", "magnitude"),
    "nuclear_norm_equivalence": ("dense", "activation", "nuclear"),
    "retrain_pruned": ("dense", "magnitude"),
}
SHEETS = {
    "spectra_under_pruning": {"Summary", "Large and small", "Reduction", "Spectra", "Norms"},
    "pruned_vs_pca": {"Summary", "Differences", "Ranks", "Scree", "Accuracies"},
    "nuclear_norm_equivalence": {"Summary", "Nearer than dense", "Seeds apart", "Accuracy"},
    "retrain_pruned": {"Summary", "Differences", "Layers", "Chart"},
}


def run(name, out, arms=None, seeds=2):
    tiny = ("--hidden", "12", "8", "--epochs", "4", "--start", "0.05", "--stop", "0.06")
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--out", str(out), *tiny]
    command += ["--seeds", str(seeds), "--sparsities", "0.5", "--events", "2", "--jobs", "2"]
    command += ["--arms", *(arms or ARMS[name])]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHEETS)
def test_end_to_end(tmp_path, name):
    done = run(name, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    paths = [Path(line) for line in done.stdout.splitlines() if line.startswith(str(tmp_path))]
    assert {path.suffix for path in paths} == {".xlsx", ".png", ".html"}
    assert all(path.stat().st_size > 5000 for path in paths)
    sheets = pd.read_excel(tmp_path / f"{name}.xlsx", sheet_name=None)
    assert set(sheets) >= SHEETS[name] | {"Findings", "Settings"}
    assert not any("nan" in text for text in sheets["Findings"]["finding"])
    assert f"{name}.py" in sheets["Settings"].set_index("key").loc["command", "value"]
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*-seed*.json")]
    CHECKS[name](sheets, {(r["settings"]["arm"], r["settings"]["seed"]): r for r in records})
    assert f"{len(records)} runs: 0 finished before, {len(records)} to do" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spectra_under_pruning", "nuclear_norm_equivalence"])
def test_the_dense_arm_alone(tmp_path, name):
    done = run(name, tmp_path, ["dense"], seeds=1)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"{name}.xlsx").exists()


def check_spectra(sheets, records):
    norms = pd.DataFrame(records["magnitude", 0]["result"]["norms"])
    assert norms["moment"].value_counts().to_dict() == {"before": 4, "after": 4, "end": 2}
    # Exactly half of the weights, 64 x 12 + 12 x 8, are zeros after the last event.
    last = norms[norms["moment"] == "end"]
    pruned = (last["sparsity"] * last["rows"] * last["columns"]).sum()
    assert pruned == pytest.approx((64 * 12 + 12 * 8) / 2)
    assert set(sheets["Spectra"]["state"]) == {"unpruned", "event 1", "event 2"}


def check_pca(sheets, records):
    accuracy = sheets["Accuracies"]
    one = accuracy.query("arm == 'magnitude' and seed == 0 and match == 'rank'")
    one = one.set_index(["model", "stage"])["accuracy"]
    result = records["magnitude", 0]["result"]
    assert one["pruned", "raw"] == pytest.approx(result["test_accuracy"])
    assert one["low_rank", "raw"] == pytest.approx(one["factorized", "raw"], abs=0.01)
    dense = accuracy.query("model == 'dense' and stage == 'raw'")
    assert dense.groupby("seed")["accuracy"].nunique().eq(1).all()  # one twin for all arms


def check_nuclear(sheets, records):
    nuclear = sheets["Summary"].set_index("arm")["nuclear"]
    assert nuclear["nuclear 0.003"] < nuclear["nuclear 0.0003"] < nuclear["dense"]


def check_retrain(sheets, records):
    ways = pd.DataFrame(records["magnitude", 0]["result"]["ways"]).set_index("way")
    assert ways.index.tolist() == ["pruned", "retrained", "unmasked", "rewound", "random"]
    masked = ways.drop(index="unmasked")["sparsity"]
    assert masked.tolist() == pytest.approx([0.5] * 4)
    assert ways.loc["unmasked", "sparsity"] < 0.5
    assert [way["way"] for way in records["dense", 0]["result"]["ways"]] == ["pruned", "retrained"]


CHECKS = {
    "spectra_under_pruning": check_spectra,
    "pruned_vs_pca": check_pca,
    "nuclear_norm_equivalence": check_nuclear,
    "retrain_pruned": check_retrain,
}
