"""The experiments that compact recurrent networks and transformers: tables by hand; end to end."""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(FOLDER))  # as when a script of that folder runs

compacting = importlib.import_module("lab.compacting")
report = importlib.import_module("lab.compacting_report")
sequences = importlib.import_module("lab.sequences")
recurrent = importlib.import_module("recurrent_compaction")
transformer = importlib.import_module("transformer_compaction")

LAYOUT = """# nine speakers
@problemName Spoken
@dimensions 2
@classLabel true 1 2 3
@data
1.5,2,3:-1,-2,-3:1
4,5:6,7:3
"""


# -- data ----------------------------------------------------------------------------------


def test_sequences_of_several_lengths_are_read(tmp_path):
    path = tmp_path / "some.ts"
    path.write_text(LAYOUT)
    found, labels = sequences.read(path)
    assert [one.tolist() for one in found] == [[[1.5, -1], [2, -2], [3, -3]], [[4, 6], [5, 7]]]
    assert labels.tolist() == [0, 2]


@pytest.fixture
def spoken(tmp_path, monkeypatch):
    """A package aeon with two sequences in each part."""
    folder = tmp_path / "aeon" / "datasets" / "data" / "JapaneseVowels"
    folder.mkdir(parents=True)
    for part in ("TRAIN", "TEST"):
        (folder / f"JapaneseVowels_{part}.ts").write_text(LAYOUT)
    (tmp_path / "aeon" / "__init__.py").write_text("raise RuntimeError('only files are read')")
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("aeon", None)


def test_steps_are_scaled_and_zeros_stand_behind_the_end(spoken):
    arrays = sequences.load(sequences.VOWELS)
    assert arrays["x_train"].shape == (2, 3, 2)
    steps = np.concatenate([arrays["x_train"][0], arrays["x_train"][1, :2]])
    np.testing.assert_allclose(steps.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(steps.std(axis=0), 1, rtol=1e-6)
    assert arrays["x_train"][1, 2].tolist() == [0, 0]
    assert len(sequences.load(sequences.VOWELS, samples=1)["y_train"]) == 1
    with pytest.raises(ValueError, match=r"--samples 3: japanese_vowels has 2 training samples"):
        sequences.load(sequences.VOWELS, samples=3)


def test_without_the_package_the_experiment_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(sequences.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        recurrent.main([])
    assert stopped.value.code == 2
    assert "pip install --no-deps aeon" in capsys.readouterr().err


def test_rows_of_images_are_steps():
    assert sequences.load("digits")["x_train"].shape == (1437, 8, 8)


# -- tables --------------------------------------------------------------------------------


def point(accuracy, parameters, file, share=None):
    row = {"share": share, "file": file, "file_bytes": 4 * parameters, "parameters": parameters}
    row |= {"multiply_adds": 10 * parameters, "test_accuracy": accuracy}
    return row | ({"accuracy_untuned": 0.5, "largest_difference": 1e-7} if share else {})


def record(arm, seed, **result):
    return {"settings": {"arm": arm, "seed": seed, "network": "gru"}, "result": result}


RECORDS = [
    found
    for seed in (0, 1)
    for found in (
        record("dense", seed, points=[point(0.9, 100, f"dense {seed}")]),
        record("random", seed, points=[point(0.8, 25, f"random {seed}", share=0.5)]),
        record("activation", seed, points=[point(0.7 + 0.1 * seed, 25, f"a {seed}", share=0.5)]),
    )
]
TIMES = [
    {"name": "dense 0", "median_ms": 8.0, "ratio": 1.0},
    {"name": "random 0", "median_ms": 2.0, "ratio": 0.25},
]


def tables():
    runs = report.runs_table(
        [*RECORDS, record("times", 0, times=TIMES)], "pruned_share", {"network": "network"}
    )
    parts = runs[runs["arm"] == "dense"], runs[runs["arm"] != "dense"]
    return runs, report.beside_dense(*parts, ["pruned_share", "network"])


def test_runs_have_the_times_of_their_networks():
    runs, _ = tables()
    speedup = runs.set_index(["arm", "seed"])["speedup"]
    assert speedup[("random", 0)] == 4
    assert speedup[("random", 1)] != speedup[("random", 1)]  # not measured


def test_what_is_left_is_a_share_of_the_dense_network_of_the_same_seed():
    _, beside = tables()
    left = report.means(beside, ["pruned_share", "network"]).set_index("arm")
    names = ["parameters_share", "multiply_adds_share", "file_bytes_share", "time_share"]
    assert left.loc["random", names].tolist() == [0.25] * 4
    against = left["accuracy_against_dense"]
    assert against[["random", "activation"]].tolist() == pytest.approx([-0.1, -0.15])


def test_one_trial_per_seed_measures_times_the_dense_network_first():
    options = SimpleNamespace(dataset="digits", rounds=5)
    found = compacting.timings(options, [RECORDS[1], *RECORDS])
    assert [one["seed"] for one in found] == [0, 1]
    assert found[1]["files"] == ["dense 1", "random 1", "a 1"]
    assert compacting.timings(options, RECORDS[1:3]) == []  # nothing to compare with
    assert compacting.timings(options, [{"settings": {}, "traceback": "failed"}]) == []


def test_outputs_that_differ_are_refused(monkeypatch):
    monkeypatch.setattr(compacting, "outputs", lambda model, arrays: np.full((2, 2), model))
    assert compacting.difference(0.5, 0.50005, {}) == pytest.approx(5e-5)
    for other in (0.51, np.nan):
        with pytest.raises(ValueError, match="outputs of the compacted network differ by"):
            compacting.difference(0.5, other, {})


# -- networks ------------------------------------------------------------------------------


def test_the_places_of_a_transformer_are_learned_and_padding_is_left_out():
    keras.utils.set_random_seed(0)
    model = transformer.build((6, 3), classes=2, width=8, blocks=1, heads=2)
    assert model.get_layer("places").trainable_weights
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    x[:, 4:] = 0
    shorter = transformer.build((4, 3), classes=2, width=8, blocks=1, heads=2)
    weights = model.get_weights()
    places = [w.shape == (6, 8) for w in weights]
    shorter.set_weights([w[:4] if at else w for w, at in zip(weights, places, strict=True)])
    np.testing.assert_allclose(model(x), shorter(x[:, :4]), rtol=1e-5)


@pytest.fixture
def run(run):
    """Runs an experiment; returns the sheets of its workbook."""
    return lambda *given: pd.read_excel(run(*given)[0], sheet_name=None)


TINY = ["--dataset", "digits", "--samples", "200", "--seeds", "1", "--epochs", "1"]
TINY += ["--fine-tune", "1", "--rounds", "2"]


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="batches are tf.data")
def test_recurrent_compaction_end_to_end(tmp_path, run):
    tiny = ["--networks", "lstm", "bidirectional", "--arms", "dense", "activation", "random"]
    sheets = run(recurrent, *TINY, *tiny, "--units", "8", "--shares", "0.5")
    runs = sheets["Runs"].set_index(["network", "arm"])
    units, read = 4, 8  # half of the units, which read eight pixels and each other
    gates = 4 * units * (read + units + 1)
    assert (runs.loc["lstm", "parameters"] == gates + (units + 1) * 10).all()
    both = 2 * 4 * 2 * (read + 2 + 1)
    assert (runs.loc["bidirectional", "parameters"] == both + (2 * 2 + 1) * 10).all()
    assert runs["largest_difference"].max() <= 1e-4
    assert (runs["speedup"] > 0).all()
    assert len(sheets["What is left"]) == 2 * 2
    saved = next(tmp_path.glob("networks/*activation*-50.keras"))
    assert keras.saving.load_model(saved).get_layer("output").units == 10


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="batches are tf.data")
def test_transformer_compaction_end_to_end(tmp_path, run):
    tiny = ["--arms", "dense", "magnitude", "random", "--blocks", "1", "--width", "16"]
    sheets = run(transformer, *TINY, *tiny, "--budgets", "0.6")
    left = sheets["What is left"]
    assert left["multiply_adds_share"].between(0.4, 0.6).all()  # never above the budget
    assert sheets["Runs"]["largest_difference"].max() <= 1e-4
    timed = json.loads(next((tmp_path / "runs").glob("times*.json")).read_text())
    assert len(timed["result"]["times"]) == 3
