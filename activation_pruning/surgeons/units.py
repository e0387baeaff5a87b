"""Removing whole units, made up for by the layers that take them."""

import dataclasses
from typing import Any

import numpy as np
from scipy.linalg import blas

from activation_pruning.criteria.base import by_weight, needed
from activation_pruning.masks.granularities import Unit
from activation_pruning.masks.ties import first_to_go
from activation_pruning.support.progress import no_progress
from activation_pruning.support.types import Array, Masks, Progress, Scores, Sites
from activation_pruning.surgeons import obs
from activation_pruning.surgeons.base import Damped, Kernels, Selection


@dataclasses.dataclass(frozen=True)
class Problem:
    """One layer that takes the units: damped Hessian, weights (outputs, inputs), unit by input."""

    name: str
    hessian: Array
    weights: Array
    units: Array


@dataclasses.dataclass(frozen=True)
class UnitOBS(Damped):
    """Remove the unit that the next layers miss least, compensate in these; repeat.

    With H = X^T X / n + damping * mean(diag) * I of a layer that takes the units, W its weights
    and g the inputs that come from one unit, removing it costs tr(W_g ([H^-1]_gg)^-1 W_g^T) / 2,
    summed over the layers that take it; the other weights move by -W_g ([H^-1]_gg)^-1 [H^-1]_g:.
    The inverse is downdated after every unit. A layer's bias takes part as the weight of an input
    that is always 1 and never goes. The weights that leave a removed unit become zeros.

    Args:
        damping: as for `LayerwiseOBS`.

    Raises:
        ValueError: for bad arguments; when pruning, for units that do not end up as inputs of
            Dense, EinsumDense or convolutions, too few rows, or a singular Hessian.

    Source: Hassibi & Stork, NIPS 1993, for several weights at once; for whole columns as in
    Kurtic et al., ZipLM, NeurIPS 2023, equation 4.

    Example:
        >>> UnitOBS(damping=0.1)
        UnitOBS(damping=0.1)
    """

    damping: float | None = None

    needs = frozenset({"consumers"})
    granularities = (Unit,)

    @property
    def note(self) -> str:
        return (
            "Layers that take the units were compensated, those left out as well; the weights that "
            "leave removed units are zeros, too, and count as pruned where their layer is. "
            + super().note
        )

    def scores(self, sites: Sites, progress: Progress = no_progress) -> dict[str, Scores]:
        found = {}
        for number, site in enumerate(sites):
            problems = [self._problem(one) for one in needed(site, "consumers")]
            errors = unit_errors(problems, site.units.max() + 1)
            scores = by_weight(site, errors)
            found[site.name] = np.array(np.broadcast_to(scores, site.kernel.shape))
            progress(number + 1, len(sites))
        return found

    def operate(self, sites: Sites, selection: Selection) -> tuple[Masks, Kernels]:
        masks = selection.masks(sites, self.scores(sites, selection.progress))
        changed: Kernels = {}
        for site in sites:
            alive = np.zeros(site.units.max() + 1, bool)
            alive[np.broadcast_to(site.units, masks[site.name].shape)[masks[site.name]]] = True
            for consumer in needed(site, "consumers"):
                changed |= self._compensated(consumer, alive, changed)
        kernels = {site.name: changed.pop(site.name, site.kernel) for site in sites}
        return masks, {n: np.where(masks[n], kernels[n], 0) for n in kernels} | changed

    def _problem(self, consumer: Any) -> Problem:
        """(H, W, the unit of each input, -1 for that of the bias) of one consumer."""
        found = consumer.moments
        hessian = self.hessian(consumer.name, found.hessian[0], found.rows)
        weights = found.unfolding.by_unit(consumer.kernel)[0].astype(np.float64)
        units = consumer.units
        if consumer.bias is not None:
            mean = found.mean[0][:, None]
            hessian = np.block([[hessian, mean], [mean.T, np.ones((1, 1))]])
            weights = np.column_stack([weights, consumer.bias.reshape(-1)])
            units = np.append(units, -1)
        return Problem(consumer.name, hessian, weights, units)

    def _compensated(self, consumer: Any, alive: Array, changed: Kernels) -> Kernels:
        """{name: new values} of the consumer's kernel and bias, from what has changed already."""
        now = {"kernel": changed.get(consumer.name, consumer.kernel)}
        if consumer.bias is not None:
            now["bias"] = changed.get(consumer.bias_name, consumer.bias)
        problem = self._problem(dataclasses.replace(consumer, **now))
        kept = consumer.moments.unfolding.by_unit(consumer.mask)[0] & alive[consumer.units]
        if consumer.bias is not None:
            kept = np.column_stack([kept, np.ones(len(kept), bool)])
        weights = obs.compensated(problem.hessian, problem.weights, kept, problem.name)
        if consumer.bias is None:
            return {consumer.name: consumer.moments.unfolding.from_units(weights[None])}
        return {
            consumer.name: consumer.moments.unfolding.from_units(weights[None, :, :-1]),
            consumer.bias_name: weights[:, -1].reshape(consumer.bias.shape),
        }


def unit_errors(problems: list[Problem], count: int) -> Array:
    """At which error each unit goes, when the least costly is removed again and again.

    Returns for each of the `count` units the largest error paid up to its removal, no two alike.

    Example:
        >>> one = Problem("b", np.eye(2), np.array([[2.0, 1.0]]), np.array([0, 1]))
        >>> unit_errors([one], 2)
        array([2. , 0.5])
    """
    states = [_State(problem, count) for problem in problems]
    found, largest = np.empty(count), 0.0
    left = np.arange(count)
    while len(left):
        errors = sum((state.errors(left) for state in states), np.zeros(len(left)))
        cheapest = first_to_go(errors)
        largest = max(np.nextafter(largest, np.inf), float(errors[cheapest]))
        found[left[cheapest]] = largest
        for state in states:
            state.remove(left[cheapest])
        left = np.delete(left, cheapest)
    return found


class _State:
    """Weights and inverse Hessian of one layer while units go."""

    def __init__(self, problem: Problem, count: int) -> None:
        self.weights = problem.weights.copy()
        self.inverse = np.asfortranarray(obs.inverse(problem.hessian, problem.name))
        # A row for each unit: where its inputs are, as many for each.
        self.places = np.stack([np.flatnonzero(problem.units == unit) for unit in range(count)])
        self.gone = np.zeros(len(problem.units), bool)

    def errors(self, units: Array) -> Array:
        """What removing each of `units` costs."""
        own = self.places[units]
        if own.shape[1] == 1:
            squares = np.einsum("ui,ui->i", self.weights, self.weights)
            return 0.5 * squares[own[:, 0]] / np.diagonal(self.inverse)[own[:, 0]]
        blocks = self.inverse[own[:, :, None], own[:, None, :]]
        weights = self.weights[:, own].transpose(1, 2, 0)
        return 0.5 * np.sum(weights * np.linalg.solve(blocks, weights), axis=(1, 2))

    def remove(self, unit: int) -> None:
        """Take one unit out, with compensation."""
        own = self.places[unit]
        rows = np.asfortranarray(self.inverse[own])
        factor = np.linalg.solve(self.inverse[np.ix_(own, own)], rows)
        self.weights -= self.weights[:, own] @ factor
        # In place: a copy of the matrix for every unit would take most of the time.
        blas.dgemm(-1.0, rows, factor, 1.0, self.inverse, trans_a=True, overwrite_c=True)
        self.gone[own] = True
        if 4 * np.count_nonzero(self.gone) > len(self.gone):
            self._compact()

    def _compact(self) -> None:
        kept = np.flatnonzero(~self.gone)
        new = np.cumsum(~self.gone) - 1
        self.places = new[self.places]  # those of units that are gone are not read again
        self.weights = self.weights[:, kept]
        self.inverse = np.asfortranarray(self.inverse[np.ix_(kept, kept)])
        self.gone = self.gone[kept]
