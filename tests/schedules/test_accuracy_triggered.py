"""The paper's schedule."""

from itertools import pairwise

import numpy as np
import pytest
from asked import PAPER, at
from hypothesis import given, settings
from hypothesis import strategies as st

from activation_pruning.schedules import AccuracyTriggered, Progress


def test_levels_and_shares():
    np.testing.assert_allclose(PAPER.levels, [0.80, 0.86, 0.92, 0.98])
    # shares 1, 0.8, 0.64, 0.512 of their sum 2.952
    np.testing.assert_allclose(PAPER.targets, 0.8 * np.array([1, 1.8, 2.44, 2.952]) / 2.952)
    assert PAPER.targets[-1] == 0.8
    assert AccuracyTriggered(0.8, 0.9, 1, 0.5).levels.tolist() == [0.8]


def test_an_event_waits_for_its_level():
    first, second = PAPER.targets[:2]
    assert PAPER(at(0.79, 0.0)) is None
    assert PAPER(at(0.80, 0.0)) == pytest.approx(first)
    assert PAPER(at(0.85, first)) is None
    assert PAPER(at(0.86, first)) == pytest.approx(second)
    assert PAPER(at(1.0, 0.8)) is None
    assert PAPER(at(float("nan"), 0.0)) is None


def test_one_event_per_epoch_even_if_all_levels_are_reached():
    assert PAPER(at(1.0, 0.0)) == pytest.approx(PAPER.targets[0])


def test_nothing_before_training():
    assert PAPER(Progress(0, 0, {}, 0.0, epochs=20)) is None


@pytest.mark.parametrize("monitor", ["loss", "val_loss", "error"])
def test_falling_metrics_fire_at_or_below_the_level(monitor):
    schedule = AccuracyTriggered(1.0, 0.2, 3, 0.6, monitor=monitor, decay=1.0)
    assert schedule(at(0, 0.0, **{monitor: 1.1})) is None
    assert schedule(at(0, 0.0, **{monitor: 1.0})) == pytest.approx(0.2)
    assert schedule(at(0, 0.2, **{monitor: 0.7})) is None
    assert schedule(at(0, 0.2, **{monitor: 0.6})) == pytest.approx(0.4)


def run(schedule, total, pruned_by, **known):
    """Pruned weights after each event of a training that always reaches the level."""
    pruned, reached = 0, []
    for _ in range(50):
        target = schedule(Progress(1, 1, {"accuracy": 1.0}, pruned / total, 50, **known))
        if target is None:
            return reached
        pruned = max(pruned, pruned_by(target * total))
        reached.append(pruned)
    raise AssertionError(f"the schedule repeats itself: {reached}")


def test_ten_weights_take_five_events():
    schedule = AccuracyTriggered(0.5, 0.9, 5, 0.8)
    assert run(schedule, 10, lambda k: int(k + 0.5)) == [2, 4, 6, 7, 8]
    assert run(schedule, 10, lambda k: int(k + 0.5), weights=10) == [2, 4, 6, 7, 8]


def test_whole_units_merge_the_events_that_they_cannot_tell_apart():
    # 10 units of 10 weights: 2.4, 4.3, 5.8, 7.03, 8 units
    schedule = AccuracyTriggered(0.5, 0.9, 5, 0.8)
    reached = run(schedule, 100, lambda k: int(k + 0.5) // 10 * 10, weights=100, granule=10)
    assert reached == [20, 40, 50, 70, 80]
    # 4 units of 25 weights: 0.95 (skipped), 1.7, 2.3, 2.8 (skipped), 3.2
    reached = run(schedule, 100, lambda k: int(k + 0.5) // 25 * 25, weights=100, granule=25)
    assert reached == [25, 50, 75]


@given(
    weights=st.integers(10, 10_000),
    events=st.integers(1, 12),
    final=st.floats(0.01, 0.99),
    decay=st.floats(0.3, 1.0),
)
@settings(max_examples=80, deadline=None)
def test_with_the_weights_known_every_run_ends_at_the_final_sparsity(weights, events, final, decay):
    schedule = AccuracyTriggered(0.5, 0.9, events, final, decay=decay)
    reached = run(schedule, weights, lambda k: int(np.floor(k + 0.5)), weights=weights)
    assert len(reached) <= events
    assert all(b > a for a, b in pairwise(reached))
    assert (reached[-1] if reached else 0) == pytest.approx(final * weights, abs=0.5 + 1e-6)


def test_a_metric_that_is_not_logged():
    with pytest.raises(ValueError, match=r"monitor='accuracy' is not .*\['auc', 'loss'\]"):
        PAPER(Progress(1, 10, {"loss": 0.1, "auc": 0.5}, 0.0, epochs=20))
