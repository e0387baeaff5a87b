"""How models are run, as functions of a batch, and checks of the data that they are run on."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from activation_pruning import keras_private, sites
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


@contextlib.contextmanager
def from_zeros(*models: Any) -> Iterator[None]:
    """Stateful recurrent layers start from zeros, and have their states back afterwards.

    Of what is no `keras.Model` nothing is known.
    """
    known = [model for model in models if isinstance(model, keras.Model)]
    layers = [one for model in known for one in keras_private.with_sublayers(model)]
    stateful = [one for one in layers if getattr(one, "stateful", None) is True]
    states = keras.tree.flatten([getattr(one, "states", None) or () for one in stateful])
    kept = [(state, keras.ops.convert_to_numpy(state).copy()) for state in states]
    try:
        for state, values in kept:
            state.assign(np.zeros_like(values))
        yield
    finally:
        for state, values in kept:
            state.assign(values)


def evaluated(model: Model, x: Any, y: Any, batch_size: int) -> dict[str, float]:
    """What `evaluate` says, whatever the model has seen before: stateful layers start anew."""
    with from_zeros(model):
        return model.evaluate(x, y, batch_size=batch_size, verbose=0, return_dict=True)


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


def checked_sizes(
    batch_sizes: Any,
    models: Iterable[Any],
    default: Sequence[int] = (1, 256),
    name: str = "batch_sizes",
) -> list[int]:
    """Batch sizes, one or several, as a list; None is the default, or what the models take.

    `name` is that of the argument.

    Raises ValueError for a size below 1, or one that a model of a fixed size does not take.
    """
    known = [model for model in models if isinstance(model, keras.Model)]
    if batch_sizes is None:
        fixed = [size for model in known if (size := sites.batch_size(model)) is not None]
        batch_sizes = sorted(fixed)[:1] or default
    sizes: list = list(batch_sizes) if isinstance(batch_sizes, Iterable) else [batch_sizes]
    for size in sizes:
        check_count(name, size, 1)
        for model in known:
            sites.checked_batch_size(model, size, name)
    return sizes


def whole_batches(model: Model, x: Any, y: Any, batch_size: int) -> tuple[Any, Any, int]:
    """(inputs, labels, batch size) with which a model can be evaluated or trained.

    Of a model of a fixed batch size no more samples than fill batches; a warning says how many go.
    """
    size = sites.batch_size(model) if isinstance(model, keras.Model) else None
    (samples,) = _lengths("y", y)
    if size is None:
        return x, y, batch_size
    kept = samples // size * size
    if not kept:
        raise ValueError(f"y has {samples} labels, but the model takes batches of {size} only")
    if kept < samples:
        warnings.warn(
            f"{samples - kept} of {samples} samples are left out: the model takes batches of "
            f"{size} only",
            stacklevel=3,
        )
    return *keras.tree.map_structure(lambda a: a[:kept], (x, y)), size


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
