"""Pictures of matrices: which weights are alive, and how large they are."""

import itertools
import math
import textwrap
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from activation_pruning.reports.figures import style
from activation_pruning.support.types import Arrays, Masks

_MOST = 64  # rows and columns of a picture; more would be finer than its print


@style.styled
def kernel_heatmap(kernels: dict[str, Arrays]) -> Figure:
    """Sizes of the weights, |w|, of several networks side by side: a row for each layer.

    A kernel larger than 64 x 64 is shown by the means over blocks. Each row has one scale, from 0
    to the 99.5th percentile of its pictures; what lies above is drawn as if it were that.

    Args:
        kernels: network -> dict of layer -> 2-D array (inputs, units); a convolution's kernel as
            ``kernel.reshape(-1, filters)``.

    Example:
        >>> kernel_heatmap({"dense": {"a": np.eye(4)}}).axes[0].get_title()
        'dense'
    """
    layers = list(dict.fromkeys(layer for network in kernels.values() for layer in network))
    if not layers:
        raise ValueError(
            "kernel_heatmap: kernels is empty; give a dict of network -> dict of layer -> 2-D array"
        )
    titles = [""] * (len(layers) * len(kernels))
    figure, grid = style.panels(titles, columns=len(kernels), base=0.9, row=1.9)
    shapes = {}
    for line, layer in zip(grid, layers, strict=True):
        means = {
            name: _blocks("kernel_heatmap: the kernel", layer, np.abs(network[layer]))
            for name, network in kernels.items()
            if layer in network
        }
        shapes[layer] = {np.shape(kernels[name][layer]) for name in means}
        top = max(np.quantile(values, 0.995) for values in means.values())
        scale = Normalize(0, top or 1.0, clip=True)
        for ax, name in zip(line, kernels, strict=True):
            if name in means:
                _draw_blocks(ax, means[name], scale)
            else:  # an empty place, which may still have to carry a title or a label
                ax.set(xticks=[], yticks=[], facecolor="none")
                sns.despine(ax=ax, left=True, bottom=True)
            # Long names side by side would run into one another.
            name = textwrap.fill(style.words(name), 60 // len(kernels))
            ax.set_title(name if ax in grid[0] else "")
        same = " × ".join(map(str, next(iter(shapes[layer])))) if len(shapes[layer]) == 1 else ""
        line[0].set_ylabel(f"{layer}\n{same}")
        bar = figure.colorbar(ScalarMappable(scale, "Greys"), ax=line, aspect=12, pad=0.02)
        bar.set_label("|w|")
    blocks = max(max(shape) for found in shapes.values() for shape in found) > _MOST
    note = f"above {_MOST} × {_MOST} the means of blocks; dark: large" if blocks else "dark: large"
    figure.supxlabel("output units, left to right; inputs, top to bottom", fontsize=9)
    return style.finish(figure, None, "Sizes of the weights", note)


@style.styled
def mask_heatmap(masks: Masks | dict[str, Masks]) -> Figure:
    """Masks as pictures: one column per layer, one row per arm; dark is alive.

    A mask larger than 64 x 64 is shown by blocks, each with its share of weights alive.

    Args:
        masks: layer -> 2-D bool array (inputs, units), True = alive, a convolution's as
            ``mask.reshape(-1, filters)``; or arm -> such a dict.

    Example:
        >>> mask_heatmap({"dense": np.eye(4, dtype=bool)}).axes[0].get_title()
        'dense, 4 × 4\\n25.0% alive'
    """
    nested = masks and isinstance(next(iter(masks.values())), dict)
    by_arm: dict[Any, Any] = dict(masks) if nested else {None: masks}
    found = {(a, n): np.asarray(m) for a, group in by_arm.items() for n, m in group.items()}
    if not found:
        raise ValueError("mask_heatmap: masks is empty; give a dict of layer -> 2-D bool array")
    shares = {at: _blocks("mask_heatmap: the mask", at[1], mask) for at, mask in found.items()}
    places, columns = _places(list(by_arm), list(dict.fromkeys(layer for _, layer in found)))
    figure, grid = style.panels([""] * len(places), columns=columns, base=0.9, row=2.1)
    top = max(0.1, math.ceil(10 * max(share.max() for share in shares.values())) / 10)
    for ax, place in itertools.zip_longest(grid.ravel(), places):
        ax.set_visible(place in shares)
        if place in shares:
            _draw_blocks(ax, shares[place], Normalize(0, top))
            (arm, layer), mask = place, found[place]
            title = f"{layer}, {mask.shape[0]} × {mask.shape[1]}\n{mask.mean():.1%} alive"
            ax.set_title(title if arm is None else f"{arm}\n{title}")
    scale = ScalarMappable(Normalize(0, top), "Greys")
    bar = figure.colorbar(scale, ax=grid, aspect=40, pad=0.02, format=PercentFormatter(1))
    bar.set_label("share of weights alive (%)")
    figure.supxlabel("output units, left to right", fontsize=9)
    figure.supylabel("inputs, top to bottom", fontsize=9)
    note = "by blocks of weights; dark: many are alive"
    return style.finish(figure, None, "Where the surviving weights are", note)


def _places(arms, layers):
    """(arm, layer) of every panel in reading order, and how many of them stand side by side."""
    if len(layers) <= 5:
        return [(arm, layer) for arm in arms for layer in layers], len(layers)
    columns = 4 if len(arms) == 1 else min(len(arms), 4)
    return [(arm, layer) for layer in layers for arm in arms], columns


def _draw_blocks(ax, means, scale):
    ax.imshow(means, cmap="Greys", norm=scale, aspect="auto", interpolation="none")
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    sns.despine(ax=ax, top=False, right=False)


def _blocks(what, layer, matrix):
    """Means of at most 64 x 64 blocks, as equal in size as whole weights allow."""
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(
            f"{what} of {layer!r} has shape {matrix.shape}; give a 2-D array, for a convolution "
            "reshape(-1, filters)"
        )
    sums, counts = matrix.astype(float), np.ones(matrix.shape)
    for axis, length in enumerate(matrix.shape):
        starts = np.unique(np.linspace(0, length, min(length, _MOST), endpoint=False).astype(int))
        sums, counts = (np.add.reduceat(a, starts, axis=axis) for a in (sums, counts))
    return sums / counts
