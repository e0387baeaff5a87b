"""Whether LiteRT multiplies a model's zeros by its sparse kernels, layer by layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pandas as pd

from activation_pruning import keras_private, sites
from activation_pruning.graph import inlining
from activation_pruning.support.types import Model, Table

_L = keras.layers
_LEAST = 2 / 3  # of the weights of all 1x1 convolutions together
_UNARY = (
    "linear", "relu", "relu6", "elu", "leaky_relu", "sigmoid", "silu", "swish", "hard_silu",
    "hard_swish", "square", "abs",
)  # fmt: skip
_PASSING = (
    _L.Add, _L.Multiply, _L.ReLU, _L.LeakyReLU, _L.ELU, _L.Dropout, _L.SpatialDropout2D,
    _L.Identity, _L.ZeroPadding2D,
)  # fmt: skip
_OPERATIONS = (
    "numpy.Add", "numpy.Multiply", "numpy.Abs", "numpy.Square", "nn.Relu", "nn.Relu6", "nn.Elu",
    "nn.LeakyRelu", "nn.Sigmoid", "nn.Silu", "nn.HardSilu",
)  # fmt: skip
_FIRST = (
    "sparse kernels start at a first convolution of 3x3, stride 2, on 3 channels, with a padding "
    "of 1 on each side: ZeroPadding2D(1), then Conv2D(..., 3, strides=2)"
)


def sparse_kernels(model: Model) -> Table:
    """Which layers LiteRT runs by sparse kernels (XNNPACK), and why the others are not.

    A file written by `export(..., sparse=True)` is smaller in any case; it is faster only where
    XNNPACK takes its zeros into account. That is the case for 1x1 convolutions on a path from a
    first convolution (3x3, stride 2, 3 channels) to a global average pooling, with nothing else
    on it but depthwise convolutions (3x3, 5x5), Add, Multiply and simple activations, where more
    than two thirds of the weights of all its 1x1 convolutions are zeros. On x86 processors with AVX
    XNNPACK always takes the dense kernels, which are faster there: measure with `latency` where the
    model will run.

    Args:
        model: a built model, pruned by weight; of any class that `inline` writes down.

    Returns:
        Tidy DataFrame, a row for each convolution and for each layer that is in the way: layer,
        kind, zeros (share of its kernel; NaN without one), sparse (whether its zeros are skipped),
        reason ("" where they are).

    Raises:
        TypeError, ValueError: as `inline`.

    Source: XNNPACK, src/subgraph.c (`xnn_check_nchw_compatibility`); the README of TensorFlow
        Lite's XNNPACK delegate; Elsen et al., "Fast Sparse ConvNets", CVPR 2020.

    Example:
        >>> import activation_pruning as ap
        >>> model = keras.Sequential([
        ...     keras.Input((8, 8, 3)), keras.layers.ZeroPadding2D(1),
        ...     keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="first"),
        ...     keras.layers.Conv2D(16, 1, name="point"),
        ...     keras.layers.GlobalAveragePooling2D(keepdims=True), keras.layers.Flatten(),
        ...     keras.layers.Dense(2)])
        >>> report = ap.prune(model, 0.5, include=["point"])
        >>> table = ap.analysis.sparse_kernels(model).set_index("layer")
        >>> table.loc["point", "reason"]
        '50.0 % of the weights in 1x1 convolutions are zeros, more than 66.7 % are needed'
        >>> report = ap.prune(model, 0.7, include=["point"])
        >>> table = ap.analysis.sparse_kernels(model)
        >>> table.loc[table["sparse"], "layer"].tolist()
        ['point']
    """
    sites.check_model(model)
    graph = inlining.inline(model)
    path = _Path(graph)
    rows = [row for operation in graph.operations if (row := path.row(operation))]
    return pd.DataFrame(rows, columns=["layer", "kind", "zeros", "sparse", "reason"])


class _Path:
    """The operations after a first convolution, as far as the pooling that ends them."""

    def __init__(self, graph: Model) -> None:
        self._known = sites.operations(graph)
        self._last = {id(one) for one in keras_private.output_operations(graph)}
        self._on: set[int] = set()
        self._blocked: dict[int, str] = {}
        for operation in graph.operations:
            self._visit(operation)
        pointwise = [one for one in graph.operations if id(one) in self._on and _is_pointwise(one)]
        counts = [np.asarray(keras.ops.convert_to_numpy(one.kernel)) for one in pointwise]
        weights = sum(one.size for one in counts)
        self._zeros = sum(int((one == 0).sum()) for one in counts) / weights if weights else 0.0

    def row(self, operation):
        """The row of an operation, or None for what neither has a kernel nor is in the way."""
        kernel = getattr(operation, "kernel", None)
        blocked = self._blocked.get(id(operation), "")
        if kernel is None and not blocked:
            return None
        zeros = float("nan")
        if kernel is not None:
            zeros = float(np.mean(keras.ops.convert_to_numpy(kernel) == 0))
        reason = blocked or self._reason(operation)
        return operation.name, type(operation).__name__, zeros, not reason, reason

    def _reason(self, operation):
        if id(operation) not in self._on:
            return "not between a first convolution and a global average pooling"
        if not _is_pointwise(operation):
            return "only 1x1 convolutions have sparse kernels"
        if self._blocked:
            return "something on the path is in the way, see its row"
        if self._zeros <= _LEAST:
            return (
                f"{self._zeros:.1%} of the weights in 1x1 convolutions are zeros, more than "
                f"{_LEAST:.1%} are needed"
            ).replace("%", " %")
        return ""

    def _visit(self, operation):
        before = keras_private.producers(operation, self._known)
        if isinstance(operation, _L.Conv2D) and not self._on.intersection(map(id, before)):
            wrong = _not_first(operation, before)
            if not wrong:
                self._on.add(id(operation))
            elif not any(isinstance(one, _L.Conv2D) for one in before):
                self._blocked[id(operation)] = wrong
            return
        if not self._on.intersection(map(id, before)):
            return
        if any(_ends(one) for one in before if id(one) in self._on):
            return
        self._on.add(id(operation))
        wrong = _in_the_way(operation, before)
        if not wrong and id(operation) in self._last and not _ends(operation):
            wrong = "the path must end in GlobalAveragePooling2D(keepdims=True)"
        if wrong:
            self._blocked[id(operation)] = wrong


def _is_pointwise(operation):
    return isinstance(operation, _L.Conv2D) and operation.kernel_size == (1, 1)


def _ends(operation):
    return isinstance(operation, _L.GlobalAveragePooling2D) and operation.keepdims


def _not_first(layer, before):
    padded = len(before) == 1 and _pads(before[0], 1) and layer.padding == "valid"
    fits = tuple(layer.kernel.shape[:3]) == (3, 3, 3) and layer.strides == (2, 2)
    return "" if fits and padded and layer.groups == 1 and _plain(layer) else _FIRST


def _plain(layer):
    return layer.dilation_rate == (1, 1) and layer.data_format == "channels_last"


def _pads(layer, number):
    both = ((number, number), (number, number))
    return isinstance(layer, _L.ZeroPadding2D) and layer.padding == both


def _in_the_way(operation: Any, before: list[Any]) -> str:
    """Why an operation ends the use of sparse kernels on its whole path; "" where it does not."""
    if isinstance(operation, _L.DepthwiseConv2D):
        return _depthwise(operation, before) or _activation(operation)
    if isinstance(operation, _L.Conv2D):
        fits = operation.kernel_size == (1, 1) and operation.strides == (1, 1)
        if fits and operation.groups == 1 and _plain(operation):
            return _activation(operation)
        return "after the first, convolutions must be 1x1, with stride 1, in one group"
    if isinstance(operation, _L.Activation):
        return _activation(operation)
    if isinstance(operation, _L.UpSampling2D):
        return "" if operation.interpolation == "bilinear" else "UpSampling2D must be bilinear"
    if isinstance(operation, _L.BatchNormalization):
        return ""  # the converter makes it a part of the convolution before
    known = isinstance(operation, _PASSING) or _ends(operation)
    if known or keras_private.operation_name(operation) in _OPERATIONS:
        return ""
    kind = type(operation).__name__
    if isinstance(operation, _L.GlobalAveragePooling2D):
        return "GlobalAveragePooling2D needs keepdims=True"
    return f"{kind} is not among the operations that XNNPACK runs with sparse kernels"


def _depthwise(layer, before):
    size, (stride, other) = layer.kernel_size, layer.strides
    number = size[0] // 2
    padded = len(before) == 1 and _pads(before[0], number) and layer.padding == "valid"
    fits = size in ((3, 3), (5, 5)) and stride == other and stride in (1, 2) and _plain(layer)
    if fits and layer.depth_multiplier == 1 and (padded or (layer.padding, stride) == ("same", 1)):
        return ""
    return (
        "depthwise convolutions must be 3x3 or 5x5, of stride 1 or 2, with a padding of 1 or 2 on "
        "each side (for stride 2 by ZeroPadding2D)"
    )


def _activation(layer):
    name = getattr(layer.activation, "__name__", "")
    return "" if name in _UNARY else f"the activation {name!r} has no kernel of this kind"
