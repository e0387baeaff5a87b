"""Activation functions, alone and of other layers, and what is the identity in inference."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from activation_pruning.graph.channels import merging, probing
from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.rules import Call, NotFollowed, rule
from activation_pruning.sites import layer_classes
from activation_pruning.support.types import Array

_L = keras.layers
MIXING = ("softmax", "log_softmax", "sparsemax", "glu")  # activations that look at all channels


def by_number(activation: Callable[..., Any] | None) -> bool:
    """Whether an activation function acts on each number by itself.

    Known of Keras's own; of others it is found out by a few numbers, see `probing`.
    """
    name = getattr(activation, "__name__", "")
    if activation is None or getattr(keras.activations, name, None) is activation:
        return name not in MIXING
    holds = isinstance(activation, keras.Layer) and bool(activation.variables)
    return not holds and probing.number_by_number(activation)


def constants(function: Callable[..., Any], value: Array) -> Array:
    """`function` of constants; NaN stays NaN."""
    known = np.isfinite(value)
    found = np.full(len(value), np.nan)
    if known.any():
        inputs = keras.ops.convert_to_tensor(value[known][None], "float32")
        outputs = keras.ops.cast(function(inputs), "float32")
        found[known] = keras.ops.convert_to_numpy(outputs)[0]
    return np.where(np.isfinite(found), found, np.nan)


def activated(call: Call, x: Channels) -> Channels:
    """`x` after the activation function of a layer."""
    activation = getattr(call.layer, "activation", None)
    if activation in (None, keras.activations.linear):
        return x
    if not by_number(activation):
        name = getattr(activation, "__name__", type(activation).__name__)
        reason = f"the activation {name!r} of {call.layer.name!r} may look at all channels"
        call.flow.pin(x.ids, reason, "put it into a layer after this one, or use another")
        return x.varying()
    return x.to(x.shape, value=constants(activation, x.value))


@rule(*layer_classes.UNCHANGED)
def unchanged(call: Call) -> Channels:
    """What is the identity in inference."""
    return call.x


@rule(_L.Activation)
def activation(call: Call) -> Channels:
    """An activation function as a layer."""
    return activated(call, call.x)


@rule(
    _L.ReLU, _L.LeakyReLU, _L.ELU,
    "nn.Relu", "nn.Relu6", "nn.Sigmoid", "nn.Gelu", "nn.Silu", "nn.Elu", "nn.Softplus",
    "nn.LeakyRelu", "nn.HardSilu", "nn.HardSigmoid", "nn.LogSigmoid", "nn.Softsign", "nn.Selu",
    "nn.Celu", "nn.HardTanh", "nn.TanhShrink", "nn.SoftShrink", "nn.HardShrink", "nn.Squareplus",
    "nn.Threshold", "numpy.Tanh", "numpy.Abs", "numpy.Absolute", "numpy.Exp", "numpy.Expm1",
    "numpy.Log", "numpy.Log1p", "numpy.Sqrt", "numpy.Square", "numpy.Negative", "numpy.Reciprocal",
    "numpy.Sign", "numpy.Sin", "numpy.Cos", "numpy.Floor", "numpy.Ceil", "numpy.Round",
    "numpy.Clip", "numpy.LogicalNot", "math.Rsqrt", "math.Erf", "core.Cast", "core.StopGradient",
    "core.ConvertToTensor",
)  # fmt: skip
def by_itself(call: Call) -> Channels:
    """Activation layers and operations without weights."""
    return call.x.to(call.shape, value=constants(call.layer.call, call.x.value))


@rule("numpy.ZerosLike", "numpy.OnesLike")
def filled(call: Call) -> Channels:
    """As many numbers as come in, all of them the same."""
    number = float(type(call.layer).__name__ == "OnesLike")
    return call.x.to(call.shape, value=np.full(len(call.x.ids), number))


@rule(_L.Softmax, "nn.Softmax", "nn.LogSoftmax")
def softmax(call: Call) -> Channels:
    """Looks at all channels, or, along another axis, at all positions of each.

    A mask is one more tensor that is broadcast to them.
    """
    x = merging.joined(call, call.operands)[0]
    axes = range(len(x.shape)) if call.layer.axis is None else np.atleast_1d(call.layer.axis)
    if x.axis in [axis % len(x.shape) for axis in axes]:
        raise NotFollowed("it looks at all channels")
    return x


@rule(_L.PReLU)
def prelu(call: Call) -> Channels:
    """max(0, x) + alpha * min(0, x), alpha by channel, and by position unless that is shared."""
    x, alpha = call.x, call.layer.alpha
    axis, size = x.axis - 1, alpha.shape[x.axis - 1]
    slopes = np.moveaxis(keras.ops.convert_to_numpy(alpha), axis, -1).reshape(-1, size)
    same = (slopes == slopes[:1]).all(axis=0)
    if size > 1:
        call.flow.slice(alpha, axis, x.ids)
    negative = np.where(same, slopes[0] * x.value, np.nan)
    return x.to(call.shape, value=np.where(x.value >= 0, x.value, negative))
