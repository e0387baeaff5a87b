"""What a network costs by its architecture: parameters, multiply-adds, memory of activations."""

import math
from typing import Any

import keras
import numpy as np
import pandas as pd

from activation_pruning import sites
from activation_pruning.analysis import operations
from activation_pruning.analysis.calls import record
from activation_pruning.analysis.parts import parts
from activation_pruning.pruning import report
from activation_pruning.support.names import shortened
from activation_pruning.support.types import Model, Table

_COUNTS = ["parameters", "weights", "nonzeros"]
_DONE = ["multiply_adds", "sparse_multiply_adds", "activation_bytes"]


class Cost:
    """What `cost` found; prints as a table.

    total: Series of the sums over all layers, named as the columns of `table()`; `note` says
        which layers' multiply-adds are not in them.

    Example:
        >>> import activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6)])
        >>> ap.analysis.cost(model).total[["parameters", "multiply_adds"]].tolist()
        [54, 48]
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def table(self) -> Table:
        """Tidy DataFrame, one row for each layer; see `cost` for its columns."""
        return self._table.copy()

    @property
    def total(self) -> pd.Series:
        """Sums over the layers."""
        sums = {name: int(self._table[name].sum()) for name in _COUNTS + _DONE}
        sparsity = _sparsity(sums["nonzeros"], sums["weights"])
        unknown = self._table.loc[self._table["multiply_adds"].isna(), "layer"].tolist()
        note = f"without the multiply-adds of {shortened(unknown)}" if unknown else ""
        found = pd.Series(sums | {"sparsity": sparsity, "note": note})
        return found[[*_COUNTS, "sparsity", *_DONE, "note"]]

    def __repr__(self) -> str:
        total = self.total.to_frame().T.assign(layer="total")
        shown = pd.concat([self._table.astype(object), total.astype(object)])
        shown = shown[self._table.columns]
        for name in _COUNTS + _DONE:
            shown[name] = shown[name].map("{:,}".format, na_action="ignore")
        shown["sparsity"] = shown["sparsity"].map("{:.1%}".format, na_action="ignore")
        return shown.to_string(index=False, na_rep="")


def cost(model: Model, input_shape: Any = None) -> Cost:
    """Parameters, multiply-adds and activation memory of each layer, for one sample.

    One multiply-add, w * x added to a sum, counts as 1; in FLOPs that is 2. A kernel of n weights,
    each of which meets m values, takes n * m of them, and a sparse one (n - zeros) * m: what a
    runtime that skips zeros needs, not what Keras does. m is for

    Dense, EinsumDense: the product of the input's axes that the kernel does not sum over;
    Conv, DepthwiseConv, SeparableConv: the positions of the output (padding, strides and dilation
        decide how many; a weight on padding counts, too);
    Conv transposed: the positions of the input (also where the result is cropped);
    SimpleRNN, LSTM, GRU, ConvLSTM: the time steps (times positions), for both kernels; masked
        steps count, and so does the first state, which is 0.

    Besides kernels: attention takes (targets x sources x (size of a key + of a value)) for each
    head, whatever is masked; BatchNormalization, Normalization and Rescaling 1 for each value,
    other normalisations 2; average pooling 1 for each value in a window; Dot its product. Not
    counted: biases, activation functions, elementwise work, interpolation, Embedding.

    Shapes are those of one pass over zeros in inference mode, in which every call of every layer
    counts (shared, nested, in every step of TimeDistributed). Layers of other classes, operations
    of `keras.ops` (but einsum, matmul, dot and dot_product_attention, which count) and layers whose
    own `call` uses others are listed with what is known and a note.

    Args:
        model: a built `keras.Model`.
        input_shape: sizes without the batch axis, (28, 28, 1), where the model leaves them open; a
            list or dict of them for several inputs; `keras.Input(shape, dtype=...)` for a shape
            where a subclassed model takes other than float32.

    Returns:
        A `Cost`: `.table()`, one row for each layer (paths as in `sites`): layer, kind, calls,
        parameters, weights (those in kernels), nonzeros (of these), sparsity (1 - nonzeros /
        weights; NaN without kernels), multiply_adds, sparse_multiply_adds (missing where not
        known), activation_bytes (all outputs of the layer for one sample, also where a backend
        needs no memory of their own; those of attention hold its scores), note. `.total`, the
        sums. Layers without weights that are never called are left out.

    Raises:
        TypeError: when `model` is not a Keras 3 model, or `input_shape` holds no shapes.
        ValueError: where sizes of the inputs are not known, or the model does not take them.

    Source: conventions of Sze et al., "Efficient Processing of Deep Neural Networks", Proc. IEEE
        105(12), 2017 (multiply-and-accumulates, of which zeros can be skipped).

    Example:
        >>> import activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="a"),
        ...                           keras.layers.Flatten(), keras.layers.Dense(2, name="b")])
        >>> ap.analysis.cost(model).table()[["layer", "multiply_adds"]].values.tolist()
        [['a', 1296], ['flatten', 0], ['b', 288]]
    """
    sites.check_model(model)
    report.warn_revived(model)
    found = parts(model)
    calls, batch = record(model, [part.layer for part in found], input_shape)
    alive = {  # of all parts: a kernel may be used by a layer that does not hold it
        id(kernel): int(np.count_nonzero(part.values(kernel)))
        for part in found
        for kernel in part.kernels
    }
    rows = []
    for part in found:
        own = calls.get(id(part.layer), [])
        if part.weights or own:
            rows.append(_row(part, own, alive, batch) | {"note": _note(part, own, calls)})
    columns = ["layer", "kind", "calls", *_COUNTS, "sparsity", *_DONE, "note"]
    table = pd.DataFrame(rows, columns=columns)
    return Cost(table.astype(dict.fromkeys(["calls", *_COUNTS, *_DONE], "Int64")))


def _row(part, calls, alive, batch):
    weights = sum(math.prod(kernel.shape) for kernel in part.kernels)
    nonzeros = sum(alive[id(kernel)] for kernel in part.kernels)
    work = [operations.work(part.layer, call) for call in calls]
    known = None not in work
    # What runs other layers hands on what they made.
    held = 0 if part.inside else sum(call.size_bytes for call in calls)
    if known:
        held += sum(one.numbers * call.itemsize for one, call in zip(work, calls, strict=True))
    return {
        "layer": part.path,
        "kind": type(part.layer).__name__,
        "calls": len(calls),
        "parameters": sum(math.prod(weight.shape) for weight in part.weights),
        "weights": weights,
        "nonzeros": nonzeros,
        "sparsity": _sparsity(nonzeros, weights),
        "multiply_adds": _multiplied(work, {}) // batch if known else None,
        "sparse_multiply_adds": _multiplied(work, alive) // batch if known else None,
        "activation_bytes": held // batch,
    }


def _sparsity(nonzeros, weights):
    return 1 - nonzeros / weights if weights else float("nan")


def _multiplied(work, alive):
    """Multiply-adds of several calls; of kernels in `alive`, {id: nonzeros}, without the zeros."""
    return sum(one.products for one in work) + sum(
        times * alive.get(id(kernel), math.prod(kernel.shape))
        for one in work
        for kernel, times in one.kernels
    )


def _note(part, own, calls):
    kind = type(part.layer).__name__
    if not own:
        return "not called in inference, or called within a compiled function"
    found = operations.work(part.layer, own[0])
    if found is not None:
        told = f"the layers in it and products of keras.ops count, not what else {kind} does"
        return told if found.partial else ""
    if not isinstance(part.layer, keras.Layer):
        return f"{kind} is an operation, not a layer: its multiply-adds are not known"
    mode = getattr(part.layer, "quantization_mode", None)
    quantised = f", quantised to {mode}," if mode else ""
    return f"the multiply-adds of {kind}{quantised} are not known"
