"""A site as least-squares problems, one for each block of its kernel."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from activation_pruning.criteria.base import needed
from activation_pruning.support.types import Array, Mask, Site
from activation_pruning.surgeons.base import Damped


@dataclasses.dataclass(frozen=True)
class Problem:
    """The units of one block of a site, with the damped Hessian that they share.

    hessian: float64 array of shape (inputs, inputs).
    weights, alive: arrays of shape (units, inputs).
    """

    name: str
    hessian: Array
    weights: Array
    alive: Mask


def split(site: Site, surgeon: Damped, dtype: Any = np.float64) -> list[Problem]:
    """The problems of a site, block by block, with weights of that dtype.

    Raises:
        ValueError: the statistic "input_hessian" is missing, has too few rows, or is zero.
    """
    found = needed(site, "input_hessian")
    weights = found.unfolding.by_unit(site.kernel.astype(dtype))
    alive = found.unfolding.by_unit(site.mask)
    return [
        Problem(site.name, surgeon.hessian(site.name, h, found.rows), np.where(a, w, dtype(0)), a)
        for h, w, a in zip(found.hessian, weights, alive, strict=True)
    ]


def join(site: Site, blocks: Sequence[Array]) -> Array:
    """One array of the kernel's shape from arrays of shape (units, inputs), block by block."""
    return needed(site, "input_hessian").unfolding.from_units(np.stack(blocks))


def parts(site: Site, values: Array) -> list[Array]:
    """The inverse of `join`: one array of shape (units, inputs) for each block."""
    return list(needed(site, "input_hessian").unfolding.by_unit(values))
