"""What all callbacks of this package have in common."""

from typing import Any

import keras

from activation_pruning import sites
from activation_pruning.hooks.attachment import attachment
from activation_pruning.support.types import Layers, Model


class AttachedCallback(keras.callbacks.Callback):
    """Attaches when a `fit` takes the callback up and detaches when it ends.

    `set_model` comes before Keras builds the training step of this `fit`, which is when hooks
    must be in place; `evaluate` and `predict` pass through here too and leave nothing behind.
    """

    def __init__(self, include: Layers = None, exclude: Layers = None) -> None:
        super().__init__()
        self.include, self.exclude = include, exclude
        self._sites: list[sites.LiveSite] = []
        self._fitting = False

    def set_model(self, model: Model) -> None:
        if getattr(self, "_model", None) is not None:
            self._release()  # a `fit` that died left it
        super().set_model(model)
        self._fitting = False
        for owner in self._hooks.owners:
            if getattr(owner, "_fitting", False):
                self._hooks.release(owner)  # left by a `fit` that died, and not in this one
        self._sites = sites.find(model, self.include, self.exclude).sites
        self._check()
        self._attach(self._hooks)

    def on_train_begin(self, logs: Any = None) -> None:
        self._fitting = True

    def on_train_end(self, logs: Any = None) -> None:
        self._fitting = False
        self._release()

    def on_test_end(self, logs: Any = None) -> None:
        if not self._fitting:
            self._release()

    def on_predict_end(self, logs: Any = None) -> None:
        if not self._fitting:
            self._release()

    @property
    def _hooks(self):
        return attachment(self.model)

    def _release(self):
        self._hooks.release(self)

    def _check(self):
        """Raise for settings that cannot work with these sites, before training starts."""

    def _attach(self, hooks):
        """Ask the model's attachment for what this callback needs."""
