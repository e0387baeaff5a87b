"""Budgets: what a pruned model may cost, in the place of a sparsity.

base.py is what all budgets share. counted.py: `MultiplyAdds`, `Parameters` and `FileBytes`, which
follow from the widths of the layers; milliseconds.py: `Milliseconds` and `Speedup`, by measurement.
order.py: which units go first, by score and by what they save; prediction.py: what they save;
trial.py: what the model costs once they are gone. To add a budget, derive it from `CostBudget`.
"""

from activation_pruning.budgets.base import CostBudget, Spending
from activation_pruning.budgets.counted import FileBytes, MultiplyAdds, Parameters
from activation_pruning.budgets.milliseconds import Milliseconds, Speedup, latency_table
from activation_pruning.budgets.prediction import Term, product

__all__ = [
    "CostBudget",
    "FileBytes",
    "Milliseconds",
    "MultiplyAdds",
    "Parameters",
    "Speedup",
    "Spending",
    "Term",
    "latency_table",
    "product",
]  # fmt: skip
