"""How models are run, as functions of a batch, and checks of the data that they are run on."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import keras
import numpy as np

from activation_pruning.support.checks import check_count
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Model


def runner(model: Model | Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function that is timed: from a batch to its finished outputs.

    A `keras.Model` is run by its `predict_on_batch`; TypeError for what cannot be called.
    """
    if isinstance(model, keras.Model):
        return model.predict_on_batch
    if not callable(model):
        raise TypeError(
            f"model={shown(model)} is neither a keras.Model nor a function of a batch; give "
            "lambda batch: ... around what runs it"
        )

    def run(batch):
        outputs = model(batch)
        for leaf in keras.tree.flatten(outputs):
            if hasattr(leaf, "block_until_ready"):  # JAX answers before it is done
                leaf.block_until_ready()
            elif keras.ops.is_tensor(leaf):
                keras.ops.convert_to_numpy(leaf)
        return outputs

    return run


def batch_of(x: Any, size: int) -> Any:
    """The first `size` samples; where there are fewer they are repeated.

    Example:
        >>> batch_of(np.arange(3), 5).tolist()
        [0, 1, 2, 0, 1]
    """
    samples = _lengths("x", x)
    if len(samples) > 1 or samples == [0]:
        raise ValueError(f"x has {samples} samples; give as many, at least 1, of each input")
    return keras.tree.map_structure(lambda a: np.asarray(a)[np.arange(size) % samples[0]], x)


def checked_sizes(batch_sizes: Any) -> list[int]:
    """Batch sizes, one or several, as a list; raises for one below 1."""
    sizes: list = [batch_sizes] if isinstance(batch_sizes, Integral) else list(batch_sizes)
    for size in sizes:
        check_count("batch_sizes", size, 1)
    return sizes


def check_samples(x: Any, y: Any) -> int:
    """The number of samples; a ValueError unless inputs and labels hold as many, at least one."""
    inputs, labels = _lengths("x", x), _lengths("y", y)
    if len({*inputs, *labels}) != 1:
        raise ValueError(
            f"x has {inputs} samples and y has {labels} labels; give one label for each sample"
        )
    if inputs == [0]:
        raise ValueError("x is empty: there is nothing to evaluate on")
    return inputs[0]


def _lengths(name, data):
    """The different numbers of samples in `data`, an array or a list or dict of arrays."""
    leaves = keras.tree.flatten(data)
    if not leaves or not all(getattr(leaf, "shape", ()) for leaf in leaves):
        kinds = "an array (or a list or dict of arrays) with samples first"
        raise ValueError(f"{name} must be {kinds}; use np.asarray")
    return sorted({int(leaf.shape[0]) for leaf in leaves})
