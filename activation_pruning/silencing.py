"""Keeps pruned units silent while a model trains: what is added to them stays zero."""

import functools

import keras
import numpy as np

from activation_pruning import attachment
from activation_pruning.channels import Coupling


class Silencer:
    """Beside a callback that masks kernels, the owner of masks of biases, betas and gammas.

    Nothing is done, and the graph of the model is not looked at, before a whole unit is dead.

    Args:
        callback: the `KeepPruned` that it works for.
    """

    def __init__(self, callback):
        self._callback, self._masks = callback, None

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
        if not any(_dead_units(site, alive[site.name]) for site in live_sites):
            return
        pairs = self.coupling.silenced(alive)
        if not everything:
            pairs = [(o, mask | (keras.ops.convert_to_numpy(o.variable) != 0)) for o, mask in pairs]
        if all(mask.all() for _, mask in pairs):
            return
        hooks = attachment.attachment(self._callback.model)
        if self._masks is None:
            hooks.mask(self, self.coupling.offsets)
        self._masks = {offset.name: mask for offset, mask in pairs}
        self.write()

    def write(self):
        """Zero again what has come back: restored or averaged weights."""
        if self._masks is not None:
            hooks = attachment.attachment(self._callback.model)
            hooks.set_masks(self, self.coupling.offsets, self._masks)


def _dead_units(site, mask):
    constant = tuple(axis for axis, size in enumerate(site.units.shape) if size == 1)
    return not np.all(mask.any(axis=constant))
