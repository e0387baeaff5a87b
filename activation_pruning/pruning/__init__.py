"""One pruning event: score, allocate, mask, compensate, assign, report.

event.py is the event that all share, settings.py what decides in it, report.py what is told of it.
one_shot.py: `prune` and `scores`; n2ps.py: the nodes of N2PS; batchnorm.py: its statistics anew.
"""

from activation_pruning.pruning.batchnorm import recalibrate_batchnorm
from activation_pruning.pruning.event import Event
from activation_pruning.pruning.n2ps import n2ps
from activation_pruning.pruning.one_shot import prune, scores
from activation_pruning.pruning.report import PruningReport
from activation_pruning.pruning.settings import Settings

__all__ = ["Event", "PruningReport", "Settings", "n2ps", "prune", "recalibrate_batchnorm", "scores"]
