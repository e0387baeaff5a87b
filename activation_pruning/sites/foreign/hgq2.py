"""HGQ2: layers of Keras that compute with quantised kernels, of trained widths in bits.

Each keeps the float kernel of the layer that it stands for, and a quantiser beside it: `kq`, in
recurrent cells `rkq` as well. The float kernel is what is pruned.

Source: HGQ2 0.2.0, https://github.com/calad0i/HGQ2, src/hgq/layers and src/hgq/quantizer.
"""

import dataclasses
from collections.abc import Callable

import keras

from activation_pruning.sites import kernels

_L = keras.layers
_QUANTIZERS = {"kernel": "kq", "cell.kernel": "cell.kq", "cell.recurrent_kernel": "cell.rkq"}


def register() -> None:
    """Register HGQ2's layers, and its quantisers as layers without kernels; it is imported."""
    from hgq import layers
    from hgq.quantizer.internal.base import TrainableQuantizerBase

    for kind, plain in (
        (layers.QDense, _L.Dense),
        (layers.QEinsumDense, _L.EinsumDense),
        (layers.QConv1D, _L.Conv1D),  # derived from what Conv1D derives from, not from Conv1D
        (layers.QConv2D, _L.Conv2D),
        (layers.QConv3D, _L.Conv3D),
        (layers.QSimpleRNN, _L.SimpleRNN),
        (layers.QGRU, _L.GRU),
    ):
        kernels.register(kind, _quantized(plain))
    kernels.register(TrainableQuantizerBase, lambda layer: [])  # widths in bits


def _quantized(plain: type) -> Callable[[keras.Layer], list[kernels.Kernel]]:
    """The kernels of a class of Keras's, each with the quantiser that HGQ2 sends it through."""

    def describe(layer: keras.Layer) -> list[kernels.Kernel]:
        return [
            dataclasses.replace(kernel, quantizer=_QUANTIZERS.get(kernel.attribute))
            for kernel in kernels.of_class(plain, layer)
        ]

    return describe
