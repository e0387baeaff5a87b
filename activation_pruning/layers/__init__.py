"""Layers: pruning as an explicit, serializable part of a model.

kernel_wrapper: the base, which runs a layer with its kernels multiplied by something.
pruned_layer: `PrunedLayer`, by masks. l0: `L0Layer`, by gates that learn.
reparameterized: layers that act with functions of the weights that training moves.
wrapping: `wrap` and `strip`, whole models into wrappers and out of them.
"""

from activation_pruning.layers.l0 import L0Layer
from activation_pruning.layers.pruned_layer import PrunedLayer
from activation_pruning.layers.reparameterized import (
    PowerpropagationLayer,
    SoftThresholdLayer,
    StraightThroughLayer,
)
from activation_pruning.layers.wrapping import strip, wrap

__all__ = [
    "L0Layer",
    "PowerpropagationLayer",
    "PrunedLayer",
    "SoftThresholdLayer",
    "StraightThroughLayer",
    "strip",
    "wrap",
]
