"""The callback that trains the centroids of shared weights."""

from typing import Any

import numpy as np
from keras import ops

from activation_pruning import keras_private
from activation_pruning.callbacks.base import AttachedCallback
from activation_pruning.compression.compressed import Compressed
from activation_pruning.compression.tensors import Shared
from activation_pruning.support.shown import shown


class SharedWeights(AttachedCallback):
    """Train on with shared weights: a cluster moves as one, exact zeros stay exact zeros.

    Before each update the gradient of a weight is replaced by that of its centroid,

        dL/dc_j = sum over the weights i of cluster j of dL/dw_i,

    and by 0 where the weight is pruned. The weights of a cluster begin equal and get equal
    gradients, so an optimizer that works entry by entry (SGD, momentum, Adam, ...) takes exactly
    the step that it would take on the centroids; what clips by norm sees a cluster as often as it
    has weights. Other weights train as ever. When `fit` ends, `compressed` takes the new centroids
    (the mean of a cluster, whose weights may differ in their last bit by then) and the model the
    weights that they stand for.

    With reduction "mean" the sum is divided by the weights in the cluster. The sum over thousands
    of weights wants a learning rate that much smaller, unless the optimizer scales steps itself,
    as Adam does.

    List it after callbacks that restore weights as training ends (EarlyStopping).

    Args:
        compressed: what `compress` returned; the model to fit is its `.model()`, compiled.
        reduction: "sum" or "mean".

    Raises:
        TypeError: where `compressed` is anything else.
        ValueError: for an unknown reduction; at the start of `fit`, for a model whose weights are
            not those of `compressed`; at its end, for weights that are not finite.

    Source: Han, Mao & Dally, Deep Compression, ICLR 2016, section 3.3, equation 3.

    Example:
    >>> import keras, numpy as np, activation_pruning as ap
    >>> from activation_pruning import compression
    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    >>> report = ap.prune(model, 0.9, exclude=())
    >>> compressed = compression.compress(model, bits=2)
    >>> model = compressed.model()
    >>> model.compile("adam", "mse")
    >>> _ = model.fit(np.ones((8, 64)), np.ones((8, 32)), verbose=0,
    ...               callbacks=[ap.SharedWeights(compressed)])
    >>> len(np.unique(model.get_weights()[0]))
    5
    """

    def __init__(self, compressed: Compressed, reduction: str = "sum") -> None:
        super().__init__(exclude=())
        if not isinstance(compressed, Compressed):
            kind = type(compressed).__name__
            raise TypeError(f"compressed: received a {kind}; give what ap.compress(model) returned")
        if reduction not in ("sum", "mean"):
            raise ValueError(f"reduction={shown(reduction)}; choose 'sum' or 'mean'")
        self.compressed, self.reduction = compressed, reduction

    def _check(self):
        variables, known = self.model.weights, self.compressed.weights
        if len(variables) != len(known):
            raise ValueError(_other(f"it has {len(variables)} weight tensors, not {len(known)}"))
        pairs = zip(variables, known, strict=True)
        self._shared = {id(v): tensor for v, tensor in pairs if isinstance(tensor, Shared)}
        self._sites = [site for site in self._sites if id(site.variable) in self._shared]
        for site in self._sites:
            if not np.array_equal(site.kernel(), self._shared[id(site.variable)].array):
                raise ValueError(_other(f"those of {site.name!r} differ"))

    def _attach(self, hooks):
        shared = {site.name: self._shared[id(site.variable)] for site in self._sites}
        functions = {name: _Reduced(tensor, self.reduction) for name, tensor in shared.items()}
        hooks.transform(self, self._sites, functions)

    def on_train_end(self, logs: Any = None) -> None:
        self._hooks.sync()
        self.compressed.take(self.model)
        for variable, tensor in zip(self.model.weights, self.compressed.weights, strict=True):
            if isinstance(tensor, Shared):
                variable.assign(tensor.array)
        super().on_train_end(logs)


def _other(what):
    return f"the model to fit has other weights than `compressed`: {what}. Fit compressed.model()."


class _Reduced:
    """gradient of a kernel -> that of the centroid of each of its weights."""

    def __init__(self, tensor, reduction):
        self.codes = tensor.codes.ravel().astype(np.int32)
        counts = np.bincount(self.codes, minlength=len(tensor.codebook) + 1)
        self.factors = np.ones(len(counts), np.float32)
        if reduction == "mean":
            self.factors[1:] /= counts[1:]
        self.factors[0] = 0.0  # pruned weights stay where they are

    def __call__(self, gradient):
        gradient = keras_private.dense(gradient)
        # In float32 at least: sums over many weights lose too much in half precision.
        wide = gradient.dtype if "64" in str(gradient.dtype) else "float32"
        flat = ops.cast(ops.reshape(gradient, (-1,)), wide)
        sums = ops.segment_sum(flat, self.codes, num_segments=len(self.factors))
        shared = ops.take(sums * ops.cast(self.factors, wide), self.codes)
        return ops.cast(ops.reshape(shared, gradient.shape), gradient.dtype)
