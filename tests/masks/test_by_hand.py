"""Selections worked out by hand, each for one rule that is easily lost."""

import numpy as np
import pytest

from activation_pruning import masks
from activation_pruning.criteria import unit_sums
from activation_pruning.sites import Site


def site(name, kernel, **more):
    kernel = np.asarray(kernel, float)
    units = np.arange(kernel.shape[-1])[None]
    return Site(name, name, kernel, np.ones(kernel.shape, bool), units, **more)


def select(sites, scores, *how):
    return {n: m.astype(int).tolist() for n, m in masks.select(sites, scores, *how).items()}


def test_float64_scores_are_told_apart_by_their_last_digits():
    scores = np.array([[1.0, 1.0 + 1e-12]])
    assert select([site("a", scores)], {"a": scores}, 0.5, "weight", "global") == {"a": [[0, 1]]}


def test_signed_scores_of_a_unit_are_summed_with_their_signs():
    scores = np.array([[1.0, -5.0], [1.0, 6.0]])  # means 1 and 0.5
    one = site("a", scores)
    assert unit_sums(one, scores).tolist() == [2.0, 1.0]
    assert select([one], {"a": scores}, 0.5, "unit", "global") == {"a": [[1, 0], [1, 0]]}


def test_a_coupled_site_that_lost_all_its_units_gets_its_best_one_back_everywhere():
    a = site("a", [[1.0, 2.0], [1.0, 2.0]], channels=np.array([0, 1]))
    a.mask[0, 1] = False  # gone before: not even now does it come back
    b = site("b", [[1.0, 2.0, 9.0]], channels=np.array([0, 1, 2]))
    scores = {"a": a.kernel, "b": b.kernel}
    with pytest.warns(masks.EmptiedWarning, match=r"best unit is kept.*\['a'\]"):
        found = select([a, b], scores, 0.86, "unit", "global")
    assert found == {"a": [[0, 0], [0, 1]], "b": [[0, 1, 1]]}


def test_the_best_unit_is_one_that_was_alive():
    a = site("a", [[5.0, 2.0, 1.0]], channels=np.array([0, 1, 2]))
    a.mask[0, 0] = False  # gone before, whatever its score
    b = site("b", [[0.5, 2.0, 1.0, 9.0]], channels=np.array([0, 1, 2, 3]))
    b.mask[0, 0] = False
    with pytest.warns(masks.EmptiedWarning, match=r"\['a'\]"):
        found = select([a, b], {"a": a.kernel, "b": b.kernel}, 0.86, "unit", "global")
    assert found == {"a": [[0, 1, 0]], "b": [[0, 1, 0, 1]]}
