"""Deep Compression of a model: what it is, how it is made, saved and loaded."""

import itertools
import os
from numbers import Integral
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from activation_pruning import keras_private, masks, sites
from activation_pruning.compression import architecture, clusters, files, stages
from activation_pruning.compression.container import CompressedFileError
from activation_pruning.compression.tensors import Raw, Shared, stored_as
from activation_pruning.support.files import replacing

_MOST_BITS = 11


class Compressed:
    """A model with shared weights, as `compress` made it.

    Attributes:
        weights: [`Raw` or `Shared`], the model's weights in its order.

    Example:

    >>> import keras, activation_pruning as ap
    >>> from activation_pruning import compression
    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    >>> report = ap.prune(model, 0.9, exclude=())
    >>> compressed = compression.compress(model, bits=4)
    >>> len(set(compressed.model().get_weights()[0].ravel().tolist()))
    17
    """

    def __init__(self, config, weights):
        self.config, self.weights, self._written = config, list(weights), None

    def model(self, custom_objects=None):
        """A new `keras.Model` with these weights, not compiled.

        Args:
            custom_objects: {name: class} of your own classes that are not registered.
        """
        return _filled(architecture.build(self.config, custom_objects), self.weights)

    def to_bytes(self):
        """The file's content."""
        return self._write()[0]

    def save(self, path):
        """Write the file, complete or not at all. Usual ending: .apz."""
        with replacing(path) as temporary:
            Path(temporary).write_bytes(self.to_bytes())

    def take(self, model):
        """Take the weights of `model`, trained on meanwhile: codes stay, centroids follow.

        c_j = mean of the weights with code j, which are equal after a fit with `SharedWeights`.

        Args:
            model: what `self.model()` returned, or another model of that architecture.

        Raises:
            ValueError: for other shapes, and weights that are not finite.
        """
        variables = list(model.weights)
        _check_shapes(variables, self.weights)
        taken = []
        for variable, known in zip(variables, self.weights, strict=True):
            array = _array(variable)
            if isinstance(known, Shared):
                masks.check_finite(known.name, array, "weights")
                codes, size = known.codes.ravel(), len(known.codebook) + 1
                sums = np.bincount(codes, array.ravel(), size)[1:]
                means = sums / np.bincount(codes, minlength=size)[1:]
                codebook = _rounded(means, known.dtype)
                taken.append(Shared(known.name, known.dtype, known.codes, codebook, known.bits))
            else:
                taken.append(Raw(known.name, known.dtype, array))
        self.weights, self._written = taken, None

    @property
    def size_bytes(self):
        """Bytes of the file."""
        return len(self.to_bytes())

    @property
    def raw_bytes(self):
        """Bytes of all the weights as the model holds them."""
        return int(sum(stages.raw_bytes(tensor) for tensor in self.weights))

    @property
    def ratio(self):
        """raw_bytes / size_bytes."""
        return self.raw_bytes / self.size_bytes

    @property
    def ratio_of_weights(self):
        """raw_bytes / bytes of the stored weights: without architecture, header and checksums."""
        return self.raw_bytes / sum(self._write()[2])

    def table(self):
        """DataFrame of what each stage makes of each tensor, and a last row for the header.

        Columns: tensor; weights; nonzeros; form ("raw", "packed" by zlib, "dense" or "sparse"
        codes); bits (allowed for a code); clusters; index_bits (of a distance); raw_bytes;
        pruned_bytes (non-zeros and fillers as they are, with distances of index_bits);
        quantised_bytes (codes instead of weights, and the codebook); huffman_bytes (as stored; in
        all, the file); ratio (raw_bytes / huffman_bytes).
        """
        data, described, sizes = self._write()
        rows = [
            stages.row(tensor, one, size)
            for tensor, one, size in zip(self.weights, described, sizes, strict=True)
        ]
        rows.append({"tensor": "(header)", "huffman_bytes": len(data) - sum(sizes)})
        table = pd.DataFrame(rows)
        counts = [name for name in table.columns if name not in ("tensor", "form")]
        table = table.astype(dict.fromkeys(counts, "Int64"))
        ratio = table["raw_bytes"] / table["huffman_bytes"]
        return table.assign(ratio=ratio.astype(float))

    def __repr__(self):
        return (
            f"Compressed: {self.raw_bytes:,} bytes of weights in a file of {self.size_bytes:,} "
            f"bytes, {self.ratio:.1f} times smaller ({self.ratio_of_weights:.1f} without its "
            f"header)\n{self.table().to_string(index=False, na_rep='')}"
        )

    def _write(self):
        if self._written is None:
            self._written = files.write(self.config, self.weights)
        return self._written


def compress(model, bits=5, custom_objects=None):
    """Deep Compression: weights shared by k-means, positions as distances, all Huffman-coded.

    The non-zeros of each kernel are grouped around at most 2^bits centroids (see
    `compression.clusters.share`); of a pruned kernel only the non-zeros are stored, each by its
    code and its distance from the one before. The bits of a distance, the order of the weights and
    whether distances pay at all are chosen for the smallest file. Everything else (biases,
    statistics of BatchNormalization, kernels smaller than their codebook) is stored as it is, to
    the last bit. Prune first: `prune` or `PruningCallback`, then fine-tune with `KeepPruned`.

    Args:
        model: a built `keras.Model` that Keras can make anew from its configuration; it is not
            changed.
        bits: 1 to 11 for all kernels, or {name or pattern of layers: bits}, the first match
            counting: kernels that none names keep their weights. Published: 8 for convolutions, 5
            for the others.
        custom_objects: {name: class} of your own classes that are not registered.

    Returns:
        A `Compressed`: print it, or take `.table()`, `.model()`, `.save(path)`.

    Raises:
        TypeError: for something that is not a Keras 3 model.
        ValueError: for bits out of range, an unknown name, weights that are not finite, and models
            whose architecture cannot be stored (Python lambdas, learnt vocabularies, wrappers of
            this package).

    Source: Han, Mao & Dally, Deep Compression: Compressing Deep Neural Networks with Pruning,
    Trained Quantization and Huffman Coding, ICLR 2016.

    Example:

    >>> import keras, activation_pruning as ap
    >>> from activation_pruning import compression
    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    >>> report = ap.prune(model, 0.9, exclude=())
    >>> compression.compress(model, bits={"dense*": 4}).table()["clusters"].tolist()[0]
    16
    """
    sites.check_model(model)
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model, received the layer {model.name!r}")
    widths = _widths(model, bits)
    config = architecture.describe(model)
    weights = []
    for variable in model.weights:
        name, width = widths.get(id(variable), (variable.path, None))
        weights.append(_compressed(name, variable, width))
    made = architecture.build(config, custom_objects)  # what cannot be loaded shall not be saved
    _check_shapes(made.weights, weights)
    return Compressed(config, weights)


def load_compressed(path, custom_objects=None):
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

    >>> import keras, os, tempfile
    >>> from activation_pruning import compression
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    >>> path = os.path.join(tempfile.mkdtemp(), "model.apz")
    >>> compression.compress(model).save(path)
    >>> compression.load_compressed(path).count_params()
    27
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path={path!r}; give the path of a file, a str or pathlib.Path")
    try:
        config, weights = files.read(Path(path).read_bytes())
        return _filled(architecture.build(config, custom_objects), weights)
    except CompressedFileError as error:
        raise CompressedFileError(f"{str(path)!r} cannot be loaded: {error}") from error


def _widths(model, bits):
    """{id(variable): (site name, bits, or None where a kernel is to be left as it is)}."""
    found = sites.find(model, exclude=()).sites
    wrapper = next((site.wrapper for site in found if site.wrapper is not None), None)
    if wrapper is not None:
        raise ValueError(f"the model has a {type(wrapper).__name__}, {wrapper.name!r}: ap.strip it")
    widths = {id(site.variable): (site.name, None) for site in found}
    for pattern, width in (bits if isinstance(bits, dict) else {"*": bits}).items():
        whole = isinstance(width, Integral) and not isinstance(width, bool)
        if not whole or not 1 <= width <= _MOST_BITS:
            raise ValueError(
                f"bits={bits!r}; bits must be an integer in [1, {_MOST_BITS}] (5 allows 32 "
                "different weights), or a dict of such by layer"
            )
        for site in sites.matching("bits", pattern, found):
            if widths[id(site.variable)][1] is None:
                widths[id(site.variable)] = site.name, int(width)
    return widths


def _compressed(name, variable, bits):
    """One variable as `Shared` where bits are given and that is smaller, else as `Raw`."""
    array, dtype = _array(variable), keras.backend.standardize_dtype(variable.dtype)
    raw = Raw(name, dtype, array)
    if bits is None:
        return raw
    masks.check_finite(name, array, "weights")
    flat = array.ravel().astype(np.float64 if dtype == "float64" else np.float32)
    alive = np.flatnonzero(flat)
    centroids, index = np.zeros(0), np.zeros(0, np.int64)
    if len(alive):
        centroids, index = clusters.share(flat[alive], 1 << bits)
    # Centroids that the kernel's own type cannot tell apart are one.
    codebook, merged = np.unique(_rounded(centroids, dtype), return_inverse=True)
    codes = np.zeros(flat.size, np.uint16)
    codes[alive] = merged.ravel()[index] + 1
    shared = Shared(name, dtype, codes.reshape(array.shape), codebook, bits)
    return shared if len(shared.encode()[1]) < stages.raw_bytes(raw) else raw


def _array(variable):
    """The values of a variable, in NumPy's type of that name or, where it has none, float32."""
    values = keras.ops.convert_to_numpy(variable)
    return values.astype(stored_as(keras.backend.standardize_dtype(variable.dtype)))


def _rounded(values, dtype):
    """Numbers as a variable of that dtype will hold them, in float32 (float64 for float64)."""
    if dtype == "float64":
        return np.asarray(values, np.float64)
    values = keras.ops.cast(np.asarray(values, np.float32), dtype)
    return keras.ops.convert_to_numpy(values).astype(np.float32)


def _check_shapes(variables, weights):
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


def _filled(model, weights):
    _check_shapes(model.weights, weights)
    model.set_weights([tensor.array for tensor in weights])
    for layer in keras_private.with_sublayers(model):
        if hasattr(layer, "finalize_state"):  # Normalization computes with what it derived
            layer.finalize_state()
    return model
