"""Linear layers as one matrix product: inputs as rows, the kernel as a matrix."""

import math
from collections.abc import Iterator

import keras
import numpy as np

from activation_pruning.sites import padding
from activation_pruning.sites.layer_classes import CONVOLUTIONS, DEPTHWISE
from activation_pruning.sites.site import LiveSite
from activation_pruning.sites.unfolding import unfolding
from activation_pruning.support.types import Array

_L = keras.layers
_KNOWN = (_L.Dense, _L.EinsumDense, *CONVOLUTIONS, *DEPTHWISE)
_ROOM = 1 << 24  # numbers that an unfolded batch may hold at a time: 64 MiB of float32


class Linear:
    """A layer whose output before the activation is X K + b, for each block of its kernel.

    X holds a row for each sample and position; K is the kernel in the matrices of its
    `unfolding.Unfolding`. Dense, EinsumDense (the projections of attention among them),
    convolutions with groups, strides and dilation, depthwise ones with one block per channel.

    Raises:
        ValueError: for a site whose layer is no such product; says what to do.

    Example:
        >>> from activation_pruning import sites
        >>> model = keras.Sequential([keras.Input((3, 2)), keras.layers.Conv1D(4, 2, name="a")])
        >>> linear = Linear(sites.find(model, exclude=()).sites[0])
        >>> linear.inputs, [rows.shape for rows in linear.rows(np.ones((5, 3, 2), "float32"))]
        (4, [(1, 10, 4)])
    """

    def __init__(self, site: LiveSite) -> None:
        self.site, self.layer = site, site.layer
        self.unfolding = unfolding(site)
        plain = next((kind for kind in _KNOWN if isinstance(self.layer, kind)), None)
        if plain is None:
            raise ValueError(_refused(site, "it is not a single matrix product"))
        if type(self.layer).call is not plain.call:
            raise ValueError(_refused(site, "its class has a `call` of its own"))
        if isinstance(self.layer, _L.EinsumDense):
            self._inputs, self._kernel, self._result = _equation(site)

    @property
    def inputs(self) -> int:
        """How many inputs each unit has: the columns of X."""
        return self.unfolding.inputs

    def rows(self, x: Array, mask: Array | None = None) -> Iterator[Array]:
        """Yield X for inputs of the layer, in parts: arrays of shape (blocks, rows, inputs).

        Unfolding a convolution repeats each input for every position of the kernel, so no more
        samples are unfolded at a time than fit into 64 MiB. Without the rows of padded steps,
        where a `mask` of the first axes of the inputs is False.
        """
        mask = mask if mask is not None and padding.fits(mask, x.shape[:-1]) else None
        whole = isinstance(self.layer, (_L.Dense, _L.EinsumDense))
        positions = 1 if whole else math.prod(self.layer.kernel_size)
        step = max(1, _ROOM // max(1, positions * math.prod(x.shape[1:])))
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            rows = self._unfolded(np.asarray(x[part], np.float32))
            yield rows if mask is None else rows[:, self._real(mask[part], x[part].shape)]

    def columns(self, z: Array) -> Array:
        """What has the shape of the layer's output as (blocks, rows, units), rows as those of X."""
        if isinstance(self.layer, _L.EinsumDense):
            hidden = z.ndim - len(self._result.replace("...", ""))
            rank = len(self._inputs.replace("...", "")) + ("..." in self._inputs) * hidden
            kept, _, units = self._tokens(rank)
            return _turned(z, self._result, kept + units).reshape(1, -1, self.unfolding.units)
        if getattr(self.layer, "data_format", "channels_last") == "channels_first":
            z = np.moveaxis(z, 1, -1)
        blocks, units = self.unfolding.shape[0], self.unfolding.units
        return z.reshape(-1, blocks, units).transpose(1, 0, 2)

    def _unfolded(self, x):
        if isinstance(self.layer, _L.Dense):
            return x.reshape(1, -1, x.shape[-1])
        if isinstance(self.layer, _L.EinsumDense):
            kept, summed, _ = self._tokens(x.ndim)
            return _turned(x, self._inputs, kept + summed).reshape(1, -1, self.inputs)
        blocks = self.unfolding.shape[0]
        patches = self._windows(x)  # (rows, positions, channels)
        patches = patches.reshape(*patches.shape[:2], blocks, -1)
        return patches.transpose(2, 0, 1, 3).reshape(blocks, len(patches), -1)

    def _real(self, mask, shape):
        """True for the rows of X that padding has no part in, as it would be without it.

        The window of a convolution counts where its own step is real; with "valid", where all are.
        """
        if isinstance(self.layer, (_L.Dense, _L.EinsumDense)):
            return self._unfolded(padding.spread(mask, shape))[0].any(axis=1)
        if self.layer.data_format == "channels_first" and mask.ndim > 1:
            return slice(None)  # the mask counts channels
        real = self._windows(padding.spread(mask, shape))[..., 0]
        real = real.reshape(-1, *self.layer.kernel_size)
        for reach in self.layer.kernel_size:
            valid, last = self.layer.padding == "valid", self.layer.padding == "causal"
            middle = real[:, reach - 1 if last else (reach - 1) // 2]
            real = real.all(axis=1) if valid else middle
        return real

    def _tokens(self, rank):
        """(axes of the input that become rows, those that are summed over, those of the units)."""
        kernel = self._kernel.replace("...", "")
        summed = [letter for letter in kernel if letter in self._inputs]
        kept = [token for token in _expand(self._inputs, rank) if token not in summed]
        return kept, summed, [letter for letter in kernel if letter not in self._inputs]

    def _windows(self, x):
        layer, rank = self.layer, self.layer.rank
        if layer.data_format == "channels_first":
            x = np.moveaxis(x, 1, -1)
        reach = [
            (k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)
        ]
        x = np.pad(x, [(0, 0), *_padding(layer, x.shape[1:-1], reach), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=range(1, rank + 1))
        strides = [slice(None, None, stride) for stride in layer.strides]
        dilation = [slice(None, None, step) for step in layer.dilation_rate]
        windows = windows[(slice(None), *strides, slice(None), *dilation)]
        windows = np.moveaxis(windows, rank + 1, -1)  # channels behind the kernel's positions
        return windows.reshape(-1, math.prod(layer.kernel_size), x.shape[-1])


def _padding(layer, sizes, reach):
    """[(before, after)] for each spatial axis, as TensorFlow defines "same" and "causal"."""
    if layer.padding == "valid":
        return [(0, 0)] * len(sizes)
    if layer.padding == "causal":
        return [(reach[0] - 1, 0)]
    totals = [
        max((-(-size // stride) - 1) * stride + length - size, 0)
        for size, stride, length in zip(sizes, layer.strides, reach, strict=True)
    ]
    return [(total // 2, total - total // 2) for total in totals]


def _equation(site):
    """(input, kernel, result) of an equation that is one matrix product."""
    operands, result = site.layer.equation.split("->")
    inputs, kernel = operands.split(",")
    summed = [letter for letter in kernel.replace("...", "") if letter in inputs]
    if any(letter in result for letter in summed):
        raise ValueError(_refused(site, "its equation keeps an axis of the kernel and the input"))
    gone = [letter for letter in inputs.replace("...", "") if letter not in result]
    if any(letter not in summed for letter in gone):
        raise ValueError(_refused(site, "its equation sums over an axis that the kernel lacks"))
    return inputs, kernel, result


def _expand(letters, rank):
    """One token for each axis: its letter, or a number for an axis under the ellipsis."""
    hidden = rank - len(letters.replace("...", ""))
    before, dots, after = letters.partition("...")
    return [*before, *(range(hidden) if dots else ()), *after]


def _turned(values, letters, tokens):
    """The axes of `values`, which are named by letters, in the order of tokens."""
    axes = _expand(letters, values.ndim)
    return values.transpose([axes.index(token) for token in tokens])


def _refused(site, reason):
    kind = type(site.layer).__name__
    return (
        f"{site.name}: the inputs of {kind} are not understood ({reason}). Known are Dense, "
        "EinsumDense, Conv1D to Conv3D and DepthwiseConv; leave the layer out with exclude=... "
        "or choose a criterion that needs no inputs."
    )
