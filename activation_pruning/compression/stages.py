"""How many bytes each stage of Deep Compression leaves of a tensor."""

import math
from typing import Any

import numpy as np

from activation_pruning.compression import gaps
from activation_pruning.compression.tensors import Raw, Shared, stored_as

_SIZES = {"float8_e4m3fn": 1, "float8_e5m2": 1, "bfloat16": 2}  # bytes; NumPy knows the others


def raw_bytes(tensor: Raw | Shared) -> int:
    """Bytes of a tensor as the model holds it."""
    size = _SIZES.get(tensor.dtype) or np.dtype(stored_as(tensor.dtype)).itemsize
    return math.prod(tensor.shape) * size


def row(tensor: Raw | Shared, described: dict[str, Any], size: int) -> dict[str, Any]:
    """A row of `Compressed.table`: of a tensor, what `encode` says of it, bytes of its section."""
    raw = pruned = quantised = raw_bytes(tensor)
    found: dict[str, Any] = {"tensor": tensor.name, "weights": math.prod(tensor.shape)}
    found |= {"nonzeros": tensor.nonzeros, "form": described["form"]}
    if isinstance(tensor, Shared):
        clusters, index_bits = len(tensor.codebook), described.get("index_bits")
        found |= {"bits": tensor.bits, "clusters": clusters, "index_bits": index_bits}
        width = 8 * raw // max(found["weights"], 1)
        entries, kinds = found["weights"], clusters + 1
        if index_bits:
            places = np.flatnonzero(tensor.codes.ravel(described["order"]))
            entries, kinds = len(gaps.symbols(places, index_bits)), max(clusters, 1)
            pruned = _bytes(entries * (width + index_bits))
        code_bits = max(math.ceil(math.log2(kinds)), 1) + (index_bits or 0)
        quantised = _bytes(entries * code_bits) + clusters * width // 8
    found |= {"raw_bytes": raw, "pruned_bytes": pruned, "quantised_bytes": quantised}
    return found | {"huffman_bytes": size}


def _bytes(bits):
    return -(-bits // 8)
