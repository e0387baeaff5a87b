"""A callback that keeps the singular values of every kernel while a model trains."""

import warnings
from collections.abc import Iterable
from typing import Any

import pandas as pd

from activation_pruning.callbacks.base import AttachedCallback
from activation_pruning.evidence.spectrum import Spectrum
from activation_pruning.support.checks import check_count, is_integer
from activation_pruning.support.types import Layers, Table


class SpectrumLogger(AttachedCallback):
    """Keep the spectra at chosen epochs, and right before and after every pruning event.

    Only singular values are kept; weights that are not finite are left out with a warning. After
    a `PruningCallback` in the list, an epoch's spectra are those after an event at its end; before
    it in the list, those before the event.

    Args:
        epochs: n for every n-th epoch (counted from 1), or the numbers of the epochs; 0 is the
            state before training. `()` keeps the pruning events alone.
        include: layers to follow (names, patterns, layers); None takes all.
        exclude: layers to leave out besides the output layer and what is frozen; `()` leaves out
            nothing.

    Raises:
        ValueError: for a bad `epochs`; at the start of `fit`, for an unbuilt model or an unknown
            layer name.

    Example:
    >>> import keras, numpy as np, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> logger = ap.SpectrumLogger(epochs=[0, 2])
    >>> pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "magnitude")
    >>> _ = model.fit(np.ones((8, 4)), np.ones((8, 1)), epochs=2, verbose=0,
    ...               callbacks=[pruner, logger])
    >>> logger.norms()[["moment", "epoch", "event", "sparsity"]].values.tolist()
    [['epoch', 0, 0, 0.0], ['before', 1, 1, 0.0], ['after', 1, 1, 0.5], ['epoch', 2, 1, 0.5]]
    """

    def __init__(
        self, epochs: int | Iterable[int] = 1, include: Layers = None, exclude: Layers = None
    ) -> None:
        super().__init__(include, exclude)
        if isinstance(epochs, str):
            raise ValueError(
                f"epochs={epochs!r}; give a number n for every n-th epoch, 1 for all of them, or "
                "the numbers of the epochs, such as [0, 5, 10]"
            )
        self.epochs = tuple(epochs) if isinstance(epochs, Iterable) else epochs
        if isinstance(self.epochs, tuple):
            for epoch in self.epochs:
                check_count("epochs", epoch, 0)
        else:
            check_count("epochs", epochs, 1)
        self._kept: list[Any] = []
        self._event = 0

    def _attach(self, hooks):
        hooks.listen(self, self._around_event)

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self._kept, self._event = [], 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        # Not at the start of training: other callbacks may load weights there.
        if not self._kept and self._wanted(epoch):
            self._keep("epoch", epoch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._wanted(epoch + 1):
            self._keep("epoch", epoch + 1)

    def table(self) -> Table:
        """Tidy DataFrame: moment ("epoch", "before", "after"), epoch, event, and as `spectra`.

        `event` counts the events so far, of all callbacks that prune in this fit; `epoch` those
        that were over. Raises ValueError before there is anything.
        """
        return self._tables(lambda spectrum: spectrum.table())

    def norms(self) -> Table:
        """Tidy DataFrame: moment, epoch, event, and the columns of `analysis.norms`."""
        return self._tables(lambda spectrum: pd.DataFrame([spectrum.norms()]))

    def _tables(self, make):
        if not self._kept:
            raise ValueError("no spectra kept yet: pass this callback to model.fit first")
        names = ["moment", "epoch", "event"]
        placed = [
            pd.concat({place: make(spectrum)}, names=names).reset_index(names)
            for place, spectra in self._kept
            for spectrum in spectra
        ]
        return pd.concat(placed, ignore_index=True)

    def _wanted(self, epoch):
        if is_integer(self.epochs):
            return epoch % self.epochs == 0
        return epoch in self.epochs

    def _around_event(self, moment, epoch):
        self._event += moment == "before"
        self._keep(moment, epoch)

    def _keep(self, moment, epoch):
        self._hooks.sync()
        try:
            spectra = [Spectrum.of(site) for site in self._sites]
        except ValueError as error:  # a training that diverges is for others to end
            warnings.warn(f"no spectra {moment} epoch {epoch}: {error}", stacklevel=2)
            return
        self._kept.append(((moment, epoch, self._event), spectra))
