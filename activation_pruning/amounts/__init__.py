"""Amounts: how much one pruning event takes, where a fixed sparsity is not what is wanted.

All derive from `Amount`, in `base`. `by_count` holds those that follow from how many weights are
alive, `by_scores` those that look at the scores, `combined` those made of others; `bounds` says how
many items of each site go at a target. To add one, derive it from `Amount` or `ByScores` in one of
these files and list it here.
"""

from activation_pruning.amounts.base import Amount, Budget, ByScores, check, check_final, is_amount
from activation_pruning.amounts.by_count import Fraction, Number, get
from activation_pruning.amounts.by_scores import BelowMean, Bucket, Threshold
from activation_pruning.amounts.combined import InTurn, OneLayer, UpTo, resolved

__all__ = [
    "Amount",
    "BelowMean",
    "Bucket",
    "Budget",
    "ByScores",
    "Fraction",
    "InTurn",
    "Number",
    "OneLayer",
    "Threshold",
    "UpTo",
    "check",
    "check_final",
    "get",
    "is_amount",
    "resolved",
]
