"""Checks of arguments that several modules take."""

import math
from numbers import Integral, Real


def check_sparsity(name, value):
    """Raise unless the value is a fraction in [0, 1).

    Args:
        name: of the argument, for the message.
        value: what was received.

    Raises:
        ValueError: names the argument, the value and what is allowed.

    Example:
        >>> check_sparsity("final_sparsity", 80)
        Traceback (most recent call last):
            ...
        ValueError: final_sparsity=80; it must be a fraction in [0, 1), 0.8 for 80 %.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < 1:
        raise ValueError(f"{name}={value!r}; it must be a fraction in [0, 1), 0.8 for 80 %.")


def check_number(name, value, least=-math.inf, hint=""):
    """Raise unless the value is a finite number of at least `least`.

    Args:
        name: of the argument, for the message.
        value: what was received.
        least: smallest number allowed.
        hint: what else to say, such as the unit.

    Raises:
        ValueError: names the argument, the value and what is allowed.

    Example:
        >>> check_number("max_loss", -1, 0, "0.01 is one point")
        Traceback (most recent call last):
            ...
        ValueError: max_loss=-1; it must be a finite number of at least 0: 0.01 is one point.
    """
    known = isinstance(value, Real) and not isinstance(value, bool)
    if not (known and math.isfinite(value) and value >= least):
        limit = "" if least == -math.inf else f" of at least {least}"
        hint = f": {hint}" if hint else ""
        raise ValueError(f"{name}={value!r}; it must be a finite number{limit}{hint}.")


def check_count(name, value, least):
    """Raise unless the value is an integer of at least `least`.

    Args:
        name: of the argument, for the message.
        value: what was received.
        least: smallest integer allowed.

    Raises:
        ValueError: names the argument, the value and what is allowed.

    Example:
        >>> check_count("frequency", 0, 1)
        Traceback (most recent call last):
            ...
        ValueError: frequency=0; it must be an integer of at least 1.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name}={value!r}; it must be an integer of at least {least}.")
