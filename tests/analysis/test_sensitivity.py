"""Sensitivity against pruning by hand."""

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap

QUIET = {"verbose": 0}


def ready():
    keras.utils.set_random_seed(0)
    return models.compiled(models.mlp()), *models.data(samples=40)


@pytest.mark.parametrize("criterion", ["magnitude", "activation_magnitude", "random"])
def test_each_point_is_what_pruning_that_layer_gives(criterion):
    model, x, y = ready()
    dense = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    table = ap.analysis.sensitivity(
        model, x, y, [criterion], [0.0, 0.5, 0.9], metric="loss", **QUIET
    )
    assert table[["layer", "sparsity"]].to_numpy().tolist() == [
        [layer, pytest.approx(sparsity, abs=0.02)] for layer in "ab" for sparsity in (0, 0.5, 0.9)
    ]
    for row in table.itertuples():
        other, _, _ = ready()
        ap.prune(other, row.sparsity, criterion, data=x, include=row.layer)
        loss = other.evaluate(x, y, verbose=0, return_dict=True)["loss"]
        assert row.value == pytest.approx(loss, rel=1e-5)
        assert row.change == pytest.approx(loss - dense, abs=1e-5)


def test_weights_are_as_before_to_the_last_bit():
    model, x, y = ready()
    ap.prune(model, 0.3)
    before = [w.tobytes() for w in model.get_weights()]
    ap.analysis.sensitivity(model, x, y, ["magnitude", "activation"], [0.5, 0.9], **QUIET)
    assert [w.tobytes() for w in model.get_weights()] == before
    assert "_activation_pruning" not in vars(model)


def test_weights_come_back_when_evaluation_fails():
    model, x, y = ready()
    before = [w.tobytes() for w in model.get_weights()]
    calls = []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("no more")
        return {"accuracy": 0.5}

    model.evaluate = failing
    with pytest.raises(RuntimeError, match="no more"):
        ap.analysis.sensitivity(model, x, y, **QUIET)
    assert [w.tobytes() for w in model.get_weights()] == before


def test_wrapped_layers_keep_their_masks():
    model, x, y = ready()
    ap.prune(model, 0.5)
    wrapped = ap.wrap(model)
    before = [w.tobytes() for w in wrapped.get_weights()]
    table = ap.analysis.sensitivity(wrapped, x, y, sparsities=[0.8], **QUIET)
    assert len(table) == 2
    assert [w.tobytes() for w in wrapped.get_weights()] == before


def test_criteria_of_users_own():
    model, x, y = ready()

    def largest_first(site):
        return -np.abs(site.kernel)

    table = ap.analysis.sensitivity(model, x, y, [largest_first], [0.5], **QUIET)
    assert table["criterion"].unique().tolist() == ["largest_first"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": np.zeros(7)}, r"x has \[40\] samples and y has \[7\] labels"),
        ({"sparsities": [1.0]}, "sparsities=1.0"),
        ({"criteria": ["magnitud"]}, "magnitude"),
        ({"metric": "auc"}, "metric='auc' is not among"),
        ({"x": np.zeros((0, 6)), "y": np.zeros(0)}, "x is empty"),
    ],
)
def test_bad_arguments(arguments, message):
    model, x, y = ready()
    with pytest.raises(ValueError, match=message):
        ap.analysis.sensitivity(model, **({"x": x, "y": y, **QUIET} | arguments))


def test_a_model_that_is_not_compiled():
    _, x, y = ready()
    with pytest.raises(ValueError, match="not compiled"):
        ap.analysis.sensitivity(models.mlp(), x, y, **QUIET)
