"""Strategies: loops around training that prune, retrain, and prune again."""

from activation_pruning.strategies.iterative import Until, iterative_prune
from activation_pruning.strategies.search import find_sparsity

__all__ = ["Until", "find_sparsity", "iterative_prune"]
