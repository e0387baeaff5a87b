"""Prune any Keras 3 model with one callback, and see what the pruning did."""

from activation_pruning import (
    allocations,
    amounts,
    analysis,
    criteria,
    masks,
    regrowth,
    regularizers,
    reports,
    retraining,
    schedules,
    sites,
    surgeons,
)
from activation_pruning.activation_counter import ActivationCounter
from activation_pruning.attachment import detach
from activation_pruning.batchnorm import recalibrate_batchnorm
from activation_pruning.callbacks import PruningCallback
from activation_pruning.compaction import compact, removable
from activation_pruning.compression import SharedWeights, compress, load_compressed
from activation_pruning.event_log import EventLog
from activation_pruning.exporting import export
from activation_pruning.keep_pruned import KeepPruned
from activation_pruning.l0 import L0Layer
from activation_pruning.layers import PrunedLayer, strip, wrap
from activation_pruning.legacy import from_tfmot
from activation_pruning.measuring import PruningReport
from activation_pruning.mlflow_log import MLflowLog
from activation_pruning.n2ps import n2ps
from activation_pruning.pruning import prune, scores
from activation_pruning.runners import load_exported
from activation_pruning.sparsity_search import find_sparsity
from activation_pruning.spectrum_logger import SpectrumLogger
from activation_pruning.strategies import Until, iterative_prune
from activation_pruning.tensorboard_log import TensorBoardLog

__version__ = "0.1.0"

__all__ = [
    "ActivationCounter",
    "EventLog",
    "KeepPruned",
    "L0Layer",
    "MLflowLog",
    "PrunedLayer",
    "PruningCallback",
    "PruningReport",
    "SharedWeights",
    "SpectrumLogger",
    "TensorBoardLog",
    "Until",
    "allocations",
    "amounts",
    "analysis",
    "compact",
    "compress",
    "criteria",
    "detach",
    "export",
    "find_sparsity",
    "from_tfmot",
    "iterative_prune",
    "load_compressed",
    "load_exported",
    "masks",
    "n2ps",
    "prune",
    "recalibrate_batchnorm",
    "regrowth",
    "regularizers",
    "removable",
    "reports",
    "retraining",
    "schedules",
    "scores",
    "sites",
    "strip",
    "surgeons",
    "wrap",
]
