"""Which of several methods is better: paired differences, and ranks; tables in, tables out.

The runs of two methods are paired by what they share, the seed above all. Each difference has its
mean, interval, effect size and test; then all of a table are judged together, by Holm.
"""

from activation_pruning.reports.statistics.confidence import (
    bootstrap_t,
    intervals,
    summary,
    t_interval,
)
from activation_pruning.reports.statistics.differences import (
    columns,
    corrected,
    differences,
    holm,
    one_kind,
)
from activation_pruning.reports.statistics.mean_ranks import ranks
from activation_pruning.reports.statistics.verdicts import (
    ALIKE,
    FEW,
    HIGHER,
    LOWER,
    of_shares,
    verdicts,
)

__all__ = [
    "ALIKE", "FEW", "HIGHER", "LOWER", "bootstrap_t", "columns", "corrected", "differences",
    "holm", "intervals", "of_shares", "one_kind", "ranks", "summary", "t_interval", "verdicts",
]  # fmt: skip
