"""Training as if quantised: `fake_quantize`."""

from __future__ import annotations

import functools
from typing import Any

import keras
import pandas as pd

from activation_pruning import keras_private, sites
from activation_pruning.evidence import batches, reading
from activation_pruning.hooks.fake_quantization import FakeQuantization
from activation_pruning.hooks.ranges import Range
from activation_pruning.layers.wrapping import check_plain
from activation_pruning.quantization.float_models import check_float
from activation_pruning.quantization.places import places
from activation_pruning.support.checks import check_count, check_number, is_integer
from activation_pruning.support.names import quoted
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Data, Layers, Model, Table

_COLUMNS = {"layer", "tensor", "minimum", "maximum"}


def fake_quantize(
    model: Model,
    bits: int = 8,
    *,
    activation_bits: int | None = 8,
    data: Data = None,
    ranges: Table | None = None,
    momentum: float = 0.99,
    include: Layers = None,
    exclude: Layers = (),
    steps: int | None = None,
) -> FakeQuantization:
    """Have a model compute and train as if it were quantised, in place; pruned weights stay zeros.

    Kernels are rounded to 2^bits - 1 values for each unit, by its largest weight; activations to
    2^activation_bits values between the ends of a range that moves with the training batches.
    Gradients pass as if nothing were rounded, and are zero for what lies outside of a range
    ("straight-through"). Weights stay float, so optimizers and callbacks work as ever, those that
    prune and keep zeros among them. Layers, weights and saved files are those of the plain model.

    `ap.export(model, "model.tflite", quantize="int8")` then writes integers by the ranges learned,
    `ap.export(model, "model.onnx")` the same as QDQ nodes. `ap.strip(model)` gives a plain copy
    with rounded weights, `.finish()` writes them in place, `.remove()` goes back to float. Copies
    (`compact`, `clone_model`, a saved file) are plain: give them the ranges that were learned,
    `ranges=`. Take it off before `ap.quantize` or `model.quantize`.

    Args:
        model: a built Keras 3 model of plain layers.
        bits: of weights, from 2 to 8.
        activation_bits: from 2 to 8; None leaves activations as they are.
        data: inputs to begin the ranges with; else the first training batch does.
        ranges: what `.table()` gave for such a model, to go on from: a saved file holds no ranges.
        momentum: of the ends of a range, in [0, 1): 0 takes those of the last batch.
        include, exclude: layers whose kernels are rounded, or not (names, patterns, layers).
            Embeddings never are.
        steps: how many batches of `data` to read, see `prune`.

    Returns:
        A `FakeQuantization`, with `.table()` of the ranges.

    Raises:
        TypeError: when `model` is not a Keras 3 model.
        ValueError: for bits out of range, a model that is quantised already or has wrappers or
            callbacks of this package on it, data that is not finite, or ranges of another model.

    Source: Jacob et al., CVPR 2018, sections 3 and 3.1.

    Example:
        >>> import numpy as np, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> model.compile("sgd", "mse")
        >>> done = ap.fake_quantize(model, bits=4)
        >>> history = model.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0)
        >>> done.table()["seen"].all()
        np.True_
    """
    check_float(model)
    for name, value in (("bits", bits), ("activation_bits", activation_bits)):
        if not (is_integer(value) and 2 <= value <= 8) and not (value is None and name != "bits"):
            more = "" if name == "bits" else ", or None"
            raise ValueError(f"{name}={shown(value)}; it must be an integer from 2 to 8{more}")
    check_number("momentum", momentum, 0, below=1)
    if steps is not None:
        check_count("steps", steps, 1)
    found = _sites(model, include, exclude)
    done = FakeQuantization(model, bits)
    if activation_bits is not None:
        make = functools.partial(_range, activation_bits, momentum)
        found_places, carrier = list(places(model)), _carrier(model)
        done.inputs(_inputs(model), carrier, make)
        for place in found_places:
            layer = place.layer if isinstance(place.layer, keras.Layer) else carrier
            done.place(place, layer, make)
    done.attach(found)
    try:
        if ranges is not None:
            _set(done, ranges)
        if data is not None:
            _begin(done, reading.first(data, steps))
    except BaseException:
        done.remove()
        raise
    return done


def _range(bits, momentum, fixed):
    return Range(bits, momentum, fixed if bits == 8 else None)


def _sites(model, include, exclude):
    found = sites.find(model, include, exclude).sites
    check_plain(found, ", which multiplies weights before they would be rounded")
    return [one for one in found if not isinstance(one.layer, keras.layers.Embedding)]


def _carrier(model):
    """A layer for the ranges of inputs; not an InputLayer, whose state JAX does not carry."""
    inner = keras_private.with_sublayers(model)[1:]
    return next(one for one in inner if not isinstance(one, keras.layers.InputLayer))


def _inputs(model):
    """Which inputs are real numbers that count; the one of a model that does not say."""
    if not sites.is_graph(model):
        return [0]
    known = sites.operations(model)
    uses = [
        keras_private.consumers(keras_private.operation_of(tensor), known)
        for tensor in model.inputs
    ]
    return [
        index
        for index, (tensor, users) in enumerate(zip(model.inputs, uses, strict=True))
        if "float" in tensor.dtype
        # Tokens, whatever their dtype: a table is looked up by them.
        and not any(isinstance(one, keras.layers.Embedding) for one in users)
    ]


def _set(done, table):
    if not set(getattr(table, "columns", ())) >= _COLUMNS:
        raise TypeError(
            f"ranges={shown(table)}; give what .table() of a FakeQuantization returned: a "
            f"DataFrame with the columns {sorted(_COLUMNS)}"
        )
    # In their order: layers that Keras has named have other names in the next model.
    if list(table["tensor"]) != [tensor for _, tensor in done.ranges]:
        rows = [f"{row.layer}/{row.tensor}" for row in table.itertuples()]
        own = ["/".join(key) for key in done.ranges]
        raise ValueError(f"ranges are of another model: they are of {rows}, it has {own}")
    for (path, tensor), one, row in zip(
        done.ranges, done.ranges.values(), table.itertuples(), strict=True
    ):
        low, high = pd.to_numeric([row.minimum, row.maximum], errors="coerce")
        if not (low <= 0 <= high and high - low < float("inf")):
            raise ValueError(
                f"ranges: {path}/{tensor} goes from {row.minimum} to {row.maximum}; these must be "
                "finite numbers with 0 between them"
            )
        if bool(getattr(row, "seen", True)):
            one.set(low, high)


def _begin(done: FakeQuantization, data: Any) -> None:
    """Set the ranges by what lies in the data: the means of the ends over batches."""
    for one in done.ranges.values():
        one.observing = True
    try:
        for x, _ in batches.to_run(data, 256, done.model):
            done.model(x, training=False)
    finally:
        for one in done.ranges.values():
            one.observing = False
    check_finite(done)


def check_finite(done: FakeQuantization) -> None:
    """Raise ValueError for a range that no data has set, or that is NaN or infinite."""
    table = done.table()
    width = table["maximum"] - table["minimum"]
    odd = table[~(width < float("inf"))]
    if len(odd):
        names = quoted([f"{row.layer}/{row.tensor}" for row in odd.itertuples()])
        raise ValueError(
            f"the ranges of {names} are NaN or infinite; look at the data, or lower "
            "the learning rate"
        )
    whole = table["tensor"] == "input"  # tokens, in a model that does not say so
    unseen = table[~table["seen"] & ~(whole & table["seen"].any())]
    if len(unseen):
        names = quoted([f"{row.layer}/{row.tensor}" for row in unseen.itertuples()])
        raise ValueError(
            f"the ranges of {names} were never seen; train the model, or give "
            "fake_quantize(model, data=...) some hundred typical inputs"
        )
