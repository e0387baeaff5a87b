"""Whether inputs and labels are such as a model takes, and how many samples they hold."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from activation_pruning.sites import is_graph
from activation_pruning.support.types import Model


def inputs(model: Model | None) -> list[Any]:
    """The inputs of a Sequential or Functional model, with shapes and dtypes; others do not say."""
    return list(model.inputs) if model is not None and is_graph(model) else []


def samples(array: Any) -> int:
    """How many samples an array holds; a ValueError for a single number."""
    if not array.shape:
        raise ValueError(
            "data holds a single number; give samples along the first axis of an array"
        )
    return int(array.shape[0])


def check_inputs(batch: Any, expected: list[Any]) -> None:
    """Raise where inputs are not finite, or not of the kind and shapes that a model takes."""
    check_finite(batch, "data holds")
    leaves = keras.tree.flatten(batch)
    if isinstance(batch, dict) or len(leaves) != len(expected):
        return  # by name, in any order: Keras itself checks these
    for leaf, taken in zip(leaves, expected, strict=True):
        shape, kind = tuple(taken.shape), getattr(leaf.dtype, "kind", "")
        if kind and kind in "OSU" and taken.dtype != "string":
            raise ValueError(
                f"data holds inputs of dtype {leaf.dtype}, where the model takes {taken.dtype}; "
                f"convert them with np.asarray(..., dtype={taken.dtype!r})"
            )
        if not _fits(tuple(leaf.shape), shape):
            raise ValueError(
                f"data holds inputs of shape {tuple(leaf.shape)}, where the model takes {shape}; "
                "give inputs with the samples along the first axis, and inputs with labels as a "
                "tuple (x, y): a list is read as a list of batches"
            )


def check_finite(batch: Any, holds: str) -> None:
    """Raise ValueError where numbers are not finite; `holds` begins the message."""
    for leaf in keras.tree.flatten(batch):
        values = keras.ops.convert_to_numpy(leaf)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{holds} NaN or infinite values; clean it first")


def _fits(shape, expected):
    # Keras adds or drops a last axis of one by itself.
    given, wanted = ([*sizes] for sizes in (shape, expected))
    if len(given) == len(wanted) + 1 and given[-1] == 1:
        given.pop()
    if len(wanted) == len(given) + 1 and wanted[-1] == 1:
        wanted.pop()
    pairs = zip(given[1:], wanted[1:], strict=False)
    return len(given) == len(wanted) and all(b in (None, a) for a, b in pairs)
