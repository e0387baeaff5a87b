"""Sites: the only walker over a model's layers, which finds its prunable kernels and their units.

- choice.py: the sites of a model that are meant, by name, pattern or layer, and by default.
- walk.py: finds all sites of a model, and says which weights are none.
- kernels.py: which weights of a layer class are prunable, and which axes number the units.
- foreign/: the same for layers of other packages.
- quantizers.py: whether zeros are still zeros where a layer quantises its kernel.
- active_outputs.py: which output says that a unit is active. padding.py: which steps of it count.
- site.py: a site as criteria see it, and as it is in a live model.
- unfolding.py: a kernel as a matrix. linear.py: a whole layer as a matrix product.
- models.py: kinds of models. layer_classes.py: kinds of layers.
"""

from activation_pruning.sites.active_outputs import Source
from activation_pruning.sites.choice import find, find_all, matching
from activation_pruning.sites.kernels import Kernel, register
from activation_pruning.sites.models import (
    batch_size,
    check_model,
    checked_batch_size,
    is_graph,
    learner,
    operations,
    parameters,
)  # fmt: skip
from activation_pruning.sites.site import Activity, Found, LiveSite, LiveSites, Site

__all__ = [
    "Activity", "Found", "Kernel", "LiveSite", "LiveSites", "Site", "Source", "batch_size",
    "check_model", "checked_batch_size", "find", "find_all", "is_graph", "learner", "matching",
    "operations", "parameters", "register",
]  # fmt: skip
