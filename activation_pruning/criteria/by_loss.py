"""Criteria that ask what the weights do to the loss."""

import numpy as np

from activation_pruning.criteria.base import criterion, needed


@criterion(needs=("movement",))
def movement(site):
    """Where training takes the weight: score = -sum over training steps of (dL/dw) * w.

    A gradient step moves w by a multiple of -dL/dw, so a weight that moves away from zero scores
    above 0 and one that shrinks below 0, however large it is: meant for fine-tuning. Gathered by
    `PruningCallback` only, over all steps of this `fit` so far, or since the last event with
    `reset_counts=True`. Pruned weights stay pruned (the paper lets them come back).

    Args:
        site: a Site with "movement" in `statistics`.

    Returns:
        Scores of either sign, shape of the kernel.

    Raises:
        ValueError: the movement was not gathered.

    Source: Sanh, Wolf & Rush, NeurIPS 2020, arXiv:2005.07683, section 4.

    Example:
        >>> from types import SimpleNamespace as Site
        >>> movement(Site(name="a", statistics={"movement": np.array([[0.5, -2.0]])}))
        array([[ 0.5, -2. ]])
    """
    return np.array(needed(site, "movement"))
