"""Which of several methods is better: paired differences, and ranks; tables in, tables out.

The runs of two methods are paired by what they share, the seed above all. Each difference has its
mean, interval, effect size and test; then all of a table are judged together, by Holm.
"""

from activation_pruning.reports.statistics.confidence import bootstrap_t, intervals, summary
from activation_pruning.reports.statistics.differences import ALIKE, FEW, columns, differences, holm
from activation_pruning.reports.statistics.mean_ranks import ranks

__all__ = [
    "ALIKE", "FEW", "bootstrap_t", "columns", "differences", "holm", "intervals", "ranks",
    "summary",
]  # fmt: skip
