"""All experiments from one command; reports of many trials."""

import importlib
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "experiments"))  # as when a script of that folder runs

publication = importlib.import_module("lab.publication")
together = importlib.import_module("all")

FINE = """
QUICK = "--speed 2"
def main(): pass
import sys
print("ran with", sys.argv[1:])
"""


def test_every_script_with_a_main_says_its_quick_options(tmp_path):
    found = {path.stem: quick for path, quick in together.experiments().items()}
    assert set(found) >= {"activation_vs_magnitude", "compression_report", "compact_cnn"}
    assert not set(found) & {"all", "activation_vs_magnitude_tfmot"}
    assert all(option.startswith("--") for quick in found.values() for option in quick[:1])
    (tmp_path / "fine.py").write_text(FINE)
    (tmp_path / "helper.py").write_text("x = 1")
    assert together.experiments(tmp_path) == {tmp_path / "fine.py": ["--speed", "2"]}
    (tmp_path / "late.py").write_text("def main(): pass")
    with pytest.raises(ValueError, match=r"late\.py has no QUICK = "):
        together.experiments(tmp_path)


def test_each_runs_and_one_failure_is_told(tmp_path, monkeypatch, capfd):
    (tmp_path / "fine.py").write_text(FINE)
    (tmp_path / "worse.py").write_text(FINE + "sys.exit(3)")
    every = together.experiments(tmp_path)
    monkeypatch.setattr(together, "experiments", lambda: every)
    out = str(tmp_path / "out")
    assert together.main(["--quick", "--out", out]) == 1
    lines = capfd.readouterr().out.splitlines()
    assert f"ran with ['--speed', '2', '--jobs', '2', '--out', '{out}/fine']" in lines
    table = [line.split() for line in lines[-4:]]
    assert [row[:2] for row in table[1:3]] == [["fine", "0"], ["worse", "3"]]
    assert together.main(["--only", "fine", "--out", out, "--jobs", "1"]) == 0
    assert f"ran with ['--jobs', '1', '--out', '{out}/fine']" in capfd.readouterr().out


def test_help_from_the_root():
    done = subprocess.run(
        [sys.executable, "-m", "experiments.all", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "brain_surgeon" in done.stdout


def test_long_tables_stand_in_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(publication, "MOST_ROWS", 3)
    tables = {"Short": pd.DataFrame({"a": range(3)}), "Very long": pd.DataFrame({"a": range(4)})}

    def publish(tables):
        publication.Publication("study", "A study", ["Found."], "", tables, [], {}).write(
            tmp_path, pd.DataFrame({"key": ["seeds"], "value": ["0"], "unit": [""]})
        )
        return pd.read_excel(tmp_path / "study.xlsx", sheet_name=None)

    sheets = publish(tables)
    assert set(sheets) == {"Findings", "Short", "Settings"}
    told = "The table Very long has 4 rows and stands in study_very_long.csv."
    assert sheets["Findings"]["finding"].tolist() == ["Found.", told]
    assert pd.read_csv(tmp_path / "study_very_long.csv")["a"].tolist() == [0, 1, 2, 3]
    assert str(tmp_path / "study_very_long.csv") in capsys.readouterr().out
    assert "Very long" in publish(tables | {"Very long": tables["Short"]})
    assert not (tmp_path / "study_very_long.csv").exists()  # the older one


def test_rows_of_records_have_the_run_in_front():
    settings = {"arm": "a", "sparsity": 0.8, "events": 5, "seed": 1}
    records = [
        {"settings": settings, "result": {"history": [{"epoch": 1, "loss": 2.0}, {"epoch": 2}]}},
        {"settings": settings | {"seed": 2}, "result": {"history": []}},
        {"settings": settings | {"seed": 3}, "result": {}},
    ]
    table = publication.rows(records, "history")
    names = ["arm", "run_target_sparsity", "run_events", "seed", "epoch", "loss"]
    assert table.columns.tolist() == names
    assert table["epoch"].tolist() == [1, 2]
    assert table["loss"].isna().tolist() == [False, True]
    assert publication.rows(records, "events").empty
