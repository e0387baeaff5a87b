"""How Keras keeps quantised layers, and how its own algorithms are run on one of them."""

from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

Array: TypeAlias = Any

_TRACED = ("train_function", "test_function", "predict_function")


def matrix_shape(layer: keras.Layer) -> tuple[int, int] | None:
    """(rows, columns) of the matrix that GPTQ and AWQ of Keras take a kernel for; None for none.

    A kernel of three axes is split where its largest axis is.
    """
    if type(layer) not in (keras.layers.Dense, keras.layers.EinsumDense):
        return None
    shape = tuple(layer.kernel.shape)
    if len(shape) == 2:
        return shape[0], shape[1]
    if len(shape) != 3:
        return None
    first = 1 if shape.index(max(shape)) == 0 else 2
    rows = int(np.prod(shape[:first]))
    return rows, int(np.prod(shape)) // rows


def store_gptq(
    layer: keras.Layer, config: Any, codes: Array, scales: Array, zeros: Array, groups: Array
) -> None:
    """Put what GPTQ found in the place of a kernel, as Keras itself would.

    codes: of shape (columns, rows). scales, zeros: (columns, groups). groups: (rows,).
    """
    layer.quantize("gptq", config=config)
    codes = ops.convert_to_tensor(codes.astype("uint8"))
    if config.weight_bits == 4:
        codes = keras.quantizers.pack_int4(codes, axis=0, dtype="uint8")[0]
    del layer._kernel
    layer.quantized_kernel.assign(codes)
    layer.kernel_scale.assign(scales)
    layer.kernel_zero.assign(zeros)
    layer.g_idx.assign(groups.astype("float32"))
    layer.is_gptq_calibrated = True
    _save_zeros(layer)


def quantize_awq(layer: keras.Layer, config: Any, largest: Array) -> None:
    """AWQ of one layer by Keras; `largest`: of |x| for each of its inputs."""
    from keras.src.quantizers.awq import AWQ

    layer.quantize("awq", config=config)
    work = AWQ(layer, config)
    work.update_activation_magnitudes(ops.convert_to_tensor(largest[None], dtype="float32"))
    work.quantize_layer()
    _save_zeros(layer)


def _save_zeros(layer):
    """Have files hold the zero points, which Keras 3.14 and 3.15 expect there but do not write.

    (They write those only that come from merging LoRA into the kernel.)
    """
    written = layer._get_kernel_with_merged_lora()
    if len(written) == 3:
        # Past Keras's tracking of attributes.
        vars(layer)["_get_kernel_with_merged_lora"] = lambda: (*written[:2], layer.kernel_zero)


def codes(layer: keras.Layer) -> tuple[Array, Array]:
    """(what a quantised layer stores for its weights, what it stores for zero), alike in shape."""
    own = "embeddings" if hasattr(layer, "embeddings") else "kernel"
    found, zero = ops.convert_to_numpy(getattr(layer, own)), getattr(layer, f"{own}_zero", None)
    if zero is None:
        return found, np.zeros_like(found)
    zero = ops.convert_to_numpy(zero)
    index = ops.convert_to_numpy(layer.g_idx).astype(int)
    if own == "embeddings" or layer.quantization_mode in ("gptq", "awq"):  # (columns, rows)
        return found, zero[:, index]
    return found.reshape(len(index), -1), zero[index]


def finish(model: keras.Model) -> None:
    """What is to be done when layers of a model have been quantised.

    Training, test and prediction are traced anew. Layers around quantised ones (attention, ...)
    write the policies of these in their configuration: Keras itself forgets them, and its files of
    quantised attention do not load.
    """
    for name in _TRACED:
        if hasattr(model, name):
            setattr(model, name, None)
    for layer in model._flatten_layers():
        if keras.backend.backend() == "torch":
            layer._track_variables()  # let go of the kernels that were
        inner = [one for one in layer._flatten_layers() if getattr(one, "quantization_mode", None)]
        if inner and inner != [layer] and not isinstance(layer, keras.Model):
            policies = keras.dtype_policies.DTypePolicyMap(default_policy=layer.dtype_policy)
            for one in inner:
                policies[one.path] = one.dtype_policy
            layer._dtype_policy = policies
