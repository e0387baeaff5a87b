"""Which weights were pruned last: known as long as the model lives, in no file and no copy."""

import dataclasses
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from activation_pruning.hooks.masking import Maskable
from activation_pruning.support.types import Array, Mask, Masks


@dataclasses.dataclass(frozen=True)
class _Pruned:
    bits: Array
    shape: tuple[int, ...]
    history: Callable[[], Any]  # of the last `fit` before that


_LAST: dict[int, _Pruned] = {}  # by id(variable)


def remember(model: keras.Model, live_sites: Iterable[Maskable], masks: Masks) -> None:
    """Take down the masks {site name: True where alive} that were just written into the model."""
    for site in live_sites:
        mask, key = masks.get(site.name), id(site.variable)
        if mask is None:
            continue
        if mask.all():
            _LAST.pop(key, None)
            continue
        if key not in _LAST:
            weakref.finalize(site.variable, _LAST.pop, key, None)
        _LAST[key] = _Pruned(np.packbits(mask), mask.shape, _history(model))


def pruned_before_training(model: keras.Model, variable: keras.Variable) -> Mask | None:
    """True where a weight was pruned, if the model was in a `fit` since then; None otherwise.

    What is loaded into a model is no training. Keras gives a model a `history` at each `fit`; one
    with callbacks that keep masks is taken down by `remember`.
    """
    known = _LAST.get(id(variable))
    trained = known is not None and known.history() is not _history(model)()
    return pruned_last(variable) if trained else None


def pruned_last(variable: keras.Variable) -> Mask | None:
    """True where a weight was pruned when masks were written last; None where none were."""
    known = _LAST.get(id(variable))
    if known is None:
        return None
    size = int(np.prod(known.shape))
    return np.unpackbits(known.bits, count=size).reshape(known.shape) == 0


def _history(model):
    found = getattr(model, "history", None)
    return (lambda: None) if found is None else weakref.ref(found)
