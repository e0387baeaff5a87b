"""Tensors on their way through a model, batch by batch: in memory, or in files where large."""

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from activation_pruning import keras_private
from activation_pruning.keras_private import symbolic
from activation_pruning.support.types import Array


@dataclasses.dataclass(frozen=True)
class _State:
    """A tensor as an array, or (an empty one) as a file of its bytes; and its Keras mask."""

    array: Array
    mask: Array | None
    shape: tuple[int, ...]
    file: Path | None = None


class States:
    """The tensors of each batch that are still needed, by keys.

    Args:
        folder: for the files, memory-mapped `.npy`.
        room: how many bytes may lie in memory; what comes beyond them goes into files.

    Example:
        >>> states = States(Path("unused"), room=1 << 20)
        >>> states.save(0, {"a": np.ones(4, "float32"), "b": np.zeros(2, "float32")})
        >>> states.save(0, {"a": states.load(0)["a"]})  # "b" is needed no more
        >>> list(states.load(0)), states.bytes
        (['a'], 16)
    """

    def __init__(self, folder: Path, room: int) -> None:
        self._folder, self._room, self._numbers = folder, room, itertools.count()
        self._batches: dict[int, dict[Any, Any]] = {}
        self.bytes = 0  # in memory now

    def load(self, batch: int) -> dict[Any, Any]:
        """The tensors of a batch, with their masks on them."""
        return {key: _tensor(one) for key, one in self._batches.get(batch, {}).items()}

    def save(self, batch: int, tensors: Mapping[Any, Any]) -> None:
        """From now on these are the tensors of a batch; those known by their keys stay as they are.

        But for their masks: a call may have taken them off.
        """
        held = self._batches.setdefault(batch, {})
        for key in [key for key in held if key not in tensors]:
            self._drop(held.pop(key))
        for key, tensor in tensors.items():
            known = held.get(key)
            if isinstance(known, _State):
                held[key] = dataclasses.replace(known, mask=_mask(tensor))
            elif known is None:
                held[key] = self._state(tensor)

    def add(self, batch: int, tensors: Mapping[Any, Any]) -> None:
        """Keep more tensors of a batch."""
        self._batches[batch] |= {key: self._state(one) for key, one in tensors.items()}

    def _state(self, tensor):
        if not keras.ops.is_tensor(tensor) and not isinstance(tensor, np.ndarray):
            return tensor
        array = keras.ops.convert_to_numpy(tensor)
        if self.bytes + array.nbytes <= self._room or array.dtype.hasobject:
            self.bytes += array.nbytes
            return _State(array, _mask(tensor), array.shape)
        file = self._folder / f"{next(self._numbers)}.npy"
        # Bytes: files know nothing of bfloat16.
        np.save(file, np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        return _State(np.empty(0, array.dtype), _mask(tensor), array.shape, file)

    def _drop(self, state):
        if isinstance(state, _State):
            if state.file:
                state.file.unlink()
            else:
                self.bytes -= state.array.nbytes


def _mask(tensor):
    mask = keras_private.get_keras_mask(tensor)
    return None if mask is None else keras.ops.convert_to_numpy(mask)


def _tensor(state):
    if not isinstance(state, _State):
        return state
    array = state.array
    if state.file:  # "c": PyTorch warns of arrays that are not to be written
        array = np.load(state.file, mmap_mode="c").view(array.dtype).reshape(state.shape)
    tensor = keras.ops.convert_to_tensor(array)
    if state.mask is not None:
        symbolic.set_keras_mask(tensor, keras.ops.convert_to_tensor(state.mask))
    return tensor
