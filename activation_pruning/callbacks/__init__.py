"""Callbacks: what a user puts into `fit`. One class, one file.

What several share: base.py (attaching, hearing of events), agenda.py (the clock of a fit, and what
its schedule still wants), training_evidence.py (what criteria need, from training), regrowing.py
(weights that change places), other_callbacks.py (EarlyStopping and its like).
"""

from activation_pruning.callbacks.activation_counter import ActivationCounter
from activation_pruning.callbacks.event_log import EventLog
from activation_pruning.callbacks.keep_pruned import KeepPruned
from activation_pruning.callbacks.l0_sparsity import L0Sparsity
from activation_pruning.callbacks.learned_sparsity import LearnedSparsity
from activation_pruning.callbacks.mlflow_log import MLflowLog
from activation_pruning.callbacks.pruning_callback import PruningCallback
from activation_pruning.callbacks.rewind_learning_rate import RewindLearningRate
from activation_pruning.callbacks.shared_weights import SharedWeights
from activation_pruning.callbacks.spectrum_logger import SpectrumLogger
from activation_pruning.callbacks.tensorboard_log import TensorBoardLog

__all__ = [
    "ActivationCounter",
    "EventLog",
    "KeepPruned",
    "L0Sparsity",
    "LearnedSparsity",
    "MLflowLog",
    "PruningCallback",
    "RewindLearningRate",
    "SharedWeights",
    "SpectrumLogger",
    "TensorBoardLog",
]
