"""What was pruned last is known of kernels of any size."""

import keras
import numpy as np
import pytest

import activation_pruning as ap
from activation_pruning.hooks.remembered import pruned_before_training, pruned_last


@pytest.mark.parametrize("units", [1, 3, 8])
def test_which_weights_were_pruned_last(units):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    kernel = model.layers[0].kernel
    assert pruned_last(kernel) is None
    ap.prune(model, 0.5, exclude=())
    zeros = model.get_weights()[0] == 0
    np.testing.assert_array_equal(pruned_last(kernel), zeros)
    assert pruned_before_training(model, kernel) is None
    model.compile("sgd", "mse")
    model.fit(np.ones((2, 3)), np.ones((2, units)), verbose=0)
    np.testing.assert_array_equal(pruned_before_training(model, kernel), zeros)
