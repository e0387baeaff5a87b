"""Data that comes in batches, read to its end, or as far as anyone would wait for."""

import itertools
import operator
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from activation_pruning.support.checks import check_count
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Data

MOST = 2_000  # batches that are read where data does not say how many it holds


class _First:
    """The first batches of data that is batched already."""

    def __init__(self, data: Any, steps: int) -> None:
        self.data, self.steps = data, steps

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(_batches(self.data), self.steps)

    def __length_hint__(self) -> int:
        return min(self.steps, operator.length_hint(self.data, self.steps))


def first(data: Data, steps: int | None) -> Data:
    """The first `steps` batches of data that comes in batches; all of it for None.

    Raises ValueError for steps below 1, or for arrays, which are no batches.

    Example:
        >>> endless = (keras.ops.zeros((4, 2)) for _ in iter(int, 1))
        >>> [len(x) for x in batches_in(first(endless, steps=2))]
        [4, 4]
    """
    if steps is None:
        return data
    check_count("steps", steps, 1)
    if data is None or isinstance(data, (tuple, dict, str)) or hasattr(data, "shape"):
        raise ValueError(
            f"steps={shown(steps)} counts the batches of a dataset or generator, and data is "
            "neither; leave steps out, and give fewer samples where these are too many"
        )
    return _First(data, min(steps, sys.maxsize))


def once(data: Data) -> bool:
    """Whether data can be read only once: a generator, or the first batches of one."""
    return hasattr(data.data if isinstance(data, _First) else data, "__next__")


def peeked(data: Data) -> tuple[Data, Data]:
    """(data to look at the first batch of, the same data whole): a generator loses nothing."""
    if not once(data):
        return data, data
    found = iter(data)
    begun = list(itertools.islice(found, 1))
    return begun, itertools.chain(begun, found)


def batches_in(data: Data) -> Iterable[Any]:
    """An iterable of batches from what holds batches; of one without an end the first ones."""
    cardinality = getattr(data, "cardinality", None)  # of a tf.data.Dataset
    if callable(cardinality) and int(cardinality()) == -1:  # tf.data.INFINITE_CARDINALITY
        raise ValueError(
            "data repeats without end; leave out .repeat(), end it by .take(n), or say steps=n"
        )
    return _batches(data) if _has_end(data) else _most(_batches(data))


def _has_end(data):
    if isinstance(data, _First):
        return True
    if isinstance(data, keras.utils.PyDataset):
        return _num_batches(data) is not None
    try:
        return len(data) >= 0
    except TypeError:
        return False


def _batches(data):
    if isinstance(data, keras.utils.PyDataset):
        number = _num_batches(data)
        return map(data.__getitem__, itertools.count() if number is None else range(number))
    return data


def _num_batches(data):
    try:
        return data.num_batches
    except NotImplementedError:  # it has no __len__
        return None


def _most(batched):
    """The first batches, and a warning where there are more than anyone would wait for."""
    for number, batch in enumerate(batched):
        if number == MOST:
            warnings.warn(
                f"data does not say how many batches it holds and did not end after {MOST:,}: "
                "these are used. Say how many to read: steps=100",
                stacklevel=2,
            )
            return
        yield batch


def some(batched: Iterable[Any]) -> Iterator[Any]:
    """The same batches, at least one."""
    samples = 0
    for batch in batched:
        yield batch
        samples += _samples(batch)
    if not samples:
        raise ValueError("data is empty: give at least one sample")


def _samples(batch):
    """As far as can be told: what is no array is refused elsewhere."""
    leaf = next(iter(keras.tree.flatten(batch)), None)
    return int(leaf.shape[0]) if getattr(leaf, "shape", None) else 1
