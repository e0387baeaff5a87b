"""Masks: which weights go, exactly as many as the target says, and what is removed as one.

`granularities` says what is removed as one, `multipliers` the same for FPGAs, `selection` which of
these go, `ties` which of equal ones; `coupled` ranks units that can only go together. To add a
granularity, derive it from `Granularity`, in `granularities`, and name it there.
"""

from activation_pruning.masks.granularities import NM, Block, Granularity, Unit, Weight, granularity
from activation_pruning.masks.multipliers import Multiplier
from activation_pruning.masks.selection import EmptiedWarning, check_finite, granule, select
from activation_pruning.masks.ties import lowest

__all__ = [
    "NM",
    "Block",
    "EmptiedWarning",
    "Granularity",
    "Multiplier",
    "Unit",
    "Weight",
    "check_finite",
    "granularity",
    "granule",
    "lowest",
    "select",
]
