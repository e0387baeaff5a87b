"""Which channel of which tensor is whose, through the whole graph of a model.

- walk.py: walks the graph once, with `Channels` in the place of tensors; flow.py: what it finds.
- rules.py: what the rule for a layer is. They stand by kinds of layers, much as Keras names these:
  activations, attention, convolutional, dense, merging, normalization, pooling, products,
  recurrent, reshaping; mixing.py is what those of layers with a kernel share, probing.py tries
  what nobody has written a rule for.
- coupling.py: which units can only go together, and what must go with them.
"""

from activation_pruning.graph.channels import (
    activations,
    attention,
    convolutional,
    dense,
    merging,
    normalization,
    pooling,
    products,
    recurrent,
    reshaping,
)
from activation_pruning.graph.channels.coupling import Coupling, units_of
from activation_pruning.graph.channels.flow import Channels, Flow, Size, Use, spread
from activation_pruning.graph.channels.rules import Call, NotFollowed, known, rule
from activation_pruning.graph.channels.walk import follow, pin_ties
from activation_pruning.graph.reasons import Why

__all__ = [
    "Call", "Channels", "Coupling", "Flow", "NotFollowed", "Size", "Use", "Why", "activations",
    "attention", "convolutional", "dense", "follow", "known", "merging", "normalization",
    "pin_ties", "pooling", "products", "recurrent", "reshaping", "rule", "spread", "units_of",
]  # fmt: skip
