"""The callback that tells how many weights the gates of `L0Layer`s have closed."""

from typing import Any

import keras

from activation_pruning import keras_private, sites
from activation_pruning.layers import L0Layer
from activation_pruning.pruning import report


class L0Sparsity(keras.callbacks.Callback):
    """Put `l0_sparsity` into the logs and the history of every epoch.

    l0_sparsity = weights of `L0Layer`s that are zero in inference / weights of `L0Layer`s, in
    [0, 1]: what `ap.strip` will leave out.

    Raises:
        ValueError: as `fit` begins, for a model without a built `L0Layer`.

    Example:
    >>> import keras, numpy as np, activation_pruning as ap
    >>> model = keras.Sequential([keras.Input((4,)), ap.L0Layer(keras.layers.Dense(3))])
    >>> model.compile("adam", "mse")
    >>> fit = model.fit(np.ones((8, 4)), np.ones((8, 3)), epochs=2, verbose=0,
    ...                 callbacks=[ap.L0Sparsity()])
    >>> fit.history["l0_sparsity"]
    [0.0, 0.0]
    """

    def __repr__(self) -> str:
        return "L0Sparsity()"

    def on_train_begin(self, logs: Any = None) -> None:
        found = sites.find(self.model, exclude=()).sites
        self._sites = [site for site in found if isinstance(site.wrapper, L0Layer)]
        if not self._sites:
            raise ValueError(
                "L0Sparsity() finds no built L0Layer in the model: build the model, and wrap it "
                "by ap.wrap(model, wrapper=ap.L0Layer), or leave this callback out"
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            keras_private.sync(self.model)
            logs["l0_sparsity"] = report.total_sparsity(report.measure(self._sites))
