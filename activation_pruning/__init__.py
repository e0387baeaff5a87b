"""Prune any Keras 3 model with one callback, and see what the pruning did."""

from activation_pruning import (
    allocations,
    analysis,
    criteria,
    masks,
    regrowth,
    regularizers,
    reports,
    schedules,
    sites,
)
from activation_pruning.activation_counter import ActivationCounter
from activation_pruning.attachment import detach
from activation_pruning.callbacks import PruningCallback
from activation_pruning.keep_pruned import KeepPruned
from activation_pruning.layers import PrunedLayer, strip, wrap
from activation_pruning.pruning import PruningReport, prune
from activation_pruning.spectrum_logger import SpectrumLogger

__version__ = "0.1.0"

__all__ = [
    "ActivationCounter",
    "KeepPruned",
    "PrunedLayer",
    "PruningCallback",
    "PruningReport",
    "SpectrumLogger",
    "allocations",
    "analysis",
    "criteria",
    "detach",
    "masks",
    "prune",
    "regrowth",
    "regularizers",
    "reports",
    "schedules",
    "sites",
    "strip",
    "wrap",
]
