"""Which channel of which tensor is whose, through the whole graph of a model."""

from activation_pruning.graph.channels import channelwise, merging, products, sequences, shaping
from activation_pruning.graph.channels.coupling import Coupling, units_of
from activation_pruning.graph.channels.flow import Channels, Flow, Size, Use
from activation_pruning.graph.channels.walk import NotFollowed, follow, rule

__all__ = [
    "Channels",
    "Coupling",
    "Flow",
    "NotFollowed",
    "Size",
    "Use",
    "channelwise",
    "follow",
    "merging",
    "products",
    "rule",
    "sequences",
    "shaping",
    "units_of",
]
