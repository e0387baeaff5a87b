"""Strategies: loops around training that prune, retrain, and prune again.

`iterative` and `search` hold one strategy each, `trial` what a step of either is made of, `record`
what iterative pruning did. `distillation` has a teacher train a model: `lesson` is the Distiller,
`soft_targets` what outputs say. To add one, write it in a file of its own, with `**pruning` for
what it hands on to `prune`, and list it here.
"""

from activation_pruning.strategies.distillation import distiller
from activation_pruning.strategies.iterative import Until, iterative_prune
from activation_pruning.strategies.search import find_sparsity

__all__ = ["Until", "distiller", "find_sparsity", "iterative_prune"]
