"""Retraining policies."""

import pytest

import activation_pruning as ap


@pytest.mark.parametrize(
    ("values", "enough"),
    [
        ([0.5], False),
        ([0.5, 0.6], False),
        ([0.5, 0.6, 0.6005], True),
        ([0.5, 0.6, 0.601], False),  # 0.1 point is enough
        ([0.6, 0.5, 0.55], True),  # better than the last epoch, not than the best one
        ([0.5, float("nan")], True),
        ([0.1, 0.2, 0.3, 0.4, 0.5], True),  # at most 5
    ],
)
def test_until_flat(values, enough):
    policy = ap.retraining.UntilFlat(improvement=0.001 - 1e-12, at_most=5, monitor="m")
    assert policy([{"m": value} for value in values]) is enough
    falling = ap.retraining.UntilFlat(improvement=0.001 - 1e-12, at_most=5, monitor="m_loss")
    assert falling([{"m_loss": -value} for value in values]) is enough
