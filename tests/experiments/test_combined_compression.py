"""combined_compression: what was planned, tables by hand; files read back; end to end."""

import importlib
import json
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

import activation_pruning as ap

FOLDER = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(FOLDER))  # as when a script of that folder runs

experiment = importlib.import_module("combined_compression")
files = importlib.import_module("combined_compression_files")
planned = importlib.import_module("combined_compression_planned")
report = importlib.import_module("combined_compression_report")
dense = importlib.import_module("lab.dense")

ON_TENSORFLOW = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow exports"
)


# -- what was planned ----------------------------------------------------------------------


def runs(**accuracies):
    """{arm: accuracies by seed}, at one setting."""
    rows = [
        {"network": "mlp", "setting": "80 % weights", "arm": arm, "seed": seed}
        | {"litert_accuracy": value}
        for arm, values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


FLOATS = np.array([0.86, 0.87, 0.88, 0.865, 0.875])
NOISE = np.array([1, -1, 0.5, -0.5, 0]) / 1000


def test_close_and_certain_is_within_the_margin():
    found = planned.comparisons(runs(pruned=FLOATS, pruned_qat=FLOATS + NOISE))
    row = found.iloc[0]
    assert (row["family"], row["verdict"]) == (planned.EQUIVALENT, planned.SAME)
    # By hand: s = 0.79057, s / sqrt(5) = 0.35355, (3 - 0) / 0.35355 = 8.485 with 4 degrees
    assert row["p"] == pytest.approx(0.000529, rel=1e-2)
    assert 1000 * row["accuracy_difference_high"] == pytest.approx(2.1318 * 0.35355, rel=1e-3)
    assert "90 % interval" in " ".join(planned.told(found))


@pytest.mark.parametrize("change", [NOISE - 0.004, 10 * NOISE], ids=["lower", "uncertain"])
def test_far_or_uncertain_is_not_shown(change):
    found = planned.comparisons(runs(pruned=FLOATS, pruned_qat=FLOATS + change))
    assert found["verdict"].tolist() == [planned.NOT_SHOWN]


def test_each_family_is_corrected_for_itself():
    arms = {arm: FLOATS + NOISE[np.roll(range(5), i)] for i, arm in enumerate(experiment.ARMS)}
    found = planned.comparisons(runs(**arms | {"pruned_distilled": FLOATS + 0.01 + NOISE}))
    sizes = found.groupby("family", sort=False).size()
    assert sizes.to_dict() == dict(zip(planned.FAMILIES, (2, 2, 1), strict=True))
    taught = found.set_index(["first", "second"]).loc[("pruned_distilled", "pruned")]
    assert taught["verdict"] == "higher"
    assert taught["p_holm"] == pytest.approx(2 * taught["p"])


def test_one_pair_tells_nothing():
    found = planned.comparisons(runs(pruned=[0.8], pruned_qat=[0.8], pruned_int8=[0.8]))
    assert set(found["verdict"]) == {"too few seeds to tell"}
    assert "one pair" in planned.told(found)[0]
    assert planned.comparisons(runs(pruned=[0.8])).empty


def test_every_arm_trains_for_as_many_epochs(monkeypatch):
    monkeypatch.setattr(experiment, "train", lambda *given, **more: epochs.append(given[3]))
    monkeypatch.setattr(experiment.dense, "kept", lambda model, named, decide, train: train())
    monkeypatch.setattr(experiment.files, "typical", lambda arrays: np.ones((4, 2, 2, 1)))
    settings = {"fine_tune": 3, "last": 2, "bits": 2, "seed": 0}
    whole = experiment.images.lenet_300_100((2, 2, 1), 2)
    for arm, way in experiment.ARMS.items():
        epochs = []
        share = ["weight", 0.5] if way.pruned else None
        made = experiment.made_of(whole, share, {}, settings | {"arm": arm})
        assert epochs == [3, 2], arm
        assert made.integers == ("int8" in arm or "qat" in arm)


# -- files and tables ----------------------------------------------------------------------


@ON_TENSORFLOW
@pytest.mark.parametrize("quantise", [False, True])
def test_zeros_are_counted_in_the_files(tmp_path, quantise):
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("tf2onnx")
    keras.utils.set_random_seed(0)
    inner = [keras.layers.Conv2D(6, 3, activation="relu"), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((6, 6, 1)), *inner, keras.layers.Dense(3)])
    ap.prune(model, 0.5, exclude=(), verbose=0)
    size = 9 * 6 + 4 * 4 * 6 * 3
    made = files.Made(model, integers=quantise)
    arrays = {"x_train": np.random.default_rng(0).normal(size=(64, 6, 6, 1)).astype("float32")}
    for kind, suffix in files.RUNTIMES.items():
        path = tmp_path / f"file{suffix}"
        files._exported(made, path, arrays)
        row = files._measured(kind, path)
        assert row["kernel_weights"] == size
        assert row["int8_weights"] == (size if quantise else 0)
        assert row["zeros"] >= size // 2 if quantise else row["zeros"] == size // 2
        assert 0 < row["gzip_bytes"] < row["file_bytes"] == path.stat().st_size


def point(kind, zeros, accuracy=0.9, setting="dense", integers=0):
    return {
        "setting": setting, "format": kind, "file": f"{setting}.{kind}", "test_accuracy": accuracy,
        "agreement": 1.0, "largest_difference": 0.0, "file_bytes": 100, "gzip_bytes": 100 - zeros,
        "kernel_weights": 100, "zeros": zeros, "int8_weights": integers,
    }  # fmt: skip


RECORDS = [
    {"settings": {"arm": arm, "seed": seed, "network": "mlp"}, "result": {"points": points}}
    for seed in (0, 1)
    for arm, points in {
        "dense": [point("keras", 0), point("litert", 0)],
        "pruned": [point("keras", 80, 0.8, "80 %"), point("litert", 75, 0.8, "80 %", 100)],
    }.items()
]
TIMES = {
    "settings": {"arm": "times", "seed": 0, "network": "mlp"},
    "result": {"times": [{"name": "80 %.litert", "median_ms": 1.0, "ratio": 0.5}]},
}


def test_each_arm_has_its_formats_beside_each_other():
    runs = report.wide(report.files_table([*RECORDS, TIMES]))
    pruned = runs[runs["arm"] == "pruned"].iloc[0]
    assert pruned["smaller"] == 100 / 25
    assert pruned["litert_zero_share"] == 0.75
    assert pruned["litert_time_ratio"] == 0.5
    assert not [name for name in runs if name.startswith("onnx")]  # nothing was measured
    assert report.summary_table(runs)["litert_accuracy"].tolist() == pytest.approx([0.9, 0.8])


def test_lost_zeros_are_told():
    zeros = report.zeros_table(report.files_table(RECORDS))
    assert zeros.set_index("arm")["lost"].to_dict() == {"dense": 0, "pruned": 5}
    assert "all but 5 zeros" in report._zeros(zeros)[0]


def test_times_are_measured_by_runtime_the_dense_file_first():
    options = SimpleNamespace(dataset="digits", rounds=5)
    found = experiment.timings(options, RECORDS)
    assert [(one["format"], one["seed"]) for one in found[:2]] == [("litert", 0), ("litert", 1)]
    assert found[0]["files"] == ["dense.litert", "80 %.litert"]


def test_nothing_to_prune_is_refused(capsys):
    with pytest.raises(SystemExit):
        experiment.main(["--shares", "--units"])
    assert "nothing would be pruned" in capsys.readouterr().err


# -- end to end ----------------------------------------------------------------------------


@pytest.mark.slow
@ON_TENSORFLOW
def test_combined_compression_end_to_end(tmp_path, monkeypatch, capsys):
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("tf2onnx")
    monkeypatch.setenv(dense.FOLDER, "")  # what the experiment sets itself, taken back afterwards
    handler = signal.getsignal(signal.SIGTERM)
    tiny = ["--networks", "resnet_8", "--samples", "200", "--seeds", "1", "--epochs", "1"]
    tiny += ["--fine-tune", "1", "--last", "1", "--rounds", "2", "--shares", "0.8", "--units"]
    tiny += ["--arms", "dense", "pruned", "pruned_qat", "pruned_distilled_qat", "clustered"]
    code = experiment.main(["--out", str(tmp_path), *tiny])
    signal.signal(signal.SIGTERM, handler)
    printed = capsys.readouterr()
    assert code == 0, printed.out + printed.err
    sheets = pd.read_excel(tmp_path / "combined_compression.xlsx", sheet_name=None)
    summary = sheets["Summary"]
    assert len(summary) == 5
    zeros = sheets["Zeros in files"]
    assert zeros["lost"].max() <= 0
    assert zeros["same_weights"].all()
    integers = zeros["arm"].str.contains("qat")
    assert (zeros.loc[integers, "int8_share"] == 1).all()
    assert (zeros.loc[~integers, "int8_share"] == 0).all()
    clustered = summary[summary["arm"] == "clustered"]
    assert (clustered["container_bytes"] < clustered["keras_gzip_bytes"]).all()
    assert len(sheets["Planned comparisons"]) == 2
    assert (sheets["Runs"]["litert_time_ratio"] > 0).all()
    timed = json.loads(next((tmp_path / "runs").glob("*times*.json")).read_text())
    assert len(timed["result"]["times"]) == 5
