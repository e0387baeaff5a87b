"""What is known of the inputs of linear layers: their norms and second moments over data."""

import dataclasses
import math
from collections.abc import Collection
from typing import Any

import keras
import numpy as np

from activation_pruning import sites
from activation_pruning.evidence import probes
from activation_pruning.evidence.statistic import statistic
from activation_pruning.sites.linear import Linear
from activation_pruning.sites.unfolding import Unfolding
from activation_pruning.support.types import Array, Data, Model

_NUMBERS = 1 << 21  # in a batch of inputs: 8 MiB of float32
NORM, HESSIAN = "input_norm", "input_hessian"


@dataclasses.dataclass(frozen=True)
class InputHessian:
    """H = X^T X / rows of a layer's inputs, the Hessian of half its mean squared output error.

    unfolding: how the kernel lies in matrices of shape (blocks, units, inputs).
    hessian: float64 array of shape (blocks, inputs, inputs).
    rows: how many rows X has, samples times positions. mean: of the rows, shape (blocks, inputs).
    """

    unfolding: Unfolding
    hessian: Array
    rows: int
    mean: Array | None = None


class _Sums:
    """Sums of x^2, or of x x^T, over the rows of a layer's inputs; their size is that of a row."""

    def __init__(self, site, full):
        self.linear, self.full, self.rows = Linear(site), full, 0
        blocks, inputs = self.linear.unfolding.shape[0], self.linear.inputs
        self.sums = np.zeros((blocks, inputs, inputs) if full else (blocks, inputs))
        self.first = np.zeros((blocks, inputs))

    def update(self, x, mask=None):
        for part in self.linear.rows(x, mask):
            self.rows += part.shape[1]
            # Products of float32 rows, a batch at a time, summed in float64: a long sum would
            # lose digits in float32, and float64 products take twice as long.
            if self.full:
                for own, rows in zip(self.sums, part, strict=True):
                    own += rows.T @ rows
                self.first += part.sum(axis=1)
            else:
                self.sums += np.einsum("bri,bri->bi", part, part)


@statistic(NORM, HESSIAN)
def gather(
    model: Model,
    live_sites: sites.LiveSites,
    data: Data,
    needs: Collection[str],
    batch_size: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Second moments of the inputs of each site over `data`, in inference mode.

    norm_i = sqrt(sum over rows of x_i^2); H = X^T X / rows. A row of X is what one unit sees at
    one position of one sample, padded steps left out. Nothing but these sums is kept.

    Args: see `statistic`; data without labels.
        needs: which of "input_norm" and "input_hessian".
        batch_size: None for as many samples as make products of matrices fast, 32 to 2,048.

    Returns {site name: {statistic: value}}; "input_norm" is a float32 array of the kernel's shape,
    "input_hessian" an `InputHessian`.
    Raises ValueError for layers that no data reaches, or inputs not understood or not finite.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="a")])
        >>> live = sites.find(model, exclude=()).sites
        >>> gather(model, live, np.array([[3.0, 0.0], [4.0, 1.0]]), [NORM])["a/kernel"][NORM]
        array([[5.],
               [1.]], dtype=float32)
    """
    moments = Moments(live_sites, needs)
    size = batch_size or batch_size_of(model)
    probes.show(model, data, size, places=moments.places, see=moments.update)
    return moments.found()


class Moments:
    """The second moments of some sites, as the inputs of their layers come along.

    Args, raises: see `gather`.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="a")])
        >>> moments = Moments(sites.find(model, exclude=()).sites, [NORM])
        >>> moments.update(moments.places[0], np.array([[3.0, 0.0], [4.0, 1.0]]))
        >>> moments.found()["a/kernel"][NORM].tolist()
        [[5.0], [1.0]]
    """

    def __init__(self, live_sites: sites.LiveSites, needs: Collection[str]) -> None:
        check_linear(live_sites)
        self._needs = needs
        self._by_place: dict[tuple, list[_Sums]] = {}
        self._sums = {site.name: _Sums(site, HESSIAN in needs) for site in live_sites}
        for site in live_sites:
            own = self._by_place.setdefault((place(site), probes.INPUTS), [])
            own.append(self._sums[site.name])

    @property
    def places(self) -> list[tuple]:
        """Where the inputs come along, see `probes.Probes`."""
        return list(self._by_place)

    def update(self, place: tuple, x: Array, mask: Array | None = None) -> None:
        """Take the inputs of one call of a layer; a `mask` hides steps, see `probes.show`."""
        for own in self._by_place[place]:
            own.update(x, mask)

    def found(self) -> dict[str, dict[str, Any]]:
        """What `gather` returns."""
        found = {}
        for name, own in self._sums.items():
            if not own.rows:
                raise ValueError(
                    f"{name}: the data was not seen to reach this layer; exclude it (or take the "
                    "tf.function or jit from around the model's `call`)"
                )
            if not np.isfinite(own.sums).all():
                raise ValueError(f"{name}: the inputs of this layer are NaN or infinite")
            found[name] = {need: _value(own, need) for need in self._needs}
        return found


def check_linear(live_sites: sites.LiveSites) -> None:
    """Raise ValueError for layers whose inputs are not understood, naming all of them at once."""
    refused: dict[str, str] = {}
    for site in live_sites:
        try:
            Linear(site)
        except ValueError as error:
            refused.setdefault(site.path, str(error))
    if refused:
        every = f" All such layers: {sorted(refused)}." if len(refused) > 1 else ""
        raise ValueError(next(iter(refused.values())) + every)


def batch_size_of(model: Model) -> int:
    """How many samples at a time make products of matrices fast, 32 to 2,048."""
    if not sites.is_graph(model):
        return 256
    numbers = sum(math.prod(size or 1 for size in tensor.shape[1:]) for tensor in model.inputs)
    return min(max(_NUMBERS // numbers, 32), 2048)


def place(site: sites.LiveSite) -> keras.Layer:
    """The layer whose inputs are seen; TimeDistributed calls its layer where values are hidden."""
    outer = site.source.layer
    return outer if isinstance(outer, keras.layers.TimeDistributed) else site.layer


def _value(own, name):
    unfolding, sums, rows = own.linear.unfolding, own.sums, own.rows
    if name == HESSIAN:
        return InputHessian(unfolding, hessian=sums / rows, rows=rows, mean=own.first / rows)
    squares = np.diagonal(sums, axis1=1, axis2=2) if own.full else sums
    norms = np.sqrt(squares).astype(np.float32)[:, None]
    return unfolding.from_units(np.broadcast_to(norms, unfolding.shape_by_unit))
