"""Amounts given to `prune`."""

import pytest
from retrainable import alive, network, samples

import activation_pruning as ap


@pytest.fixture(scope="module")
def data():
    return samples()


def test_up_to_holds_any_amount_back(data):
    for amount in (ap.amounts.Fraction(0.9), ap.amounts.Number(200), ap.amounts.Threshold(9.0)):
        model = network()
        ap.prune(model, ap.amounts.UpTo(amount, 0.25), verbose=0)
        assert sum(alive(model)) == 216


def test_prune_takes_an_amount_of_what_is_alive(data):
    model = network()
    ap.prune(model, 0.5)
    report = ap.prune(model, ap.amounts.Fraction(0.5))
    assert report.sparsity == 0.75
    ap.prune(model, ap.amounts.Number(2))
    assert sum(alive(model)) == 70
    assert "target" not in str(ap.prune(model, ap.amounts.Bucket(0.1)))
    economical = ap.surgeons.LayerwiseOBS(damping=0.1, recalculate_every=10)
    with pytest.raises(ValueError, match="recalculate_every"):
        ap.prune(model, ap.amounts.Bucket(0.1), economical, data=data[0], verbose=0)
