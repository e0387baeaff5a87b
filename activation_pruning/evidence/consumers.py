"""Where the units of a layer go: the layers that take its output, and which input is whose."""

import dataclasses

import keras
import numpy as np

from activation_pruning import sites
from activation_pruning.evidence import inputs
from activation_pruning.evidence.statistic import statistic
from activation_pruning.graph import channels, inlining
from activation_pruning.sites import LiveSite, LiveSites
from activation_pruning.sites.linear import Linear
from activation_pruning.support.types import Array, Arrays, Data, Mask, Model

# By site name: (who takes its units, int array of shape (inputs,): the unit behind each input).
Takers = dict[str, list[tuple[LiveSite, Array]]]


@dataclasses.dataclass(frozen=True)
class Consumer:
    """A layer that takes the units of another one, as plain arrays.

    name, bias_name: of its kernel and of its bias; kernel, bias: their values.
    mask: True where a weight of the kernel is alive; moments: of its inputs.
    units: the unit that each of its inputs comes from, shape (inputs,).
    """

    name: str
    kernel: Array
    mask: Mask
    units: Array
    moments: inputs.InputHessian | None = None
    bias_name: str | None = None
    bias: Array | None = None


@statistic()
def consumers(model: Model, live_sites: LiveSites, data: Data) -> dict[str, list[Consumer]]:
    """The `Consumer`s of each site's units, with the second moments of their inputs.

    Args: see `statistic`; the model must be one that `ap.inline` can write down as a graph.
    Raises ValueError where units do not end up as inputs of layers that are a matrix product.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "relu", name="a"),
        ...                           keras.layers.Dense(1, name="b")])
        >>> found = consumers(model, sites.find(model).sites, np.ones((4, 2)))["a/kernel"]
        >>> [(one.name, one.units.tolist()) for one in found]
        [('b/kernel', [0, 1, 2])]
    """
    following = takers(model, live_sites)
    unique = {taker.name: taker for own in following.values() for taker, _ in own}
    moments = inputs.gather(model, list(unique.values()), data, [inputs.HESSIAN])
    return {
        name: [_consumer(taker, units, moments[taker.name][inputs.HESSIAN]) for taker, units in own]
        for name, own in following.items()
    }


@statistic(of="weights", by_unit=True)
def outgoing(model: Model, live_sites: LiveSites, data: Data = None) -> Arrays:
    """Sum of the absolute weights that leave each unit, over all that take it.

    Args, returns, raises: as for `consumers`, without data; arrays of shape (units,).
    """
    return leaving(live_sites, takers(model, live_sites))


def leaving(live_sites: LiveSites, following: Takers) -> Arrays:
    """`outgoing`, where what `takers` returns is known already."""
    return {
        site.name: sum(_leaving(t, units, site.n_units) for t, units in following[site.name])
        for site in live_sites
    }


def _leaving(taker, units, count):
    weights = Linear(taker).unfolding.by_unit(np.abs(taker.kernel()))[0].sum(0, dtype=np.float64)
    return np.bincount(units, weights, count)


def _consumer(taker, units, moments):
    kernel, bias = taker.kernel(), getattr(taker.layer, "bias", None)
    # As everywhere, a kernel of nothing but zeros is a fresh one and not pruned.
    mask = kernel != 0 if kernel.any() else np.ones(kernel.shape, bool)
    found = Consumer(taker.name, kernel, mask, units, moments)
    if bias is None:
        return found
    values = keras.ops.convert_to_numpy(bias)
    return dataclasses.replace(found, bias_name=f"{taker.path}/bias", bias=values)


def takers(model: Model, live_sites: LiveSites) -> Takers:
    """Follow the units of sites to the layers that take them; raises as `consumers` does."""
    graph = inlining.known(model)
    if graph is None:
        raise _refused(
            live_sites[0].name, "its model cannot be written down as a graph, see ap.inline"
        )
    paths = _Paths(model, graph)
    return {site.name: paths.takers(site) for site in live_sites}


class _Paths:
    """The channels of a whole model, and the layers that take them."""

    def __init__(self, model, graph):
        self.flow = channels.follow(graph)  # whose layers share their variables with the model's
        self.labels = self.flow.labels()
        self.sites = sites.find(model, exclude=()).sites

    def takers(self, site):
        own = self._units(site)
        makers = [other for other in self.sites if other.variable is not site.variable]
        for other in makers:
            theirs = channels.units_of(self.flow, other.variable, other.units)
            if theirs is not None and np.isin(self.labels[theirs], own).any():
                fed_back = other.layer is site.layer
                coupled = f"they are coupled with those of {other.path!r}"
                raise _refused(site.name, "its layer feeds them back" if fed_back else coupled)
        for ids, why in self.flow.pins:
            if np.isin(self.labels[ids], own).any():
                raise _refused(site.name, why.reason)
        taking = [use for use in self.flow.uses if np.isin(self.labels[use.ids], own).any()]
        return [self._taker(site, own, use.layer) for use in taking]

    def _units(self, site):
        """The class of each unit, which must be all different."""
        found = channels.units_of(self.flow, site.variable, site.units)
        if found is None:
            raise _refused(site.name, "its layer is not known here")
        own = self.labels[found]
        if len(np.unique(own)) < len(own):
            raise _refused(site.name, "several of its units are one channel")
        self._check_called_once(site.name, site.layer)
        return own

    def _taker(self, site, own, layer):
        """(taker, the unit of `site` behind each of its inputs)."""
        self._check_called_once(site.name, layer)
        taker = next((one for one in self.sites if _same(one.layer, layer)), None)
        if taker is None:
            raise _refused(site.name, f"{layer.name!r} is no single matrix product")
        linear = Linear(taker)
        axes = self.flow.slices[id(taker.variable)][1]
        axis = next(a for a, ids in axes.items() if np.isin(self.labels[ids], own).any())
        found = channels.spread(self.labels[axes[axis]], axis, taker.variable.shape)
        classes = linear.unfolding.by_unit(found)[0][0]
        order = np.argsort(own)
        found = order[np.searchsorted(own[order], classes) % len(own)]
        if linear.unfolding.shape[0] > 1 or (own[found] != classes).any():
            others = f"the inputs of {taker.path!r} come from other layers as well"
            raise _refused(site.name, others)
        return taker, found

    def _check_called_once(self, name, layer):
        if sum(_same(use.layer, layer) for use in self.flow.uses) > 1:
            raise _refused(name, f"{layer.name!r} is called several times")


def _same(layer, other):
    """Whether both are one layer, or one is its twin in a graph."""
    own, theirs = ([id(variable) for variable in one.weights] for one in (layer, other))
    return layer is other or bool(own and own == theirs and type(layer) is type(other))


def _refused(name, reason):
    return ValueError(
        f"{name}: what its units feed cannot be followed: {reason}. Leave the layer out with "
        "exclude=..., or choose a criterion that looks at the layer alone, such as 'unit_norm'."
    )
