"""Arguments of the wrong kind are refused by name: truth values, huge integers, flags in words."""

import keras
import models
import numpy as np
import pandas as pd
import pytest

import activation_pruning as ap

HUGE = 10**400  # no float can hold it
X, Y = models.data()


def compared(**more):
    model = models.compiled(models.mlp())
    twin = models.compiled(models.mlp())
    more = {"train": (X, Y), "validation": (X, Y), "epochs": 1, "verbose": 0} | more
    return ap.analysis.compare_low_rank(model, twin, X, Y, **more)


def sensitivity(**more):
    model = models.compiled(models.mlp())
    return ap.analysis.sensitivity(model, X, Y, verbose=0, **more)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ap.prune(models.mlp(), HUGE), ValueError, "sparsity must be in"),
        (lambda: ap.prune(models.mlp(), [False, 0.5]), ValueError, r"sparsity=\[False, 0.5\]"),
        (lambda: ap.n2ps(models.mlp(), X, threshold=True), ValueError, "threshold=True"),
        (lambda: ap.n2ps(models.mlp(), X, threshold=HUGE), ValueError, "threshold=1000"),
        (lambda: ap.n2ps(models.mlp(), X, steps=HUGE), ValueError, "steps=1000"),
        (lambda: ap.amounts.Bucket(HUGE), ValueError, "saliency=1000"),
        (lambda: ap.amounts.check(HUGE), ValueError, "amount=1000"),
        (lambda: ap.regularizers.NuclearNorm(start_when=True), ValueError, "start_when=True"),
        (lambda: ap.analysis.cost(models.mlp(), (True,)), TypeError, r"input_shape=\(True,\)"),
        (lambda: compared(learning_rates=True), ValueError, "learning_rates holds True"),
        (lambda: compared(seed="one"), ValueError, "seed='one'"),
        (lambda: compared(batch_size=True), ValueError, "batch_size=True"),
        (lambda: sensitivity(batch_size=0), ValueError, "batch_size=0"),
        (lambda: sensitivity(batch_size="all"), ValueError, "batch_size='all'"),
        (lambda: ap.analysis.latency(np.sum, X, True), ValueError, "batch_sizes=True"),
        (lambda: ap.analysis.latency(np.sum, X, 2.5), ValueError, "batch_sizes=2.5"),
        (lambda: ap.analysis.latency(np.sum, X, memory="no"), TypeError, "memory='no'"),
        (
            lambda: ap.analysis.low_rank(models.mlp(), rank=2, standardize="no"),
            TypeError,
            "standardize='no'",
        ),
        (lambda: ap.export(models.mlp(), "a.tflite", sparse="no"), TypeError, "sparse='no'"),
        (
            lambda: ap.PrunedLayer(keras.layers.Dense(2), threshold="high"),
            ValueError,
            "threshold='high'",
        ),
        (
            lambda: ap.reports.write("report", pd.DataFrame({"layer": ["a"], "site": ["a/k"]})),
            ValueError,
            "column 'weights' is unknown",
        ),
    ],
)
def test_what_is_asked_for_wrongly(call, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message) as caught:
        call()
    assert len(str(caught.value)) < 300


def test_more_steps_than_anyone_can_count_read_all_there_is():
    once, always = models.mlp(), models.mlp()
    always.set_weights(once.get_weights())
    ap.prune(once, 0.5, "wanda", data=[(X, Y)])
    ap.prune(always, 0.5, "wanda", data=[(X, Y)], steps=HUGE)
    for expected, found in zip(once.get_weights(), always.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
