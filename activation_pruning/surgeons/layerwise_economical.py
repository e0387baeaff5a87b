"""Layer-wise Optimal Brain Surgeon with inverses that are out of date most of the time."""

import heapq

import numpy as np

from activation_pruning.masks.ties import first_to_go
from activation_pruning.support.progress import no_progress
from activation_pruning.support.types import Array, Progress
from activation_pruning.surgeons import obs
from activation_pruning.surgeons.problems import Problem


def remove_economically(
    problems: list[Problem], budget: int, every: int, progress: Progress = no_progress
) -> tuple[list[Array], list[Array]]:
    """Remove the least costly weights with inverses computed anew only once in `every` removals.

    In between, costs and compensations are those of inverses that still know removed weights.

    Args:
        budget: how many alive weights to remove.

    Returns:
        (ranks, weights), each a list of arrays of shape (units, inputs): when each weight was
        removed, from 0 (`budget` for those that were not), and the weights after it.

    Example:
        >>> one = Problem("a", np.eye(2), np.array([[2.0, 1.0]]), np.ones((1, 2), bool))
        >>> remove_economically([one], 1, 1)
        ([array([[1., 0.]])], [array([[2., 0.]])])
    """
    units = [
        _Unit(problem, site, unit)
        for site, problem in enumerate(problems)
        for unit in range(len(problem.weights))
    ]
    ranks = [np.full(problem.weights.shape, float(budget)) for problem in problems]
    rank_of = [rank for own in ranks for rank in own]
    for start in range(0, budget, every):
        for unit in units:
            unit.recalculate()
        heap = [
            (*unit.cheapest(), -number) for number, unit in enumerate(units) if unit.alive.any()
        ]
        heapq.heapify(heap)
        for removed in range(start, min(start + every, budget)):
            p, number = (-key for key in heapq.heappop(heap)[2:])
            unit = units[number]
            unit.remove(p)
            rank_of[number][p] = removed
            if unit.alive.any():
                heapq.heappush(heap, (*unit.cheapest(), -number))
            progress(removed + 1, budget)
    rows = iter([unit.weights for unit in units])
    return ranks, [np.stack([next(rows) for _ in problem.weights]) for problem in problems]


class _Unit:
    """The weights of one unit, and an inverse Hessian of those alive when it was calculated."""

    def __init__(self, problem: Problem, site: int, unit: int) -> None:
        self.problem, self.site = problem, site
        self.weights, self.alive = problem.weights[unit].copy(), problem.alive[unit].copy()
        self.index = np.empty(0, int)  # those that the inverse knows

    def recalculate(self) -> None:
        """Invert anew, unless nothing was removed meanwhile."""
        index = np.flatnonzero(self.alive)
        if len(index) and len(index) != len(self.index):
            hessian = self.problem.hessian[np.ix_(index, index)]
            self.index, self.inverse = index, obs.inverse(hessian, self.problem.name)

    def cheapest(self) -> tuple[float, int, int]:
        """(error, -site, -weight) of the alive weight that costs least, as the tie rule orders."""
        w = self.weights[self.index]
        errors = np.where(self.alive[self.index], 0.5 * w * w / np.diagonal(self.inverse), np.inf)
        least = first_to_go(errors)
        return float(errors[least]), -self.site, -int(self.index[least])

    def remove(self, p: int) -> None:
        """Remove weight `p`, compensate the others as far as the inverse knows how."""
        own = int(np.searchsorted(self.index, p))
        row = self.inverse[own]
        self.weights[self.index] -= row * (self.weights[p] / row[own])
        self.alive[p] = False
        self.weights[~self.alive] = 0.0  # those that the inverse does not know to be gone
