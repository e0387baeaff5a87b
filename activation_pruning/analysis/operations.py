"""How many multiply-adds a call of a layer takes, by class and from the shapes."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from activation_pruning import keras_private
from activation_pruning.analysis import products
from activation_pruning.analysis.calls import Call

_L = keras.layers
_CELLS = (_L.LSTMCell, _L.GRUCell, _L.SimpleRNNCell)
_WHOLE = ("int8", "float8")  # ways to quantise that leave kernels their shapes


class Work(NamedTuple):
    """What one call of a layer multiplies.

    kernels: pairs (kernel, how often each of its weights is multiplied).
    products: multiply-adds that no kernel takes part in.
    numbers: how many numbers it holds besides its outputs.
    partial: of a `call` of a user's own, which may multiply in other ways as well.
    """

    kernels: Sequence[tuple[keras.Variable, int]] = ()
    products: int = 0
    numbers: int = 0
    partial: bool = False


def work(layer: Any, call: Call) -> Work | None:
    """The `Work` of one call of a built layer, batch included; None for unknown classes.

    Of layers that put others together, the products of `keras.ops` besides these.

    Example:
        >>> from activation_pruning.analysis.calls import record
        >>> model = keras.Sequential([keras.Input((8, 4)), keras.layers.Dense(3, name="a")])
        >>> call = record(model, model.layers)[0][id(model.layers[0])][0]
        >>> [times for kernel, times in work(model.layers[0], call).kernels]
        [8]
    """
    if getattr(layer, "quantization_mode", None) not in (None, *_WHOLE):
        return None  # several weights lie in one number
    if not isinstance(layer, keras.Layer):
        count = _OPERATIONS.get(keras_private.operation_name(layer) or "")
        return None if count is None else count(layer, call)
    kind: Any = next((kind for kind in type(layer).__mro__ if kind in _WORK), None)
    if kind is not None and type(layer).call is kind.call:
        return _WORK[kind](layer, call)
    # Of what puts other layers together, the products of `keras.ops` that it adds to theirs.
    return Work((), call.products, 0, True) if keras_private.sublayers(layer) else None


def _nothing(layer, call):
    return Work()


def _dense(layer, call):
    return Work([(layer.kernel, math.prod(call.inputs[0]) // layer.kernel.shape[0])])


def _einsum(layer, call):
    """All letters of the equation, and what the ellipsis hides, are loops around one product."""
    inputs, kernel = layer.equation.replace(" ", "").split("->")[0].split(",")
    before, _, after = inputs.partition("...")
    shape = call.inputs[0]
    known = dict(zip(before, shape, strict=False))
    known |= dict(zip(reversed(after), reversed(shape), strict=False))
    hidden = math.prod(shape) // math.prod(known.values())
    alone = (size for letter, size in known.items() if letter not in kernel)
    return Work([(layer.kernel, hidden * math.prod(alone))])


def _convolution(layer, call):
    """Each weight meets one value for each position of the output, in whichever group."""
    return Work([(layer.kernel, math.prod(call.outputs[0]) // layer.filters)])


def _transposed(layer, call):
    """Each weight meets one value for each position of the input; cropping comes afterwards."""
    return Work([(layer.kernel, math.prod(call.inputs[0]) // layer.kernel.shape[-1])])


def _depthwise(layer, call):
    channels = math.prod(layer.kernel.shape[-2:])
    return Work([(layer.kernel, math.prod(call.outputs[0]) // channels)])


def _separable(layer, call):
    positions = math.prod(call.outputs[0]) // layer.filters
    return Work([(layer.depthwise_kernel, positions), (layer.pointwise_kernel, positions)])


def _recurrent(layer, call):
    cells = getattr(layer.cell, "cells", [layer.cell])
    if not all(type(cell).call in [kind.call for kind in _CELLS] for cell in cells):
        return None
    steps = math.prod(call.inputs[0][:2])
    kernels = [kernel for cell in cells for kernel in (cell.kernel, cell.recurrent_kernel)]
    return Work([(kernel, steps) for kernel in kernels])


def _conv_lstm(layer, call):
    """Both convolutions work in every step, on as many positions as the state has."""
    steps = 1 if layer.return_sequences else call.inputs[0][1]
    times = steps * math.prod(call.outputs[0]) // layer.cell.filters
    return Work([(layer.cell.kernel, times), (layer.cell.recurrent_kernel, times)])


def _multi_head(layer, call):
    """Scores q k^T and their product with v, for each head; the projections are layers inside."""
    config, (query,), (value,) = layer.get_config(), call.inputs, call.arguments["value"]
    axes = config["attention_axes"] or range(1, len(query) - 1)
    sources = math.prod(value[axis] for axis in axes)
    size = config["value_dim"] or config["key_dim"]
    rows = math.prod(query[:-1]) * config["num_heads"]
    products = rows * sources * (config["key_dim"] + size)
    return Work(products=products, numbers=rows * (sources + size))


def _grouped_query(layer, call):
    (query,), (value,) = call.inputs, call.arguments["value"]
    rows, size = math.prod(query[:-1]) * layer.num_query_heads, layer.head_dim
    return Work(products=2 * rows * value[1] * size, numbers=rows * (value[1] + size))


def _attention(layer, call):
    """Of [query, value] or [query, value, key]: scores, and their product with the value."""
    query, value = call.inputs[:2]
    rows = math.prod(query[:-1])
    products = rows * value[1] * (query[-1] + value[-1])
    return Work(products=products, numbers=rows * value[1])


def _dot(layer, call):
    axes = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    return Work(products=math.prod(call.outputs[0]) * call.inputs[0][axes])


def _product(layer, call):
    shapes = [shape for given in call.arguments.values() for shape in given]
    return Work(products=products.einsum(layer.subscripts, *shapes))


def _matmul(layer, call):
    return Work(products=products.matmul(*call.inputs, *call.outputs))


def _dot_product_attention(layer, call):
    query, key, value = (call.arguments[name][0] for name in ("query", "key", "value"))
    rows = math.prod(query[:-1])
    return Work(products=products.attention(query, key, value), numbers=rows * key[1])


def _each_input(times):
    return lambda layer, call: Work(products=times * math.prod(call.inputs[0]))


def _average(layer, call):
    sizes = layer.pool_size
    window = sizes if isinstance(sizes, int) else math.prod(sizes)
    return Work(products=window * math.prod(call.outputs[0]))


_COUNTED = {
    _nothing: """
        MaxPooling* GlobalMaxPooling* ZeroPadding* Cropping* UpSampling* Flatten Reshape Permute
        RepeatVector Identity Masking Activation ReLU LeakyReLU PReLU ELU Softmax
        ActivityRegularization Dropout SpatialDropout* AlphaDropout GaussianDropout GaussianNoise
        Add Subtract Multiply Average Maximum Minimum Concatenate
        Embedding TimeDistributed Bidirectional
    """,
    _dense: "Dense",
    _einsum: "EinsumDense",
    _convolution: "Conv*",
    _transposed: "Conv*Transpose",
    _depthwise: "DepthwiseConv*",
    _separable: "SeparableConv*",
    _recurrent: "LSTM GRU SimpleRNN RNN",
    _conv_lstm: "ConvLSTM*",
    _multi_head: "MultiHeadAttention",
    _grouped_query: "GroupQueryAttention",
    _attention: "Attention AdditiveAttention",
    _dot: "Dot",
    _average: "AveragePooling*",
    _each_input(1): "GlobalAveragePooling* BatchNormalization Normalization Rescaling",
    _each_input(2): "LayerNormalization GroupNormalization RMSNormalization UnitNormalization",
}


def _classes(names):
    """The classes of these names that this version of Keras has; * stands for 1D, 2D and 3D."""
    every = (name.replace("*", n) for name in names.split() for n in ("1D", "2D", "3D"))
    return [getattr(_L, name) for name in every if hasattr(_L, name)]


_WORK = {kind: count for count, names in _COUNTED.items() for kind in _classes(names)}
# Of `keras.ops`; what works number by number is not counted.
_OPERATIONS = {
    "numpy.Einsum": _product,
    "numpy.Matmul": _matmul,
    "numpy.Dot": _matmul,
    "nn.DotProductAttention": _dot_product_attention,
}
