"""Modules that come with an extra."""

import pytest

from activation_pruning.support.optional import optional


def test_a_module_that_is_missing_names_the_command():
    match = r"module 'not_there', which cannot be imported .*\[extra\]'"
    with pytest.raises(ImportError, match=match):
        optional("not_there", "extra")


def test_submodules_are_returned_themselves():
    assert optional("os.path", "extra").join("a", "b")
