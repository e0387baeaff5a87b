"""What of a fake-quantised model a file can hold."""

from typing import Any

import keras

from activation_pruning.keras_private import with_sublayers
from activation_pruning.quantization.fake import check_finite
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Data, Model

_PLAIN = "Or export ap.strip(model), with rounded weights in float."
_L = keras.layers


def check(model: Model, learned: Any, suffix: str, quantize: str | None, data: Data) -> None:
    """Refuse integers without ranges, and ranges without integers."""
    if learned is None:
        if quantize == "int8" and data is None:
            raise ValueError(
                "quantize='int8' needs data=, some hundred typical inputs: the ranges of the "
                "activations are measured on them. quantize='dynamic' needs none"
            )
        return
    why, parts = _PLAIN, with_sublayers(model)
    if suffix == ".tflite" and quantize != "int8":
        raise ValueError(
            f"quantize={shown(quantize)}: a .tflite file of a fake-quantised model holds integers; "
            f"give quantize='int8'. {why}"
        )
    if suffix == ".tflite" and learned.bits != 8:
        raise ValueError(
            f"the model is fake-quantised to {learned.bits} bits, and a .tflite file holds 8; "
            f"write an .onnx file. {why}"
        )
    if {one.bits for one in learned.ranges.values()} != {8}:
        raise ValueError(
            "files hold activations in 8 bits, and this model has none such: call "
            f"fake_quantize(model, activation_bits=8). {why}"
        )
    dtypes = {one.compute_dtype for one in parts} - {None, "float32"}
    if dtypes:
        raise ValueError(
            f"the model is fake-quantised and computes in {sorted(dtypes)}; make it with "
            "dtype='float32', copy the weights, and give fake_quantize the same ranges"
        )
    # ONNX Runtime does not refuse these: it takes the process with it.
    loops = [one.name for one in parts if isinstance(one, (_L.GRU, _L.SimpleRNN))]
    if suffix == ".onnx" and loops:
        raise ValueError(f"ONNX Runtime cannot run {loops} with integers around them. {why}")
    check_finite(learned)
