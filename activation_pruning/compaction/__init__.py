"""Compaction: pruned units really leave the model, and its outputs stay the same."""

from activation_pruning.compaction.rewriting import compact, removable

__all__ = ["compact", "removable"]
