"""What is inside a model: models and arrays in, tidy DataFrames out; nothing is changed."""

from activation_pruning.analysis.low_rank import factorize, low_rank
from activation_pruning.analysis.spectra import compare, norms, spectra

__all__ = ["compare", "factorize", "low_rank", "norms", "spectra"]
