"""A compressed model: what it is, how it is saved and loaded."""

import dataclasses
import itertools
import math
import os
import pathlib
from collections.abc import Iterable

import keras
import numpy as np
import pandas as pd

from activation_pruning import masks
from activation_pruning.compression import architecture, container, gaps, tensors
from activation_pruning.compression.container import CompressedFileError
from activation_pruning.compression.tensors import Raw, Shared, raw_bytes, stored_as
from activation_pruning.graph import copies
from activation_pruning.support.files import replacing
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Array, Model, Path, Table


class Compressed:
    """A model with shared weights, as `compress` made it.

    weights: [`Raw` or `Shared`], the model's weights in its order.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
        >>> compressed = ap.compress(model, bits=4)
        >>> len(set(compressed.model().get_weights()[0].ravel().tolist()))
        16
    """

    def __init__(self, config: dict, weights: Iterable[Raw | Shared]) -> None:
        self.config, self.weights = config, list(weights)
        self._written: tuple | None = None

    def model(self, custom_objects: dict[str, type] | None = None) -> Model:
        """A new `keras.Model` with these weights, not compiled; see `load_compressed`."""
        model = architecture.build(self.config, self.raw_bytes, custom_objects)
        check_shapes(model.weights, self.weights)
        model.set_weights([tensor.array for tensor in self.weights])
        copies.derive(model)
        return model

    def to_bytes(self) -> bytes:
        """The file's content."""
        return self._write()[0]

    def save(self, path: Path) -> None:
        """Write the file, complete or not at all. Usual ending: .apz."""
        with replacing(path) as temporary:
            temporary.write_bytes(self.to_bytes())

    def take(self, model: Model) -> None:
        """Take the weights of `model`, trained on meanwhile: codes stay, centroids follow.

        c_j = mean of the weights with code j, which are equal after a fit with `SharedWeights`.
        Raises a ValueError for a model of other shapes, and for weights that are not finite.
        """
        check_shapes(model.weights, self.weights)
        pairs = zip(model.weights, self.weights, strict=True)
        self.weights = [_taken(known, values_of(variable)) for variable, known in pairs]
        self._written = None

    @property
    def size_bytes(self) -> int:
        """Bytes of the file."""
        return len(self.to_bytes())

    @property
    def raw_bytes(self) -> int:
        """Bytes of all the weights as the model holds them."""
        return int(sum(raw_bytes(tensor) for tensor in self.weights))

    @property
    def ratio(self) -> float:
        """raw_bytes / size_bytes."""
        return self.raw_bytes / self.size_bytes

    @property
    def ratio_of_weights(self) -> float:
        """raw_bytes / bytes of the stored weights: without architecture, header and checksums."""
        return self.raw_bytes / sum(self._write()[2])

    def table(self) -> Table:
        """DataFrame of what each stage makes of each tensor, and a last row for the header.

        Columns: tensor; weights; nonzeros; form ("raw", "packed" by zlib, "dense" or "sparse"
        codes); bits (allowed for a code); clusters; index_bits (of a distance); raw_bytes;
        pruned_bytes (non-zeros and fillers as they are, with distances of index_bits);
        quantised_bytes (codes instead of weights, and the codebook); huffman_bytes (as stored; in
        all, the file); ratio (raw_bytes / huffman_bytes).
        """
        data, described, sizes = self._write()
        rows = list(map(_row, self.weights, described, sizes))
        rows.append({"tensor": "(header)", "huffman_bytes": len(data) - sum(sizes)})
        table = pd.DataFrame(rows)
        counts = [name for name in table.columns if name not in ("tensor", "form")]
        table = table.astype(dict.fromkeys(counts, "Int64"))
        return table.assign(ratio=(table["raw_bytes"] / table["huffman_bytes"]).astype(float))

    def __repr__(self) -> str:
        return (
            f"Compressed: {self.raw_bytes:,} bytes of weights in a file of {self.size_bytes:,} "
            f"bytes, {self.ratio:.1f} times smaller ({self.ratio_of_weights:.1f} without its "
            f"header)\n{self.table().to_string(index=False, na_rep='')}"
        )

    def _write(self):
        """(the bytes of the file, [what its header says of each weight], [bytes of each])"""
        if self._written is None:
            encoded = [tensor.encode() for tensor in self.weights]
            described, sections = [one for one, _ in encoded], [section for _, section in encoded]
            data = container.pack({"config": self.config, "tensors": described}, sections)
            tensors.check_expansion(described, len(data))
            self._written = data, described, [len(section) for section in sections]
        return self._written


def load_compressed(path: Path, custom_objects: dict[str, type] | None = None) -> Model:
    """The model in a file that `Compressed.save` wrote.

    Nothing in the file is run: its configuration is data, read in Keras's safe mode.

    Args:
        path: of the file.
        custom_objects: {name: class} of your own classes that are not registered.

    Returns:
        A `keras.Model` whose weights are those of `Compressed.model()`, bit for bit; not compiled.

    Raises:
        CompressedFileError: a ValueError that says what is wrong with the file.
        TypeError: for something else than a path.
        OSError: when there is no such file.

    Example:
        >>> import keras, tempfile, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ap.compress(model).save(f"{folder}/model.apz")
        ...     ap.load_compressed(f"{folder}/model.apz").count_params()
        27
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path={shown(path)}; give the path of a file, a str or pathlib.Path")
    try:
        return read(pathlib.Path(path).read_bytes()).model(custom_objects)
    except CompressedFileError as error:
        raise CompressedFileError(f"{str(path)!r} cannot be loaded: {error}") from error


def read(data: bytes) -> Compressed:
    """The `Compressed` of a file's bytes, of which nothing is trusted; CompressedFileError."""
    header, sections = container.unpack(data)
    known = header if isinstance(header, dict) else {}
    config, described = known.get("config"), known.get("tensors")
    if not isinstance(config, dict) or not isinstance(described, list):
        raise CompressedFileError("it is damaged: its header describes no model")
    if len(described) != len(sections):
        raise CompressedFileError(
            f"it is damaged: {len(sections)} sections for {len(described)} tensors"
        )
    tensors.check_expansion(described, len(data))
    return Compressed(config, map(tensors.decode, described, sections))


def values_of(variable: keras.Variable) -> Array:
    """The values of a variable, in NumPy's type of that name or, where it has none, float32."""
    values = keras.ops.convert_to_numpy(variable)
    return values.astype(stored_as(keras.backend.standardize_dtype(variable.dtype)))


def rounded(values: Array, dtype: str) -> Array:
    """Numbers as a variable of that dtype will hold them, in float32 (float64 for float64)."""
    if dtype == "float64":
        return np.asarray(values, np.float64)
    values = keras.ops.cast(np.asarray(values, np.float32), dtype)
    return keras.ops.convert_to_numpy(values).astype(np.float32)


def check_shapes(variables: Iterable[keras.Variable], weights: list[Raw | Shared]) -> None:
    """Raise unless the variables have the shapes and dtypes of the weights, one by one."""
    here = [(tuple(v.shape), keras.backend.standardize_dtype(v.dtype)) for v in variables]
    stored = [(tensor.shape, tensor.dtype) for tensor in weights]
    if here == stored:
        return
    pairs = itertools.zip_longest(here, stored, fillvalue="nothing")
    number, (one, other) = next(pair for pair in enumerate(pairs, 1) if pair[1][0] != pair[1][1])
    raise CompressedFileError(
        f"the model has other weights than those stored: number {number} is {one} instead of "
        f"{other}. A subclass must make all its weights when it is built from its configuration."
    )


def _row(tensor, described, size):
    """A row of `Compressed.table`: of a tensor, what `encode` says of it, bytes of its section."""
    shared, weights = isinstance(tensor, Shared), math.prod(tensor.shape)
    raw = pruned = quantised = raw_bytes(tensor)
    nonzeros = np.count_nonzero(tensor.codes if shared else tensor.array)
    row = {"tensor": tensor.name, "weights": weights, "nonzeros": nonzeros}
    row["form"] = described["form"]
    if shared:
        clusters, index_bits = len(tensor.codebook), described.get("index_bits")
        row |= {"bits": tensor.bits, "clusters": clusters, "index_bits": index_bits}
        width = 8 * raw // max(weights, 1)
        entries, kinds = weights, clusters + 1
        if index_bits:
            places = np.flatnonzero(tensor.codes.ravel(described["order"]))
            entries, kinds = len(gaps.symbols(places, index_bits)), max(clusters, 1)
            pruned = -(-entries * (width + index_bits) // 8)
        code_bits = max(math.ceil(math.log2(kinds)), 1) + (index_bits or 0)
        quantised = -(-entries * code_bits // 8) + clusters * width // 8
    row |= {"raw_bytes": raw, "pruned_bytes": pruned, "quantised_bytes": quantised}
    return row | {"huffman_bytes": size}


def _taken(known, array):
    """The weights `array` in the form of `known`; codes stay, centroids are means."""
    if isinstance(known, Raw):
        return Raw(known.name, known.dtype, array)
    masks.check_finite(known.name, array, "weights")
    codes, size = known.codes.ravel(), len(known.codebook) + 1
    sums = np.bincount(codes, array.ravel(), size)[1:]
    means = sums / np.bincount(codes, minlength=size)[1:]
    return dataclasses.replace(known, codebook=rounded(means, known.dtype))
