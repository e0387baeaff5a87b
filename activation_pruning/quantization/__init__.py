"""Weights and activations in few bits, with pruned weights kept at zero.

quantizing: `quantize`, by Keras's modes and by GPTQ that keeps zeros. report: what it did.
fake: `fake_quantize`, training as if quantised. places: where in a model activations are rounded.
float_models: what either takes.
"""

from activation_pruning.quantization.fake import fake_quantize
from activation_pruning.quantization.quantizing import quantize
from activation_pruning.quantization.report import QuantizationReport

__all__ = ["QuantizationReport", "fake_quantize", "quantize"]
