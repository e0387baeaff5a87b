"""A kernel as a matrix, and back."""

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from activation_pruning.sites.layer_classes import CONVOLUTIONS, DEPTHWISE, SEPARABLE, TRANSPOSED
from activation_pruning.sites.site import LiveSite
from activation_pruning.support.types import Array


@dataclasses.dataclass(frozen=True)
class Unfolding:
    """How a kernel lies in one or more matrices, the blocks of one block-diagonal matrix.

    label: what rows and columns are.
    kernel: shape of the kernel.
    order: its axes, those of the rows first.
    shape: (blocks, rows, columns).
    units_first: whether the rows are the units.
    """

    label: str
    kernel: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, int, int]
    units_first: bool

    def unfold(self, kernel: Array) -> Array:
        """Matrices of shape (blocks, rows, columns) from a kernel."""
        return kernel.transpose(self.order).reshape(self.shape)

    def fold(self, matrices: ArrayLike) -> Array:
        """The kernel from matrices of shape (blocks, rows, columns)."""
        ordered = [self.kernel[axis] for axis in self.order]
        return np.asarray(matrices).reshape(ordered).transpose(np.argsort(self.order))

    @property
    def inputs(self) -> int:
        """How many inputs each unit has."""
        return self.shape[2 if self.units_first else 1]

    @property
    def units(self) -> int:
        """How many units each block has."""
        return self.shape[1 if self.units_first else 2]

    @property
    def shape_by_unit(self) -> tuple[int, int, int]:
        """(blocks, units, inputs), the shape of what `by_unit` gives."""
        return self.shape[0], self.units, self.inputs

    def by_unit(self, kernel: Array) -> Array:
        """Matrices of shape (blocks, units, inputs): the weights that meet in a unit are a row."""
        matrices = self.unfold(kernel)
        return matrices if self.units_first else matrices.swapaxes(1, 2)

    def from_units(self, matrices: Array) -> Array:
        """The kernel from matrices of shape (blocks, units, inputs)."""
        return self.fold(matrices if self.units_first else np.swapaxes(matrices, 1, 2))


def unfolding(site: LiveSite) -> Unfolding:
    """The `Unfolding` of a `sites.LiveSite`.

    | kernel | matrices |
    |---|---|
    | convolution | filters x (positions * channels), one for each group |
    | depthwise convolution | multiplier x positions, one for each channel |
    | everything else (Dense, EinsumDense, Embedding, recurrent) | inputs x units |

    Example:
        >>> import keras
        >>> from activation_pruning import sites
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(5, 2)])
        >>> found = unfolding(sites.find(model, exclude=()).sites[0])
        >>> found.shape, found.label
        ((1, 5, 12), 'filters x (positions * channels)')
    """
    layer, kernel = site.layer, tuple(site.variable.shape)
    first = isinstance(layer, SEPARABLE) and site.variable is layer.depthwise_kernel
    if isinstance(layer, DEPTHWISE) or first:
        *positions, channels, multiplier = range(len(kernel))
        label, order = "multiplier x positions, by channel", (channels, multiplier, *positions)
        blocks, rows = kernel[channels], kernel[multiplier]
    else:
        # An axis of length one numbers nothing, so it may stand on either side.
        units = [axis for axis, size in enumerate(site.units.shape) if size > 1]
        others = [axis for axis in range(len(kernel)) if axis not in units]
        if isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED, *SEPARABLE)):
            blocks = getattr(layer, "groups", 1)
            label = "filters x (positions * channels)" + (", by group" if blocks > 1 else "")
            order, rows = (*units, *others), math.prod(kernel[axis] for axis in units) // blocks
        else:
            label, order, blocks = "inputs x units", (*others, *units), 1
            rows = math.prod(kernel[axis] for axis in others)
    columns = math.prod(kernel) // blocks // rows
    return Unfolding(
        label=label,
        kernel=kernel,
        order=order,
        shape=(blocks, rows, columns),
        units_first=not label.startswith("inputs"),
    )
