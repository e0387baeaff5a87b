"""Statistics of BatchNormalization, estimated anew after the weights before it have changed."""

from collections.abc import Callable
from typing import Any

import keras

from activation_pruning import keras_private, sites
from activation_pruning.evidence import batches, reading
from activation_pruning.support.checks import check_count
from activation_pruning.support.types import Data, Model


def recalibrate_batchnorm(
    model: Model, data: Data, batch_size: int = 256, steps: int | None = None
) -> int:
    """Estimate the moving means and variances of every BatchNormalization anew, in place.

    One pass over `data`: each layer normalises by the statistics of the batch, as in training, and
    its moving statistics become the means of these, weighted by the samples of the batches. All
    else (Dropout, ...) runs as in inference; layers with `trainable=False` keep theirs.

    Args:
        model: a built `keras.Model`, as after `prune`.
        data: samples of the inputs, as for `prune`; labels are not used.
        batch_size: samples per batch where `data` is not batched already; with few of them
            variances come out too small. Of a model of a fixed size it is that one, and samples
            that fill no batch are left out, with a warning.
        steps: how many batches of `data` to read, see `prune`.

    Returns:
        The number of layers that were recalibrated.

    Raises:
        TypeError: when `model` is not a Keras 3 model.
        ValueError: when the model has no such layer, or there is no data.

    Source: Izmailov et al., UAI 2018, section 3.1 (statistics anew for changed weights).

    Example:
    >>> import numpy as np, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization()])
    >>> ap.recalibrate_batchnorm(model, np.array([[1.0], [3.0]]))
    1
    >>> [float(w[0]) for w in model.get_weights()[2:]]
    [2.0, 1.0]
    """
    check_count("batch_size", batch_size, 1)
    sites.check_model(model)
    everything, kind = keras_private.with_sublayers(model), keras.layers.BatchNormalization
    layers = [layer for layer in everything if isinstance(layer, kind) and layer.trainable]
    if not layers:
        raise ValueError("model has no trainable BatchNormalization layer: nothing to recalibrate")
    running = [(layer, "call", _in_training(layer)) for layer in layers]
    momenta = [(layer, "momentum", layer.momentum) for layer in layers]  # each call sets them
    with keras_private.overridden([*running, *momenta]):
        for x in batches.whole(reading.first(data, steps), batch_size, model):
            model(x, training=False)
    return len(layers)


def _in_training(layer: Any) -> Callable:
    """The call of this layer alone, run as in training."""
    call, seen = layer.call, 0

    def wrapped(inputs: Any, training: Any = None, mask: Any = None) -> Any:
        nonlocal seen
        hidden = mask is None or not layer.supports_masking
        rows = inputs.shape[0] if hidden else int(keras.ops.sum(keras.ops.cast(mask, "int32")))
        seen += rows
        layer.momentum = 1 - rows / max(seen, 1)  # a running mean over all that passes
        return call(inputs, training=True, mask=mask)

    return wrapped
