"""Activity against spectrum, on kernels whose answer is known."""

import keras
import models
import numpy as np
import pandas as pd
import pytest
import scipy.stats

import activation_pruning as ap

L = keras.layers


def dense(kernel):
    model = keras.Sequential([keras.Input((kernel.shape[0],)), L.Dense(kernel.shape[1], name="a")])
    model.layers[0].set_weights([kernel, np.zeros(kernel.shape[1])])
    return model


def test_shares_by_the_definition():
    kernel = np.random.default_rng(0).normal(size=(9, 6)).astype("float32")
    table = ap.analysis.unit_shares(dense(kernel), 0.7, exclude=())
    _, values, v = np.linalg.svd(kernel.astype("float64"))
    k = table["components"].iloc[0]
    assert (values[:k] ** 2).sum() >= 0.7 * (values**2).sum() > (values[: k - 1] ** 2).sum()
    wanted = [(values[:k] ** 2 * v[:k, j] ** 2).sum() / (values[:k] ** 2).sum() for j in range(6)]
    np.testing.assert_allclose(table["share"], wanted, rtol=1e-5)


@pytest.mark.parametrize("make", [models.convolutional, models.recurrent, models.attention])
def test_shares_add_up_to_one_and_belong_to_the_units(make):
    model = make()
    table = ap.analysis.unit_shares(model, 1.0)
    np.testing.assert_allclose(table.groupby("site")["share"].sum(), 1.0)
    for site in ap.sites.find(model).sites:
        part = table[table["site"] == site.name]
        if len(part):
            # With all components the share is the unit's part of the squared weights.
            squares = np.broadcast_to(site.units, site.kernel().shape).ravel()
            wanted = np.bincount(squares, site.kernel().ravel() ** 2.0, site.n_units)
            np.testing.assert_allclose(part["share"], wanted / wanted.sum(), rtol=1e-4)


def test_correlation_is_scipys():
    kernel = np.random.default_rng(0).normal(size=(9, 6)).astype("float32")
    model, random = dense(kernel), np.random.default_rng(1)
    activity = pd.DataFrame({"layer": "a", "unit": range(6), "frequency": random.random(6)})
    row = ap.analysis.activity_correlation(model, activity, exclude=()).iloc[0]
    share = ap.analysis.unit_shares(model, exclude=())["share"]
    wanted = [*scipy.stats.pearsonr(activity["frequency"], share)]
    wanted += [*scipy.stats.spearmanr(activity["frequency"], share)]
    found = row[["pearson", "pearson_p", "spearman", "spearman_p"]].astype(float)
    np.testing.assert_allclose(found, wanted)


def test_it_takes_the_table_of_a_counter():
    model = models.compiled(models.mlp())
    counter = ap.ActivationCounter()
    x, y = models.data()
    model.fit(x, y, verbose=0, callbacks=[counter])
    table = ap.analysis.activity_correlation(model, counter.table())
    assert table[["layer", "units"]].to_numpy().tolist() == [["a", 8], ["b", 5]]


def test_correlations_that_are_not_defined_are_missing():
    activity = pd.DataFrame({"layer": "a", "unit": [0, 1, 2], "frequency": [0.5, 0.5, 0.5]})
    table = ap.analysis.activity_correlation(dense(np.eye(3)), activity, 1.0, exclude=())
    assert table["pearson"].isna().all()


def test_bad_arguments():
    with pytest.raises(ValueError, match="energy=0"):
        ap.analysis.unit_shares(dense(np.eye(3)), 0)
    with pytest.raises(ValueError, match=r"no column \['frequency'\]"):
        ap.analysis.activity_correlation(
            dense(np.eye(3)), pd.DataFrame({"layer": ["a"], "unit": [0]})
        )


def test_units_on_either_side_and_alone():
    model = keras.Sequential(
        [keras.Input((4,)), L.EinsumDense("ab,cb->ac", output_shape=4, name="a")]
    )
    kernel = model.layers[0].get_weights()[0]  # units x inputs
    u, values, _ = np.linalg.svd(kernel.astype("float64"))
    table = ap.analysis.unit_shares(model, 1.0, exclude=())
    np.testing.assert_allclose(table["share"], ((values * u) ** 2).sum(1) / (values**2).sum())
    layers = [keras.Input((9, 9, 3)), L.Conv2D(8, 3), L.Conv2D(1, 1, name="one"), L.Flatten()]
    table = ap.analysis.unit_shares(keras.Sequential([*layers, L.Dense(2)]))
    assert table.loc[table["layer"] == "one", "share"].tolist() == [pytest.approx(1.0)]


def test_tables_of_another_model_or_of_two_runs_are_refused():
    activity = pd.DataFrame({"layer": "b", "unit": range(3), "frequency": 0.5})
    with pytest.raises(ValueError, match=r"none of the layers \['a'\]"):
        ap.analysis.activity_correlation(dense(np.eye(3)), activity, exclude=())
    twice = pd.concat([activity, activity]).assign(layer="a")
    with pytest.raises(ValueError, match="several rows"):
        ap.analysis.activity_correlation(dense(np.eye(3)), twice, exclude=())
