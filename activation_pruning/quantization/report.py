"""What a quantisation did, read back from what the layers store."""

import gzip

import keras
import numpy as np
import pandas as pd

from activation_pruning import keras_private
from activation_pruning.keras_private import quantized
from activation_pruning.support.types import Array, Table

_BITS = {"int8": 8, "int4": 4, "awq": 4}
_BYTE = 8


class QuantizationReport:
    """What one call of `quantize` did, layer by layer; prints as a table.

    change: {"largest": max |after - before|, "relative": root of the mean square of after - before
        over that of before, "same_label": share of samples with the same largest output} over the
        outputs for `data`; empty where no data was given.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32, name="a")])
        >>> report = ap.prune(model, 0.5, exclude=())
        >>> ap.quantize(model, "int8").table()[["layer", "bits", "zeros_before"]].values.tolist()
        [['a', 8, 1024]]
    """

    def __init__(self, table: Table, change: dict[str, float]) -> None:
        self._table, self.change = table, change

    def table(self) -> Table:
        """DataFrame with a row per layer that has kernels.

        layer, mode, bits; weights; zeros_before, zeros_after: exact zeros among them; refilled:
        zeros that are none any more; float32_bytes; stored_bytes: codes, scales and zero points;
        bitmask_bytes: a bit for each weight, the codes of those that are not zero, and scales and
        zero points; gzip_bytes: what is stored through gzip; note: why a layer stays float.
        """
        return self._table.copy()

    @property
    def sparsity(self) -> float:
        """Exact zeros / weights, over the quantised layers, as stored."""
        done = self._table.dropna(subset=["bits"])
        return float(done["zeros_after"].sum() / max(done["weights"].sum(), 1))

    @property
    def refilled(self) -> int:
        """How many zeros of the quantised layers are none any more."""
        return int(self._table["refilled"].sum())

    def __str__(self) -> str:
        done = self._table.dropna(subset=["bits"])
        before, after = int(done["zeros_before"].sum()), int(done["zeros_after"].sum())
        sums = {name: int(done[f"{name}_bytes"].sum()) for name in ("float32", "stored", "bitmask")}
        lines = [
            f"{len(done)} layers quantised: {sums['float32']:,} bytes of float32 are "
            f"{sums['stored']:,}, or {sums['bitmask']:,} as a bit mask and values",
            f"zeros: {before:,} before, {after:,} after, {self.refilled:,} of them filled again",
        ]
        if self.change:
            told = [f"outputs differ by up to {self.change['largest']:.2g}"]
            told += [f"{self.change['relative']:.2%} of their size (root mean square)"]
            same = self.change.get("same_label")
            told += [] if same is None else [f"{same:.2%} of samples keep their label"]
            lines.append(", ".join(told))
        text = self._table.drop(columns=["refilled", "bitmask_bytes"]).to_string(
            index=False, na_rep=""
        )
        return "\n".join([*lines, text])

    __repr__ = __str__


def row(layer: keras.Layer, path: str, before: Array) -> dict:
    """The row of a layer that is quantised now; `before`: True where its weights were not zero.

    Zeros are read from what is stored: the codes that stand for zero.
    """
    mode = layer.quantization_mode
    found, zero = quantized.codes(layer)
    if mode in ("gptq", "awq"):  # stored the other way round
        found, zero = found.T, zero.T
    zeros = np.broadcast_to(found == zero, found.shape).reshape(before.shape)
    bits = _BITS.get(mode) or int(layer.dtype_policy.weight_bits)
    stored = _arrays(layer)
    size = sum(array.nbytes for array in stored)
    rest = sum(array.nbytes for array in stored[1:])
    alive = int(zeros.size - np.count_nonzero(zeros))
    return {
        "layer": path,
        "mode": mode,
        "bits": bits,
        "weights": zeros.size,
        "zeros_before": zeros.size - int(np.count_nonzero(before)),
        "zeros_after": int(np.count_nonzero(zeros)),
        "refilled": int(np.count_nonzero(~zeros & ~before)),
        "float32_bytes": 4 * zeros.size,
        "stored_bytes": size,
        "bitmask_bytes": -(-zeros.size // _BYTE) + -(-alive * bits // _BYTE) + rest,
        "gzip_bytes": sum(len(gzip.compress(array.tobytes(), mtime=0)) for array in stored),
        "note": "",
    }


def left_float(layer: keras.Layer, path: str, before: Array, note: str) -> dict:
    """The row of a layer that stays as it is."""
    zeros = before.size - int(np.count_nonzero(before))
    found = {"layer": path, "mode": "", "bits": None, "weights": before.size}
    found |= {"zeros_before": zeros, "zeros_after": zeros, "refilled": 0}
    size = before.size * np.dtype(layer.variable_dtype).itemsize
    return found | {"float32_bytes": 4 * before.size, "stored_bytes": size, "note": note}


def table(rows: list[dict]) -> Table:
    """One DataFrame of the rows."""
    names = ["layer", "mode", "bits", "weights", "zeros_before", "zeros_after", "refilled"]
    names += ["float32_bytes", "stored_bytes", "bitmask_bytes", "gzip_bytes", "note"]
    found = pd.DataFrame(rows, columns=names)
    return found.astype(dict.fromkeys([*names[2:-1]], "Int64"))


def change(before: list[Array], after: list[Array]) -> dict[str, float]:
    """How far outputs have moved, see `QuantizationReport`."""
    gaps = [np.subtract(b, a, dtype=np.float64) for a, b in zip(before, after, strict=True)]
    squares = sum(float(np.square(gap).sum()) for gap in gaps)
    size = sum(float(np.square(a, dtype=np.float64).sum()) for a in before)
    found = {
        "largest": max(float(np.abs(gap).max(initial=0.0)) for gap in gaps),
        "relative": float(np.sqrt(squares / size)) if size else float("nan"),
    }
    if before[0].ndim == 2 and before[0].shape[1] > 1:
        same = before[0].argmax(axis=1) == after[0].argmax(axis=1)
        found["same_label"] = float(same.mean())
    return found


def _arrays(layer):
    """What is stored for the kernel, its codes first; biases are not of it."""
    bias = getattr(layer, "bias", None)
    own = [v for v in layer.variables if v is not bias]
    return sorted(
        (keras.ops.convert_to_numpy(v) for v in own), key=lambda array: array.nbytes, reverse=True
    )


def kernels(layer: keras.Layer) -> list[keras.Variable]:
    """The weights of two axes or more of a layer itself, not of those in it."""
    inner = {id(v) for one in keras_private.sublayers(layer) for v in one.variables}
    return [v for v in layer.weights if len(v.shape) > 1 and id(v) not in inner]
