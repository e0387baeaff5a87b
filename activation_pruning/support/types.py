"""Names for the types that recur in signatures."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

Array: TypeAlias = NDArray[Any]  # of numbers
Mask: TypeAlias = NDArray[np.bool_]  # True where a weight is alive
Masks: TypeAlias = dict[str, Mask]  # site name -> mask
Arrays: TypeAlias = dict[str, Array]  # site name -> array
Scores: TypeAlias = NDArray[Any]  # one number for each weight; low ones are pruned first
Table: TypeAlias = pd.DataFrame
Path: TypeAlias = str | os.PathLike[str]
Model: TypeAlias = "keras.Model"
# What `include` and `exclude` take: names, patterns, layers, one or several.
Layers: TypeAlias = "str | keras.Layer | Sequence[str | keras.Layer] | None"
Data: TypeAlias = Any  # an array, (x, y), a tf.data.Dataset, a PyDataset, an iterable of batches
Criterion: TypeAlias = "str | Callable[[Any], Scores]"  # a registered name, or site -> scores
Named: TypeAlias = "str | Callable[..., Any]"  # a registered name, or such an object itself
Progress: TypeAlias = Callable[[int, int], None]  # called with (work done, work in all)


class Site(Protocol):
    """What decisions read of a `sites.Site`: names and plain arrays."""

    @property
    def name(self) -> str: ...
    @property
    def kernel(self) -> Array: ...
    @property
    def mask(self) -> Mask: ...
    @property
    def units(self) -> Array: ...
    @property
    def input_axis(self) -> int: ...
    @property
    def activity(self) -> Any: ...
    @property
    def seed(self) -> int: ...
    @property
    def statistics(self) -> Mapping[str, Any]: ...
    @property
    def channels(self) -> Array | None: ...


Sites: TypeAlias = Sequence[Site]
