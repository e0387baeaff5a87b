"""Every class of layers that can be pruned has a rule that says where its channels go."""

import keras
import numpy as np
import pytest

from activation_pruning.graph import channels
from activation_pruning.graph.known import RULES
from activation_pruning.sites import kernels, layer_classes

KERNELS = [
    *layer_classes.CONVOLUTIONS,
    *layer_classes.TRANSPOSED,
    *layer_classes.DEPTHWISE,
    *layer_classes.SEPARABLE,
    keras.layers.Dense,
]


@pytest.mark.parametrize("kind", KERNELS)
def test_prunable_layers_have_a_rule(kind):
    layer = kind(3) if kind is keras.layers.Dense else kind(2, 2)
    assert kernels.of(layer)
    assert kind in RULES


def test_a_call_wants_one_tensor_and_knows_its_channels():
    flow = channels.Flow()
    x = flow.fixed((None, 4, 5, 3), "test", axis=1)
    layer = keras.layers.MaxPooling2D(data_format="channels_first")
    call = channels.Call(flow, layer, [x], [(None, 4, 2, 1)])
    assert call.x is x
    assert call.along() is x
    assert call.along(-1).ids.shape == (3,)
    assert call.last(np.arange(1), np.zeros(1)).axis == 3
    with pytest.raises(channels.NotFollowed, match="several tensors"):
        _ = channels.Call(flow, layer, [x, x], [()]).x


def test_values_spread_along_one_axis():
    found = channels.spread(np.array([1, 2]), 1, (3, 2))
    assert found.tolist() == [[1, 2]] * 3
