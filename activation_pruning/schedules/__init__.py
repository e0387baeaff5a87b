"""Schedules: when to prune, and to which sparsity."""

from activation_pruning.schedules.accuracy_triggered import AccuracyTriggered
from activation_pruning.schedules.by_amount import Every, Iterative
from activation_pruning.schedules.fixed import (
    SCHEDULES,
    Constant,
    Exponential,
    FromTfmot,
    Linear,
    OneShot,
    Polynomial,
    Progress,
    get,
)

__all__ = [
    "SCHEDULES",
    "AccuracyTriggered",
    "Constant",
    "Every",
    "Exponential",
    "FromTfmot",
    "Iterative",
    "Linear",
    "OneShot",
    "Polynomial",
    "Progress",
    "get",
]
