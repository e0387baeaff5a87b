"""compare_low_rank: what it compares, and that it touches nothing."""

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap


def pair(sparsity=0.7, **kwargs):
    keras.utils.set_random_seed(0)
    dense = models.compiled(models.mlp((12, 10)))
    pruned = keras.models.clone_model(dense)
    pruned.set_weights(dense.get_weights())
    ap.prune(pruned, sparsity, **kwargs)
    return dense, pruned


def bytes_of(*networks):
    return [w.tobytes() for network in networks for w in network.get_weights()]


def test_raw_numbers_are_those_of_evaluate():
    dense, pruned = pair(granularity="unit")
    x, y = models.data()
    before = bytes_of(dense, pruned)
    found = ap.analysis.compare_low_rank(dense, pruned, x, y)
    assert bytes_of(dense, pruned) == before
    accuracy = found.accuracy.set_index("model")
    assert accuracy["samples"].tolist() == [len(y)] * 4  # what a difference is judged by
    assert accuracy.index.tolist() == ["dense", "pruned", "low_rank", "factorized"]
    reduced = ap.analysis.low_rank(dense, like=pruned)
    for name, network in (("dense", dense), ("low_rank", reduced)):
        loss = network.evaluate(x, y, verbose=0, return_dict=True)["loss"]
        assert accuracy.loc[name, "loss"] == pytest.approx(loss, rel=1e-5)
    assert accuracy.loc["factorized", "loss"] == pytest.approx(
        accuracy.loc["low_rank", "loss"], rel=1e-4
    )
    assert (
        found.ranks["rank_pruned"].tolist()
        == ap.analysis.norms(pruned, exclude="out")["rank"].tolist()
    )
    assert found.ranks["rank_dense"].tolist() == [6, 10]
    assert found.ranks["rank_pruned"].iloc[1] < 10
    assert found.ranks["energy"].between(0, 1).all()


@pytest.mark.parametrize(("method", "components"), [("svd", 3), ("pca", 2)])
def test_as_many_weights_as_are_alive(method, components):
    keras.utils.set_random_seed(0)
    dense = keras.Sequential(
        [keras.Input((20,)), keras.layers.Dense(12, name="a"), keras.layers.Dense(10, name="b"),
         keras.layers.Dense(1, name="out")]
    )  # fmt: skip
    dense.compile("sgd", "mse")
    pruned = keras.models.clone_model(dense)
    pruned.set_weights(dense.get_weights())
    ap.prune(pruned, 0.5, include="a", criterion="random")  # 120 of 240 weights: 120 / 32 = 3.75
    x, y = np.ones((4, 20), "float32"), np.ones((4, 1), "float32")
    found = ap.analysis.compare_low_rank(dense, pruned, x, y, method=method, match="weights")
    assert found.ranks["rank_pruned"].tolist() == [12, 10]
    assert found.ranks["components"].tolist() == [components, 10]  # b is whole, and stays whole
    network = ap.analysis.low_rank(dense, rank={"a": components}, method=method)
    loss = network.evaluate(x, y, verbose=0)
    assert found.accuracy.set_index("model").loc["low_rank", "loss"] == pytest.approx(loss)
    weights = ap.analysis.factorize(dense, rank={"a": components}, method=method)
    assert sum(w.size for w in weights.layers[0].get_weights()[:2]) <= 120


def test_fine_tuning_keeps_what_each_network_is():
    dense, pruned = pair(0.7, granularity="unit")
    x, y = models.data()
    seen = {}
    fit = keras.Model.fit

    def spying(self, *args, **kwargs):
        history = fit(self, *args, **kwargs)
        seen[len(seen)] = self
        return history

    keras.Model.fit = spying
    try:
        found = ap.analysis.compare_low_rank(
            dense, pruned, x, y, train=(x, y), epochs=3, exclude=None
        )
    finally:
        keras.Model.fit = fit
    table = found.accuracy
    assert table["stage"].tolist() == ["raw", "fine_tuned"] * 4
    losses = table.set_index(["model", "stage"])["loss"]
    for name in ("dense", "pruned", "low_rank", "factorized"):
        assert losses[name, "fine_tuned"] < losses[name, "raw"]
    zeros = [np.sum(k == 0) for k in models.kernels(pruned, "a", "b")]
    assert [np.sum(k == 0) for k in models.kernels(seen[1], "a", "b")] == zeros
    assert table["learning_rate"].dropna().unique().tolist() == [0.1]


def test_each_network_takes_the_rate_that_suits_it_on_validation_data():
    dense, pruned = pair()
    x, y = models.data()
    arguments = {"train": (x, y), "epochs": 2, "validation": (x, y), "match": ("rank", "weights")}
    good, bad = 0.01, 1e6  # the bad one ends in NaN
    found = ap.analysis.compare_low_rank(
        dense, pruned, x, y, learning_rates=[bad, good], **arguments
    )
    alone = ap.analysis.compare_low_rank(dense, pruned, x, y, learning_rates=[good], **arguments)
    assert found.accuracy["learning_rate"].dropna().unique().tolist() == [good]
    np.testing.assert_allclose(found.accuracy["loss"], alone.accuracy["loss"], rtol=1e-5)
    places = found.accuracy.query("stage == 'raw'")[["model", "match"]].values.tolist()
    assert places == [
        ["dense", ""], ["pruned", ""], ["low_rank", "rank"], ["factorized", "rank"],
        ["low_rank", "weights"], ["factorized", "weights"],
    ]  # fmt: skip
    assert found.ranks["match"].tolist() == ["rank", "rank", "weights", "weights"]
    with pytest.raises(ValueError, match=r"several learning_rates need validation=\(x, y\)"):
        ap.analysis.compare_low_rank(
            dense, pruned, x, y, **(arguments | {"validation": None}), learning_rates=[bad, good]
        )


def test_scree_is_scikit_learns():
    decomposition = pytest.importorskip("sklearn.decomposition")
    dense, pruned = pair()
    x, y = models.data()
    scree = ap.analysis.compare_low_rank(dense, pruned, x, y).scree
    for name, network in (("dense", dense), ("pruned", pruned)):
        part = scree[(scree["network"] == name) & (scree["layer"] == "b")]
        (kernel,) = models.kernels(network, "b")
        wanted = decomposition.PCA().fit(kernel).explained_variance_ratio_
        np.testing.assert_allclose(part["share"], wanted, rtol=1e-4, atol=1e-9)
        assert part["cumulative"].iloc[-1] == pytest.approx(1)


def test_bad_arguments():
    dense, pruned = pair()
    x, y = models.data()
    with pytest.raises(ValueError, match=r"needs train=\(x, y\)"):
        ap.analysis.compare_low_rank(dense, pruned, x, y, epochs=2)
    with pytest.raises(ValueError, match="one label for each sample"):
        ap.analysis.compare_low_rank(dense, pruned, x, y[:-1])
    with pytest.raises(ValueError, match="choose 'rank' or 'weights'"):
        ap.analysis.compare_low_rank(dense, pruned, x, y, match="size")
    with pytest.raises(ValueError, match=r"match=\(\) names nothing"):
        ap.analysis.compare_low_rank(dense, pruned, x, y, match=())
    for rates, reason in (([], "empty"), ([-0.1], "above 0"), ([0.1, "a"], "'a'")):
        with pytest.raises(ValueError, match=f"learning_rates.*{reason}"):
            ap.analysis.compare_low_rank(
                dense, pruned, x, y, train=(x, y), epochs=1, learning_rates=rates
            )
    with pytest.raises(TypeError, match="received None"):
        ap.analysis.compare_low_rank(dense, None, x, y)
    with pytest.raises(ValueError, match="not compiled"):
        ap.analysis.compare_low_rank(models.mlp((12, 10)), pruned, x, y)
    with pytest.raises(ValueError, match=r"ap\.strip"):
        ap.analysis.compare_low_rank(dense, ap.wrap(pruned), x, y)
    with pytest.raises(ValueError, match="differ in architecture"):
        ap.analysis.compare_low_rank(dense, models.mlp((12, 9)), x, y)
