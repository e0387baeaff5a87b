"""Keeps pruned units silent: what is added to them is zero, and stays so while a model trains."""

import functools
from collections.abc import Collection
from typing import Any

import keras

from activation_pruning import keras_private, sites
from activation_pruning.graph.channels.coupling import Coupling, Offset
from activation_pruning.hooks.attachment import attachment
from activation_pruning.hooks.masking import Maskable, assign_mask
from activation_pruning.sites import LiveSite
from activation_pruning.support.types import Mask, Masks


def silence(coupling: Coupling, alive: Masks) -> list[tuple[Offset, Mask]]:
    """Set to zero what is still added to units that are pruned as a whole.

    Their biases, and beta and gamma of a BatchNormalization behind them, or its moving mean where
    it has no gamma: a unit without weights is then zero for all inputs (but for an activation with
    f(0) other than zero), and `compact` can take it out exactly. Returns all that is added to
    units, [(offset, bool array)], False where it is zero now.
    """
    pairs = coupling.silenced(alive)
    for offset, mask in pairs:
        if not mask.all():
            assign_mask(offset, mask)
    return pairs


class Silencer:
    """Beside a callback that masks its own kernels, the owner of the masks of everything else.

    These are biases, betas and gammas of dead units, and kernels of layers that the callback, a
    `KeepPruned`, leaves alone but a surgeon has changed. Nothing is done, and the graph of the
    model is not looked at, before a whole unit is dead.
    """

    def __init__(self, callback: Any):
        self._callback = callback
        self._held: dict[str, tuple[Maskable, Mask]] = {}

    @property
    def abandoned(self) -> bool:
        """As of the callback, see `AttachedCallback`."""
        return self._callback.abandoned

    @functools.cached_property
    def coupling(self) -> Coupling:
        """The `Coupling` of the model."""
        return Coupling(self._callback.model)

    def keep(self, live_sites: list[LiveSite], alive: Masks, everything: bool = False) -> None:
        """Keep at zero what belongs to dead units and is zero already, or `everything` of theirs.

        `everything` makes zeros of all their biases, betas and gammas now.
        """
        if not self._held and all(s.units_alive(alive[s.name]).all() for s in live_sites):
            return
        if everything:
            with keras_private.strategy_scope(self._callback.model):
                pairs = silence(self.coupling, alive)
        else:
            found = self.coupling.silenced(alive)
            pairs = [(o, m | (keras.ops.convert_to_numpy(o.variable) != 0)) for o, m in found]
        known = self._held  # what is alive again is let go
        self._hold({o.name: (o, m) for o, m in pairs if not m.all() or o.name in known})

    def hold(self, names: Collection[str]) -> None:
        """Keep the zeros of kernels that a surgeon changed and the callback does not mask."""
        if names:
            found = sites.find(self._callback.model, exclude=()).sites
            self._hold({s.name: (s, s.kernel() != 0) for s in found if s.name in names})

    def restore(self) -> None:
        """Zero again what has come back: restored or averaged weights."""
        read = keras.ops.convert_to_numpy
        if any(read(held.variable)[~mask].any() for held, mask in self._held.values()):
            self._write()

    def _write(self):
        masks = {name: mask for name, (_, mask) in self._held.items()}
        attachment(self._callback.trainer).set_masks(self, self._masked(), masks)

    def _hold(self, found):
        new = found.keys() - self._held.keys()
        self._held.update(found)
        if new:
            attachment(self._callback.trainer).mask(self, self._masked())
        if found:
            self._write()

    def _masked(self):
        return [held for held, _ in self._held.values()]
