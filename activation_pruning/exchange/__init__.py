"""Models that come from elsewhere or go elsewhere: LiteRT, ONNX, and legacy tf_keras."""

from activation_pruning.exchange.exported import load_exported
from activation_pruning.exchange.exporting import export
from activation_pruning.exchange.tfmot import from_tfmot

__all__ = ["export", "from_tfmot", "load_exported"]
