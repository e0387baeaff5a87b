"""Strategies: loops around training that prune, retrain, and prune again.

`iterative` and `search` hold one strategy each, `trial` what a step of either is made of; `until`
says where iterative pruning stops, `record` what it did. To add one, write it in a file of its own,
with `**pruning` for what it hands on to `prune`, and list it here.
"""

from activation_pruning.strategies.iterative import iterative_prune
from activation_pruning.strategies.search import find_sparsity
from activation_pruning.strategies.until import Until

__all__ = ["Until", "find_sparsity", "iterative_prune"]
