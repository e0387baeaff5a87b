"""Which classes of layers, and operations, have a rule that says what becomes of their channels."""

from collections.abc import Callable
from typing import Any

# {class, or name of an operation: (its rule, arguments that only choose positions)}
RULES: dict[type | str, tuple[Callable[..., Any], tuple[str, ...]]] = {}
# The classes among them that users have registered.
REGISTERED: set[type] = set()


def rule_of(kind: type) -> tuple[Callable[..., Any], tuple[str, ...]] | None:
    """The rule of a class of layers; of one that adds nothing to its base, that of the base.

    Example:
        >>> class Mine(int):
        ...     pass
        >>> rule_of(Mine) is None
        True
    """
    return RULES.get(acting_as(kind))


def acting_as(kind: type) -> type:
    """The class with a rule that a class is, or that it adds nothing to; else one without.

    Example:
        >>> import keras
        >>> from activation_pruning.graph import channels
        >>> class Mine(keras.layers.LSTM):
        ...     pass
        >>> acting_as(Mine)
        <class 'keras.src.layers.rnn.lstm.LSTM'>
    """
    while kind not in RULES and not any(callable(one) for one in vars(kind).values()):
        if len(kind.__bases__) != 1:
            return kind
        (kind,) = kind.__bases__
    return kind


def known(layer: Any) -> bool:
    """Whether there is a rule for the class of a layer."""
    return rule_of(type(layer)) is not None
