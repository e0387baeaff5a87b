"""The neighbours in a `fit` that watch a metric: EarlyStopping, ModelCheckpoint and their like.

Their best value so far belongs to a denser network whenever weights have been pruned since, so
pruning has them start their comparison over.
"""

import gc

import keras


class Monitors:
    """The metric-watching callbacks in the same `fit` as `callback`, as their training begins."""

    def __init__(self, callback):
        self._first = [(neighbour, neighbour.best) for neighbour in _neighbours(callback)]

    def restart(self):
        """Forget every best value, the patience spent and the weights kept for restoring."""
        for neighbour, best in self._first:
            neighbour.best = best
            neighbour.wait = 0
            if hasattr(neighbour, "best_weights"):
                neighbour.best_weights = None


def _neighbours(callback):
    # Keras tells a callback nothing about its neighbours; the lists that hold `callback` do.
    lists = [owner for owner in gc.get_referrers(callback) if isinstance(owner, list)]
    found = {id(item): item for owner in lists for item in owner}
    return [
        item
        for item in found.values()
        if isinstance(item, keras.callbacks.Callback)
        and hasattr(item, "best")
        and item.model is callback.model
    ]
