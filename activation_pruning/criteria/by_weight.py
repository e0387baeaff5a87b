"""Criteria that look at the weights alone."""

from zlib import crc32

import numpy as np

from activation_pruning.criteria.base import criterion, unit_largest, unit_sums
from activation_pruning.support.types import Scores, Site


@criterion()
def magnitude(site: Site) -> Scores:
    """Absolute value of the weight: score = |w| (Han et al. 2015).

    Returns scores >= 0, shape and dtype of the kernel.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> magnitude(Site(kernel=np.array([[-2.0, 1.0]])))
        array([[2., 1.]])
    """
    return np.abs(site.kernel)


@criterion()
def random(site: Site) -> Scores:
    """Uniform random scores in [0, 1): the baseline that every criterion should beat.

    The generator is seeded with `site.seed` and the CRC-32 of `site.name`: the same seed gives the
    same scores at each event, and each site its own.

    Returns scores in [0, 1), shape of the kernel; float32 for kernels up to float32, else float64.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> a = random(Site(name="a", seed=1, kernel=np.zeros((2, 2))))
        >>> (a == random(Site(name="a", seed=1, kernel=np.zeros((2, 2))))).all()
        np.True_
    """
    generator = np.random.default_rng([site.seed, crc32(site.name.encode())])
    dtype = np.float64 if site.kernel.dtype == np.float64 else np.float32
    return generator.random(site.kernel.shape, dtype=dtype)


@criterion()
def unit_norm(site: Site) -> Scores:
    """L2 norm of the incoming weights of the weight's unit: score = sqrt(sum of w^2 over the unit).

    Pruned weights count as zero. All weights of a unit get the same score, so with weight
    granularity the higher flat indices go first; it is meant for unit granularity.

    Returns scores >= 0, shape and dtype of the kernel (float64 where the norms need it).

    Example:
        >>> from types import SimpleNamespace as Site
        >>> unit_norm(Site(kernel=np.array([[3.0, 1.0], [4.0, 0.0]]), mask=np.ones((2, 2), bool),
        ...                units=np.array([[0, 1]])))
        array([[5., 1.],
               [5., 1.]])
    """
    # Of float32 weights every square is a number in float64; of float64 ones each unit's are
    # taken in proportion to its largest.
    kernel = site.kernel.astype(np.float64)
    largest = unit_largest(site, np.abs(kernel))
    scale = np.where(largest > 0, largest, 1.0)
    norms = scale * np.sqrt(unit_sums(site, np.square(kernel / scale[site.units])))
    if norms.max(initial=0.0) <= np.finfo(site.kernel.dtype).max:
        norms = norms.astype(site.kernel.dtype)
    return np.array(np.broadcast_to(norms[site.units], site.kernel.shape))
