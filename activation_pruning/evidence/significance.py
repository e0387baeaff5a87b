"""How strongly nodes are excited, as N2PS sees it: the mean of a sigmoid."""

import keras
import numpy as np

from activation_pruning.evidence import batches, probes
from activation_pruning.sites import active_outputs
from activation_pruning.sites.linear import Linear

_L = keras.layers


def sigmoid(model, live_sites, data, batch_size=512):
    """Mean over samples and positions of 1 / (1 + exp(-z)), z the pre-activation of a unit.

    For units with a sigmoid activation it is their mean output.

    Args:
        model: the built model that holds the sites.
        live_sites: from `sites.find`.
        data: as for `prune`; labels are not used.
        batch_size: samples per batch where `data` is not batched already.

    Returns:
        {site name: float64 array of shape (units,)}.

    Raises:
        ValueError: for layers whose pre-activations are not seen (recurrent ones).

    Example:
        >>> from activation_pruning import sites
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, "relu", name="a")])
        >>> model.layers[0].set_weights([np.array([[1.0]]), np.zeros(1)])
        >>> live = sites.find(model, exclude=()).sites
        >>> sigmoid(model, live, np.array([[0.0], [100.0]]))
        {'a/kernel': array([0.75])}
    """
    places = {site.name: _place(site) for site in live_sites}
    means = _means(model, places.values(), data, batch_size)
    return {site.name: _by_unit(site.source, means[places[site.name]]) for site in live_sites}


def of_inputs(model, live_sites, data, batch_size=512):
    """Mean of 1 / (1 + exp(-x)) of each input of linear layers: {site name: array (inputs,)}.

    Args, raises: as for `sigmoid`; an input of a convolution is one channel at one position of
    its kernel.
    """
    found = {}
    for site in live_sites:
        linear = Linear(site)
        total, rows = np.zeros(linear.inputs), 0
        for x in _passing(model, (site.layer, probes.INPUTS), data, batch_size):
            for part in linear.rows(x):
                total += _sigmoid(part[0]).sum(axis=0)
                rows += part.shape[1]
        found[site.name] = total / rows
    return found


def _means(model, places, data, batch_size):
    sums = {}

    def add(place, values):
        x = _sigmoid(keras.ops.convert_to_numpy(values))
        total, samples = sums.get(place, (0.0, 0))
        sums[place] = total + x.sum(axis=0), samples + len(x)
        return values

    with probes.passing(dict.fromkeys(places), add):
        for x in batches.inputs_of(data, batch_size, model):
            model(x, training=False)
    return {place: total / samples for place, (total, samples) in sums.items()}


def _passing(model, place, data, batch_size):
    """Yield what passes by a place, batch by batch."""
    caught = []

    def catch(_, values):
        caught.append(keras.ops.convert_to_numpy(values))
        return values

    with probes.passing([place], catch):
        for x in batches.inputs_of(data, batch_size, model):
            model(x, training=False)
            yield from caught
            caught.clear()


def _sigmoid(values):
    return 0.5 * (1 + np.tanh(0.5 * values.astype(np.float64)))  # overflows nowhere


def _place(site):
    source = site.source.layer
    if isinstance(source, (_L.RNN, *active_outputs.WRAPPERS)) or not site.observed:
        raise ValueError(
            f"{site.name}: pre-activations of {type(site.layer).__name__} are not seen; leave the "
            "layer out with exclude=..., or choose another criterion"
        )
    if source is not site.layer:
        return source, probes.INPUTS  # a layer that is nothing but the activation
    return source, probes.BEFORE if hasattr(source, "activation") else probes.OUTPUTS


def _by_unit(source, means):
    axes = [axis % (means.ndim + 1) - 1 for axis in source.axes]  # without the samples' axis
    moved = np.moveaxis(means, axes, range(-len(axes), 0))
    own = moved.reshape(-1, source.width).mean(axis=0)
    return own[source.start : source.start + source.units]
