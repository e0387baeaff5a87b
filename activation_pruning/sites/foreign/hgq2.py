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
# {a class of HGQ2's: the class of Keras's that it has the kernels of}. The convolutions derive from
# what Keras's derive from, which is not public; older versions lack some of these.
_PLAIN = {
    "QDense": _L.Dense,
    "QEinsumDense": _L.EinsumDense,
    "QConv1D": _L.Conv1D,
    "QConv2D": _L.Conv2D,
    "QConv3D": _L.Conv3D,
    "QSimpleRNN": _L.SimpleRNN,
    "QGRU": _L.GRU,
}
_QUANTIZERS = {"kernel": "kq", "cell.kernel": "cell.kq", "cell.recurrent_kernel": "cell.rkq"}


def register() -> None:
    """Register HGQ2's layers, and its quantisers as layers without kernels."""
    from hgq import layers
    from hgq.quantizer.internal.base import TrainableQuantizerBase

    for name, plain in _PLAIN.items():
        if hasattr(layers, name):
            kernels.register(getattr(layers, name), _quantized(plain))
    kernels.register(TrainableQuantizerBase, lambda layer: [])  # they hold widths in bits


def _quantized(plain: type) -> Callable[[keras.Layer], list[kernels.Kernel]]:
    """The kernels of a class of Keras's, each with the quantiser that HGQ2 sends it through."""

    def describe(layer: keras.Layer) -> list[kernels.Kernel]:
        return [
            dataclasses.replace(kernel, quantizer=_QUANTIZERS.get(kernel.attribute))
            for kernel in kernels.of_class(plain, layer)
        ]

    return describe
