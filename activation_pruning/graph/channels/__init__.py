"""Which channel of which tensor is whose, through the whole graph of a model.

- walk.py: walks the graph once, with `Channels` in the place of tensors; flow.py: what it finds.
- rules.py: what the rule for a layer is, and how users register one of their own. Those of Keras's
  layers stand by kinds, much as Keras names these: activations, attention, convolutional, dense,
  lengths (RMS norms and the like), merging, normalization, pooling, products, recurrent, reshaping;
  mixing.py is what those of layers with a kernel share. probing.py tries what nobody has written a
  rule for; vectors.py does so where a layer has an entry for each channel.
- coupling.py: which units can only go together, and what must go with them.
"""

from activation_pruning.graph.channels import (
    activations,
    attention,
    convolutional,
    dense,
    lengths,
    merging,
    normalization,
    pooling,
    products,
    recurrent,
    reshaping,
)
from activation_pruning.graph.channels.coupling import Coupling, units_of
from activation_pruning.graph.channels.flow import Channels, Flow, spread
from activation_pruning.graph.channels.mixing import mixed
from activation_pruning.graph.channels.rules import Call, NotFollowed, register
from activation_pruning.graph.channels.walk import follow, pin_ties

__all__ = [
    "Call", "Channels", "Coupling", "Flow", "NotFollowed", "activations", "attention",
    "convolutional", "dense", "follow", "lengths", "merging", "mixed", "normalization", "pin_ties",
    "pooling", "products", "recurrent", "register", "reshaping", "spread", "units_of",
]  # fmt: skip
