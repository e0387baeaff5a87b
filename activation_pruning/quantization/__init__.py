"""Weights and activations in few bits, with pruned weights kept at zero.

quantizing: `quantize`, by Keras's modes and by GPTQ that keeps zeros. report: what it did.
fake: `fake_quantize`, training as if quantised. ranges: one range that is learned. places: where
in a model they are.
"""

from activation_pruning.quantization.quantizing import quantize
from activation_pruning.quantization.report import QuantizationReport

__all__ = ["QuantizationReport", "quantize"]
