"""Bars where somebody looks on, a line where nobody does."""

import sys

import pytest

from activation_pruning.support.progress import ProgressBar


def shown(verbose, capsys, parts=300):
    bar = ProgressBar(verbose)
    for done in range(1, parts + 1):
        bar(done, parts)
    return capsys.readouterr().out


@pytest.mark.parametrize("verbose", [1, 2])
def test_a_log_gets_one_line(capsys, verbose):
    found = shown(verbose, capsys)
    assert len(found.strip().splitlines()) == 1
    assert "300/300" in found
    assert "\b" not in found
    assert "\r" not in found
    assert len(found) < 120


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    found = shown(1, capsys)
    assert "1/300" in found
    assert "\r" in found


def test_a_notebook_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert "\r" in shown(1, capsys)


def test_silence_is_kept_and_each_piece_of_work_has_its_line(capsys):
    assert shown(0, capsys) == ""
    bar = ProgressBar()
    bar(1, None)
    for total in (3, 5, 5):
        for done in range(1, total + 1):
            bar(done, total)
    assert len(capsys.readouterr().out.strip().splitlines()) == 3
