"""Equal saliencies: surgeons, which remove one by one, follow the tie rule as all others do."""

import keras
import numpy as np
import pytest

import activation_pruning as ap
from activation_pruning.surgeons import obs
from activation_pruning.surgeons.layerwise_economical import remove_economically
from activation_pruning.surgeons.problems import Problem
from activation_pruning.surgeons.units import Problem as UnitProblem
from activation_pruning.surgeons.units import unit_errors


@pytest.mark.parametrize(
    "criterion",
    ["magnitude", ap.surgeons.LayerwiseOBS(damping=0.5),
     ap.surgeons.LayerwiseOBS(damping=0.5, recalculate_every=2),
     ap.surgeons.SparseGPT(damping=0.5), "wanda"],
)  # fmt: skip
@pytest.mark.parametrize("count", [1, 5, 6, 11])
def test_the_lower_index_is_kept(criterion, count):
    layer = keras.layers.Dense(3, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((4,)), layer])
    data = None if criterion == "magnitude" else np.repeat(np.eye(4), 2, axis=0)
    ap.prune(model, count / 12, criterion, data=data, exclude=(), verbose=0)
    expected = np.ones(12, bool)
    expected[12 - count :] = False  # the last of the flat indices
    assert (layer.get_weights()[0].ravel() != 0).tolist() == expected.tolist()


def test_one_by_one_the_last_goes_first():
    assert np.argsort(obs.removal_errors(np.eye(3), np.ones(3))).tolist() == [2, 1, 0]
    problem = UnitProblem("b", np.eye(3), np.ones((2, 3)), np.arange(3))
    assert np.argsort(unit_errors([problem], 3)).tolist() == [2, 1, 0]


def test_of_several_sites_the_later_goes_first():
    alike = [Problem(name, np.eye(2), np.ones((2, 2)), np.ones((2, 2), bool)) for name in "ab"]
    ranks, _ = remove_economically(alike, 8, 8)
    # (units, inputs); of one kernel, (inputs, units), the flat index counts the units first
    assert ranks[1].T.ravel().tolist() == [3, 2, 1, 0]
    assert ranks[0].T.ravel().tolist() == [7, 6, 5, 4]
