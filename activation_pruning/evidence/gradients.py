"""First derivatives of the loss, and what is made of them, for each weight or unit."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from activation_pruning import keras_private, sites
from activation_pruning.evidence import autodiff, batches, probes
from activation_pruning.evidence.statistic import statistic
from activation_pruning.sites import LiveSites, layer_classes
from activation_pruning.support.types import Arrays, Data, Model


def loss_function(model: Model, x: Any, y: Any) -> Callable[[], Any]:
    """A function without arguments: the loss of one batch in inference mode, without regularizers.

    Raises ValueError where the model was not compiled with a loss.
    """
    own = type(model).compute_loss is not keras.Model.compute_loss
    if not own and (not model.compiled or model.loss is None):
        raise ValueError(
            "model is not compiled with a loss, which this criterion looks at; call "
            "model.compile(loss=...) first"
        )
    return lambda: keras_private.data_loss(model, x, y, model(x, training=False))


@statistic(of="labels")
def gradient(model: Model, live_sites: LiveSites, data: Data, batch_size: int = 64) -> Arrays:
    """g = dL/dw for the loss L over all of `data`.

    Args, returns, raises: see `statistic`; data with labels.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, name="a")])
        >>> model.layers[0].set_weights([np.array([[2.0]]), np.zeros(1)])
        >>> model.compile("sgd", "mse")
        >>> live = sites.find(model, exclude=()).sites
        >>> gradient(model, live, (np.array([[3.0]]), np.zeros((1, 1))))["a/kernel"]  # 2 x (w x)
        array([[36.]])
    """
    found = _gradients(model, live_sites, data, batch_size)
    return batches.means(live_sites, ((n, [[n * g for g in own]]) for n, own in found))


@statistic(of="labels")
def squared_gradient(
    model: Model, live_sites: LiveSites, data: Data, batch_size: int = 64
) -> Arrays:
    """Mean over batches of the squared gradient of each batch: E[g_b^2].

    The size of the batches matters: over larger ones more of the gradient cancels.

    Args, returns, raises: as for `gradient`.

    Source: Molchanov et al., CVPR 2019, section 3.2: squares are averaged over minibatches.
    """
    found = _gradients(model, live_sites, data, batch_size)
    return batches.means(live_sites, ((1, [[g**2 for g in own]]) for _, own in found))


def _gradients(model, live_sites, data, batch_size):
    """Yield (samples, the gradients of the sites) of each batch."""
    variables = [site.variable for site in live_sites]
    for x, y in batches.pairs_of(data, batch_size, model):
        found = autodiff.gradients(loss_function(model, x, y), variables)
        yield batches.length(x), [autodiff.widened(g) for g in found]


@statistic(of="labels", passes=2)
def hessian_gradient(
    model: Model, live_sites: LiveSites, data: Data, batch_size: int = 64
) -> Arrays:
    """H g: the product of the Hessian of the loss with its own gradient, both over all of `data`.

    Args, returns, raises: as for `gradient`.

    Source: Wang, Zhang & Grosse, ICLR 2020, equation 8.
    """
    whole = gradient(model, live_sites, data, batch_size)
    vectors = [whole[site.name].astype("float32") for site in live_sites]
    variables = [site.variable for site in live_sites]

    def products():
        for x, y in batches.pairs_of(data, batch_size, model):
            found = autodiff.hessian_product(loss_function(model, x, y), variables, vectors)
            samples = batches.length(x)
            yield samples, [[samples * autodiff.widened(values) for values in found]]

    return autodiff.checked(batches.means(live_sites, products()), "products with the Hessian")


@statistic(of="labels", by_unit=True)
def activation_gradient(
    model: Model, live_sites: LiveSites, data: Data, batch_size: int = 64
) -> Arrays:
    """What a unit's output does to the loss, to first order: mean of |mean over positions of a g|.

    a is the unit's output after the activation, g = dL_n/da the gradient of the loss of sample n;
    the outer mean is over the samples.

    Args, returns, raises: as for `gradient`; arrays of shape (units,).

    Source: Molchanov et al., ICLR 2017, equation 8.
    """
    places = [(site.source.layer, probes.OUTPUTS, site.source) for site in live_sites]
    seen = probes.Probes(places)
    sums = {site.name: np.zeros(site.n_units) for site in live_sites}
    samples = dict.fromkeys(sums, 0)
    for x, y in batches.pairs_of(data, batch_size, model):
        with seen.seeing():
            model(x, training=False)
        slopes = seen.derivatives(loss_function(model, x, y))
        for site, place in zip(live_sites, places, strict=True):
            # The loss is a mean over the samples: times their number it is the sum of theirs.
            own = [batches.length(x) * slope for slope in slopes[place]]
            calls = list(zip(seen.seen[place], own, seen.masks[place], strict=True))
            values, real = _unit_products(site, calls) if calls else (0.0, 0)
            sums[site.name] += values
            samples[site.name] += real
    return {name: values / samples[name] for name, values in sums.items() if samples[name]}


@statistic(of="weights")
def synaptic_flow(model: Model, live_sites: LiveSites, data: Data = None) -> Arrays:
    """dR/d|w| for R = sum of the outputs for inputs of ones, with all weights made positive.

    Biases are taken as zeros and activations as linear (a ReLU is, on positive values), so that
    in a chain of layers sum(|w| dR/d|w|) over a layer is R, the same for each.

    Args: see `statistic`; of `data` only the shape of the first sample is read, which a Sequential
    or Functional model knows without.
    Raises ValueError for a subclassed model without data, inputs that are integers, and a flow that
    overflows, is zero or negative.

    Source: Tanaka, Kunin, Yamins & Ganguli, NeurIPS 2020, equation 2.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="a")])
        >>> synaptic_flow(model, sites.find(model, exclude=()).sites)["a/kernel"]
        array([[1.],
               [1.]])
    """
    ones = _ones(model, data)
    variables = [site.variable for site in live_sites]
    own = {id(variable) for variable in variables}
    others = [v for v in model.variables if id(v) not in own and "float" in str(v.dtype)]
    with _linear_activations(model):
        found = autodiff.gradients(
            lambda: sum(ops.sum(y) for y in keras.tree.flatten(model(ones, training=False))),
            variables,
            values=[ops.abs(variable.value) for variable in variables],
            constants=[(variable, _positive(variable)) for variable in others],
        )
    flows = [ops.convert_to_numpy(values).astype(np.float64) for values in found]
    for site, flow in zip(live_sites, flows, strict=True):
        if not np.isfinite(flow).all():
            raise ValueError(
                "the synaptic flow through this model overflows float32: it is too deep, or its "
                "weights are too large; choose another criterion"
            )
        if flow.min() < 0 or not flow.any():
            raise ValueError(
                f"{site.name}: no synaptic flow arrives here, or a negative one: some layer "
                "subtracts (LayerNormalization, an offset) or cuts off on the way. Choose another "
                "criterion, or leave the layer out with exclude=..."
            )
    return {site.name: flow for site, flow in zip(live_sites, flows, strict=True)}


def _unit_products(site, calls):
    """(sum over samples of |mean over positions of a g| for each unit of a site, samples)."""
    parts = [site.source.by_unit(a.astype(np.float64) * g) for a, g, _ in calls]
    real = np.concatenate([site.source.weights(m, a.shape) > 0 for a, _, m in calls], axis=1)
    products = np.einsum("np,npu->nu", real, np.concatenate(parts, axis=1))
    own = np.abs(products / np.maximum(real.sum(axis=1, keepdims=True), 1)).sum(axis=0)
    # Units that never show in an output are given the mean.
    own = own if site.observed else np.full(site.n_units, own.mean())
    return own, np.count_nonzero(real.any(axis=1))


def _ones(model, data):
    size = sites.batch_size(model) or 1
    if sites.is_graph(model):
        given = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        return keras.tree.map_structure(lambda one: _ones_like(one, size), given)
    if data is None:
        raise ValueError(
            "a subclassed model does not say what its inputs look like: give data=..., of which "
            "the shape of the first sample is read"
        )
    first = next(batches.inputs_of(data, 1))
    return keras.tree.map_structure(lambda one: _ones_like(one, size), first)


def _ones_like(tensor, size):
    if "float" not in str(tensor.dtype):
        raise ValueError(
            "the model takes integers (an Embedding?): there are no inputs of ones to follow; "
            "choose another criterion than synaptic flow"
        )
    return np.ones([size, *(axis or 1 for axis in tensor.shape[1:])], "float32")


def _positive(variable):
    """Nothing is added on the way: biases, offsets and means are zeros; the rest is positive."""
    name = variable.path.split("/")[-1]
    if "bias" in name or name in ("beta", "moving_mean"):
        return ops.zeros_like(variable.value)
    return ops.abs(variable.value)


_PASSED_ON = (*layer_classes.ACTIVATIONS, keras.layers.Rescaling, keras.layers.Normalization)


def _linear_activations(model):
    """Take activations and offsets out; layers whose only business these are pass inputs on."""
    shadows = []
    for layer in keras_private.with_sublayers(model):
        activated = callable(getattr(layer, "activation", None))
        # The cell of an RNN computes with the activation, which the layer only shows.
        if isinstance(layer, _PASSED_ON) or (activated and not isinstance(layer, keras.layers.RNN)):
            name = "activation" if activated else "call"
            shadows.append((layer, name, lambda x, *args, **kwargs: x))
    return keras_private.overridden(shadows)
