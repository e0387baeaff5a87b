"""A contract for copies: equal outputs or a refusal by name; the model is left as it was."""

import awkward
import keras
import numpy as np
import pytest

import activation_pruning as ap
from activation_pruning.graph import copies

pytestmark = pytest.mark.backend

WAYS = {
    "copy": copies.copy_model,
    "compact": ap.compact,
    "wrap": lambda model: ap.wrap(model, exclude=()),
    "strip": lambda model: ap.strip(ap.wrap(model, exclude=())),
    "low_rank": lambda model: ap.analysis.low_rank(model, {}, exclude=()),
    "factorize": lambda model: ap.analysis.factorize(model, {}, exclude=()),
}


def outputs(model, x):
    return [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(model(x, training=False))]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", awkward.MODELS, ids=lambda make: make.__name__)
def test_a_copy_is_equal_and_lives_alone(make, way):
    keras.utils.set_random_seed(0)
    model, x = make()
    before, wanted = model.get_weights(), outputs(model, x)
    copy = WAYS[way](model)
    assert len(copy.trainable_weights) == len(model.trainable_weights)  # ties are kept
    assert not {id(v) for v in copy.variables} & {id(v) for v in model.variables}
    if make is not awkward.stateful:  # calls move its states
        for found, expected in zip(outputs(copy, x), wanted, strict=True):
            np.testing.assert_array_equal(found, expected)
    if make is awkward.stateful and keras.backend.backend() == "torch":
        return  # Keras does not train these there
    if (make, way) == (awkward.reversible, "wrap"):
        return  # it trains once units are counted call by call
    copy.compile("sgd", "mse")
    copy.fit(x, np.zeros((5, *copy.output_shape[1:])), batch_size=5, verbose=0)
    assert any((a != b).any() for a, b in zip(copy.get_weights(), before, strict=False))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
