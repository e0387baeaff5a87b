"""Which classes of layers, and operations, have a rule that says what becomes of their channels."""

from collections.abc import Callable
from typing import Any

# {class, or name of an operation: (its rule, arguments that only choose positions)}
RULES: dict[type | str, tuple[Callable[..., Any], tuple[str, ...]]] = {}
# The classes among them that users have registered.
REGISTERED: set[type] = set()


def known(layer: Any) -> bool:
    """Whether there is a rule for the class of a layer."""
    return type(layer) in RULES
