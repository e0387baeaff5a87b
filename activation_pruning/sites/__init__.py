"""Sites: the only walker over a model, which finds its prunable kernels and their units."""

from activation_pruning.sites.kernels import Kernel, register
from activation_pruning.sites.walk import (
    Activity,
    Found,
    LiveSite,
    Site,
    check_model,
    find,
    is_graph,
    matching,
)

__all__ = [
    "Activity",
    "Found",
    "Kernel",
    "LiveSite",
    "Site",
    "check_model",
    "find",
    "is_graph",
    "matching",
    "register",
]
