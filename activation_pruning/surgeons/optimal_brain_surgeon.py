"""Optimal Brain Surgeon with the Hessian of the whole network, for small ones."""

import dataclasses

import numpy as np

from activation_pruning.criteria.base import needed
from activation_pruning.masks.coupled import by_site
from activation_pruning.masks.granularities import NM, Block, Unit, Weight
from activation_pruning.support.progress import no_progress
from activation_pruning.support.types import Array, Mask, Masks, Progress, Scores, Sites
from activation_pruning.surgeons import obs
from activation_pruning.surgeons.base import Damped, Kernels, Selection


@dataclasses.dataclass(frozen=True)
class OptimalBrainSurgeon(Damped):
    """Remove the weight of the whole network that costs least, compensate all others; repeat.

    H is the Gauss-Newton matrix of the loss in all the weights to be pruned, plus
    damping * mean(diag) * I; removing weight p costs w_p^2 / (2 [H^-1]_pp) and moves the others,
    in all layers, by -w_p / [H^-1]_pp * [H^-1]_:p. For networks small enough to hold H.

    Args:
        damping: as for `LayerwiseOBS`; None insists on a row (sample times output) for each weight.

    Raises:
        ValueError: for bad arguments; when pruning, for networks too large, saying how much
            memory they would need, for too few samples, or a singular Hessian.

    Source: Hassibi & Stork, NIPS 1993, equation 5 and section 4 (their H is the same matrix).

    Example:
        >>> OptimalBrainSurgeon(damping=0.1)
        OptimalBrainSurgeon(damping=0.1)
    """

    damping: float | None = None

    needs = frozenset({"gauss_newton_matrix"})
    granularities = (Weight, Unit, NM, Block)

    def scores(self, sites: Sites, progress: Progress = no_progress) -> dict[str, Scores]:
        hessian, weights, alive = self._problem(sites)
        found = np.zeros(weights.shape)
        inverse = obs.inverse(hessian[np.ix_(alive, alive)], "the network")
        found[alive] = obs.removal_errors(inverse, weights[alive])
        progress(1, 1)
        return by_site(sites, found)

    def operate(self, sites: Sites, selection: Selection) -> tuple[Masks, Kernels]:
        masks = selection.masks(sites, self.scores(sites, selection.progress))
        hessian, weights, _ = self._problem(sites)
        kept = np.concatenate([masks[site.name].reshape(-1) for site in sites])
        found = obs.compensated(hessian, weights[None], kept[None], "the network")
        return masks, by_site(sites, found)

    def _problem(self, sites: Sites) -> tuple[Array, Array, Mask]:
        """(H, the weights of all sites in a row, which of them are alive)."""
        matrix = needed(sites[0], "gauss_newton_matrix")
        own = matrix.part([site.name for site in sites])
        alive = np.concatenate([site.mask.reshape(-1) for site in sites])
        weights = np.concatenate([site.kernel.reshape(-1) for site in sites]).astype(np.float64)
        hessian = self.hessian("the network", own, matrix.rows, "samples times outputs")
        return hessian, np.where(alive, weights, 0.0), alive
