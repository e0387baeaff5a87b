"""Masks: which weights go, exactly as many as the target says, and what is removed as one."""

from activation_pruning.masks.granularities import NM, Block, Unit, Weight, granularity
from activation_pruning.masks.selection import EmptiedWarning, check_finite, granule, lowest, select

__all__ = [
    "NM",
    "Block",
    "EmptiedWarning",
    "Unit",
    "Weight",
    "check_finite",
    "granularity",
    "granule",
    "lowest",
    "select",
]
