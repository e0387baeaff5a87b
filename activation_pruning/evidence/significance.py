"""How strongly nodes are excited, as N2PS sees it: the mean of a sigmoid."""

import keras
import numpy as np

from activation_pruning.evidence import probes
from activation_pruning.evidence.statistic import statistic
from activation_pruning.sites import LiveSites, layer_classes
from activation_pruning.sites.linear import Linear
from activation_pruning.support.types import Arrays, Data, Model


@statistic(by_unit=True)
def sigmoid(model: Model, live_sites: LiveSites, data: Data, batch_size: int = 512) -> Arrays:
    """Mean over samples of 1 / (1 + exp(-z)), z the pre-activation of a unit; of positions a mean.

    For units with a sigmoid activation it is their mean output.

    Args, returns: see `statistic`; arrays of shape (units,).
    Raises ValueError for layers whose pre-activations are not seen (recurrent ones).

    Example:
        >>> from activation_pruning import sites
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, "relu", name="a")])
        >>> model.layers[0].set_weights([np.array([[1.0]]), np.zeros(1)])
        >>> live = sites.find(model, exclude=()).sites
        >>> sigmoid(model, live, np.array([[0.0], [100.0]]))
        {'a/kernel': array([0.75])}
    """
    places = {site.name: _place(site) for site in live_sites}
    sums = {site.name: np.zeros(site.n_units) for site in live_sites}
    samples = dict.fromkeys(sums, 0)

    def add(place, values, mask):
        for site in live_sites:
            if places[site.name] == place:
                weights = site.source.weights(mask, values.shape)
                by_unit = site.source.by_unit(_sigmoid(values))
                sums[site.name] += np.einsum("np,npu->u", weights, by_unit)
                samples[site.name] += np.count_nonzero(weights.any(axis=1))

    probes.show(model, data, batch_size, places=places.values(), see=add)
    return {name: total / samples[name] for name, total in sums.items() if samples[name]}


def of_inputs(model: Model, live_sites: LiveSites, data: Data, batch_size: int = 512) -> Arrays:
    """Mean of 1 / (1 + exp(-x)) of each input of linear layers: {site name: array (inputs,)}.

    Args, raises: as for `sigmoid`; an input of a convolution is one channel at one position of
    its kernel.
    """
    places = {site.name: (site.layer, probes.INPUTS) for site in live_sites}
    linear = {places[site.name]: Linear(site) for site in live_sites}
    sums = {place: np.zeros(one.inputs) for place, one in linear.items()}
    rows = dict.fromkeys(linear, 0)

    def add(place, x, mask):
        for part in linear[place].rows(x, mask):
            sums[place] += _sigmoid(part[0]).sum(axis=0)
            rows[place] += part.shape[1]

    probes.show(model, data, batch_size, places=linear, see=add)
    return {name: sums[place] / rows[place] for name, place in places.items()}


def _sigmoid(values):
    return 0.5 * (1 + np.tanh(0.5 * values.astype(np.float64)))  # overflows nowhere


def _place(site):
    source = site.source.layer
    hidden = isinstance(source, (keras.layers.RNN, *layer_classes.WRAPPERS))
    if hidden or not site.observed:
        raise ValueError(
            f"{site.name}: pre-activations of {type(site.layer).__name__} are not seen; leave the "
            "layer out with exclude=..., or choose another criterion"
        )
    if source is not site.layer:
        return source, probes.INPUTS  # a layer that is nothing but the activation
    if hasattr(source, "activation"):
        return source, probes.BEFORE
    return source, probes.OUTPUTS, site.source
