"""What schedules answer at one moment, asked without a fit."""

import pytest

from activation_pruning.amounts import BelowMean, Fraction, InTurn, Number, OneLayer, UpTo
from activation_pruning.schedules import (
    AccuracyTriggered,
    Constant,
    Every,
    Exponential,
    Iterative,
    Linear,
    OneShot,
    Polynomial,
    Progress,
)
from activation_pruning.schedules.retraining import Epochs, UntilFlat


def now(epoch=1, sparsity=0.0, weights=100, **more):
    return Progress(epoch, 10 * epoch, {}, sparsity, epochs=20, weights=weights, **more)


# -- amounts ---------------------------------------------------------------------------------------


def test_amounts_are_taken_of_what_is_alive():
    assert Every(0.5)(now(sparsity=0.6)) == 0.8
    assert Every(30)(now(sparsity=0.6)) == 0.9
    assert Iterative(Fraction(0.25))(now(sparsity=0.2)) == 0.4
    assert Every(Number(7))(now(sparsity=0.1, weights=30)) == 10 / 30


def test_amounts_stop_at_the_final_sparsity_and_leave_one_weight_without_one():
    for kind in (Every, Iterative):
        assert kind(30, final_sparsity=0.8)(now(sparsity=0.6)) == 0.8
        assert kind(1000)(now(sparsity=0.6)) == 0.99
        assert kind(0.5, final_sparsity=0.8)(now(sparsity=0.8)) is None
        assert kind(0.5)(now(sparsity=0.99)) == 0.99


def test_amounts_stop_a_granule_before_the_final_sparsity():
    schedule = Every(0.5, final_sparsity=0.8)
    assert schedule(now(sparsity=0.7, granule=10)) == 0.8
    assert schedule(now(sparsity=0.7, granule=11)) is None
    assert schedule(now(sparsity=0.71, granule=10)) is None


def test_amounts_need_the_number_of_weights():
    with pytest.raises(ValueError, match=r"give Progress\(weights=\.\.\.\)"):
        Every(0.5)(now(weights=None))


def test_each_event_has_its_number():
    layer_by_layer = Every(InTurn(0.5), frequency=2, begin=1)
    assert layer_by_layer(now(1)) == UpTo(OneLayer(0, 0.5), 0.99)
    assert layer_by_layer(now(2)) is None
    assert layer_by_layer(now(5)) == UpTo(OneLayer(2, 0.5), 0.99)
    by_step = Every(InTurn(0.5), frequency=20, begin=10, by="step")
    assert by_step(now(5)) == UpTo(OneLayer(2, 0.5), 0.99)
    third = Iterative(InTurn(BelowMean()), retrain=0, final_sparsity=0.9)
    assert third(now(9, events=3)) == UpTo(OneLayer(3, BelowMean()), 0.9)


def test_iterative_waits_for_its_beginning_and_then_for_its_policy():
    schedule = Iterative(0.5, retrain=2, begin=3)
    assert schedule(now(2)) is None
    assert schedule(now(3)) == 0.5  # the first event waits for nothing
    assert schedule(now(4, events=1, since=({},))) is None
    assert schedule(now(5, events=1, since=({}, {}))) == 0.5
    assert Iterative(0.5, begin=0)(now(0)) == 0.5


def test_iterative_watches_what_its_policy_watches():
    flat = UntilFlat(monitor="val_auc")
    assert Iterative(0.5, retrain=flat).monitor == "val_auc"
    assert Iterative(0.5, retrain=flat).retrain is flat
    assert Iterative(0.5, retrain=3).monitor is None
    assert Iterative(0.5, retrain=3).retrain == Epochs(3)


def test_amounts_are_looked_up():
    assert Every(0.2).amount == Fraction(0.2)
    assert Iterative(5).amount == Number(5)
    assert Every(0.2).relative


# -- metrics ---------------------------------------------------------------------------------------


def metric(value, monitor="accuracy", sparsity=0.0, **more):
    return Progress(3, 30, {monitor: value}, sparsity, epochs=20, **more)


def test_a_single_event_waits_for_the_start():
    schedule = AccuracyTriggered(0.8, 0.8, 1, 0.5)
    assert schedule(metric(0.79)) is None
    assert schedule(metric(0.8)) == 0.5


def test_a_validation_metric_may_be_missing_in_some_epochs():
    schedule = AccuracyTriggered(0.8, 0.9, 2, 0.5, monitor="val_accuracy")
    assert schedule(metric(1.0, "accuracy")) is None
    assert schedule(metric(1.0, "val_accuracy")) == pytest.approx(0.5 / 1.8)


def test_an_event_is_pending_while_a_granule_is_missing():
    schedule = AccuracyTriggered(0.8, 0.9, 2, 0.5, decay=1.0)  # targets 0.25 and 0.5
    assert schedule(metric(0.9, sparsity=0.15, weights=100, granule=10)) == 0.25
    assert schedule(metric(0.9, sparsity=0.16, weights=100, granule=10)) == 0.5
    assert schedule(metric(0.9, sparsity=0.41, weights=100, granule=10)) is None
    # half of a share of 0.25 where the weights are unknown
    assert schedule(metric(0.9, sparsity=0.12)) == 0.25
    assert schedule(metric(0.9, sparsity=0.13)) == 0.5


# -- bad arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(1.0), "final_sparsity=1.0; it must be a fraction"),
        (lambda: Constant(0.5, end=-1), "end=-1; it must be an integer of at least 0"),
        (lambda: Constant(0.5, end=1.5), "end=1.5; it must be an integer of at least 0"),
        (lambda: Constant(0.5, by="day"), "by='day'; it must be 'epoch' or 'step'"),
        (lambda: Linear(1.0, 0, 9), "final_sparsity=1.0"),
        (lambda: Linear(0.5, -1, 9), "begin=-1"),
        (lambda: Linear(0.5, 0, -1), "end=-1; it must be an integer of at least 0"),
        (lambda: Linear(0.5, 0, 9, frequency=0), "frequency=0"),
        (lambda: Polynomial(1.0, 0, 9), "final_sparsity=1.0"),
        (lambda: Polynomial(0.5, 0, 9, power=-1), "power=-1"),
        (lambda: Exponential(1.0, 0, 9), "final_sparsity=1.0"),
        (lambda: Every(0.5, begin=-1), "begin=-1"),
        (lambda: Every(0.5, frequency=0), "frequency=0"),
        (lambda: Every(0.5, final_sparsity=1.0), "final_sparsity=1.0"),
        (lambda: Every(0.5, by="batch"), "by='batch'"),
        (lambda: Iterative(0.5, begin=-1), "begin=-1; it must be an integer of at least 0"),
        (lambda: Iterative(0.5, final_sparsity=1.0), "final_sparsity=1.0"),
        (lambda: Iterative(0.5, retrain=-1), "at_most=-1"),
        (lambda: AccuracyTriggered(0.8, float("nan"), 2, 0.5), "stop=nan"),
        (lambda: AccuracyTriggered("a", 0.9, 2, 0.5), "start='a'"),
    ],
)
def test_the_message_names_the_argument(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bounds_are_allowed_themselves():
    same = Constant(0.0, begin=2, end=2)
    assert [same(now(epoch)) for epoch in (1, 2, 3)] == [None, 0.0, None]
    assert Constant(0.5, end=0)(now(0)) == 0.5
    assert Linear(0.5, 0, 4, initial_sparsity=0.5)(now(2)) == 0.5
    assert AccuracyTriggered(0.5, 0.5, 3, 0.5, monitor="loss", decay=1).levels.tolist() == [0.5] * 3


def test_what_does_not_fit_is_told_by_step_as_well():
    late = Every(0.5, begin=31, by="step")
    assert "begin=31 lies after the last step of this fit, 30" in late.unreachable(3, 10)
    assert Every(0.5, begin=30, by="step").unreachable(3, 10) is None
    assert "begin=4 lies after the last epoch" in Iterative(0.5, begin=4).unreachable(3, None)
    assert OneShot(0.5, at=3).unreachable(3, None) is None
