"""Checks of the data that a model is run or evaluated on."""

from typing import Any

import keras


def lengths(name: str, data: Any) -> list[int]:
    """The different numbers of samples in `data`, an array or a list or dict of arrays.

    Raises:
        ValueError: for anything else; `name` is that of the argument.
    """
    leaves = keras.tree.flatten(data)
    if not leaves or not all(getattr(leaf, "shape", ()) for leaf in leaves):
        kinds = "an array (or a list or dict of arrays) with samples first"
        raise ValueError(f"{name} must be {kinds}; use np.asarray")
    return sorted({int(leaf.shape[0]) for leaf in leaves})


def check_samples(x: Any, y: Any) -> None:
    """Raise a ValueError unless inputs and labels hold as many samples, at least one.

    Example:
        >>> import numpy as np
        >>> check_samples(np.zeros((3, 2)), np.zeros(2))
        Traceback (most recent call last):
            ...
        ValueError: x has [3] samples and y has [2] labels; give one label for each sample
    """
    inputs, labels = lengths("x", x), lengths("y", y)
    if len({*inputs, *labels}) != 1:
        raise ValueError(
            f"x has {inputs} samples and y has {labels} labels; give one label for each sample"
        )
    if inputs == [0]:
        raise ValueError("x is empty: there is nothing to evaluate on")
