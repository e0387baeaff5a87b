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


def test_until_flat_compares_two_epochs_at_least():
    policy = ap.retraining.UntilFlat(at_most=2, monitor="m")
    assert policy([]) is False
    assert policy([{"m": 0.5}]) is False
    assert policy([{"m": 0.5}, {"m": 0.9}]) is True  # at most 2
    assert ap.retraining.UntilFlat(at_most=1, monitor="m")([{"m": 0.5}]) is True


def test_a_fixed_number_of_epochs():
    two = ap.retraining.Epochs(2)
    assert [two([{}] * epochs) for epochs in range(4)] == [False, False, True, True]
    assert ap.retraining.Epochs(0)([]) is True


def test_get_takes_numbers_and_policies():
    assert ap.retraining.get(3) == ap.retraining.Epochs(3)
    assert ap.retraining.get(0).at_most == 0
    flat = ap.retraining.UntilFlat()
    assert ap.retraining.get(flat) is flat

    def no_limit(logs):
        return True

    for wrong in (True, 1.5, None, "flat", no_limit, ap.retraining.UntilFlat):
        with pytest.raises(TypeError, match=r"retrain=.*; give a number of epochs"):
            ap.retraining.get(wrong)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ap.retraining.Epochs(-1), ValueError, "at_most=-1; .* integer of at least 0"),
        (lambda: ap.retraining.get(-1), ValueError, "at_most=-1"),
        (lambda: ap.retraining.UntilFlat(at_most=0), ValueError, "at_most=0; .* of at least 1"),
        (
            lambda: ap.retraining.UntilFlat(-0.1),
            ValueError,
            r"improvement=-0\.1; .* of at least 0: 0\.001 is 0\.1 point",
        ),
        (lambda: ap.retraining.UntilFlat(monitor=3), TypeError, "monitor=3; give the name"),
        (
            lambda: ap.retraining.UntilFlat()([{"loss": 0.1, "accuracy": 0.9}]),
            ValueError,
            r"monitor='val_accuracy' is not among .*\['accuracy', 'loss'\]",
        ),
    ],
)
def test_errors_say_what_is_allowed(make, error, message):
    with pytest.raises(error, match=message):
        make()
