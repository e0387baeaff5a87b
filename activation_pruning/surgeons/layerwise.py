"""Layer-wise Optimal Brain Surgeon: each unit is one least-squares problem."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from activation_pruning.allocations import rounded
from activation_pruning.amounts import ByScores
from activation_pruning.criteria.base import needed
from activation_pruning.masks.granularities import NM, Block, Granularity, Weight
from activation_pruning.support.checks import check_count
from activation_pruning.support.counts import counted
from activation_pruning.support.progress import no_progress
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Array, Masks, Progress, Scores, Sites
from activation_pruning.surgeons import obs
from activation_pruning.surgeons.base import Damped, Kernels, Selection
from activation_pruning.surgeons.layerwise_economical import remove_economically
from activation_pruning.surgeons.problems import Problem, join, parts, split


@dataclasses.dataclass(frozen=True)
class LayerwiseOBS(Damped):
    """Remove the weight with the least error, compensate the others, update the inverse; repeat.

    For a unit with weights w and inputs X, H = X^T X / n + damping * mean(diag) * I. Removing
    weight p costs w_p^2 / (2 [H^-1]_pp); the others move by -w_p / [H^-1]_pp * [H^-1]_:p. The
    inverse is downdated after every weight, so each removal is exact; errors are compared across
    units and, as far as the allocation says so, across layers.

    Args:
        damping: share of the Hessian's mean diagonal that is added to it, >= 0; None is 0.01 and
            insists on as many rows of inputs as there are inputs.
        recalculate_every: 1 is exact. With more, inverses are computed only once in so many
            removals over all sites: an economy of former times, slower and worse, kept for
            comparisons, which holds the inverse of every unit and needs the allocation "global".
        known_scores: what `ap.scores` returned for this very network and data, or None: finding
            them takes most of the time, and they are the same for every sparsity.

    Raises:
        ValueError: for bad arguments; when pruning, for too few rows or a singular Hessian.

    Source: Dong, Chen & Pan, NeurIPS 2017 (L-OBS); Frantar & Alistarh, NeurIPS 2022 (exact).

    Example:
        >>> LayerwiseOBS(damping=0.1)
        LayerwiseOBS(damping=0.1, recalculate_every=1)
    """

    damping: float | None = None
    recalculate_every: int = 1
    known_scores: Mapping[str, Scores] | None = dataclasses.field(default=None, repr=False)

    needs = frozenset({"input_hessian"})
    granularities = (Weight, NM, Block)

    @property
    def separable(self) -> bool:  # type: ignore[override]
        """Whether each site has its own scores, see `Surgeon`."""
        return self.recalculate_every == 1 and self.known_scores is None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("recalculate_every", self.recalculate_every, 1)

    def check(self, granularity: Granularity) -> None:
        super().check(granularity)
        if self.recalculate_every > 1 and not isinstance(granularity, Weight):
            raise ValueError(
                f"recalculate_every={self.recalculate_every} removes single weights; use "
                f"granularity='weight', not {granularity}, or recalculate_every=1"
            )

    def scores(self, sites: Sites, progress: Progress = no_progress) -> dict[str, Scores]:
        total = sum(s.mask.size // needed(s, "input_hessian").unfolding.inputs for s in sites)
        done, found = 0, {}
        for site in sites:
            blocks = []
            for problem in split(site, self):
                errors = np.zeros(problem.weights.shape)
                for unit, values in _errors_by_unit(problem):
                    errors[unit] = values
                    done += 1
                    progress(done, total)
                blocks.append(errors)
            found[site.name] = join(site, blocks)
        return found

    def operate(self, sites: Sites, selection: Selection) -> tuple[Masks, Kernels]:
        if self.recalculate_every > 1:
            return self._economical(sites, selection)
        masks = selection.masks(sites, self._known(sites) or self.scores(sites, selection.progress))
        kernels = {}
        for site in sites:
            own = zip(split(site, self), parts(site, masks[site.name]), strict=True)
            found = [obs.compensated(p.hessian, p.weights, alive, p.name) for p, alive in own]
            kernels[site.name] = join(site, found)
        return masks, kernels

    def _known(self, sites: Sites) -> Mapping[str, Scores] | None:
        if self.known_scores is None:
            return None
        missing = [site.name for site in sites if site.name not in self.known_scores]
        if missing:
            raise ValueError(
                f"known_scores holds {sorted(self.known_scores)} and nothing for {missing}; give "
                "what ap.scores(model, 'lobs', data=...) returned for this model"
            )
        return self.known_scores

    def _economical(self, sites: Sites, selection: Selection) -> tuple[Masks, Kernels]:
        if isinstance(selection.sparsity, ByScores):
            raise ValueError(
                f"sparsity={shown(selection.sparsity)} looks at the scores before anything is "
                "removed; "
                f"with recalculate_every={self.recalculate_every} give a fraction in [0, 1), or "
                "set recalculate_every=1"
            )
        problems = [split(site, self) for site in sites]
        weights, dead = counted(site.mask for site in sites)
        budget = max(rounded(selection.sparsity, weights) - dead, 0)
        step, every = self.recalculate_every, [p for blocks in problems for p in blocks]
        ranks, found = remove_economically(every, budget, step, selection.progress)
        scores, kernels, start = {}, {}, 0
        for site, blocks in zip(sites, problems, strict=True):
            own = slice(start, start + len(blocks))
            scores[site.name], kernels[site.name] = join(site, ranks[own]), join(site, found[own])
            start = own.stop
        masks = selection.masks(sites, scores)
        removed = {name: np.isfinite(scores[name]) & (scores[name] < budget) for name in scores}
        other = sum(np.count_nonzero(removed[name] & masks[name]) for name in masks)
        if other > len(sites):  # one each is kept, so that no site is emptied
            raise ValueError(
                f"recalculate_every={step} removes weights in one order over all layers; use "
                "allocation='global', or recalculate_every=1"
            )
        return masks, {name: np.where(masks[name], kernels[name], 0.0) for name in kernels}


def _errors_by_unit(problem: Problem) -> Iterator[tuple[int, Array]]:
    """Yield (unit, error of each of its weights); dead weights keep 0, their score is not read."""
    for mask, units in obs.by_alive(problem.alive):
        if not mask.any():
            continue
        inverse = obs.inverse(problem.hessian[np.ix_(mask, mask)], problem.name)
        for unit in units:
            errors = np.zeros(len(mask))
            errors[mask] = obs.removal_errors(inverse, problem.weights[unit, mask])
            yield unit, errors
