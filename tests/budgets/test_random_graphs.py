"""Budgets of random graphs, fresh ones and ones with dead units: met, or refused with the floor."""

import keras
import numpy as np
import pytest
from compacted import assert_same
from pruned_graphs import image_graph, killed, randomised

import activation_pruning as ap

MANY = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(12, 60)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dead", [0.0, 0.3])
@pytest.mark.parametrize("seed", [*range(12), *MANY])
def test_a_budget_is_met_or_refused(seed, dead):
    generator = np.random.default_rng(seed)
    model = randomised(image_graph(seed), seed)
    if dead:
        killed(model, dead, seed)
    kind = [ap.budgets.Parameters, ap.budgets.MultiplyAdds][seed % 2]
    before = [keras.ops.convert_to_numpy(v).copy() for v in model.variables]
    report, refused = None, ""
    try:
        report = ap.prune(model, kind(generator.uniform(0.2, 0.9)), granularity="unit", verbose=0)
    except ValueError as error:
        refused = str(error)
    if report is None:
        assert "stay whatever is pruned" in refused
        for old, new in zip(before, model.variables, strict=True):
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(new), old)
        return
    small = ap.compact(model)
    costs = {
        ap.budgets.Parameters: small.count_params(),
        ap.budgets.MultiplyAdds: ap.analysis.cost(small).total["multiply_adds"],
    }
    assert costs[kind] == report.spending.measured <= report.spending.asked
    x = generator.normal(size=(2, 9, 9, 3)).astype("float32")
    assert_same(model, small, x, 1e-4)
