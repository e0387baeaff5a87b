"""Criteria: pure functions `site -> scores`. Low scores are pruned first.

A criterion returns a float array of `site.kernel.shape`. What it needs beyond kernel and mask it
declares in `@criterion(needs=...)`; the caller gathers just that. A new criterion is one decorated
function in this file; any callable with the same signature is accepted where a name is.
"""

from zlib import crc32

import numpy as np

from activation_pruning.registry import lookup

CRITERIA = {}


def criterion(needs=()):
    """Register the decorated function under its own name and declare what it needs.

    Args:
        needs: what the caller must gather first: statistics of `site.activity`, any of
            "frequency", "mean", "rms".

    Returns:
        A decorator that sets `needs` (a frozenset) on the function and returns the function.

    Example:
        >>> magnitude.needs, sorted(activation.needs)
        (frozenset(), ['frequency'])
    """

    def register(function):
        function.needs = frozenset(needs)
        CRITERIA[function.__name__] = function
        return function

    return register


def get(spec):
    """Return the criterion for a name; a callable is returned as it is.

    Args:
        spec: a name in `CRITERIA`, or a callable `site -> scores`. A callable without a `needs`
            attribute needs nothing.

    Returns:
        The callable.

    Raises:
        ValueError: unknown name.
        TypeError: neither a name nor a callable.

    Example:
        >>> get("magnitude") is magnitude
        True
    """
    if isinstance(spec, str):
        return lookup("criterion", spec, CRITERIA)
    if callable(spec):
        return spec
    raise TypeError(
        f"criterion={spec!r} is a {type(spec).__name__}; give one of {sorted(CRITERIA)} "
        "or a function that takes a site and returns an array of scores."
    )


@criterion()
def magnitude(site):
    """Absolute value of the weight: score = |w| (Han et al. 2015).

    Args:
        site: a Site; only `kernel` is read.

    Returns:
        Scores >= 0, shape and dtype of the kernel.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> magnitude(Site(kernel=np.array([[-2.0, 1.0]])))
        array([[2., 1.]])
    """
    return np.abs(site.kernel)


@criterion()
def random(site):
    """Uniform random scores in [0, 1): the baseline that every criterion should beat.

    The generator is seeded with `site.seed` and the CRC-32 of `site.name`: the same seed gives the
    same scores at each event, and each site its own.

    Args:
        site: a Site; `name`, `seed` and the shape and dtype of `kernel` are read.

    Returns:
        Scores in [0, 1), shape of the kernel; float32 for kernels up to float32, else float64.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> a = random(Site(name="a", seed=1, kernel=np.zeros((2, 2))))
        >>> (a == random(Site(name="a", seed=1, kernel=np.zeros((2, 2))))).all()
        np.True_
    """
    generator = np.random.default_rng([site.seed, crc32(site.name.encode())])
    dtype = np.float64 if site.kernel.dtype == np.float64 else np.float32
    return generator.random(site.kernel.shape, dtype=dtype)


@criterion(needs=("frequency",))
def activation(site):
    """Activation frequency of the weight's unit; equal frequencies are ordered by |w|.

    score = f + d * |w| / max|w|, with d half of the smallest gap between two frequencies of the
    site (at most half of 1/samples). d is below the smallest gap, so a unit that is active more
    often always scores higher: the order is (f, |w|). Scores are float64; two weights of one unit
    are told apart when their |w| / max|w| differ by more than about 1e-16 / d (1e-9 at a million
    samples), closer ones tie.

    Args:
        site: a Site with `activity`.

    Returns:
        float64 scores in [0, 1.5), shape of the kernel.

    Raises:
        ValueError: `site.activity` is None, or has fewer units than the kernel.

    Source: Ganguli & Chong, Algorithms 17(1):48, 2024 ("neuron").

    Example:
        >>> from types import SimpleNamespace as Site
        >>> seen = Site(frequency=np.array([0.5, 0.25]), samples=4)
        >>> activation(Site(name="a", kernel=np.array([[1.0, 4.0]]), units=np.array([[0, 1]]),
        ...                 activity=seen))
        array([[0.53125, 0.375  ]])
    """
    return _ordered_by_magnitude(site, _counted(site, "frequency"))


@criterion(needs=("frequency",))
def activation_magnitude(site):
    """Activation frequency times magnitude: score = f * |w|.

    Args:
        site: a Site with `activity`.

    Returns:
        Scores >= 0, shape and dtype of the kernel.

    Raises:
        ValueError: `site.activity` is None, or has fewer units than the kernel.

    Source: Ganguli & Chong, Algorithms 17(1):48, 2024 ("neuron + weights").

    Example:
        >>> from types import SimpleNamespace as Site
        >>> seen = Site(frequency=np.array([0.5, 0.25]), samples=4)
        >>> activation_magnitude(Site(name="a", kernel=np.array([[1.0, -4.0]]),
        ...                           units=np.array([[0, 1]]), activity=seen))
        array([[0.5, 1. ]])
    """
    return _times_magnitude(site, _counted(site, "frequency"))


@criterion(needs=("mean",))
def mean_activation(site):
    """Mean output of the unit times magnitude: score = |mean| * |w|.

    The absolute value, because units with a linear, tanh or leaky activation may have a negative
    mean, and an output that is far below zero matters as much as one far above.

    Args:
        site: a Site with `activity`.

    Returns:
        Scores >= 0, shape and dtype of the kernel.

    Raises:
        ValueError: `site.activity` is None, or has fewer units than the kernel.

    Source: Molchanov et al., ICLR 2017, section 2.2 (mean activation), here times |w|.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> seen = Site(mean=np.array([2.0, -0.5]), samples=4)
        >>> mean_activation(Site(name="a", kernel=np.array([[1.0, -4.0]]),
        ...                      units=np.array([[0, 1]]), activity=seen))
        array([[2., 2.]])
    """
    return _times_magnitude(site, np.abs(_counted(site, "mean")))


@criterion(needs=("frequency",))
def inactivity(site):
    """The inverted count, for the ablation only: the most active units are pruned first.

    score = (1 - f) + d * |w| / max|w|, with d and the limits as in `activation`. The code published
    with the paper counts zeros at its newest commit; the paper counts activations, and so does
    `activation`. Use this one to see the difference, not to prune.

    Args:
        site: a Site with `activity`.

    Returns:
        float64 scores in [0, 1.5), shape of the kernel.

    Raises:
        ValueError: `site.activity` is None, or has fewer units than the kernel.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> seen = Site(frequency=np.array([0.5, 0.25]), samples=4)
        >>> inactivity(Site(name="a", kernel=np.array([[1.0, 4.0]]), units=np.array([[0, 1]]),
        ...                 activity=seen))
        array([[0.53125, 0.875  ]])
    """
    return _ordered_by_magnitude(site, 1.0 - _counted(site, "frequency"))


@criterion()
def unit_norm(site):
    """L2 norm of the incoming weights of the weight's unit: score = sqrt(sum of w^2 over the unit).

    Pruned weights count as zero. All weights of a unit get the same score, so with weight
    granularity the higher flat indices go first; it is meant for unit granularity.

    Args:
        site: a Site; `kernel`, `mask` and `units` are read.

    Returns:
        Scores >= 0, shape and dtype of the kernel.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> unit_norm(Site(kernel=np.array([[3.0, 1.0], [4.0, 0.0]]), mask=np.ones((2, 2), bool),
        ...                units=np.array([[0, 1]])))
        array([[5., 1.],
               [5., 1.]])
    """
    squares = unit_sums(site, np.square(site.kernel))
    norms = np.sqrt(squares).astype(site.kernel.dtype)
    return np.array(np.broadcast_to(norms[site.units], site.kernel.shape))


def unit_sums(site, values):
    """Sum `values` over the alive weights of each unit.

    Axes along which `site.units` does not vary are summed first, so that the unit ids are never
    spread to the size of the kernel.

    Args:
        site: a Site; `units` and `mask` are read.
        values: array of the kernel's shape, numbers or booleans.

    Returns:
        float64 array, one sum for each unit.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> site = Site(units=np.array([[0, 1]]), mask=np.array([[True, True], [False, True]]))
        >>> unit_sums(site, np.array([[1.0, 2.0], [4.0, 8.0]]))
        array([ 1., 10.])
    """
    missing = site.mask.ndim - site.units.ndim
    ids = site.units.reshape((1,) * missing + site.units.shape)
    axes = tuple(axis for axis, size in enumerate(ids.shape) if size == 1)
    sums = np.sum(values, axis=axes, keepdims=True, dtype=np.float64, where=site.mask)
    return np.bincount(ids.ravel(), weights=sums.ravel())


def _counted(site, statistic):
    """Return one statistic of the site's units, which the caller must have gathered."""
    if getattr(site.activity, statistic, None) is None:
        raise ValueError(
            f"{site.name}: this criterion needs the activity of the units ({statistic}), which was "
            "not counted; prune during fit with PruningCallback, or give prune(..., data=) the "
            f"inputs. One of your own declares it by @criterion(needs=({statistic!r},))."
        )
    return getattr(site.activity, statistic)


def _by_weight(site, per_unit):
    """Return the value of each weight's unit, in the (broadcastable) shape of `site.units`."""
    needed = int(site.units.max()) + 1
    if len(per_unit) < needed:
        raise ValueError(
            f"{site.name}: activity of {len(per_unit)} units for a kernel with {needed} units; "
            "count the layer's own output."
        )
    return np.asarray(per_unit)[site.units]


def _times_magnitude(site, per_unit):
    scores = np.abs(site.kernel)
    # Cast the few unit values, not the kernel: a float32 kernel keeps float32 scores.
    return np.multiply(scores, _by_weight(site, per_unit).astype(scores.dtype), out=scores)


def _ordered_by_magnitude(site, per_unit):
    first = _by_weight(site, np.asarray(per_unit, np.float64))
    gaps = np.diff(np.unique(first))
    delta = 0.5 * min([1.0 / max(site.activity.samples, 1), *gaps])
    scores = np.abs(site.kernel).astype(np.float64)
    largest = scores.max(initial=0.0)
    if largest > 0:
        scores *= delta / largest
    scores += first
    return scores
