"""The largest sparsity within a loss."""

import json

import numpy as np
import pytest
from retrainable import alive, network, samples, training, zeros

import activation_pruning as ap


@pytest.fixture(scope="module")
def data():
    return samples()


def quality(model):
    """Falls as more is pruned: a known largest sparsity."""
    return 1.0 - 0.1 * (np.concatenate([z.ravel() for z in zeros(model)]).mean() > 0.6)


def search(data, model=None, **more):
    how = {"max_loss": 0.05, "tolerance": 0.02, "high": 0.96, "retrain": 1, "verbose": 0}
    return ap.find_sparsity(model or network(), training(data), quality, **(how | more))


def test_the_largest_sparsity_is_bracketed_and_its_network_restored(data):
    model = network()
    found = search(data, model)
    assert 0.58 <= found.sparsity <= 0.6
    assert found.metric == 1.0
    assert sum(alive(model)) == 288 - int(np.floor(found.sparsity * 288 + 0.5))
    table = found.table()
    assert table["sparsity"].iloc[0] == 0.96
    assert table.loc[~table["within"], "sparsity"].min() - found.sparsity <= 0.02


def test_every_trial_starts_from_the_dense_network(data):
    model = network()
    first = search(data, model, high=0.5)
    assert first.table()["sparsity"].tolist() == [0.5]  # the highest holds: nothing to bisect
    alone = model.get_weights()
    model = network()
    search(data, model, high=0.96, low=0.04, tolerance=0.3)  # 0.96, then 0.5
    for one, other in zip(alone, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_where_nothing_holds_the_dense_network_stays(data):
    model = network()
    before = model.get_weights()
    found = search(data, model, low=0.7, tolerance=0.1)
    assert found.sparsity == 0.0
    assert found.metric == 1.0
    np.testing.assert_array_equal(before[0], model.get_weights()[0])


def test_a_search_goes_on_where_it_was_stopped(data, tmp_path):
    whole = network()
    expected = search(data, whole).table().drop(columns="time_s")
    calls = []

    def stopping(model, **more):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        training(data)(model, **more)

    with pytest.raises(KeyboardInterrupt):
        ap.find_sparsity(
            network(), stopping, quality, 0.05, retrain=1, high=0.96, tolerance=0.02,
            folder=tmp_path, verbose=0,
        )  # fmt: skip
    assert len(json.loads((tmp_path / "search.json").read_text())["trials"]) == 3
    model = network()
    found = search(data, model, folder=tmp_path)
    assert found.table().drop(columns="time_s").equals(expected)
    for one, other in zip(whole.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    again = search(data, network(), folder=tmp_path)  # all is known
    assert again.table().equals(found.table())


def test_a_folder_of_another_search_is_left_alone(data, tmp_path):
    search(data, folder=tmp_path)
    before = (tmp_path / "search.json").read_text()
    with pytest.raises(ValueError, match="holds another search: criterion differ"):
        search(data, folder=tmp_path, criterion="random")
    with pytest.raises(ValueError, match="the model must be the dense one again"):
        search(data, network(seed=1), folder=tmp_path)
    assert (tmp_path / "search.json").read_text() == before
    (tmp_path / "search.json").write_text(before.replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match="of format 2"):
        search(data, folder=tmp_path)
    for damaged in ("{bad", "[]", '{"format": 1}'):
        (tmp_path / "search.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"search\.json cannot be read, it is damaged"):
            search(data, folder=tmp_path)


def test_a_search_with_another_metric_is_another_one(data, tmp_path):
    search(data, folder=tmp_path, high=0.5)
    with pytest.raises(ValueError, match=r"its dense model measured 1, evaluate= returned 0\.2"):
        ap.find_sparsity(
            network(), training(data), lambda model: 0.2, 0.05, retrain=1, high=0.5,
            tolerance=0.02, folder=tmp_path, verbose=0,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"max_loss": -0.1}, "max_loss=-0.1"),
        ({"tolerance": 0}, "tolerance=0; it must be a finite number of at least 1e-06"),
        ({"low": 0.9, "high": 0.5}, "high=0.5 is not above low=0.9"),
        ({"high": 1.0}, "high=1.0"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(data, more, message):
    with pytest.raises(ValueError, match=message):
        search(data, **more)


@pytest.mark.parametrize("loss", [1, 1.0, 5])
def test_a_loss_that_no_share_can_exceed_is_refused(data, loss):
    with pytest.raises(
        ValueError, match=r"max_loss=.*all of the dense metric, 1.*0\.01 is one point"
    ):
        search(data, max_loss=loss)
    with pytest.raises(ValueError, match="is all of the dense metric"):
        ap.iterative_prune(network(), training(data), quality, max_loss=loss, verbose=0)


@pytest.mark.parametrize("dense", [97.0, -0.1])
def test_a_metric_that_is_no_share_has_losses_of_its_own(data, dense):
    found = ap.find_sparsity(
        network(), training(data), lambda m: dense, max_loss=2, high=0.5, retrain=0, verbose=0
    )
    assert found.sparsity == 0.5


@pytest.mark.parametrize("model", [None, 5, "model.keras"])
def test_a_search_wants_a_model(data, model):
    with pytest.raises(TypeError, match=r"model must be a keras.Model"):
        ap.find_sparsity(model, training(data), quality)


def test_a_metric_is_no_truth_value(data):
    with pytest.raises(ValueError, match="evaluate= returned True; it must return one number"):
        ap.find_sparsity(network(), training(data), lambda model: True, verbose=0)
