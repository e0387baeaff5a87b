"""How many bytes each stage of Deep Compression leaves of a tensor."""

import math

import numpy as np

from activation_pruning.compression import gaps
from activation_pruning.compression.tensors import Raw, stored_as

_SIZES = {"float8_e4m3fn": 1, "float8_e5m2": 1, "bfloat16": 2}  # bytes; NumPy knows the others


def raw_bytes(tensor):
    """Bytes of a tensor as the model holds it."""
    return math.prod(tensor.shape) * (
        _SIZES.get(tensor.dtype) or np.dtype(stored_as(tensor.dtype)).itemsize
    )


def row(tensor, described, size):
    """What the stages make of one tensor: a row of `Compressed.table`.

    Args:
        tensor: `Raw` or `Shared`.
        described: what its `encode` says of it.
        size: bytes of its section.

    Returns:
        dict by column.
    """
    raw = raw_bytes(tensor)
    found = {"tensor": tensor.name, "weights": math.prod(tensor.shape)}
    if isinstance(tensor, Raw):
        found |= {"nonzeros": int(np.count_nonzero(tensor.array)), "form": described["form"]}
        return found | {
            "raw_bytes": raw,
            "pruned_bytes": raw,
            "quantised_bytes": raw,
            "huffman_bytes": size,
        }
    found |= {"nonzeros": tensor.nonzeros, "form": described["form"], "bits": tensor.bits}
    found |= {"clusters": len(tensor.codebook)}
    width, index_bits = 8 * raw // max(found["weights"], 1), described.get("index_bits")
    entries, kinds = found["weights"], found["clusters"] + 1
    if index_bits:
        places = np.flatnonzero(tensor.codes.ravel(described["order"]))
        entries, kinds = len(gaps.symbols(places, index_bits)), max(found["clusters"], 1)
    code_bits = max(math.ceil(math.log2(kinds)), 1)
    codebook = len(tensor.codebook) * width // 8
    return found | {
        "index_bits": index_bits,
        "raw_bytes": raw,
        "pruned_bytes": _bytes(entries * (width + index_bits)) if index_bits else raw,
        "quantised_bytes": _bytes(entries * (code_bits + (index_bits or 0))) + codebook,
        "huffman_bytes": size,
    }


def _bytes(bits):
    return -(-bits // 8)
