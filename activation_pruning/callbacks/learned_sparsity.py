"""The callback that tells how many weights layers that learn their zeros have made zero."""

from typing import Any

import keras

from activation_pruning import keras_private, sites
from activation_pruning.layers.kernel_wrapper import KernelWrapper
from activation_pruning.pruning import report
from activation_pruning.support.names import called


class LearnedSparsity(keras.callbacks.Callback):
    """Put `learned_sparsity` into the logs and the history of every epoch.

    learned_sparsity = weights of wrapped layers that are zero in inference / weights of wrapped
    layers, in [0, 1]: what `ap.strip` will leave out.

    Raises:
        ValueError: as `fit` begins, for a model without a built wrapper.

    Example:
    >>> import keras, numpy as np, activation_pruning as ap
    >>> layer = ap.SoftThresholdLayer(keras.layers.Dense(3))
    >>> model = keras.Sequential([keras.Input((4,)), layer])
    >>> model.compile("adam", "mse")
    >>> fit = model.fit(np.ones((8, 4)), np.ones((8, 3)), epochs=2, verbose=0,
    ...                 callbacks=[ap.LearnedSparsity()])
    >>> fit.history["learned_sparsity"]
    [0.0, 0.0]
    """

    name = "learned_sparsity"
    wrapper: type = KernelWrapper
    _example = "SoftThresholdLayer"

    def __repr__(self) -> str:
        return called(self)

    def on_train_begin(self, logs: Any = None) -> None:
        found = sites.find(sites.learner(self.model), exclude=()).sites
        self._sites = [site for site in found if isinstance(site.wrapper, self.wrapper)]
        if not self._sites:
            kind = "wrapper" if self.wrapper is KernelWrapper else self.wrapper.__name__
            raise ValueError(
                f"{self!r} finds no built {kind} in the model: build the model, and wrap it by "
                f"ap.wrap(model, wrapper=ap.{self._example}), or leave this callback out"
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            keras_private.sync(self.model)
            logs[self.name] = report.total_sparsity(report.measure(self._sites))
