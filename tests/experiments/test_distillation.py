"""Pruned networks that learn on from labels alone, or from a dense teacher."""

import importlib
import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))  # as when a script runs

distillation = importlib.import_module("distillation")
datasets = importlib.import_module("lab.datasets")


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """(records of all arms, options): trials run here, one after the other."""
    monkeypatch.setenv("ACTIVATION_PRUNING_NETWORKS", str(tmp_path / "networks"))
    parsers = []
    monkeypatch.setattr(
        distillation.study, "run", lambda parser, given, *rest: parsers.append(parser)
    )
    distillation.main([])
    quick = "--hidden 12 8 --images 200 --epochs 2 --more-epochs 2 --seeds 2 --sparsities 0.5 0.8"
    options = parsers[0].parse_args(["--out", str(tmp_path), *quick.split()])
    settings = distillation.grid(options, datasets.fingerprint(datasets.load("digits")))
    records = [{"name": "", "settings": s, "result": distillation.work(s)[0]} for s in settings]
    return records, vars(options)


def test_every_arm_trains_as_long_from_the_same_network(ran, tmp_path, capsys):
    records, options = ran
    assert len(records) == 2 * (1 + 3 * 2)  # the dense network trains on once per seed
    results = pd.DataFrame(record["settings"] | record["result"] for record in records)
    asked = pd.Series([record["settings"]["sparsity"] for record in records])
    assert results["sparsity"].to_numpy() == pytest.approx(asked.to_numpy(), abs=2e-3)
    assert results["warnings"].map(len).sum() == 0
    for _, rows in results.groupby("seed"):
        assert rows["teacher_accuracy"].nunique() == 1
    for _, rows in results[results["arm"] != "dense"].groupby(["seed", asked]):
        assert rows["pruned_accuracy"].nunique() == 1  # the same weights went
    assert distillation.study.describe(records[0]["result"])
    distillation.publish(records, tmp_path, options)
    assert "0.8" in capsys.readouterr().out or (tmp_path / "distillation.xlsx").exists()
    book = pd.read_excel(tmp_path / "distillation.xlsx", None)
    assert set(book["Summary"]["arm"]) == set(distillation.ARMS)
    differences = book["Differences"]
    assert len(differences) == 2 * 3  # to fine_tuned, at each sparsity
