"""Checks of the data that a model is evaluated on."""

import keras


def check_samples(x, y):
    """Raise unless inputs and labels hold the same number of samples, at least one.

    Args:
        x: an array, or a list or dict of arrays.
        y: likewise.

    Raises:
        ValueError: names both lengths.

    Example:

    >>> import numpy as np
    >>> check_samples(np.zeros((3, 2)), np.zeros(2))
    Traceback (most recent call last):
        ...
    ValueError: x has [3] samples and y has [2] labels; give one label for each sample
    """
    if not all(hasattr(leaf, "shape") for leaf in keras.tree.flatten([x, y])):
        raise ValueError("x and y must be arrays (or lists or dicts of arrays); use np.asarray")
    inputs, labels = (
        sorted({int(leaf.shape[0]) for leaf in keras.tree.flatten(part)}) for part in (x, y)
    )
    if len({*inputs, *labels}) != 1:
        raise ValueError(
            f"x has {inputs} samples and y has {labels} labels; give one label for each sample"
        )
    if inputs == [0]:
        raise ValueError("x is empty: there is nothing to evaluate on")
