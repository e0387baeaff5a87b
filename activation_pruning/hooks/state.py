"""What a layer of a live model holds of ours while hooks are on it."""

import keras


class State(keras.Layer):
    """Holds variables for a training step, but shows none to `get_weights` or a saved file.

    Example:
        >>> State(mask=keras.Variable([1.0], trainable=False)).weights
        []
    """

    def __init__(self, **variables: keras.Variable) -> None:
        super().__init__(name="activation_pruning_state", trainable=False)
        for name, variable in variables.items():
            setattr(self, name, variable)
        self.built = True

    @property
    def weights(self) -> list[keras.Variable]:
        """None: seen by Keras as `variables` (so that JAX carries them) but not as `weights`.

        Callbacks that keep and restore weights must neither store nor roll back masks and counts.
        """
        return []
