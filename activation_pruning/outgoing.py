"""Where the units of a layer go: the layers that take its output, and which input is whose."""

import dataclasses

import keras
import numpy as np

from activation_pruning import inputs, internals, sites, sources
from activation_pruning.linear import Linear

_L = keras.layers
# They work channel by channel: a unit is the same channel before and after.
_BY_CHANNEL = (
    _L.Activation, _L.ReLU, _L.LeakyReLU, _L.PReLU, _L.ELU, _L.BatchNormalization, _L.Dropout,
    _L.SpatialDropout1D, _L.SpatialDropout2D, _L.SpatialDropout3D, _L.GaussianDropout,
    _L.GaussianNoise, _L.AlphaDropout, _L.ActivityRegularization, _L.Identity,
    _L.MaxPooling1D, _L.MaxPooling2D, _L.MaxPooling3D, _L.AveragePooling1D, _L.AveragePooling2D,
    _L.AveragePooling3D, _L.GlobalMaxPooling1D, _L.GlobalMaxPooling2D, _L.GlobalMaxPooling3D,
    _L.GlobalAveragePooling1D, _L.GlobalAveragePooling2D, _L.GlobalAveragePooling3D,
    _L.ZeroPadding1D, _L.ZeroPadding2D, _L.ZeroPadding3D, _L.UpSampling1D, _L.UpSampling2D,
    _L.UpSampling3D, _L.Cropping1D, _L.Cropping2D, _L.Cropping3D,
)  # fmt: skip
_NORMALISING = ("softmax", "log_softmax", "sparsemax")  # activations that mix channels


@dataclasses.dataclass(frozen=True)
class Consumer:
    """A layer that takes the units of another one, as plain arrays.

    name, bias_name: of its kernel and of its bias, None without one.
    kernel, bias: their values; mask: True where a weight of the kernel is alive.
    units: the unit that each of its inputs comes from, shape (inputs,).
    moments: of its inputs, an `inputs.InputHessian`.
    """

    name: str
    kernel: np.ndarray
    mask: np.ndarray
    units: np.ndarray
    moments: inputs.InputHessian | None = None
    bias_name: str | None = None
    bias: np.ndarray | None = None


def consumers(model, live_sites, data):
    """The `Consumer`s of each site's units, with the second moments of their inputs.

    Args:
        model: the built Sequential or Functional model that holds the sites.
        live_sites: from `sites.find`.
        data: as for `prune`.

    Returns:
        {site name: list of Consumer}.

    Raises:
        ValueError: where units do not end up as inputs of layers that are a matrix product.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "relu", name="a"),
        ...                           keras.layers.Dense(1, name="b")])
        >>> found = consumers(model, sites.find(model).sites, np.ones((4, 2)))["a/kernel"]
        >>> [(one.name, one.units.tolist()) for one in found]
        [('b/kernel', [0, 1, 2])]
    """
    following = {site.name: takers(model, site) for site in live_sites}
    unique = {taker.name: taker for own in following.values() for taker, _ in own}
    moments = inputs.gather(model, list(unique.values()), data, [inputs.HESSIAN])
    return {
        name: [_consumer(taker, units, moments[taker.name][inputs.HESSIAN]) for taker, units in own]
        for name, own in following.items()
    }


def outgoing(model, live_sites, data=None):
    """Sum of the absolute weights that leave each unit, over all that take it.

    Args, raises: as for `consumers`; no data is needed.

    Returns:
        {site name: float64 array of shape (units,)}.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "relu", name="a"),
        ...                           keras.layers.Dense(2, use_bias=False, name="b")])
        >>> model.layers[1].set_weights([np.array([[1.0, -2.0], [0.5, 0.0]])])
        >>> outgoing(model, sites.find(model).sites)["a/kernel"]
        array([3. , 0.5])
    """
    return {
        site.name: sum(_leaving(taker, units, site.n_units) for taker, units in takers(model, site))
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


def takers(model, site):
    """Follow the units of a site to the layers that take them.

    Args:
        model: the built Sequential or Functional model that holds the site.
        site: a `sites.LiveSite`.

    Returns:
        List of (live site, int array of shape (inputs,): the unit that each input comes from).

    Raises:
        ValueError: see `consumers`.
    """
    known = {id(one.layer): one for one in sites.find(model, exclude=()).sites}
    graph = _graph_around(model, site.layer)
    if not graph:
        raise ValueError(_refused(site, "its layer is in no Sequential or Functional model"))
    found, frontier, seen = [], [(site.layer, False)], set()
    while frontier:
        layer, flat = frontier.pop()
        following = internals.consumers(layer, graph)
        if not following:
            raise ValueError(_refused(site, f"{layer.name!r} gives outputs of a model"))
        if internals.calls_in_graph(layer, graph) > 1:
            raise ValueError(_refused(site, f"{layer.name!r} is called several times"))
        for following_layer in following:
            if id(following_layer) in seen:
                continue
            seen.add(id(following_layer))
            if id(following_layer) in known:
                if internals.calls_in_graph(following_layer, graph) > 1:
                    name = following_layer.name
                    raise ValueError(_refused(site, f"{name!r} is called several times"))
                found.append(_inputs_of(site, known[id(following_layer)]))
            else:
                frontier.append((following_layer, _flat_after(site, following_layer, flat)))
    return found


def _inputs_of(site, taker):
    """(taker, the unit of `site` behind each of its inputs)."""
    linear = Linear(taker)
    if linear.unfolding.shape[0] > 1 or linear.inputs % site.n_units:
        raise ValueError(
            _refused(site, f"the inputs of {taker.path!r} cannot be told apart by unit")
        )
    if isinstance(taker.layer, _L.EinsumDense) and linear.inputs != site.n_units:
        raise ValueError(_refused(site, f"{taker.path!r} sums over several axes"))
    # Channels come last: positions of a kernel, or of an image that was flattened, before them.
    return taker, np.arange(linear.inputs) % site.n_units


def _flat_after(site, layer, flat):
    """Whether positions and channels are one axis behind `layer`; raises if it mixes units."""
    channels_first = getattr(layer, "data_format", None) == "channels_first" or (
        getattr(site.layer, "data_format", None) == "channels_first"
    )
    if isinstance(layer, _L.Flatten) and not channels_first:
        return True
    mixing = getattr(getattr(layer, "activation", None), "__name__", "") in _NORMALISING
    if isinstance(layer, _BY_CHANNEL) and not mixing and not (flat and _needs_channels(layer)):
        return flat
    raise ValueError(
        _refused(
            site, f"they pass through {layer.name!r} ({type(layer).__name__}), which may mix them"
        )
    )


def _needs_channels(layer):
    return "Pooling" in type(layer).__name__ or "UpSampling" in type(layer).__name__


def _graph_around(model, layer):
    """Ids of the operations of the innermost graph that holds `layer` directly."""
    for inner in internals.with_sublayers(model):
        graph = sources.graph(inner)
        if id(layer) in graph:
            return graph
    return frozenset()


def _refused(site, reason):
    return (
        f"{site.name}: what its units feed cannot be followed: {reason}. Leave the layer out with "
        "exclude=..., or choose a criterion that looks at the layer alone, such as 'unit_norm'."
    )
