"""How many bytes the weights of a network take, by how they are written down."""

import gzip
import math
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from activation_pruning import sites
from activation_pruning.analysis.parts import parts
from activation_pruning.compression import huffman
from activation_pruning.pruning import report
from activation_pruning.support.types import Array, Model, Table

_FLOAT = 4  # bytes of a float32
_LONGEST = 64  # bits: no limit to a code, whose symbols would have to occur 2^44 times


def sizes(model: Model) -> Table:
    """Bytes of a model's weights in several encodings, zeros used or not.

    Each encoding holds all weights of the model; only the kernels (of two axes or more, biases
    never) are encoded, all else stays float32. Kernels lie as matrices of inputs x units, and with
    masks or gates in a wrapper it is the weights that act that count.

    keras_file: what `model.save` writes, optimizer state included where there is one.
    keras_file_gzip: that file through gzip.
    float32: 4 bytes a weight.
    float32_gzip: all those bytes in a row through gzip (level 6).
    csr: each kernel by compressed rows or columns, whichever is smaller: 4 bytes for a value
        that is not zero, the index of its column, and rows + 1 positions; indices and positions
        in the fewest bytes, of 1, 2, 4 and 8, that hold the largest of the kernel.
    bitmask: a bit for each weight, in whole bytes, and 4 bytes for each that is not zero.
    int8: q = round(w / s) with s = max |w| / 127 for each kernel: a byte for a weight, 4 for s.
    int8_huffman: the same q in a Huffman code for each kernel, zeros among them, in whole bytes;
        4 bytes for s and, for the code, 2 for each value that occurs and 1 for their number.

    Args:
        model: a built `keras.Model`.

    Returns:
        Tidy DataFrame: encoding, size_bytes, compression (size of float32 / size), note. Where
        Keras cannot save the model its two sizes are missing, and the note says why.

    Raises:
        TypeError: when `model` is not a Keras 3 model.
        ValueError: for a model that is not built, or kernels that are NaN or infinite.

    Source: Han et al., "Deep Compression", ICLR 2016 (index and value coding, Huffman codes).

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(10, use_bias=False)])
        >>> report = ap.prune(model, 0.75, exclude=())
        >>> table = ap.analysis.sizes(model).set_index("encoding")
        >>> table.loc[["float32", "csr", "bitmask", "int8"], "size_bytes"].tolist()
        [1280, 411, 360, 324]
    """
    sites.check_model(model)
    report.warn_revived(model)
    kernels, rest = _weights(model)
    raw = b"".join(np.asarray(w, np.float32).tobytes() for w in [*kernels, *rest])
    others = _FLOAT * sum(w.size for w in rest)
    file, note = _file(model)
    found = {
        "keras_file": None if file is None else len(file),
        "keras_file_gzip": None if file is None else _gzipped(file),
        "float32": len(raw),
        "float32_gzip": _gzipped(raw),
    }
    for encoding in (csr, bitmask, int8, int8_huffman):
        found[encoding.__name__] = others + sum(encoding(kernel) for kernel in kernels)
    table = pd.DataFrame({"encoding": found.keys(), "size_bytes": found.values()})
    table["size_bytes"] = table["size_bytes"].astype("Int64")
    table["compression"] = (len(raw) / table["size_bytes"]).astype("Float64")
    table["note"] = [note if name.startswith("keras_file") else "" for name in found]
    return table


def csr(matrix: Array) -> int:
    """Bytes of a matrix by compressed rows, or columns where those are smaller.

    4 n + a n + b (rows + 1) for n values that are not zero; a bytes hold columns - 1, b hold n.

    Example:
        >>> csr(np.eye(3))  # 3 values, 3 indices, 4 positions of a byte each
        19
    """
    nonzeros = int(np.count_nonzero(matrix))

    def size(rows, columns):
        return nonzeros * (_FLOAT + _width(columns - 1)) + (rows + 1) * _width(nonzeros)

    return min(size(*matrix.shape), size(*matrix.shape[::-1]))


def bitmask(matrix: Array) -> int:
    """Bytes of a matrix as a bit for each entry and 4 bytes for each that is not zero."""
    return -(-matrix.size // 8) + _FLOAT * int(np.count_nonzero(matrix))


def int8(matrix: Array) -> int:
    """Bytes of a matrix in 8 bits each, with its scale."""
    return matrix.size + _FLOAT


def int8_huffman(matrix: Array) -> int:
    """Bytes of a matrix of finite numbers in 8 bits each, in a Huffman code of its own.

    Example:
        >>> int8_huffman(np.eye(3))  # 9 bits: 2 bytes; 4 for the scale, 2 x 2 + 1 for the code
        11
    """
    counts = np.unique_counts(quantised(matrix)).counts
    return -(-huffman.bits(counts, _LONGEST) // 8) + _FLOAT + 2 * len(counts) + 1


def quantised(matrix: Array) -> Array:
    """q = round(w / s), s = max |w| / 127: integers in [-127, 127]; zero stays zero."""
    scale = np.abs(matrix).max(initial=0.0) / 127
    return np.rint(matrix / (scale or 1.0)).astype(np.int8)


def _weights(model):
    """(the kernels as float32 matrices, all other weights as they are), NumPy arrays."""
    kernels, rest = [], []
    for part in parts(model):
        own = {id(kernel) for kernel in part.kernels}
        for weight in part.weights:
            values = part.values(weight)
            (kernels if id(weight) in own else rest).append(values)
            if id(weight) in own and not np.isfinite(values.astype(np.float32)).all():
                raise ValueError(
                    f"layer {part.path!r} has NaN or infinite weights, which no encoding of "
                    "fewer bits can hold; load weights from before they diverged"
                )
    return [k.astype(np.float32).reshape(-1, k.shape[-1]) for k in kernels], rest


def _width(largest):
    """Bytes of the smallest unsigned integer that holds it."""
    return next(width for width in (1, 2, 4, 8) if largest < 1 << (8 * width))


def _gzipped(data):
    return len(gzip.compress(data, compresslevel=6, mtime=0))


def _file(model):
    """(the bytes of the .keras file, what to say of it); (None, why) where it cannot be saved."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        try:
            model.save(path)
        except Exception as error:  # whatever a class of the user's own raises
            return None, f"cannot be saved: {error}"
        optimizer = getattr(model, "optimizer", None)
        # Its iteration and learning rate are always there; slots come with the first step.
        held = sum(math.prod(v.shape) for v in optimizer.variables) if optimizer else 0
        note = f"with {held:,} numbers of optimizer state" if held else ""
        return path.read_bytes(), note
