"""What is inside a model: models and arrays in, tidy DataFrames out; nothing is changed.

sensitivity: what each layer can lose. activity: whether what fires leads.
spectra: singular values and norms. low_rank: kernels rebuilt (linalg). comparison: of both.
cost: multiply-adds, from calls (shapes), parts (layers and weights) and operations (by class).
sizes: bytes by encoding. latency, memory: measured; running: how, and checks of data.
"""

from activation_pruning.analysis.activity import activity_correlation, unit_shares
from activation_pruning.analysis.comparison import LowRankComparison, compare_low_rank
from activation_pruning.analysis.cost import Cost, cost
from activation_pruning.analysis.latency import LatencyComparison, latency, latency_compare
from activation_pruning.analysis.low_rank import factorize, low_rank
from activation_pruning.analysis.memory import peak_memory
from activation_pruning.analysis.sensitivity import sensitivity
from activation_pruning.analysis.sizes import sizes
from activation_pruning.analysis.sparse_kernels import sparse_kernels
from activation_pruning.analysis.spectra import compare, matrices, norms, spectra

__all__ = [
    "Cost",
    "LatencyComparison",
    "LowRankComparison",
    "activity_correlation",
    "compare",
    "compare_low_rank",
    "cost",
    "factorize",
    "latency",
    "latency_compare",
    "low_rank",
    "matrices",
    "norms",
    "peak_memory",
    "sensitivity",
    "sizes",
    "sparse_kernels",
    "spectra",
    "unit_shares",
]
