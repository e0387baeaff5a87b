"""`compress`: which weights are shared, and how."""

import keras
import numpy as np

from activation_pruning import masks, sites
from activation_pruning.compression import architecture, clusters
from activation_pruning.compression.compressed import Compressed, check_shapes, rounded, values_of
from activation_pruning.compression.tensors import Raw, Shared, raw_bytes
from activation_pruning.layers import wrapping
from activation_pruning.pruning import report
from activation_pruning.support.checks import is_integer
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Model

_MOST_BITS = 11


def compress(
    model: Model, bits: int | dict[str, int] = 5, custom_objects: dict[str, type] | None = None
) -> Compressed:
    """Deep Compression: weights shared by k-means, positions as distances, all Huffman-coded.

    The non-zeros of each kernel are grouped around at most 2^bits centroids (see
    `compression.clusters.share`); of a pruned kernel only the non-zeros are stored, each by its
    code and its distance from the one before, where that makes the file smaller. Everything else
    (biases, statistics of BatchNormalization, kernels smaller than their codebook) is stored to
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
            that cannot be stored (Python lambdas, learnt vocabularies, wrappers of this package).

    Source: Han, Mao & Dally, Deep Compression: Compressing Deep Neural Networks with Pruning,
    Trained Quantization and Huffman Coding, ICLR 2016.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
        >>> ap.compress(model, bits={"dense*": 4}).table()["clusters"].tolist()[0]
        16
    """
    sites.check_model(model)
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model, received the layer {model.name!r}")
    report.warn_revived(model)
    widths = _widths(model, bits)
    config = architecture.describe(model)
    weights = [_compressed(v, *widths.get(id(v), (v.path, None))) for v in model.weights]
    size = sum(map(raw_bytes, weights))
    made = architecture.build(config, size, custom_objects)  # what cannot be loaded is not saved
    check_shapes(made.weights, weights)
    return Compressed(config, weights)


def _widths(model, bits):
    """{id(variable): (site name, bits, or None where a kernel is to be left as it is)}."""
    found = sites.find(model, exclude=()).sites
    wrapping.check_plain(found)
    widths = {id(site.variable): (site.name, None) for site in found}
    for pattern, width in (bits if isinstance(bits, dict) else {"*": bits}).items():
        if not is_integer(width) or not 1 <= width <= _MOST_BITS:
            raise ValueError(
                f"bits={shown(bits)}; bits must be an integer in [1, {_MOST_BITS}] (5 allows 32 "
                "different weights), or a dict of such by layer"
            )
        for site in sites.matching("bits", pattern, found):
            if widths[id(site.variable)][1] is None:
                widths[id(site.variable)] = site.name, int(width)
    return widths


def _compressed(variable, name, bits):
    """One variable as `Shared` where bits are given and that is smaller, else as `Raw`."""
    array, dtype = values_of(variable), keras.backend.standardize_dtype(variable.dtype)
    raw = Raw(name, dtype, array)
    if bits is None:
        return raw
    masks.check_finite(name, array, "weights")
    flat = array.ravel().astype(np.float64 if dtype == "float64" else np.float32)
    alive = np.flatnonzero(flat)
    centroids, index = clusters.share(flat[alive], 1 << bits)
    # Centroids that the kernel's own type cannot tell apart are one.
    codebook, merged = np.unique(rounded(centroids, dtype), return_inverse=True)
    codes = np.zeros(flat.size, np.uint16)
    codes[alive] = merged.ravel()[index] + 1
    shared = Shared(name, dtype, codes.reshape(array.shape), codebook, bits)
    return shared if len(shared.encode()[1]) < raw_bytes(raw) else raw
