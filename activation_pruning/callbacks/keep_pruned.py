"""The callback that keeps exact zeros what they are while a model trains on."""

import warnings
from typing import Any

import numpy as np

from activation_pruning import sites
from activation_pruning.callbacks.base import AttachedCallback, Last
from activation_pruning.hooks.silencing import Silencer
from activation_pruning.pruning import Event, report
from activation_pruning.support.counts import counted
from activation_pruning.support.names import shortened
from activation_pruning.support.types import Layers, Masks


class KeepPruned(AttachedCallback):
    """Keep exact zeros exact zeros while the model trains on (fine-tuning after `prune`).

    Of units that are pruned as a whole, biases, betas and gammas that are zeros stay so as well.
    The sparsity in `history` counts the layers that were to be pruned, as the report of `prune`
    does; of a model that was loaded those that `prune` takes by default.

    Args:
        include: layers to keep (names, patterns, layers); None takes all.
        exclude: layers to leave alone; the default `()` leaves out nothing.

    Raises:
        ValueError: at the start of `fit`, for an unbuilt model or an unknown layer name.

    Example:
    >>> import keras, numpy as np, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> report = ap.prune(model, 0.5)
    >>> _ = model.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0, callbacks=[ap.KeepPruned()])
    >>> int((model.layers[0].get_weights()[0] == 0).sum())
    10
    """

    revives = False  # whether weights that are pruned may come back

    def __init__(self, include: Layers = None, exclude: Layers = ()) -> None:
        super().__init__(include, exclude)
        self._masks: Any = None  # before the first epoch, as are the others
        self._silencer: Any = None
        self._count: Any = None
        self._said = False
        self._last = Last(epoch_end=self._settle, train_end=self._reapply)

    def _find(self, model):
        return sites.find_all(model, self.include, self.exclude)

    def _attach(self, hooks):
        hooks.mask(self, self._sites)
        self._masks, self._silencer, self._count = None, Silencer(self), None
        self._said = False

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self._last.join(self)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._masks is None:  # not earlier: BackupAndRestore loads weights as training begins
            self._take_masks(Event(self.model, self._sites))
        else:
            self._settle()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._settle()
        if logs is not None:  # a PruningCallback in the same fit has the say
            logs.setdefault("sparsity", self._measured())

    def on_train_end(self, logs: Any = None) -> None:
        self._reapply()
        super().on_train_end(logs)

    def masks(self) -> Masks:
        """{site name: bool array, True where a weight is alive}, as they are now or were at last.

        Raises ValueError before the callback has been in a `fit`.
        """
        if self._masks is None:
            raise ValueError("no masks yet: pass this callback to model.fit first")
        return {name: mask.copy() for name, mask in self._masks.items()}

    def _measured(self):
        """Sparsity of the sites that callbacks of this kind prune in this fit, of those counted."""
        grown = {}
        for owner in self._hooks.owners:
            if getattr(owner, "revives", False):
                grown |= owner.masks()
        live_sites = report.those_counted(self.model, self._hooks.masked(type(self)))
        return report.total_sparsity(report.measure(live_sites, grown))

    def _take_masks(self, event):
        """Prune what is zero in the weights of an event."""
        self._hooks.sync()
        found = event.masks
        self._write(found, event.values)

    def _release(self):
        super()._release()
        self._hooks.release(self._silencer)

    def _write(self, masks, values=None, everything=False):
        """Put masks in force; `values`: {site name: what its variable holds}, as far as known."""
        self._masks, self._count = masks, counted(masks.values())
        self._hooks.set_masks(self, self._sites, masks, values)
        if not self.revives:  # where units may come back they stay complete
            self._silencer.keep(self._sites, masks, everything)

    def _settle(self):
        """Weights and masks agree again, whoever wrote.

        Another callback may have set weights (masked ones become zeros), or called `prune`. After
        the fit, when the hooks are gone, it is about the weights only.
        """
        if self._masks is None:
            return
        self._hooks.sync()
        event = Event(self.model, self._sites)
        if all(np.array_equal(mask, self._masks[name]) for name, mask in event.masks.items()):
            self._silencer.restore()  # nobody wrote: by far the most frequent case
            return
        back = {
            seen.name: count
            for seen in event.snapshots
            if (count := int(np.count_nonzero(seen.kernel[~self._masks[seen.name]])))
        }
        self._say(back)
        wanted = self._wanted(event.masks) if self._fitting else self._masks
        if any((mask != self._masks[name]).any() for name, mask in wanted.items()):
            self._write(wanted, event.values)
        elif back:
            self._hooks.set_masks(self, self._sites, self._masks, event.values)
        self._silencer.restore()

    _reapply = _settle  # what is done as the fit ends

    def _wanted(self, found):
        """The masks to hold, where weights are not zero as `found`."""
        return {name: mask & found[name] for name, mask in self._masks.items()}

    def _say(self, back):
        if back and not self._said:
            self._said = True
            told = shortened(f"{name}: {count}" for name, count in back.items())
            warnings.warn(
                f"weights under the masks are no longer zeros ({told}): they were restored or "
                "averaged from before the last pruning event, written past the optimizer, or "
                "training diverged to NaN; the masks were applied to them again, as they will be "
                "at the end of every epoch of this fit",
                stacklevel=3,
            )
