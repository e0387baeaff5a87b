"""Prune any Keras 3 model with one callback, and see what the pruning did."""

from activation_pruning import (
    allocations,
    amounts,
    analysis,
    budgets,
    criteria,
    masks,
    regrowth,
    regularizers,
    reports,
    schedules,
    sites,
    surgeons,
)
from activation_pruning.callbacks import (
    ActivationCounter,
    EventLog,
    KeepPruned,
    L0Sparsity,
    LearnedSparsity,
    MLflowLog,
    PruningCallback,
    RewindLearningRate,
    SharedWeights,
    SpectrumLogger,
    TensorBoardLog,
)
from activation_pruning.compaction import compact, removable
from activation_pruning.compression import compress, load_compressed
from activation_pruning.exchange import export, from_tfmot, load_exported
from activation_pruning.graph import channels
from activation_pruning.graph.inlining import inline
from activation_pruning.hooks.attachment import detach
from activation_pruning.layers import (
    L0Layer,
    PowerpropagationLayer,
    PrunedLayer,
    SoftThresholdLayer,
    StraightThroughLayer,
    strip,
    wrap,
)
from activation_pruning.pruning import PruningReport, n2ps, prune, recalibrate_batchnorm, scores
from activation_pruning.quantization import QuantizationReport, fake_quantize, quantize
from activation_pruning.schedules import retraining
from activation_pruning.strategies import Until, distiller, find_sparsity, iterative_prune

__version__ = "0.1.0"

__all__ = [
    "ActivationCounter",
    "EventLog",
    "KeepPruned",
    "L0Layer",
    "L0Sparsity",
    "LearnedSparsity",
    "MLflowLog",
    "PowerpropagationLayer",
    "PrunedLayer",
    "PruningCallback",
    "PruningReport",
    "QuantizationReport",
    "RewindLearningRate",
    "SharedWeights",
    "SoftThresholdLayer",
    "SpectrumLogger",
    "StraightThroughLayer",
    "TensorBoardLog",
    "Until",
    "allocations",
    "amounts",
    "analysis",
    "budgets",
    "channels",
    "compact",
    "compress",
    "criteria",
    "detach",
    "distiller",
    "export",
    "fake_quantize",
    "find_sparsity",
    "from_tfmot",
    "inline",
    "iterative_prune",
    "load_compressed",
    "load_exported",
    "masks",
    "n2ps",
    "prune",
    "quantize",
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
