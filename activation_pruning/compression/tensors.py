"""One weight tensor, as values and as bytes: raw, or with shared weights."""

import dataclasses
import math
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from activation_pruning.compression import container, gaps, huffman
from activation_pruning.compression.container import CompressedFileError
from activation_pruning.support.types import Array

_STORED = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
           "uint32", "uint64", "bool")  # fmt: skip
_SIZES = {"float8_e4m3fn": 1, "float8_e5m2": 1, "bfloat16": 2}  # bytes; NumPy knows the others
_FILLED = 1 << 26  # bytes of weights that a file of any size may stand for,
_EXPANSION = 1 << 12  # and those for each of its bytes above that


@dataclasses.dataclass(frozen=True, eq=False)
class Raw:
    """A tensor as it is. `dtype` is that of the variable; bfloat16 and the like lie in float32."""

    name: str
    dtype: str
    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weights."""
        return self.array.shape

    def encode(self) -> tuple[dict[str, Any], bytes]:
        """(what the header says of it, its section)"""
        data = self.array.astype(_little(self.array.dtype)).tobytes()
        packed = zlib.compress(data, 9)
        if len(packed) < len(data):
            return _described(self, "packed"), packed
        return _described(self, "raw"), data


@dataclasses.dataclass(frozen=True, eq=False)
class Shared:
    """A kernel of few different weights.

    codes: uint16, of the kernel's shape: 0 for the exact zero, j + 1 for `codebook[j]`.
    codebook: float32 (float64 for such a kernel), representable in `dtype`.
    bits: that were allowed for a code.
    """

    name: str
    dtype: str
    codes: Array
    codebook: Array
    bits: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weights."""
        return self.codes.shape

    @property
    def array(self) -> Array:
        """The weights."""
        return np.append(np.zeros(1, self.codebook.dtype), self.codebook)[self.codes]

    def encode(self) -> tuple[dict[str, Any], bytes]:
        """(what the header says of it, its section), in whatever form takes the fewest bytes."""
        codebook = self.codebook.astype(_little(self.codebook.dtype)).tobytes()
        form, order, index_bits = self._form()
        described = _described(self, form)
        described |= {"bits": self.bits, "clusters": len(self.codebook), "order": order}
        flat = self.codes.ravel(order)
        if form == "dense":
            return described, codebook + huffman.encode(flat)
        places = np.flatnonzero(flat)
        distances = huffman.encode(gaps.symbols(places, index_bits))
        values = huffman.encode(flat[places] - 1)
        return described | {"index_bits": index_bits}, codebook + values + distances

    def _form(self):
        """("dense" or "sparse", order of the weights, bits of a distance)"""
        counts = np.bincount(self.codes.ravel(), minlength=1)
        choices = [(huffman.size(counts), "dense", "C", None)]
        for order in ("C", "F"):
            bits, size = gaps.cheapest(np.flatnonzero(self.codes.ravel(order)))
            choices.append((size + huffman.size(counts[1:]), "sparse", order, bits))
        return min(choices, key=lambda choice: choice[0])[1:]


def decode(described: Any, section: bytes | memoryview) -> Raw | Shared:
    """The tensor that `encode` made into these, which are not trusted; CompressedFileError."""
    name, dtype, shape, form = _checked(described)
    stored = _little(stored_as(dtype))
    try:
        if form in ("dense", "sparse"):
            return _shared(described, section, name, dtype, shape)
        if form == "packed":
            section = container.inflate(section, math.prod(shape) * stored.itemsize)
        return Raw(name, dtype, np.frombuffer(section, stored).reshape(shape))
    except ValueError as error:
        raise CompressedFileError(f"weights of {name!r} cannot be decoded: {error}") from error


def check_expansion(described: Iterable[Any], size: int) -> None:
    """Refuse tensors that claim more than 64 MiB and 4096 bytes per byte of the file's `size`."""
    claimed = 0
    for one in described:
        _, dtype, shape, _ = _checked(one)
        claimed += math.prod(shape) * np.dtype(stored_as(dtype)).itemsize
    if claimed > _FILLED + _EXPANSION * size:
        raise CompressedFileError(
            f"a file of {size:,} bytes cannot stand for weights of {claimed:,} bytes: at most "
            f"{_FILLED:,} and {_EXPANSION:,} for each byte of it are believed"
        )


def stored_as(dtype: str) -> str:
    """The NumPy type that holds values of a Keras dtype exactly: itself, or float32."""
    return dtype if dtype in _STORED else "float32"


def raw_bytes(tensor: Raw | Shared) -> int:
    """Bytes of a tensor as the model holds it."""
    size = _SIZES.get(tensor.dtype) or np.dtype(stored_as(tensor.dtype)).itemsize
    return math.prod(tensor.shape) * size


def _little(dtype):
    return np.dtype(dtype).newbyteorder("<")


def _described(tensor, form):
    shape = list(tensor.shape)
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": shape, "form": form}


def _shared(described, section, name, dtype, shape):
    size = math.prod(shape)
    if np.dtype(stored_as(dtype)).kind != "f":
        raise ValueError(f"dtype {dtype}")
    stored = _little(np.float64 if dtype == "float64" else np.float32)
    clusters = _integer(described, "clusters", 0, huffman.ALPHABET - 1)  # and the exact zero
    bits = _integer(described, "bits", 1, 12)
    codebook = np.frombuffer(section, stored, clusters)  # ValueError: there is less
    values, used = huffman.decode(section[codebook.nbytes :], size)
    rest = section[codebook.nbytes + used :]
    if described["form"] == "dense":
        if len(values) != size:
            raise ValueError(f"{len(values)} weights instead of {size}")
        codes = values
    else:
        index_bits = _integer(described, "index_bits", 1, gaps.MOST_BITS)
        symbols, used = huffman.decode(rest, size)
        rest = rest[used:]
        places = gaps.positions(symbols, index_bits)
        if len(places) != len(values) or (places >= size).any():
            raise ValueError("positions and weights do not fit each other")
        codes = np.zeros(size, np.uint16)
        codes[places] = values + 1
    if len(rest) or codes.max(initial=0) > clusters:
        raise ValueError("codes and codebook do not fit each other")
    order = described.get("order")
    if order not in ("C", "F"):
        raise ValueError(f"order {order!r}")
    return Shared(name, dtype, codes.reshape(shape, order=order), codebook, bits)


def _checked(described):
    """(name, dtype, shape, form) of what a header says of a tensor."""
    if not isinstance(described, dict):
        raise CompressedFileError("it is damaged: its header describes no tensors")
    name, dtype, shape, form = (described.get(k) for k in ("name", "dtype", "shape", "form"))
    fine = isinstance(name, str) and isinstance(dtype, str) and isinstance(shape, list)
    fine = fine and all(type(n) is int and 0 <= n < 1 << 32 for n in shape) and len(shape) <= 32
    if not fine or form not in ("raw", "packed", "dense", "sparse"):
        raise CompressedFileError(f"it is damaged: its header describes a tensor as {described}")
    return name, dtype, tuple(shape), form


def _integer(described, key, least, most):
    value = described.get(key)
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{key} {value!r}")
    return value
