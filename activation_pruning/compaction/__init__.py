"""Compaction: pruned units really leave the model, and its outputs stay the same.

rewriting: `compact` and `removable`, the smaller model. listing: the table, with the reasons.
removal: which channels can go.
How channels pass through a layer is a rule by class in `graph/channels`: dense.py,
convolutional.py (also of DepthwiseConv and SeparableConv), recurrent.py, attention.py, ...
"""

from activation_pruning.compaction.rewriting import compact, removable

__all__ = ["compact", "removable"]
