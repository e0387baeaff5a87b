"""Keeps pruned units silent while a model trains: what is added to them stays zero."""

import functools

import keras

from activation_pruning import sites
from activation_pruning.graph.channels import Coupling
from activation_pruning.hooks import attachment


class Silencer:
    """Beside a callback that masks its own kernels, the owner of the masks of everything else.

    These are biases, betas and gammas of dead units, and kernels of layers that the callback
    leaves alone but a surgeon has changed. Nothing is done, and the graph of the model is not
    looked at, before a whole unit is dead.

    Args:
        callback: the `KeepPruned` that it works for.
    """

    def __init__(self, callback):
        self._callback, self._held = callback, {}  # {name: (site or offset, mask)}

    @property
    def _fitting(self):
        return getattr(self._callback, "_fitting", False)

    @functools.cached_property
    def coupling(self):
        """The `Coupling` of the model."""
        return Coupling(self._callback.model)

    def keep(self, live_sites, alive, everything=False):
        """Keep at zero what belongs to dead units and is zero already, or `everything` of theirs.

        Args:
            live_sites: the sites of the callback.
            alive: {site name: bool array}.
            everything: whether biases, betas and gammas of dead units become zeros now.
        """
        if not self._held and all(s.units_alive(alive[s.name]).all() for s in live_sites):
            return
        pairs = self.coupling.silenced(alive)
        if not everything:
            pairs = [(o, mask | (keras.ops.convert_to_numpy(o.variable) != 0)) for o, mask in pairs]
        known = self._held  # what is alive again is let go
        self._hold({o.name: (o, m) for o, m in pairs if not m.all() or o.name in known})

    def hold(self, names):
        """Keep the zeros of kernels that a surgeon changed and the callback does not mask."""
        if names:
            found = sites.find(self._callback.model, exclude=()).sites
            self._hold({s.name: (s, s.kernel() != 0) for s in found if s.name in names})

    def write(self):
        """Zero again what has come back: restored or averaged weights."""
        if self._held:
            masks = {name: mask for name, (_, mask) in self._held.items()}
            masked = [site for site, _ in self._held.values()]
            attachment.attachment(self._callback.model).set_masks(self, masked, masks)

    def _hold(self, found):
        new = set(found) - set(self._held)
        self._held |= found
        if new:
            masked = [site for site, _ in self._held.values()]
            attachment.attachment(self._callback.model).mask(self, masked)
        if found:
            self.write()
