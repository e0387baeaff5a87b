"""Model inputs, batch by batch, from whatever users have their data in."""

from __future__ import annotations

import contextlib
import functools
import operator
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from activation_pruning import keras_private, sites
from activation_pruning.evidence import fitting, reading, sparse
from activation_pruning.sites import LiveSites, padding
from activation_pruning.support.types import Array, Arrays, Data, Model


def inputs_of(data: Data, batch_size: int = 256, model: Model | None = None) -> Iterator[Any]:
    """Yield the inputs of `data` in batches.

    Args:
        data: an array or tensor, also a sparse one; a list or dict of them (several inputs); a
            tuple `(x, y)` or `(x, y, weights)`; a `keras.utils.PyDataset`; or any iterable of
            batches (`tf.data.Dataset`, torch `DataLoader`, generator), each `x` or `(x, y, ...)`.
        batch_size: samples per batch for arrays; data that is batched already keeps its own.
        model: that the inputs are for. A Sequential or Functional one says their shapes, and how
            many inputs it has: a list of another number of arrays is a list of batches.

    Raises:
        ValueError: when there are no samples, or inputs of a shape that the model does not take.
        TypeError: when `data` is none of these.

    Example:
        >>> [len(x) for x in inputs_of((np.zeros((5, 2)), np.zeros(5)), batch_size=2)]
        [2, 2, 1]
    """
    expected = fitting.inputs(model)
    for batch in map(sparse.dense, reading.some(_batched(data, batch_size, len(expected)))):
        if not all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(batch)):
            raise TypeError(
                f"data must yield batches whose inputs are arrays, received "
                f"{type(batch).__name__}; convert with np.asarray"
            )
        fitting.check_inputs(batch, expected)
        if length(batch):
            yield batch


def to_run(
    data: Data, batch_size: int = 256, model: Model | None = None
) -> Iterator[tuple[Any, int]]:
    """Yield `(inputs, samples)`: the inputs of `data` as the model can be run on them.

    A model of a fixed batch size is given batches of that size; the last sample fills them up, and
    only the first `samples` count. Each batch of a stateful recurrent layer starts from zeros.

    Args, raises: as for `inputs_of`.

    Example:
        >>> model = keras.Sequential([keras.Input(batch_shape=(4, 2)), keras.layers.Dense(1)])
        >>> [(len(x), samples) for x, samples in to_run(np.zeros((5, 2)), model=model)]
        [(4, 4), (4, 1)]
    """
    size = model and sites.batch_size(model)
    with ready(model):
        for batch in inputs_of(data, size or batch_size, model):
            samples = length(batch)
            for start in range(0, samples, size or samples):
                rows = np.arange(start, start + (size or samples))
                part = batch if len(rows) == samples else _rows(batch, rows.clip(max=samples - 1))
                yield part, min(len(rows), samples - start)


def whole(data: Data, batch_size: int = 256, model: Model | None = None) -> Iterator[Any]:
    """Yield inputs as `to_run`, for what looks at a batch as one: no batch is filled up.

    Of a model of a fixed batch size a warning says how many samples are left out.
    """
    size = model and sites.batch_size(model)
    with ready(model):
        found = ((x,) for x in inputs_of(data, size or batch_size, model))
        yield from (x for (x,) in (found if size is None else _whole(found, size)))


def pairs_of(
    data: Data, batch_size: int = 64, model: Model | None = None
) -> Iterator[tuple[Any, Any]]:
    """Yield `(inputs, labels)` of `data` in batches, for what looks at the loss.

    Of a model of a fixed batch size only whole batches: a warning says how many samples are left
    out. Each batch of a stateful recurrent layer starts from zeros.

    Args, raises: as for `inputs_of`, but data is `(x, y)`, `(x, y, weights)` or batches of these
    (weights are not used); ValueError, too, for no labels, or not as many as there are samples.

    Example:
        >>> pairs = pairs_of((np.zeros((5, 2)), np.arange(5)), batch_size=3)
        >>> [(len(x), y.tolist()) for x, y in pairs]
        [(3, [0, 1, 2]), (2, [3, 4])]
    """
    size = model and sites.batch_size(model)
    with ready(model):
        found = _pairs(data, size or batch_size, model)
        yield from found if size is None else _whole(found, size)


def _pairs(data, batch_size, model):
    expected = fitting.inputs(model)
    if isinstance(data, tuple) and len(data) > 1:
        x, y = data[:2]
        _check_pair(x, y, len(expected))
        yield from zip(inputs_of(x, batch_size, model), _slices(y, batch_size), strict=True)
        return
    iterable = isinstance(data, keras.utils.PyDataset) or hasattr(data, "__iter__")
    if _arrays(data) or not iterable:
        raise ValueError("data holds no labels, which the loss needs: give data=(x, y)")
    for batch in reading.some(reading.batches_in(data)):
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise ValueError("data yields no labels, which the loss needs: batches of (x, y)")
        x, y = sparse.dense(batch[0]), batch[1]
        fitting.check_inputs(x, expected)
        fitting.check_finite(y, "the labels of data hold")
        if length(x):
            yield x, y


def _whole(pairs, size):
    """Batches of `size` samples, cut out of others; a warning where samples are left over."""
    left, runs = 0, 0
    for pair in pairs:
        samples = length(pair[0])
        for start in range(0, samples - size + 1, size):
            runs += 1
            yield pair if samples == size else _rows(pair, np.arange(start, start + size))
        left += samples % size
    if not runs:
        raise ValueError(
            f"data holds no batch of {size} samples, the only size that the model takes, and what "
            "would fill one up cannot be left out of what is computed of it; give more samples"
        )
    if left:
        warnings.warn(
            f"{left} samples of data are left out: the model takes batches of {size} only, and a "
            "batch counts as a whole here",
            stacklevel=2,
        )


def _rows(batch, rows):
    return keras.tree.map_structure(lambda leaf: keras.ops.convert_to_numpy(leaf)[rows], batch)


def stateless(model: Model | None) -> AbstractContextManager[None]:
    """While it lasts, stateful layers start from zeros, and their states stay as they are."""
    layers = keras_private.with_sublayers(model) if model is not None else []
    stateful = [layer for layer in layers if getattr(layer, "stateful", None) is True]
    return keras_private.overridden((layer, "stateful", False) for layer in stateful)


@contextlib.contextmanager
def ready(model: Model | None) -> Iterator[None]:
    """The model as it is to be run: without states, and with masks that reach into attention."""
    layers = padding.attentions(model) if model is not None else []
    calls = ((one, "call", functools.partial(padding.inside, one.call, one)) for one in layers)
    with stateless(model), keras_private.overridden(calls):
        yield


def count(data: Data, batch_size: int, model: Model | None = None) -> int | None:
    """How many batches `inputs_of` will yield, or None where `data` does not say.

    Example:
        >>> count((np.zeros((5, 2)), np.zeros(5)), batch_size=2), count(iter([]), batch_size=2)
        (3, None)
    """
    data = data[0] if isinstance(data, tuple) else data
    if _unbatched(data, len(fitting.inputs(model))):
        return -(-length(data) // ((model and sites.batch_size(model)) or batch_size))
    return operator.length_hint(data) or None


def length(batch: Any) -> int:
    """How many samples a batch of inputs holds."""
    return fitting.samples(keras.tree.flatten(batch)[0])


def means(live_sites: LiveSites, shares: Iterable[tuple[float, Iterable[list[Array]]]]) -> Arrays:
    """Means over batches: {site name: float64 array of the kernel's shape}.

    shares: for each batch its weight, such as its number of samples, and what it adds to the sums:
    lists that hold an array for each site.
    """
    sums, weights = [np.zeros(tuple(site.variable.shape)) for site in live_sites], 0.0
    for weight, added in shares:
        weights += weight
        for arrays in added:
            for own, values in zip(sums, arrays, strict=True):
                with np.errstate(invalid="ignore"):  # who asked looks for what is not finite
                    own += values
    return {site.name: own / weights for site, own in zip(live_sites, sums, strict=True)}


def _check_pair(x, y, inputs):
    if not all(hasattr(leaf, "shape") for leaf in keras.tree.flatten([x, y])):
        raise TypeError("data=(x, y) must hold arrays; convert lists with np.asarray")
    _check_several(x, inputs)
    lengths = [
        sorted({fitting.samples(leaf) for leaf in keras.tree.flatten(part)}) for part in (x, y)
    ]
    if lengths[0] != lengths[1]:
        raise ValueError(f"data holds {lengths[0]} samples and {lengths[1]} labels")
    fitting.check_finite(y, "the labels of data hold")


def _check_several(x, inputs):
    if inputs > 1 and hasattr(x, "shape"):
        raise ValueError(
            f"data=tuple of arrays is read as (x, y), but the model takes {inputs} inputs; give "
            "([x1, x2, ...], y), or, where no labels are needed, [x1, x2, ...]"
        )


def _batched(data, batch_size, inputs):
    if isinstance(data, tuple):
        data = data[0]
        _check_several(data, inputs)
    if _unbatched(data, inputs):
        return _slices(data, batch_size)
    iterable = hasattr(data, "__iter__") and not isinstance(data, (str, bytes, dict))
    if not iterable and not isinstance(data, keras.utils.PyDataset):
        raise TypeError(
            f"data must be an array, (x, y), a tf.data.Dataset, a PyDataset or an iterable of "
            f"batches, received {type(data).__name__}"
        )
    batched = reading.batches_in(data)
    return (batch[0] if isinstance(batch, (tuple, list)) else batch for batch in batched)


def _unbatched(data, inputs):
    """Whether `data` is all the inputs at once; `inputs` says how many, 0 where unknown."""
    return _arrays(data) and not (isinstance(data, list) and inputs not in (0, len(data)))


def _arrays(data):
    """Whether `data` is an array, or a list or dict of arrays (a list of tuples is batches)."""
    parts = data.values() if isinstance(data, dict) else data if isinstance(data, list) else [data]
    return bool(parts) and all(hasattr(part, "shape") for part in parts)


def _slices(data, batch_size):
    lengths = {fitting.samples(leaf) for leaf in keras.tree.flatten(data)}
    if len(lengths) != 1:
        raise ValueError(f"data holds arrays of different lengths: {sorted(lengths)}")
    data = keras.tree.map_structure(sparse.sliceable, data)
    for start in range(0, lengths.pop(), batch_size):
        part = keras.tree.map_structure(lambda leaf: leaf[start : start + batch_size], data)  # noqa: B023
        yield keras.tree.map_structure(np.asarray, sparse.dense(part))
