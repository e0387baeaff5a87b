"""How the tests run an experiment from end to end."""

import importlib
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))  # as when a script there runs

dense = importlib.import_module("lab.dense")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs an experiment; returns the paths that it printed."""
    monkeypatch.setenv(dense.FOLDER, "")  # what the experiment sets itself, taken back afterwards
    handler = signal.getsignal(signal.SIGTERM)

    def main(experiment, *arguments):
        code = experiment.main(["--out", str(tmp_path), *arguments])
        printed = capsys.readouterr()
        assert code == 0, printed.out + printed.err
        lines = printed.out.splitlines()
        paths = [Path(line) for line in lines if line.startswith(str(tmp_path))]
        assert {path.suffix for path in paths} == {".xlsx", ".png", ".html"}
        return paths

    yield main
    signal.signal(signal.SIGTERM, handler)
