"""Compacted models against what they were made of."""

import keras
import numpy as np


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def assert_same(model, small, x, tolerance):
    """All outputs are equal, but for `tolerance` times the largest number among them."""
    pairs = [keras.tree.flatten(one(x, training=False)) for one in (model, small)]
    for before, after in zip(*pairs, strict=True):
        before, after = (keras.ops.convert_to_numpy(one) for one in (before, after))
        atol = tolerance * max(1, np.abs(before).max())
        np.testing.assert_allclose(after, before, rtol=0, atol=atol)
