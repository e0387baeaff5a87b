"""Models and other callables as functions of a batch, run to the end."""

import keras
import numpy as np


def runner(model):
    """The function that is timed: from a batch to its finished outputs.

    Args:
        model: a `keras.Model`, by its `predict_on_batch`, or any callable of a batch.

    Raises:
        TypeError: for what cannot be called.

    Example:

    >>> runner(np.sum)(np.ones(3)).item()
    3.0
    """
    if isinstance(model, keras.Model):
        return model.predict_on_batch
    if not callable(model):
        raise TypeError(
            f"{model!r} is neither a keras.Model nor a function of a batch; give "
            "lambda batch: ... around what runs it"
        )

    def run(batch):
        outputs = model(batch)
        for leaf in keras.tree.flatten(outputs):
            if hasattr(leaf, "block_until_ready"):  # JAX answers before it is done
                leaf.block_until_ready()
            elif keras.ops.is_tensor(leaf):
                keras.ops.convert_to_numpy(leaf)
        return outputs

    return run


def batch_of(x, size):
    """The first `size` samples; where there are fewer they are repeated.

    Args:
        x: an array, or a list, tuple or dict of arrays, samples first.
        size: how many.

    Raises:
        ValueError: for something else, or no samples.

    Example:

    >>> batch_of(np.arange(3), 5).tolist()
    [0, 1, 2, 0, 1]
    """
    leaves = keras.tree.flatten(x)
    if not leaves or not all(getattr(leaf, "shape", ()) for leaf in leaves):
        raise ValueError("x must be an array (or a list or dict of arrays) with samples first")
    samples = sorted({len(leaf) for leaf in leaves})
    if len(samples) > 1 or samples == [0]:
        raise ValueError(
            f"x has {samples} samples; give the same number, at least 1, of each input"
        )
    return keras.tree.map_structure(lambda a: np.asarray(a)[np.arange(size) % samples[0]], x)
