"""Statistics say what they take, and are gathered accordingly."""

import inspect

import keras
import numpy as np
import pytest

from activation_pruning import sites
from activation_pruning.evidence import gathering
from activation_pruning.evidence.statistic import STATISTICS, look_up, statistic
from activation_pruning.hooks import counting, tracking

GATHERED = {name: one for name, one in STATISTICS.items() if one.gather is not None}


@pytest.fixture
def known():
    """Statistics declared within a test are forgotten afterwards."""
    before = dict(STATISTICS)
    yield
    STATISTICS.clear()
    STATISTICS.update(before)


@pytest.mark.parametrize("name", GATHERED)
def test_what_a_statistic_declares_is_what_its_function_takes(name):
    one = GATHERED[name]
    taken = set(inspect.signature(one.gather).parameters)
    assert taken >= {"model", "live_sites", "data"}
    declared = {"seed": one.seeded, "progress": one.slow, "needs": one.shared}
    assert {key: key in taken for key in declared} == declared


def test_what_hooks_count_and_track_is_asked_for_in_the_same_way():
    needs = {"frequency", "movement", "gradient", "outgoing"}
    assert [one.name for one in look_up(needs)] == ["frequency", "movement", "outgoing", "gradient"]
    assert {one.name for one in look_up(STATISTICS, "activity")} == set(counting.STATISTICS)
    assert {one.name for one in look_up(STATISTICS, "training")} == set(tracking.TRACKED)
    assert set(STATISTICS) - set(GATHERED) == {*counting.STATISTICS, *tracking.TRACKED}


@pytest.mark.parametrize(
    "needs",
    [{"gradient"}, {"input_norm", "input_hessian"}, {"frequency", "mean", "rms"}, {"outgoing"}],
)
def test_a_generator_serves_what_is_gathered_in_one_pass(needs):
    gathering.check_passes(needs, iter([]))
    again = needs != {"outgoing"}  # that needs no data, however often
    if again:
        with pytest.raises(ValueError, match="read only once"):
            gathering.check_passes(needs, iter([]), again=True)
    assert [one.name for one in look_up(needs)] == [n for n in STATISTICS if n in needs]


@pytest.mark.parametrize(
    "needs", [{"hessian_gradient"}, {"input_norm", "gradient"}, {"frequency", "sigmoid"}]
)
def test_a_generator_does_not_serve_two_passes(needs):
    with pytest.raises(ValueError, match="read only once"):
        gathering.check_passes(needs, iter([]))


def test_a_statistic_of_ones_own_is_gathered_by_its_declaration(known):
    @statistic(of="weights", by_unit=True, seeded=True)
    def noise(model, live_sites, data=None, seed=0):
        return {site.name: np.full(site.n_units, seed) for site in live_sites}

    @statistic("twice", "thrice")
    def multiples(model, live_sites, data, needs):
        factors = {"twice": 2, "thrice": 3}
        return {site.name: {name: factors[name] * data for name in needs} for site in live_sites}

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="a")])
    live = sites.find(model, exclude=()).sites
    gathering.check_data({"noise"}, "own", None)
    needs, data = {"noise", "twice", "thrice"}, np.full((4, 2), 5.0)
    found = gathering.gather(model, live, data, needs, seed=7)["a/kernel"].statistics
    assert {name: np.unique(values).tolist() for name, values in found.items()} == {
        "noise": [7],
        "twice": [10],
        "thrice": [15],
    }
