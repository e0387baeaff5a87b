"""Models that come from elsewhere or go elsewhere: LiteRT, ONNX, and legacy tf_keras.

exporting: `export`, which writes a file and compares it with Keras.
converters: the model that is exported as a function, and that function as a file.
exported: `load_exported`, and what runs a file.
tfmot: `from_tfmot`, whole legacy models. legacy_layers: one layer of them.
"""

from activation_pruning.exchange.exported import load_exported
from activation_pruning.exchange.exporting import export
from activation_pruning.exchange.tfmot import from_tfmot

__all__ = ["export", "from_tfmot", "load_exported"]
