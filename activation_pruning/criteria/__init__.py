"""Criteria: pure functions `site -> scores`. Low scores are pruned first.

A criterion returns a float array of `site.kernel.shape`. What it needs beyond kernel and mask it
declares in `@criterion(needs=...)`; the caller gathers just that, and a ValueError says so where
it was not gathered. `by_weight`, `by_activity` and `by_loss` hold them by what they look at, `base`
what they are made with. To add one, decorate a function in one of these files and list it here; any
callable with the same signature is accepted where a name is.
"""

from activation_pruning.criteria.base import CRITERIA, criterion, get, needed, unit_sums
from activation_pruning.criteria.by_activity import (
    activation,
    activation_magnitude,
    inactivity,
    mean_activation,
    n2ps,
    wanda,
)
from activation_pruning.criteria.by_loss import (
    ExactOBD,
    grasp,
    movement,
    obd,
    obd_exact,
    obd_hutchinson,
    snip,
    synflow,
    taylor,
    taylor_activation,
)
from activation_pruning.criteria.by_weight import magnitude, random, unit_norm

__all__ = [
    "CRITERIA",
    "ExactOBD",
    "activation",
    "activation_magnitude",
    "criterion",
    "get",
    "grasp",
    "inactivity",
    "magnitude",
    "mean_activation",
    "movement",
    "n2ps",
    "needed",
    "obd",
    "obd_exact",
    "obd_hutchinson",
    "random",
    "snip",
    "synflow",
    "taylor",
    "taylor_activation",
    "unit_norm",
    "unit_sums",
    "wanda",
]
