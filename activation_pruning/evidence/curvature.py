"""Second derivatives of the loss: Gauss-Newton, exact, and by Hutchinson's estimator."""

import dataclasses
import itertools
import math
import time
from typing import Any

import numpy as np

from activation_pruning import sites
from activation_pruning.evidence import autodiff, batches
from activation_pruning.evidence.gradients import loss_function
from activation_pruning.evidence.sample_gradients import sample_gradients
from activation_pruning.evidence.statistic import statistic
from activation_pruning.support.checks import check_count
from activation_pruning.support.progress import no_progress
from activation_pruning.support.types import Array, Arrays, Data, Model, Progress

MOST_MEMORY = 4 * 2**30  # bytes
LIMIT_S = 600.0  # seconds that the exact diagonal may take, by an estimate
LARGEST = 20_000  # weights whose exact diagonal is affordable: one Hessian product for each


@statistic(slow=True)
def gauss_newton(
    model: Model,
    live_sites: sites.LiveSites,
    data: Data,
    batch_size: int = 256,
    progress: Progress = no_progress,
) -> Arrays:
    """Diagonal of the Gauss-Newton matrix G = (1/n) sum over samples of J^T H_L J, exactly.

    J is the Jacobian of the model's logits, H_L the Hessian of the loss in them. With
    H_L = S S^T, G_ii is the mean over samples of the sum over c of (d (S^T z)_c / d w_i)^2, where
    z are the logits and S is held fixed: one backward pass for each output. Layers that are no
    matrix product (recurrent ones, Embedding, ...) take one for each sample and output: give them a
    hundred samples rather than thousands.

    Args: see `statistic`; a model with one output of shape (samples, outputs), data without labels.

    Raises ValueError for losses and models that `logits.Logits` does not take.

    Source: LeCun, Denker & Solla, NIPS 1989, section 2.2; Schraudolph, Neural Computation 2002.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="a")])
        >>> model.compile("sgd", "mse")
        >>> live = sites.find(model, exclude=()).sites
        >>> gauss_newton(model, live, np.array([[3.0, 1.0]]))["a/kernel"].round(3)  # 2 x^2
        array([[18.],
               [ 2.]])
    """

    def squares(columns):
        return ([found[site.name].squares() for site in live_sites] for found in columns)

    found = sample_gradients(model, live_sites, data, batch_size, progress)
    return batches.means(live_sites, ((count, squares(own)) for count, own in found))


@dataclasses.dataclass(frozen=True)
class GaussNewtonMatrix:
    """The whole Gauss-Newton matrix of the weights of several sites, flat one after the other.

    names, sizes: of the sites; matrix: float64, square, of rank `rows` (samples * outputs) at most.
    """

    names: list[str]
    sizes: list[int]
    matrix: Array
    rows: int

    def part(self, names: list[str]) -> Array:
        """The rows and columns of some of the sites, in the order given."""
        ends = np.cumsum(self.sizes)
        own = [self.names.index(name) for name in names]
        index = np.concatenate([np.arange(ends[i] - self.sizes[i], ends[i]) for i in own])
        return self.matrix[np.ix_(index, index)]


@statistic(slow=True)
def gauss_newton_matrix(
    model: Model,
    live_sites: sites.LiveSites,
    data: Data,
    batch_size: int = 64,
    progress: Progress = no_progress,
) -> dict[str, GaussNewtonMatrix]:
    """The whole matrix G = (1/n) sum over samples of J^T H_L J; see `gauss_newton`.

    Args, raises: as for `gauss_newton`; besides ValueError for networks whose matrix, inverse and
    a copy would take more than 4 GiB.
    Returns {site name: `GaussNewtonMatrix`}, the same one for all.
    """
    sizes = [math.prod(site.variable.shape) for site in live_sites]
    memory = 3 * 8 * sum(sizes) ** 2
    if memory > MOST_MEMORY:
        raise ValueError(
            f"the Hessian of {sum(sizes):,} weights, its inverse and a copy need "
            f"{memory / 2**30:,.1f} GiB, at most {MOST_MEMORY / 2**30:g} are allowed; leave layers "
            "out with exclude=..., or choose 'lobs', which needs one Hessian for each layer"
        )
    matrix, samples, outputs = np.zeros((sum(sizes), sum(sizes))), 0, 0
    for count, columns in sample_gradients(model, live_sites, data, batch_size, progress):
        samples, outputs = samples + count, 0
        for found in columns:
            flat = np.concatenate([found[site.name].each() for site in live_sites], axis=1)
            matrix += flat.T @ flat
            outputs += 1
    names = [site.name for site in live_sites]
    whole = GaussNewtonMatrix(names, sizes, matrix / samples, rows=samples * outputs)
    return dict.fromkeys(names, whole)


@statistic(of="labels", slow=True)
def hessian_diagonal(
    model: Model,
    live_sites: sites.LiveSites,
    data: Data,
    batch_size: int = 256,
    progress: Progress = no_progress,
    limit_s: float = LIMIT_S,
) -> Arrays:
    """Exact diagonal of the Hessian of the loss, one product with the Hessian for each weight.

    Args, returns, raises: see `statistic`; data with labels, and at most 20,000 weights in all.
    Entries may be negative.
        limit_s: ValueError, after the first few products, where all would take longer than this.
    """
    shapes = [tuple(site.variable.shape) for site in live_sites]
    weights = sum(math.prod(shape) for shape in shapes)
    if weights > LARGEST:
        raise ValueError(
            f"the exact diagonal of the Hessian takes a product with it for each of {weights:,} "
            f"weights, at most {LARGEST:,} are allowed; choose the criterion 'obd' or "
            "'obd_hutchinson', or leave layers out with exclude=..."
        )

    def one_by_one():
        for number, shape in enumerate(shapes):
            for index in range(math.prod(shape)):
                vectors = [np.zeros(shape, "float32") for shape in shapes]
                vectors[number].flat[index] = 1
                yield vectors

    progress = _Limited(progress, limit_s, weights)
    return _diagonal(model, live_sites, data, batch_size, progress, one_by_one, weights)


class _Limited:
    """Progress that estimates from the first products how long all take, and refuses too much."""

    tried = 3  # products after the first one, which is slower

    def __init__(self, progress: Progress, limit_s: float, weights: int) -> None:
        self.progress, self.limit_s, self.weights = progress, limit_s, weights
        self.begun = 0.0

    def __call__(self, done: int, total: Any) -> None:
        if done == 1:
            self.begun = time.perf_counter()
        if done == 1 + self.tried:
            each = (time.perf_counter() - self.begun) / self.tried
            products = total or self.weights
            if each * products > self.limit_s:
                self._refuse(each, products, "" if total else " for each batch")
        self.progress(done, total)

    def _refuse(self, each: float, products: int, often: str) -> None:
        minutes, limit = each * products / 60, self.limit_s / 60
        raise ValueError(
            f"the exact diagonal of the Hessian takes {products:,} products with it{often}, one "
            f"for each of {self.weights:,} weights and batch: at {each:.2g} s each about "
            f"{minutes:,.0f} minutes, the limit is {limit:,.3g}. Choose the criterion 'obd' or "
            "'obd_hutchinson', give less data, leave layers out with exclude=..., or raise the "
            f"limit: criterion=ap.criteria.ExactOBD(limit_s={max(1, 2 * minutes * 60):.0f})"
        )


@statistic(of="labels", seeded=True, slow=True)
def hutchinson(
    model: Model,
    live_sites: sites.LiveSites,
    data: Data,
    batch_size: int = 256,
    probes: int = 16,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Arrays:
    """Estimate of the Hessian's diagonal: E[v * (H v)] over random signs v.

    Each batch has signs of its own. The error falls with the square root of their number, and is
    that of the off-diagonal entries.

    Args, returns, raises: see `statistic`; data with labels. Entries may be negative.
        probes: vectors of signs for each batch.
        seed: of the signs.

    Source: Hutchinson 1990; Bekas, Kokiopoulou & Saad 2007, for the diagonal.
    """
    check_count("probes", probes, 1)
    generator = np.random.default_rng(seed)
    shapes = [tuple(site.variable.shape) for site in live_sites]

    def signs():
        for _ in range(probes):
            yield [generator.choice(np.array([-1, 1], "float32"), shape) for shape in shapes]

    return _diagonal(model, live_sites, data, batch_size, progress, signs, probes, over=probes)


def _diagonal(model, live_sites, data, batch_size, progress, vectors, number, over=1):
    """Mean over samples of sum(v * (H v)) / over; `vectors` gives each batch `number` of v."""
    variables, done = [site.variable for site in live_sites], itertools.count(1)
    steps = batches.count(data, batch_size, model)

    def products(samples, loss):
        for own in vectors():
            found = autodiff.hessian_product(loss, variables, own)
            progress(next(done), steps and steps * number)
            pairs = zip(own, found, strict=True)
            scale = samples / over
            # Off the diagonal of an exact vector is 0, and 0 times an infinite product is NaN.
            with np.errstate(invalid="ignore"):
                products = [np.multiply(v, autodiff.widened(h), dtype=float) for v, h in pairs]
            yield [scale * product for product in products]

    found = (
        (batches.length(x), products(batches.length(x), loss_function(model, x, y)))
        for x, y in batches.pairs_of(data, batch_size, model)
    )
    return autodiff.checked(batches.means(live_sites, found), "second derivatives")
