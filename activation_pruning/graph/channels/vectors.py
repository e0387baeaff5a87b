"""Layers of users' own that hold vectors with an entry for each channel: scales, shifts, ..."""

from collections.abc import Iterator

import keras
import numpy as np

from activation_pruning import keras_private
from activation_pruning.graph import configurations, copies
from activation_pruning.graph.channels import probing
from activation_pruning.graph.channels.flow import Channels
from activation_pruning.graph.channels.rules import Call, NotFollowed, own_rule
from activation_pruning.graph.twins import NotCopied
from activation_pruning.support.types import Array, Mask


def may_be_vectors(layer: keras.Layer) -> bool:
    """Whether all weights of a layer are vectors, and no other layers are inside."""
    weights = layer.weights
    return bool(weights) and not keras_private.sublayers(layer) and all(map(_is_vector, weights))


def _is_vector(variable):
    return sum(size != 1 for size in variable.shape) == 1


def by_entry(call: Call) -> Channels:
    """Channel by channel, with the entry of each: that this is so, is tried.

    The layer is made again for a part of its channels, with the entries of these, and has to make
    the same of them. Its configuration may count the channels.
    """
    x, layer = call.x, call.layer
    number = len(x.ids)
    axes = [int(np.argmax(variable.shape)) for variable in layer.weights]
    fit = all(v.shape[axis] == number for v, axis in zip(layer.weights, axes, strict=True))
    if number < 2 or not fit or len(call.shape) != len(x.shape) or len(call.shapes) > 1:
        raise NotFollowed("not known to compaction", own_rule(layer))
    keys = next((keys for keys in _counting(layer, number) if _holds(call, axes, keys)), None)
    if keys is None:
        raise NotFollowed("not known to compaction", own_rule(layer))
    for variable, axis in zip(layer.weights, axes, strict=True):
        call.flow.slice(variable, axis, x.ids)
    for key in keys:
        call.flow.size(layer, key, x.ids)
    return x.to(call.shape, value=probing.constants(call))


def _counting(layer: keras.Layer, number: int) -> Iterator[list[str]]:
    """Which entries of the configuration may count the channels: none, or all that could."""
    yield []
    try:
        config = configurations.config_of(layer)
    except NotCopied:
        return
    found = [key for key, value in config.items() if type(value) is int and value == number]
    if found:
        yield found


def _holds(call: Call, axes: list[int], keys: list[str]) -> bool:
    """Whether the layer, made for any part of its channels, makes the same of these."""

    def run(values: Array, kept: Mask) -> list[Array]:
        layer = copies.resized_layer(call.layer, **dict.fromkeys(keys, int(kept.sum())))
        layer.build(values.shape)
        pairs = zip(call.layer.weights, axes, strict=True)
        layer.set_weights([np.compress(kept, keras.ops.convert_to_numpy(v), a) for v, a in pairs])
        return [keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(values)))]

    return probing.parts_alike(call.x, run)
