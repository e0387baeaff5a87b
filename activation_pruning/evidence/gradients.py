"""First derivatives of the loss, and what is made of them, for each weight or unit."""

import keras
import numpy as np
from keras import ops

from activation_pruning import keras_private, sites
from activation_pruning.evidence import autodiff, batches, probes
from activation_pruning.evidence.curvature import loss_function


def gradient(model, live_sites, data, batch_size=64):
    """g = dL/dw for the loss L over all of `data`.

    Args:
        model: the built and compiled model that holds the sites.
        live_sites: from `sites.find`.
        data: as for `prune`, with labels.
        batch_size: samples per batch where `data` is not batched already.

    Returns:
        {site name: float64 array of the kernel's shape}.

    Raises:
        ValueError: for data without labels, or a model without a loss.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, name="a")])
        >>> model.layers[0].set_weights([np.array([[2.0]]), np.zeros(1)])
        >>> model.compile("sgd", "mse")
        >>> live = sites.find(model, exclude=()).sites
        >>> gradient(model, live, (np.array([[3.0]]), np.zeros((1, 1))))["a/kernel"]  # 2 x (w x)
        array([[36.]])
    """
    return _mean_over_batches(model, live_sites, data, batch_size, lambda g: g, by_samples=True)


def squared_gradient(model, live_sites, data, batch_size=64):
    """Mean over batches of the squared gradient of each batch: E[g_b^2].

    Args, returns, raises: as for `gradient`. The size of the batches matters: over larger ones
    more of the gradient cancels.

    Source: Molchanov et al., CVPR 2019, section 3.2: squares are averaged over minibatches.
    """
    return _mean_over_batches(model, live_sites, data, batch_size, np.square, by_samples=False)


def hessian_gradient(model, live_sites, data, batch_size=64):
    """H g: the product of the Hessian of the loss with its own gradient, both over all of `data`.

    Args, returns, raises: as for `gradient`.

    Source: Wang, Zhang & Grosse, ICLR 2020, equation 8.
    """
    whole = gradient(model, live_sites, data, batch_size)
    vectors = [whole[site.name].astype("float32") for site in live_sites]
    variables = [site.variable for site in live_sites]
    total, samples = [np.zeros(vector.shape) for vector in vectors], 0
    for x, y in batches.pairs_of(data, batch_size, model):
        count = _length(x)
        found = autodiff.hessian_product(loss_function(model, x, y), variables, vectors)
        for own, values in zip(total, found, strict=True):
            own += count * ops.convert_to_numpy(values)
        samples += count
    return {site.name: own / samples for site, own in zip(live_sites, total, strict=True)}


def activation_gradient(model, live_sites, data, batch_size=64):
    """What a unit's output does to the loss, to first order: mean of |mean over positions of a g|.

    a is the unit's output after the activation, g = dL_n/da the gradient of the loss of sample n;
    the outer mean is over the samples.

    Args, raises: as for `gradient`.

    Returns:
        {site name: float64 array of shape (units,)}.

    Source: Molchanov et al., ICLR 2017, equation 8.
    """
    places = {
        site.name: (site.source.layer, probes.OUTPUTS, site.source.output) for site in live_sites
    }
    seen = probes.Probes(places.values())
    sums, samples = {site.name: np.zeros(site.n_units) for site in live_sites}, 0
    for x, y in batches.pairs_of(data, batch_size, model):
        with seen.seeing():
            model(x, training=False)
        outputs = {place: list(values) for place, values in seen.seen.items()}
        with seen.adding() as begin:
            loss = loss_function(model, x, y)

            def begun(begin=begin, loss=loss):
                begin()
                return loss()

            found = autodiff.gradients(begun, seen.variables)
        arrays = iter([ops.convert_to_numpy(values) for values in found])
        # The loss is a mean over the samples: times their number it is the sum of theirs.
        slopes = {p: [_length(x) * next(arrays) for _ in own] for p, own in seen.zeros.items()}
        for site in live_sites:
            place = places[site.name]
            sums[site.name] += _unit_products(site, outputs[place], slopes[place])
        samples += _length(x)
    return {name: values / samples for name, values in sums.items()}


def synaptic_flow(model, live_sites, data=None, batch_size=1):
    """dR/d|w| for R = sum of the outputs for inputs of ones, with all weights made positive.

    Biases are taken as zeros and activations as linear (a ReLU is, on positive values), so that
    in a chain of layers sum(|w| dR/d|w|) over a layer is R, the same for each.

    Args:
        model: a built Sequential or Functional model, or with `data` any other.
        live_sites: from `sites.find`.
        data: only the shape of its first sample is read; may be None.
        batch_size: not used.

    Returns:
        {site name: float64 array of the kernel's shape}, >= 0.

    Raises:
        ValueError: a subclassed model without data; inputs that are integers; a flow that
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
    constants = [(v, _positive(v)) for v in model.variables if id(v) not in own and _is_float(v)]
    values = [ops.abs(variable.value) for variable in variables]
    with _linear_activations(model):
        found = autodiff.gradients(
            lambda: sum(ops.sum(y) for y in keras.tree.flatten(model(ones, training=False))),
            variables,
            values,
            constants,
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


def _mean_over_batches(model, live_sites, data, batch_size, function, by_samples):
    variables = [site.variable for site in live_sites]
    total, weights = [np.zeros(tuple(v.shape)) for v in variables], 0
    for x, y in batches.pairs_of(data, batch_size, model):
        weight = _length(x) if by_samples else 1
        found = autodiff.gradients(loss_function(model, x, y), variables)
        for own, values in zip(total, found, strict=True):
            own += weight * function(ops.convert_to_numpy(values).astype(np.float64))
        weights += weight
    return {site.name: own / weights for site, own in zip(live_sites, total, strict=True)}


def _length(x):
    return len(keras.tree.flatten(x)[0])


def _unit_products(site, outputs, slopes):
    """Sum over samples of |mean over positions of a g| for each unit of a site."""
    source, parts = site.source, []
    for values, slope in zip(outputs, slopes, strict=True):
        product = np.asarray(values * slope, np.float64)
        axes = [axis % product.ndim for axis in source.axes]
        product = np.moveaxis(product, axes, range(-len(axes), 0))
        parts.append(product.reshape(len(product), -1, source.width))
    means = np.abs(np.concatenate(parts, axis=1).mean(axis=1)).sum(axis=0)
    own = means[source.start : source.start + source.units]
    if site.observed:
        return own
    return np.full(site.n_units, own.mean())  # units that never show in an output


def _ones(model, data):
    if sites.is_graph(model):
        sequential = isinstance(model, keras.Sequential)
        return keras.tree.map_structure(_ones_like, model.inputs[0] if sequential else model.input)
    if data is None:
        raise ValueError(
            "a subclassed model does not say what its inputs look like: give data=..., of which "
            "the shape of the first sample is read"
        )
    first = next(iter(batches.inputs_of(data, 1)))
    return keras.tree.map_structure(lambda leaf: _ones_like(leaf[:1]), first)


def _ones_like(tensor):
    if "float" not in str(tensor.dtype):
        raise ValueError(
            "the model takes integers (an Embedding?): there are no inputs of ones to follow; "
            "choose another criterion than synaptic flow"
        )
    return np.ones([1, *(size or 1 for size in tensor.shape[1:])], "float32")


def _is_float(variable):
    return "float" in str(variable.dtype)


def _positive(variable):
    """Nothing is added on the way: biases, offsets and means are zeros; the rest is positive."""
    name = variable.path.split("/")[-1]
    if "bias" in name or name in ("beta", "moving_mean"):
        return ops.zeros_like(variable.value)
    return ops.abs(variable.value)


_L = keras.layers
_PASSED_ON = (
    _L.Softmax, _L.ReLU, _L.LeakyReLU, _L.PReLU, _L.ELU, _L.Rescaling, _L.Normalization,
)  # fmt: skip


def _linear_activations(model):
    """Take activations and offsets out; layers whose only business these are pass inputs on."""
    shadows = []
    for layer in keras_private.with_sublayers(model):
        name = "activation" if callable(getattr(layer, "activation", None)) else "call"
        if name == "call" and not isinstance(layer, _PASSED_ON):
            continue
        if isinstance(layer, keras.layers.RNN):
            continue  # its cell computes with the activation, which the layer only shows
        shadows.append((layer, name, lambda x, *args, **kwargs: x))
    return keras_private.overridden(shadows)
