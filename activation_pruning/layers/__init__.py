"""Layers: pruning as an explicit, serializable part of a model."""

from activation_pruning.layers.l0 import L0Layer
from activation_pruning.layers.pruned_layer import PrunedLayer, strip, wrap

__all__ = ["L0Layer", "PrunedLayer", "strip", "wrap"]
