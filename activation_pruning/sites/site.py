"""Sites as criteria see them (plain arrays) and as they are in a live model."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import keras
import numpy as np

from activation_pruning.sites.active_outputs import Source
from activation_pruning.support.names import shortened
from activation_pruning.support.types import Array, Mask


@dataclasses.dataclass(frozen=True)
class Activity:
    """What was counted for the units of one site (arrays of shape (units,), float64).

    A statistic that was not counted is None.

    Example:
        >>> import numpy as np, activation_pruning as ap
        >>> seen = ap.sites.Activity(samples=4, frequency=np.array([0.25, 0.75]))
        >>> w = np.array([[2.0, -2.0]])
        >>> site = ap.sites.Site("a/kernel", "a", w, mask=w != 0, units=np.array([[0, 1]]),
        ...                      activity=seen)
        >>> ap.criteria.activation_magnitude(site)
        array([[0.5, 1.5]])
    """

    samples: int
    frequency: Array | None = None
    mean: Array | None = None
    rms: Array | None = None


@dataclasses.dataclass(frozen=True)
class Site:
    """One prunable weight tensor as criteria see it: plain arrays, no framework.

    `units` holds the unit index of each weight and broadcasts to `kernel.shape`;
    `mask` is True where a weight is alive; N:M groups run along `input_axis`. `statistics` holds
    by name what else the criterion needs, see `evidence.statistic`. `channels` numbers the
    channel of each unit where units of several sites can only go together, see `graph.channels`.

    Example:
        >>> import numpy as np, activation_pruning as ap
        >>> w = np.array([[3.0, 1.0], [4.0, 0.0]])
        >>> site = ap.sites.Site("a/kernel", "a", w, mask=w != 0, units=np.array([[0, 1]]))
        >>> ap.criteria.unit_sums(site, w).tolist()  # as a criterion of your own may do
        [7.0, 1.0]
    """

    name: str
    layer: str
    kernel: Array
    mask: Mask
    units: Array
    input_axis: int = 0
    activity: Activity | None = None
    seed: int = 0
    statistics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    channels: Array | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class LiveSite:
    """A site in a live model: the variable behind it and where its activity is seen.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a")])
        >>> report = ap.prune(model, 0.6, granularity="unit", exclude=())
        >>> site = ap.sites.find(model, exclude=()).sites[0]
        >>> site.name, site.n_units, int(site.units_alive(site.snapshot().mask).sum())
        ('a/kernel', 3, 2)
    """

    name: str
    path: str
    layer: keras.Layer
    variable: keras.Variable
    units: Array
    input_axis: int
    source: Source
    observed: bool = True
    wrapper: keras.Layer | None = None  # a `KernelWrapper`, where one multiplies the variable

    @property
    def mask_variable(self) -> keras.Variable | None:
        """The mask that a `PrunedLayer` keeps of it, or None."""
        return None if self.wrapper is None else self.wrapper.mask_of(self.variable)

    @property
    def n_units(self) -> int:
        """How many units its weights make."""
        return int(self.units.max()) + 1

    def units_alive(self, mask: Mask) -> Mask:
        """Which units have a weight alive by `mask`: bool array of shape (units,)."""
        return units_alive(self.units, mask)

    def kernel(self) -> Array:
        """The weights that act now, as a NumPy array (bfloat16 is widened to float32).

        Where a wrapper's mask or gate is 0 these are zeros, whatever momentum made of the variable.
        """
        if self.wrapper is None:
            values = keras.ops.convert_to_numpy(self.variable)
        else:
            values = self.wrapper.acting_of(self.variable)
        return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)

    def snapshot(
        self,
        mask: Mask | None = None,
        activity: Activity | None = None,
        seed: int = 0,
        statistics: Mapping[str, Any] | None = None,
    ) -> Site:
        """The `Site` that criteria see now; without `mask`, exact zeros count as pruned."""
        kernel = self.kernel()
        return Site(
            name=self.name,
            layer=self.path,
            kernel=kernel,
            mask=kernel != 0 if mask is None else mask,
            units=self.units,
            input_axis=self.input_axis,
            activity=activity,
            seed=seed,
            statistics=statistics or {},
        )


def units_alive(units: Array, mask: Mask) -> Mask:
    """Which units have a weight alive by `mask`; `units` holds the unit of each weight, see `Site`.

    Example:
        >>> units_alive(np.array([[0, 1]]), np.array([[True, False], [False, False]])).tolist()
        [True, False]
    """
    constant = tuple(axis for axis, size in enumerate(units.shape) if size == 1)
    alive = mask.any(axis=constant, keepdims=True)
    return np.bincount(units.ravel(), weights=alive.ravel(), minlength=int(units.max()) + 1) > 0


LiveSites: TypeAlias = list[LiveSite]


@dataclasses.dataclass(frozen=True)
class Found:
    """The walk's result: the sites in model order, and [(layer, reason)] for what was left out.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"),
        ...                           keras.layers.Dense(2, name="output")])
        >>> found = ap.sites.find(model)
        >>> [site.path for site in found.sites], found.skipped
        (['hidden'], [('output', 'output layer (excluded by default)')])
    """

    sites: LiveSites
    skipped: list[tuple[str, str]]

    def without(self, reasons: Mapping[LiveSite, str]) -> "Found":
        """The same without the sites that have a reason; it joins what was left out.

        Raises:
            ValueError: when no site is left; it says why.
        """
        left = [site for site in self.sites if not reasons.get(site)]
        named = [(site.path, reasons[site]) for site in self.sites if reasons.get(site)]
        skipped = list(dict.fromkeys(self.skipped + named))
        if not left:
            raise ValueError(nothing_left(skipped))
        return Found(left, skipped)


def nothing_left(skipped: Iterable[tuple[str, str]]) -> str:
    """Why there is nothing to prune, and what to do: each reason once, with its layers."""
    by_reason: dict[str, list[str]] = {}
    for path, reason in skipped:
        by_reason.setdefault(reason, []).append(path)
    told = "; ".join(f"{shortened(paths, 5)}: {reason}" for reason, paths in by_reason.items())
    return (
        f"model has no prunable layers left ({told or 'no layers'}). include=... takes what is "
        "left out by default, exclude=() all of it; sites.register is for your own layer classes."
    )
