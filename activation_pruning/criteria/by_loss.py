"""Criteria that ask what a weight does to the loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.linalg

from activation_pruning.criteria.base import by_weight, criterion, needed
from activation_pruning.support.checks import check_number
from activation_pruning.support.types import Scores, Site


@criterion(needs=("gauss_newton",))
def obd(site: Site) -> Scores:
    """Optimal Brain Damage: score = h_ii w_i^2 / 2, what the loss gains when only w_i goes.

    h is the diagonal of the Gauss-Newton matrix, which is never negative.

    Returns scores >= 0, shape of the kernel.
    Source: LeCun, Denker & Solla, NIPS 1989, equation 5.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> obd(Site(name="a", kernel=np.array([[2.0, 1.0]]),
        ...          statistics={"gauss_newton": np.array([[1.0, 6.0]])}))
        array([[2., 3.]])
    """
    return _saliency(site, "gauss_newton")


@criterion(needs=("hessian_diagonal",))
def obd_exact(site: Site) -> Scores:
    """`obd` with the exact diagonal of the Hessian, for small networks; scores may be negative.

    It is refused where an estimate says that it takes longer than ten minutes: see `ExactOBD`.

    Returns, source: as for `obd`.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> obd_exact(Site(name="a", kernel=np.array([[2.0, 1.0]]),
        ...                statistics={"hessian_diagonal": np.array([[1.0, -6.0]])}))
        array([[ 2., -3.]])
    """
    return _saliency(site, "hessian_diagonal")


@dataclass(frozen=True)
class ExactOBD:
    """`obd_exact` that may take longer: an object, to be given where the name is.

    Args:
        limit_s: seconds that an estimate, from the first products with the Hessian, may come to;
            above 0, else a ValueError.

    Example:
        >>> ExactOBD(limit_s=7200).asked
        {'hessian_diagonal': {'limit_s': 7200}}
    """

    limit_s: float = 600.0
    needs: ClassVar[frozenset[str]] = frozenset({"hessian_diagonal"})

    def __post_init__(self) -> None:
        check_number("limit_s", self.limit_s, above=0)

    @property
    def asked(self) -> Mapping[str, Mapping[str, Any]]:
        """What to tell the function that gathers the diagonal."""
        return {"hessian_diagonal": {"limit_s": self.limit_s}}

    def __call__(self, site: Site) -> Scores:
        """Return the scores."""
        return obd_exact(site)


@criterion(needs=("hutchinson",))
def obd_hutchinson(site: Site) -> Scores:
    """`obd` with Hutchinson's estimate of the Hessian's diagonal, for any model and loss.

    Returns, source: as for `obd`; scores may be negative.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> obd_hutchinson(Site(name="a", kernel=np.array([[2.0, 1.0]]),
        ...                     statistics={"hutchinson": np.array([[1.0, -6.0]])}))
        array([[ 2., -3.]])
    """
    return _saliency(site, "hutchinson")


@criterion(needs=("squared_gradient",))
def taylor(site: Site) -> Scores:
    """First-order Taylor: score = E[(g w)^2], the squared change of the loss, over minibatches.

    Units score the mean over their weights.

    Returns scores >= 0, shape of the kernel.
    Source: Molchanov et al., CVPR 2019, equations 4 and 8.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> taylor(Site(name="a", kernel=np.array([[2.0, 1.0]]),
        ...             statistics={"squared_gradient": np.array([[1.0, 5.0]])}))
        array([[4., 5.]])
    """
    return _squares(site) * needed(site, "squared_gradient")


@criterion(needs=("activation_gradient",))
def taylor_activation(site: Site) -> Scores:
    """First-order Taylor in the unit's output: score = mean of |a dL/da|, that of the unit.

    Divided by the L2 norm of the scores of the site's units, so that layers compare. All weights
    of a unit get the same score; it is meant for unit granularity.

    Returns scores >= 0, shape of the kernel.
    Source: Molchanov et al., ICLR 2017, equations 8 and 9.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> taylor_activation(Site(name="a", kernel=np.ones((1, 2)), units=np.array([[0, 1]]),
        ...                        statistics={"activation_gradient": np.array([3.0, 4.0])}))
        array([[0.6, 0.8]])
    """
    products = needed(site, "activation_gradient")
    norm = scipy.linalg.norm(products, check_finite=False) or 1.0  # of any size: it scales
    return np.array(np.broadcast_to(by_weight(site, products / norm), site.kernel.shape))


@criterion(needs=("gradient",))
def snip(site: Site) -> Scores:
    """Connection sensitivity: score = |g w|; made for pruning before training.

    The published score divides by its sum over the network, which changes no ranking.

    Returns scores >= 0, shape of the kernel.
    Source: Lee, Ajanthan & Torr, ICLR 2019, equation 6.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> snip(Site(name="a", kernel=np.array([[2.0, -1.0]]),
        ...           statistics={"gradient": np.array([[-1.0, 5.0]])}))
        array([[2., 5.]])
    """
    return np.abs(_product(site, "gradient"))


@criterion(needs=("hessian_gradient",))
def grasp(site: Site) -> Scores:
    """Gradient signal preservation: score = w (H g); made for pruning before training.

    -w (H g) is what removing w does to the squared gradient norm, to first order; weights whose
    removal raises it most have the lowest scores and go first.

    Returns scores of either sign, shape of the kernel.
    Source: Wang, Zhang & Grosse, ICLR 2020, equation 8. Their code divides the logits by a
    temperature of 200 first; this does not.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> grasp(Site(name="a", kernel=np.array([[2.0, -1.0]]),
        ...            statistics={"hessian_gradient": np.array([[-1.0, 5.0]])}))
        array([[-2., -5.]])
    """
    return _product(site, "hessian_gradient")


@criterion(needs=("synaptic_flow",), rounds=100)
def synflow(site: Site) -> Scores:
    """Synaptic flow: score = |w| dR/d|w|; made for pruning before training, without data.

    R is the sum of the outputs for inputs of ones with all weights positive. `prune` goes to each
    target in 100 rounds: in one, whole layers would go. An event of `PruningCallback` is one round:
    give it a gradual schedule.

    Returns scores >= 0, shape of the kernel.
    Source: Tanaka, Kunin, Yamins & Ganguli, NeurIPS 2020, equation 2 and algorithm 1.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> synflow(Site(name="a", kernel=np.array([[2.0, -1.0]]),
        ...              statistics={"synaptic_flow": np.array([[1.0, 5.0]])}))
        array([[2., 5.]])
    """
    return np.abs(_product(site, "synaptic_flow"))


@criterion(needs=("movement",))
def movement(site: Site) -> Scores:
    """Where training takes the weight: score = -sum over training steps of (dL/dw) * w.

    A gradient step moves w by a multiple of -dL/dw, so a weight that moves away from zero scores
    above 0 and one that shrinks below 0, however large it is: meant for fine-tuning. Gathered by
    `PruningCallback` only, over all steps of this `fit` so far, or since the last event with
    `reset_counts=True`. Pruned weights stay pruned (the paper lets them come back).

    Returns scores of either sign, shape of the kernel.
    Source: Sanh, Wolf & Rush, NeurIPS 2020, arXiv:2005.07683, section 4.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> movement(Site(name="a", statistics={"movement": np.array([[0.5, -2.0]])}))
        array([[ 0.5, -2. ]])
    """
    return np.array(needed(site, "movement"))


def _product(site: Site, statistic: str) -> Scores:
    """Each weight times its statistic, in float64: of two tiny float32 numbers it would be zero."""
    return np.multiply(site.kernel, needed(site, statistic), dtype=np.float64)


def _saliency(site: Site, diagonal: str) -> Scores:
    return 0.5 * needed(site, diagonal) * _squares(site)


def _squares(site: Site) -> Scores:
    """The squares of the weights, in float64; raises ValueError where they are no numbers."""
    with np.errstate(over="ignore", under="ignore"):
        squares = np.square(site.kernel, dtype=np.float64)
    if site.kernel.dtype == np.float64 and (
        np.isinf(squares).any() or np.count_nonzero(squares) < np.count_nonzero(site.kernel)
    ):
        raise ValueError(
            f"{site.name}: this criterion takes the squares of weights from "
            f"{np.abs(site.kernel[site.kernel != 0]).min():.3g} to {np.abs(site.kernel).max():.3g},"
            " which no float holds; scale the weights, or use a criterion such as 'magnitude'."
        )
    return squares
