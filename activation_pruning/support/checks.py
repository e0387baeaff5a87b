"""Checks of arguments that several modules take."""

import math
from numbers import Integral, Real
from typing import Any, TypeGuard

from activation_pruning.support.shown import shown

SHARE = "0.8 for 80 %"  # what every message about a share says, for those who gave percent


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a real number, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_integer(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number, of Python or NumPy, and no truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_sparsity(name: str, value: Any) -> None:
    """Raise ValueError unless the value of the argument `name` is a fraction in [0, 1).

    Example:
        >>> check_sparsity("final_sparsity", 80)
        Traceback (most recent call last):
            ...
        ValueError: final_sparsity=80; it must be a fraction in [0, 1), 0.8 for 80 %.
    """
    if not (is_number(value) and 0 <= value < 1):
        raise ValueError(f"{name}={shown(value)}; it must be a fraction in [0, 1), {SHARE}.")


def check_number(
    name: str,
    value: Any,
    least: float = -math.inf,
    hint: str = "",
    *,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> None:
    """Raise unless the value is a finite number within bounds.

    Args:
        name: of the argument, for the message.
        value: what was received.
        least, most: smallest and largest number allowed.
        hint: what else to say, such as the unit.
        above, below: in their place, bounds that are not allowed themselves.

    Example:
        >>> check_number("decay", 0, above=0, most=1, hint="0.8 as in the paper")
        Traceback (most recent call last):
            ...
        ValueError: decay=0; it must be in (0, 1]: 0.8 as in the paper.
    """
    finite = is_number(value) and _is_finite(value)
    if not (finite and least <= value <= most and above < value < below):
        hint = f": {hint}" if hint else ""
        allowed = _allowed(least, above, most, below)
        raise ValueError(f"{name}={shown(value)}; it must be {allowed}{hint}.")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False


def _allowed(least: float, above: float, most: float, below: float) -> str:
    low, high = max(least, above), min(most, below)
    if math.isfinite(low) and math.isfinite(high):
        return f"in {'(' if low == above else '['}{low}, {high}{')' if high == below else ']'}"
    bounds = {"of at least": least, "greater than": above, "of at most": most, "below": below}
    limits = [f" {words} {bound}" for words, bound in bounds.items() if math.isfinite(bound)]
    return "a finite number" + "".join(limits)


def check_flags(**flags: Any) -> None:
    """Raise TypeError for an argument that is neither True nor False: "no" would count as True.

    Example:
        >>> check_flags(sequential="yes")
        Traceback (most recent call last):
            ...
        TypeError: sequential='yes'; it must be True or False.
    """
    for name, value in flags.items():
        if not (isinstance(value, bool) or type(value).__name__ == "bool"):  # NumPy's
            raise TypeError(f"{name}={shown(value)}; it must be True or False.")


def check_count(name: str, value: Any, least: int) -> None:
    """Raise ValueError unless the value of the argument `name` is an integer of at least `least`.

    Example:
        >>> check_count("frequency", 0, 1)
        Traceback (most recent call last):
            ...
        ValueError: frequency=0; it must be an integer of at least 1.
    """
    if not (is_integer(value) and value >= least):
        raise ValueError(f"{name}={shown(value)}; it must be an integer of at least {least}.")
