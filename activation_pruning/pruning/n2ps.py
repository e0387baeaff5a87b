"""N2PS: remove the nodes of little significance, hidden ones and inputs."""

import warnings
from typing import Any

import keras
import numpy as np

from activation_pruning import keras_private, sites
from activation_pruning.evidence import consumers, gathering, reading, significance
from activation_pruning.graph import inlining
from activation_pruning.pruning import report
from activation_pruning.pruning.event import Event
from activation_pruning.sites.linear import Linear
from activation_pruning.support.checks import check_flags, check_number
from activation_pruning.support.types import Array, Data, Layers, Mask, Masks, Model

_L = keras.layers
_ON_THE_WAY = (_L.Flatten, _L.Reshape, _L.Rescaling, _L.Normalization, _L.Dropout, _L.Identity)


def n2ps(
    model: Model,
    data: Data,
    threshold: float | None = None,
    inputs: bool = True,
    include: Layers = None,
    exclude: Layers = None,
    steps: int | None = None,
) -> report.PruningReport:
    """Remove the nodes whose significance is below a threshold, in place.

    The significance of a node is s = mean over the data of sigmoid(z) * sum of |w| over the
    weights that leave it; z is the pre-activation of a hidden unit, or the input itself. The
    weights that enter and leave a removed node become zeros. Training again with `KeepPruned`,
    and repeating, is up to the caller.

    Args:
        model: a built model; of any class that `ap.inline` can write down as a graph.
        data: samples of the inputs, as for `prune`.
        threshold: nodes below it go; None is the mean significance of the living nodes, for each
            layer, and for the inputs, its own.
        inputs: whether inputs are removed, too.
        include, exclude: layers whose units may go, and layers to leave alone, as for `prune`.
        steps: how many batches of `data` to read, see `prune`.

    Returns:
        A `PruningReport`; its `sparsity` counts the weights that entered or left removed nodes.

    Raises:
        ValueError: for a bad threshold, or units whose outgoing weights cannot be followed.

    Warns:
        UserWarning: the threshold would have removed all nodes of a layer; the best one is kept.

    Source: Augasta & Kathirvalavakumar, "A Novel Pruning Algorithm for Optimizing Feedforward
    Neural Network of Classification Problems", Neural Processing Letters 34, 2011. The paper was
    not at hand: definition and default threshold follow descriptions of it; its data sets, its
    order of layers and its stopping rule were not available to check against.

    Example:
    >>> import keras, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "sigmoid", name="a"),
    ...                           keras.layers.Dense(1, use_bias=False)])
    >>> model.set_weights([np.eye(2), np.zeros(2), np.array([[2.0], [1.0]])])
    >>> ap.n2ps(model, np.zeros((4, 2)), inputs=False).table()["units_removed"].tolist()[0]
    1
    >>> model.get_weights()[2].ravel().tolist()
    [2.0, 0.0]
    """
    if threshold is not None:
        check_number("threshold", threshold, 0, hint="None is the mean of the layer")
    data = reading.first(data, steps)
    gathering.check_passes({"sigmoid"}, data, again=True)
    check_flags(inputs=inputs)
    sites.check_model(model, layers=False)
    found = sites.find(model, include, exclude)
    live_sites = gathering.reached(model, found.sites, data)[1]
    excited = significance.sigmoid(model, live_sites, data)
    found = report.without(found, [site for site in live_sites if site.name in excited])
    following = consumers.takers(model, found.sites)
    leaving = consumers.leaving(found.sites, following)
    dead = {
        site.name: _below(site.path, excited[site.name] * leaving[site.name], threshold)
        for site in found.sites
    }  # nodes without outgoing weights, as those removed before, have significance 0
    event = Event(model, sites.find(model, exclude=()).sites)
    going = _dead_inputs(event, found.sites, data, threshold) if inputs else []
    for site in found.sites:
        going.append((site.name, dead[site.name][site.units]))
        for taker, units in following[site.name]:
            going.append((taker.name, _spread(taker, dead[site.name][units])))
    chosen: Masks = {}
    for name, gone in going:
        chosen[name] = chosen.get(name, event.masks[name]) & ~gone
    event.assign(chosen)
    return report.report(model, found, target=None, note="N2PS: nodes below the threshold removed.")


def _below(name: str, values: Array, threshold: float | None) -> Mask:
    """True for the nodes that go."""
    living = values[values > 0] if values.any() else values
    gone = values < (living.mean() if threshold is None else threshold)
    if gone.all():
        warnings.warn(
            f"{name}: all {len(values)} nodes are below threshold={threshold:g} (the largest "
            f"significance is {values.max():.3g}); the best one is kept",
            stacklevel=3,
        )
        gone[values.argmax()] = False
    return gone


def _takes_inputs(layer: Any, graph: Any) -> bool:
    """Whether nothing but a reshaping or rescaling lies between the model's input and `layer`."""
    while not keras_private.takes_inputs(layer, graph):
        before = keras_private.producers(layer, graph)
        if len(before) != 1 or not isinstance(before[0], _ON_THE_WAY):
            return False
        layer = before[0]
    return True


def _dead_inputs(
    event: Event, live_sites: sites.LiveSites, data: Data, threshold: float | None
) -> list[tuple[str, Mask]]:
    """[(site name, True for the weights of inputs that go)] of the sites that take them."""
    kernels = {s.name: s.kernel for s in event.snapshots}
    graph: Any = inlining.known(event.model)  # not None: what takes the units was found in it
    # Its layers share their weights with those of the model, or are the same.
    twins = {id(one.weights[0]): one for one in graph.layers if one.weights}
    inner = [(site, twins.get(id(site.layer.weights[0]))) for site in live_sites]
    operations, found = sites.operations(graph), []
    first = [site for site, twin in inner if twin and _takes_inputs(twin, operations)]
    if not first:
        warnings.warn(
            "no layer among those to prune takes the model's inputs as they are (or "
            "flattened, rescaled, ...): no inputs are removed",
            stacklevel=3,
        )
    for site in first:
        excited = significance.of_inputs(event.model, [site], data)[site.name]
        rows = Linear(site).unfolding.by_unit(np.abs(kernels[site.name]))[0]
        leaving = rows.sum(axis=0, dtype=np.float64)
        gone = _below(f"inputs of {site.path}", excited * leaving, threshold)
        found.append((site.name, _spread(site, gone)))
    return found


def _spread(site: sites.LiveSite, gone: Mask) -> Mask:
    """A mask of the inputs of a site as one of its weights."""
    unfolding = Linear(site).unfolding
    return unfolding.from_units(np.broadcast_to(gone, unfolding.shape_by_unit))
