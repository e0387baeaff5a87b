"""Layers that work channel by channel: a channel is the same before and after."""

import keras
import numpy as np

from activation_pruning.graph.channels.walk import NotFollowed, rule, single

_L = keras.layers
MIXING = ("softmax", "log_softmax", "sparsemax", "glu")  # activations that look at all channels


def by_number(activation):
    """Whether an activation function is known to act on each number by itself."""
    name = getattr(activation, "__name__", "")
    known = getattr(keras.activations, name, None)
    return activation is None or (known is activation and name not in MIXING)


def constants(function, value):
    """`function` of constants; NaN stays NaN."""
    known = np.isfinite(value)
    found = np.full(len(value), np.nan)
    if known.any():
        inputs = keras.ops.convert_to_tensor(value[known][None], "float32")
        found[known] = keras.ops.convert_to_numpy(function(inputs))[0]
    return found


def activated(flow, layer, x):
    """`x` after the activation function of a layer."""
    activation = getattr(layer, "activation", None)
    if activation in (None, keras.activations.linear):
        return x
    if not by_number(activation):
        name = getattr(activation, "__name__", type(activation).__name__)
        flow.pin(x.ids, f"the activation {name!r} of {layer.name!r} may look at all channels")
        return x.varying()
    return x.to(x.shape, value=constants(activation, x.value))


@rule(
    _L.Dropout, _L.SpatialDropout1D, _L.SpatialDropout2D, _L.SpatialDropout3D, _L.GaussianDropout,
    _L.GaussianNoise, _L.AlphaDropout, _L.ActivityRegularization, _L.Identity,
)  # fmt: skip
def unchanged(flow, layer, xs, shapes):
    """What is the identity in inference."""
    return single(xs)


@rule(_L.Activation)
def activation(flow, layer, xs, shapes):
    """An activation function as a layer."""
    return activated(flow, layer, single(xs))


@rule(
    _L.ReLU, _L.LeakyReLU, _L.ELU,
    "nn.Relu", "nn.Relu6", "nn.Sigmoid", "nn.Gelu", "nn.Silu", "nn.Elu", "nn.Softplus",
    "nn.LeakyRelu", "nn.HardSilu", "nn.HardSigmoid", "numpy.Tanh",
)  # fmt: skip
def by_itself(flow, layer, xs, shapes):
    """Activation layers and operations without weights."""
    x = single(xs)
    return x.to(shapes[0], value=constants(layer.call, x.value))


@rule(_L.Softmax)
def softmax(flow, layer, xs, shapes):
    """Looks at all channels, or, along another axis, at all positions of each."""
    x = single(xs)
    axes = [axis % len(x.shape) for axis in np.atleast_1d(layer.axis)]
    if x.axis in axes:
        raise NotFollowed("it looks at all channels")
    return x.varying()


@rule(_L.PReLU)
def prelu(flow, layer, xs, shapes):
    """max(0, x) + alpha * min(0, x), alpha by channel, and by position unless that is shared."""
    x, own = single(xs), layer.alpha.shape
    axis = x.axis - 1
    alpha = np.moveaxis(keras.ops.convert_to_numpy(layer.alpha), axis, -1).reshape(-1, own[axis])
    same = (alpha == alpha[:1]).all(axis=0)
    if own[axis] > 1:
        flow.slice(layer.alpha, axis, x.ids)
    negative = np.where(same, alpha[0] * x.value, np.nan)
    return x.to(shapes[0], value=np.where(x.value >= 0, x.value, negative))


@rule(_L.Rescaling)
def rescaling(flow, layer, xs, shapes):
    """x * scale + offset, the same for all channels."""
    if np.ndim(layer.scale) or np.ndim(layer.offset):
        raise NotFollowed("it scales every channel on its own")
    return single(xs).to(shapes[0], value=single(xs).value * layer.scale + layer.offset)


@rule(_L.BatchNormalization)
def batch_normalization(flow, layer, xs, shapes):
    """gamma (x - mean) / sqrt(variance + epsilon) + beta."""
    x = single(xs)
    if layer.axis % len(x.shape) != x.axis:
        return x.varying()
    found = {}
    for name, default in (("gamma", 1), ("beta", 0), ("moving_mean", 0), ("moving_variance", 1)):
        variable = getattr(layer, name, None)
        flow.slice(variable, 0, x.ids)
        values = np.full(len(x.ids), default) if variable is None else _numpy(variable)
        found[name] = values.astype(np.float64)
    spread = np.sqrt(found["moving_variance"] + layer.epsilon)
    value = (x.value - found["moving_mean"]) * found["gamma"] / spread + found["beta"]
    if found["gamma"].any():  # zeros in all of them are a fresh initialisation, not pruned units
        value = np.where(found["gamma"] == 0, found["beta"], value)
    return x.to(shapes[0], value=value)


@rule(_L.LayerNormalization)
def layer_normalization(flow, layer, xs, shapes):
    """Exact only where it normalises along other axes than the channels'."""
    x = single(xs)
    if x.axis in [axis % len(x.shape) for axis in np.atleast_1d(layer.axis)]:
        flow.pin(x.ids, f"{layer.name!r} normalises over all channels")
    return x.varying()


@rule(_L.GroupNormalization, _L.RMSNormalization, _L.UnitNormalization, _L.Normalization)
def normalised(flow, layer, xs, shapes):
    """The mean over channels changes when one goes, even a constant one."""
    x = single(xs)
    flow.pin(x.ids, f"{layer.name!r} normalises over all channels")
    return x.varying()


@rule(
    _L.MaxPooling1D, _L.MaxPooling2D, _L.MaxPooling3D, _L.UpSampling1D, _L.UpSampling2D,
    _L.UpSampling3D, _L.Cropping1D, _L.Cropping2D, _L.Cropping3D,
)  # fmt: skip
def positions(flow, layer, xs, shapes):
    """What picks or repeats positions leaves constants what they are."""
    return flow.along(single(xs), channel_axis(layer, shapes[0])).to(shapes[0])


@rule(_L.AveragePooling1D, _L.AveragePooling2D, _L.AveragePooling3D)
def average(flow, layer, xs, shapes):
    """Means over positions; at padded borders not every backend leaves the padding out."""
    x = flow.along(single(xs), channel_axis(layer, shapes[0]))
    return bordered(x, shapes[0]) if layer.padding != "valid" else x.to(shapes[0])


@rule(_L.ZeroPadding1D, _L.ZeroPadding2D, _L.ZeroPadding3D)
def padding(flow, layer, xs, shapes):
    """A constant other than zero is none any more with zeros around it."""
    return bordered(flow.along(single(xs), channel_axis(layer, shapes[0])), shapes[0])


@rule(
    _L.GlobalMaxPooling1D, _L.GlobalMaxPooling2D, _L.GlobalMaxPooling3D,
    _L.GlobalAveragePooling1D, _L.GlobalAveragePooling2D, _L.GlobalAveragePooling3D,
)  # fmt: skip
def over_all_positions(flow, layer, xs, shapes):
    """One number is left of each channel."""
    x = single(xs)
    axis = channel_axis(layer, x.shape)
    return flow.along(x, axis).to(shapes[0], axis if len(shapes[0]) == len(x.shape) else 1)


def bordered(x, shape):
    """`x` with zeros mixed in at the borders: only zeros are still constant."""
    return x.to(shape, value=np.where(x.value == 0, 0.0, np.nan))


def channel_axis(layer, shape):
    """The axis of the channels that a layer with a `data_format` takes."""
    first = getattr(layer, "data_format", None) == "channels_first"
    return 1 if first else len(shape) - 1


def _numpy(variable):
    return keras.ops.convert_to_numpy(variable)
