"""Pictures of a pruning: each function takes tidy tables and returns a matplotlib Figure.

All raise a ValueError that says what is missing: rows, a column, a pruning event, a second axis of
an array. Arms and layers differ by line, marker and lightness as well as by hue, so that a grey
print is readable. No window opens and nothing is left in pyplot's memory.
"""

from activation_pruning.reports.figures.accuracy import accuracy_against_sparsity, training_curves
from activation_pruning.reports.figures.heatmaps import kernel_heatmap, mask_heatmap
from activation_pruning.reports.figures.layers import (
    activation_frequency,
    sensitivity_curves,
    sparsity_by_layer,
)
from activation_pruning.reports.figures.means import low_rank_accuracy, mean_curves, mean_dots
from activation_pruning.reports.figures.rank_diagram import ranking
from activation_pruning.reports.figures.spectra import rank_by_event, scree, singular_values
from activation_pruning.reports.figures.style import save
from activation_pruning.reports.statistics.confidence import intervals

__all__ = [
    "accuracy_against_sparsity", "activation_frequency", "intervals", "kernel_heatmap",
    "low_rank_accuracy", "mask_heatmap", "mean_curves", "mean_dots", "rank_by_event", "ranking",
    "save", "scree", "sensitivity_curves", "singular_values", "sparsity_by_layer",
    "training_curves",
]  # fmt: skip
