"""What is inside a model: models and arrays in, tidy DataFrames out; nothing is changed."""

from activation_pruning.analysis.activity import activity_correlation, unit_shares
from activation_pruning.analysis.comparison import LowRankComparison, compare_low_rank
from activation_pruning.analysis.low_rank import factorize, low_rank
from activation_pruning.analysis.sensitivity import sensitivity
from activation_pruning.analysis.spectra import compare, matrices, norms, spectra

__all__ = [
    "LowRankComparison",
    "activity_correlation",
    "compare",
    "compare_low_rank",
    "factorize",
    "low_rank",
    "matrices",
    "norms",
    "sensitivity",
    "spectra",
    "unit_shares",
]
