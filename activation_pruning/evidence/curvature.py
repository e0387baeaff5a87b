"""Second derivatives of the loss: Gauss-Newton, exact, and by Hutchinson's estimator."""

import dataclasses
import itertools

import keras
import numpy as np
from keras import ops

from activation_pruning import keras_private
from activation_pruning.evidence import autodiff, batches
from activation_pruning.evidence.sample_gradients import sample_gradients
from activation_pruning.support.checks import check_count
from activation_pruning.support.progress import no_progress

MOST_MEMORY = 4 * 2**30  # bytes
LARGEST = 20_000  # weights whose exact diagonal is affordable: one Hessian product for each


def gauss_newton(model, live_sites, data, batch_size=256, progress=no_progress):
    """Diagonal of the Gauss-Newton matrix G = (1/n) sum over samples of J^T H_L J, exactly.

    J is the Jacobian of the model's logits, H_L the Hessian of the loss in them. With
    H_L = S S^T, G_ii is the mean over samples of the sum over c of (d (S^T z)_c / d w_i)^2, where
    z are the logits and S is held fixed: one backward pass for each output. Kernels of layers that
    are no matrix product (recurrent ones, Embedding, ...) take one for each sample and output: give
    them a hundred samples rather than thousands.

    Args:
        model: the built and compiled model that holds the sites; one output of shape
            (samples, outputs).
        live_sites: from `sites.find`.
        data: as for `prune`; labels are not used.
        batch_size: samples per batch where `data` is not batched already.
        progress: called with (work done, work in all), the latter None where unknown.

    Returns:
        {site name: float64 array of the kernel's shape}, >= 0.

    Raises:
        ValueError: for a loss that is not cross-entropy or squared error, several outputs, or
            logits that cannot be reached; see `logits.Logits`.

    Source: LeCun, Denker & Solla, NIPS 1989, section 2.2; Schraudolph, Neural Computation 2002.

    Example:
        >>> from activation_pruning import sites
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="a")])
        >>> model.compile("sgd", "mse")
        >>> live = sites.find(model, exclude=()).sites
        >>> gauss_newton(model, live, np.array([[3.0, 1.0]]))["a/kernel"].round(3)  # 2 x^2
        array([[18.],
               [ 2.]])
    """
    sums = {site.name: np.zeros(tuple(site.variable.shape)) for site in live_sites}
    how, samples = (model, live_sites, data, batch_size, progress), 0
    for count, directions in sample_gradients(*how):
        samples += count
        for found in directions:
            for name, gradients in found.items():
                sums[name] += gradients.squares()
    return {name: values / samples for name, values in sums.items()}


@dataclasses.dataclass(frozen=True)
class GaussNewtonMatrix:
    """The whole Gauss-Newton matrix of the weights of several sites, flat one after the other.

    names: of the sites. sizes: their numbers of weights. matrix: float64, square. rows: samples
    times outputs, at most its rank.
    """

    names: list
    sizes: list
    matrix: np.ndarray
    rows: int

    def part(self, names):
        """The rows and columns of some of the sites, in the order given."""
        ends = np.cumsum(self.sizes)
        own = [self.names.index(name) for name in names]
        index = np.concatenate([np.arange(ends[i] - self.sizes[i], ends[i]) for i in own])
        return self.matrix[np.ix_(index, index)]


def gauss_newton_matrix(model, live_sites, data, batch_size=64, progress=no_progress):
    """The whole matrix G = (1/n) sum over samples of J^T H_L J; see `gauss_newton`.

    Args, raises: as for `gauss_newton`; besides ValueError for networks whose matrix, inverse and
    a copy would take more than 4 GiB.

    Returns:
        {site name: `GaussNewtonMatrix`}, the same one for all.

    Example:
        >>> from activation_pruning import sites
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="a")])
        >>> model.compile("sgd", "mse")
        >>> live = sites.find(model, exclude=()).sites
        >>> found = gauss_newton_matrix(model, live, np.array([[3.0, 1.0]]))["a/kernel"]
        >>> found.matrix.round(3)  # 2 x x^T
        array([[18.,  6.],
               [ 6.,  2.]])
    """
    sizes = [int(np.prod(site.variable.shape)) for site in live_sites]
    memory = 3 * 8 * sum(sizes) ** 2
    if memory > MOST_MEMORY:
        raise ValueError(
            f"the Hessian of {sum(sizes):,} weights, its inverse and a copy need "
            f"{memory / 2**30:,.1f} GiB, at most {MOST_MEMORY / 2**30:g} are allowed; leave layers "
            "out with exclude=..., or choose 'lobs', which needs one Hessian for each layer"
        )
    matrix, samples, outputs = np.zeros((sum(sizes), sum(sizes))), 0, 0
    how = model, live_sites, data, batch_size, progress
    for count, directions in sample_gradients(*how):
        samples, outputs = samples + count, 0
        for found in directions:
            flat = np.concatenate([found[site.name].each() for site in live_sites], axis=1)
            matrix += flat.T @ flat
            outputs += 1
    names = [site.name for site in live_sites]
    whole = GaussNewtonMatrix(names, sizes, matrix / samples, samples * outputs)
    return dict.fromkeys(names, whole)


def hessian_diagonal(model, live_sites, data, batch_size=256, progress=no_progress):
    """Exact diagonal of the Hessian of the loss, one product with the Hessian for each weight.

    Args:
        model: the built and compiled model that holds the sites.
        live_sites: from `sites.find`; at most 20,000 weights in all.
        data: as for `prune`, with labels.
        batch_size: samples per batch where `data` is not batched already.
        progress: called with (work done, work in all), the latter None where unknown.

    Returns:
        {site name: float64 array of the kernel's shape}; entries may be negative.

    Raises:
        ValueError: for more weights, or data without labels.

    Example:
        >>> from activation_pruning import sites
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="a")])
        >>> model.compile("sgd", "mse")
        >>> live = sites.find(model, exclude=()).sites
        >>> hessian_diagonal(model, live, (np.array([[3.0, 1.0]]), np.zeros((1, 1))))["a/kernel"]
        array([[18.],
               [ 2.]])
    """
    weights = sum(int(np.prod(site.variable.shape)) for site in live_sites)
    if weights > LARGEST:
        raise ValueError(
            f"the exact diagonal of the Hessian takes a product with it for each of {weights:,} "
            f"weights, at most {LARGEST:,} are allowed; choose the criterion 'obd' or "
            "'obd_hutchinson', or leave layers out with exclude=..."
        )
    sums = {site.name: np.zeros(tuple(site.variable.shape)) for site in live_sites}
    how, samples = (model, live_sites, data, batch_size, weights, progress), 0
    for count, product in _products(*how):
        samples += count
        for number, site in enumerate(live_sites):
            flat = sums[site.name].reshape(-1)
            for index in range(flat.size):
                vectors = [np.zeros(tuple(one.variable.shape), "float32") for one in live_sites]
                vectors[number].reshape(-1)[index] = 1
                flat[index] += count * product(vectors)[number].reshape(-1)[index]
    return {name: values / samples for name, values in sums.items()}


def hutchinson(model, live_sites, data, batch_size=256, probes=16, seed=0, progress=no_progress):
    """Estimate of the Hessian's diagonal: E[v * (H v)] over random signs v.

    Each batch has signs of its own. The error falls with the square root of their number, and is
    that of the off-diagonal entries.

    Args:
        model: the built and compiled model that holds the sites.
        live_sites: from `sites.find`.
        data: as for `prune`, with labels.
        batch_size: samples per batch where `data` is not batched already.
        probes: vectors of signs for each batch.
        seed: of the signs.
        progress: called with (work done, work in all), the latter None where unknown.

    Returns:
        {site name: float64 array of the kernel's shape}; entries may be negative.

    Raises:
        ValueError: for data without labels.

    Source: Hutchinson 1990; Bekas, Kokiopoulou & Saad 2007, for the diagonal.

    Example:
        >>> from activation_pruning import sites
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, name="a")])
        >>> model.compile("sgd", "mse")
        >>> live = sites.find(model, exclude=()).sites
        >>> hutchinson(model, live, (np.array([[3.0]]), np.zeros((1, 1))))["a/kernel"]
        array([[18.]])
    """
    check_count("probes", probes, 1)
    generator = np.random.default_rng(seed)
    sums = {site.name: np.zeros(tuple(site.variable.shape)) for site in live_sites}
    how, samples = (model, live_sites, data, batch_size, probes, progress), 0
    for count, product in _products(*how):
        samples += count
        for _ in range(probes):
            signs = [
                generator.choice(np.array([-1, 1], "float32"), tuple(site.variable.shape))
                for site in live_sites
            ]
            for site, sign, found in zip(live_sites, signs, product(signs), strict=True):
                sums[site.name] += (count / probes) * sign * found
    return {name: values / samples for name, values in sums.items()}


def loss_function(model, x, y):
    """A function without arguments: the loss of one batch in inference mode, without regularizers.

    Raises:
        ValueError: the model was not compiled with a loss.
    """
    own = type(model).compute_loss is not keras.Model.compute_loss
    if not own and (not model.compiled or model.loss is None):
        raise ValueError(
            "model is not compiled with a loss, which this criterion looks at; call "
            "model.compile(loss=...) first"
        )
    return lambda: keras_private.data_loss(model, x, y, model(x, training=False))


def _products(model, live_sites, data, batch_size, each, progress):
    """Yield (samples, function of vectors that returns H times them) for each batch.

    The function is called `each` times for a batch, which is what the progress counts.
    """
    variables, done = [site.variable for site in live_sites], itertools.count(1)
    number = batches.count(data, batch_size, model)
    for x, y in batches.pairs_of(data, batch_size, model):
        loss = loss_function(model, x, y)

        def product(vectors, loss=loss):
            found = autodiff.hessian_product(loss, variables, vectors)
            progress(next(done), number and number * each)
            return [ops.convert_to_numpy(values) for values in found]

        yield len(keras.tree.flatten(x)[0]), product
