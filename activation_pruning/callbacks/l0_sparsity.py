"""The callback that tells how many weights the gates of `L0Layer`s have closed."""

from activation_pruning.callbacks.learned_sparsity import LearnedSparsity
from activation_pruning.layers import L0Layer


class L0Sparsity(LearnedSparsity):
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

    name, wrapper, _example = "l0_sparsity", L0Layer, "L0Layer"
