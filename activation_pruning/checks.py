"""Checks of arguments that several modules take."""

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
    if not (isinstance(value, Real) and 0 <= value < 1):
        raise ValueError(f"{name}={value!r}; it must be a fraction in [0, 1), 0.8 for 80 %.")


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
