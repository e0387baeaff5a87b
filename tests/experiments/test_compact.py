"""compact_cnn and compression_report: tables known by hand; each in small, end to end."""

import importlib
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(FOLDER))  # as when a script of that folder runs

compact_report = importlib.import_module("compact_cnn_report")
compact_cnn = importlib.import_module("compact_cnn")
compression_report = importlib.import_module("compression_report")
compression_tables = importlib.import_module("compression_report_tables")
images = importlib.import_module("lab.images")
network = importlib.import_module("lab.network")


def stage(name, accuracy, parameters, **more):
    row = {"stage": name, "test_accuracy": accuracy, "test_loss": 1.0, "parameters": parameters}
    return row | {"multiply_adds": 10 * parameters, "file_size_bytes": 4 * parameters} | more


def record(arm, seed, stages):
    settings = {"network": "net", "arm": arm, "seed": seed, "samples": None}
    return {"settings": settings, "result": {"stages": stages, "layers": [], "warnings": []}}


RECORDS = [
    record(arm, seed, stages)
    for seed in (0, 1)
    for arm, stages in {
        "dense": [stage("dense", 0.9, 100)],
        "random": [
            stage("pruned", 0.7, 100),
            stage("compact", 0.7, 25, largest_difference=1e-6 * (1 + seed)),
            stage("fine-tuned", 0.8, 25),
        ],
        "activation": [stage("pruned", 0.5, 100), stage("fine-tuned", 0.85 + 0.02 * seed, 25)],
    }.items()
]


def test_the_last_network_is_a_share_of_the_dense_one():
    stages = compact_report.stages_table(RECORDS)
    summary = compact_report.summary_table(stages, compact_report.times_table([]))
    last = compact_report.final_table(summary).set_index("arm")
    assert last["test_accuracy"].to_dict() == pytest.approx(
        {"dense": 0.9, "random": 0.8, "activation": 0.86}
    )
    assert (
        last.loc["random", ["parameters_share", "multiply_adds_share", "file_size_share"]]
        .eq(0.25)
        .all()
    )
    differences = compact_report.differences_table(stages).set_index(["first", "second"])
    assert differences.loc[("activation", "random"), "accuracy_difference"] == pytest.approx(0.06)
    assert differences.loc[("random", "dense"), "accuracy_difference"] == pytest.approx(-0.1)
    told = compact_report.findings(summary, differences.reset_index(), RECORDS)
    assert "net, compact and fine-tuned, best mean first: activation 86.00%, random 80.00%." in told
    assert "net, largest difference of any probability: compact 2.0e-06." in told


@pytest.mark.parametrize(("name", "side"), [("lenet_5", 8), ("lenet_5", 28), ("resnet_8", 28)])
def test_networks_are_those_of_the_papers(name, side):
    model = images.NETWORKS[name]((side, side, 1), 10)
    assert model.output_shape == (None, 10)
    if (name, side) == ("lenet_5", 28):
        assert model.count_params() == 61_706  # with all 6 maps connected to all 16
    if name == "resnet_8":  # strided 1 by 1 kernels crash in TensorFlow's gradient on a CPU
        kernels = [w.shape for layer in model.layers for w in layer.weights if len(w.shape) == 4]
        assert [shape[:2] for shape in kernels].count((2, 2)) == 2
        assert not [shape for shape in kernels if shape[:2] == (1, 1)]


def test_a_copy_has_the_weights_and_no_optimizer():
    model = images.compiled(images.lenet_300_100((8, 8, 1), 10), 1e-3)
    copy = images.copy(model)
    assert not copy.compiled
    for one, other in zip(model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_grades_by_hand():
    grades = network.graded(np.array([[0.8, 0.2], [0.6, 0.4]]), np.array([0, 1]))
    assert grades["accuracy"] == 0.5
    assert grades["loss"] == pytest.approx(-np.log(0.8 * 0.4) / 2)


def test_size_is_compared_with_the_dense_weights():
    rows = [("dense", "float32", 400), ("dense", "csr", 500), ("pruned", "csr", 100)]
    sizes = [dict(zip(("network", "encoding", "size_bytes"), row, strict=True)) for row in rows]
    table = compression_tables.size({"sizes": sizes})
    assert table["compression"].tolist() == [1.0, 0.8, 4.0]


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow exports")
def test_compact_cnn_end_to_end(tmp_path, run):
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("tf2onnx")
    tiny = ["--networks", "lenet_5", "--arms", "dense", "activation", "--samples", "400"]
    tiny += ["--seeds", "1", "--epochs", "4", "--fine-tune", "1", "--rounds", "2"]
    paths = run(compact_cnn, *tiny)
    runs = pd.read_excel(paths[0], sheet_name="Runs").set_index(["arm", "stage"])
    pruned = runs.loc["activation"]
    assert list(pruned.index) == ["pruned", "compact", "fine-tuned", "litert", "onnx"]
    assert pruned["largest_difference"].max() < 1e-4  # compact and the exports say the same
    for stages in (["pruned", "compact"], ["fine-tuned", "litert", "onnx"]):
        assert pruned.loc[stages, "test_accuracy"].nunique() == 1
    # 4 and 8 filters, 60 and 44 units stay; 4 maps of 1 by 1 reach the first dense layer
    expected = (9 + 1) * 4 + (4 * 9 + 1) * 8 + (8 + 1) * 60 + (60 + 1) * 44 + (44 + 1) * 10
    assert pruned.loc["compact", "parameters"] == expected
    saved = keras.saving.load_model(next(tmp_path.glob("networks/*activation*fine-tuned.keras")))
    assert saved.count_params() == expected
    times = pd.read_excel(paths[0], sheet_name="Times")
    assert len(times) == 3 + 4
    assert (times.loc[times["arm"] == "dense", "ratio_same_runtime"] == 1).all()


@pytest.mark.slow
def test_compression_report_end_to_end(tmp_path, run):
    file = tmp_path / "mine.keras"
    keras.utils.set_random_seed(0)
    keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(20, "relu"), keras.layers.Dense(10, "softmax")]
    ).save(file)
    tiny = ["--network", str(file), "--sparsities", "0.8", "--sparsity", "0.8", "--rounds", "2"]
    paths = run(compression_report, *tiny, "--thresholds", "3")
    sheets = pd.read_excel(paths[0], sheet_name=None)
    result = json.loads(next((tmp_path / "runs").glob("*-seed*.json")).read_text())["result"]
    tables = compression_tables.tables(result)
    assert {chart.sheet for chart in compression_tables.charts(tables)} == set(tables) - {
        "Warnings"
    }
    assert set(sheets) >= {*tables} - {"Warnings"} | {"Findings", "Settings"}
    layers = sheets["Connections by layer"].set_index(["layer", "state"])["connections"]
    first, second = dict.fromkeys(layers.index.get_level_values("layer"))
    assert layers[first].tolist() == [64 * 20, 64 * 20 // 5]  # 80 % of the first layer, exactly
    assert layers[second].tolist() == [20 * 10, 20 * 10]  # the output layer is left alone
    limits = sheets["Thresholds"]
    assert limits["sparsity"].is_monotonic_increasing
    assert limits["sparsity"].iloc[-1] == pytest.approx(0.99, abs=1e-3)
    gone = sheets["Accuracy and time"].set_index("network").loc["units gone"]
    assert gone["parameters"] == 65 * 10 + 11 * 10


def test_a_network_that_is_not_there_is_named(capsys):
    with pytest.raises(SystemExit) as stopped:
        compression_report.main(["--network", "lenet"])
    assert stopped.value.code == 2
    assert "neither one of lenet_300_100" in capsys.readouterr().err
