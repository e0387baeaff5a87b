"""Ranges, hints, versions, and what is imported for them."""

import ast
import importlib.metadata
from pathlib import Path

import keras
import numpy as np
import pytest

from activation_pruning import support
from activation_pruning.support import settings
from activation_pruning.support.checks import check_count, check_number, check_sparsity, is_number
from activation_pruning.support.names import did_you_mean, lookup


@pytest.mark.parametrize("value", [1, 0.5, np.float32(2), np.int64(3)])
def test_numbers(value):
    assert is_number(value)
    check_number("x", value, 0, most=3)


@pytest.mark.parametrize("value", [True, np.True_, "1", None, [1.0], 1j, np.nan, np.inf])
def test_what_is_no_finite_number(value):
    for check in (check_number, lambda *args: check_count(*args, 0), check_sparsity):
        with pytest.raises(ValueError, match=r"x=.*must be"):
            check("x", value)


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "words"),
    [
        ({}, [-1e9, 0, 7], [], ""),
        ({"least": 0}, [0, 5], [-1], "a finite number of at least 0."),
        ({"above": 0}, [1e-9, 5], [0, -1], "a finite number greater than 0."),
        ({"most": 2}, [-5, 2], [2.5], "a finite number of at most 2."),
        ({"below": 2}, [-5, 1.9], [2, 3], "a finite number below 2."),
        ({"least": 0, "most": 1}, [0, 1], [-1, 2], "in [0, 1]."),
        ({"above": 0, "most": 1}, [0.1, 1], [0, 2], "in (0, 1]."),
        ({"least": 0, "below": 1, "hint": "half"}, [0, 0.5], [-1, 1], "in [0, 1): half."),
        ({"above": 0, "below": 1}, [0.5], [0, 1], "in (0, 1)."),
    ],
)
def test_bounds_that_are_allowed_and_bounds_that_are_not(bounds, inside, outside, words):
    for value in inside:
        check_number("x", value, **bounds)
    for value in outside:
        with pytest.raises(ValueError, match="x=") as caught:
            check_number("x", value, **bounds)
        assert str(caught.value) == f"x={value}; it must be {words}"


def test_hints():
    assert did_you_mean("magnitud", ["erk", "magnitude"]) == "; did you mean 'magnitude'?"
    assert did_you_mean("zzz", ["erk", "magnitude"]) == ""
    assert did_you_mean(12, [123, "b"]) == "; did you mean '123'?"
    with pytest.raises(ValueError, match=r"unknown kind 3\. Valid: a, b"):
        lookup("kind", 3, {"b": 1, "a": 2})


@pytest.mark.parametrize("there", [True, False])
def test_the_version_of_the_backend_in_use_is_listed(monkeypatch, there):
    known, backend = importlib.metadata.version, keras.config.backend()

    def version(name):
        if name == "tensorflow" and not there:
            raise importlib.metadata.PackageNotFoundError
        return "2.0" if name == "tensorflow" else known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    rows = settings.settings_table().set_index("key")["value"]
    assert f"version of {backend}" in rows
    found = {name for name in ("tensorflow", "jax", "torch") if f"version of {name}" in rows}
    assert found == {backend, *(["tensorflow"] if there else [])}


def test_keras_is_not_imported_before_it_is_needed():
    for path in Path(support.__file__).parent.glob("*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = {alias.name for node in imports for alias in node.names}
        names |= {getattr(node, "module", None) for node in imports}
        assert "keras" not in names, path.name


def test_a_number_that_no_float_can_hold_is_named_and_not_written_out():
    with pytest.raises(
        ValueError, match=r"^x=1000\d*\.\.\.0+; it must be a finite number"
    ) as caught:
        check_number("x", 10**400, 0)
    assert len(str(caught.value)) < 120
