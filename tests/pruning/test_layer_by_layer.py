"""Layer by layer: which shares are known beforehand, and what an event keeps of the weights."""

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap
from activation_pruning import sites
from activation_pruning.evidence import gathering, walking
from activation_pruning.pruning import layer_by_layer
from activation_pruning.pruning.event import Event
from activation_pruning.pruning.settings import Settings

RNG = np.random.default_rng(0)


def event_of(model, *settings):
    return Event(model, sites.find(model, exclude=()).sites, Settings(*settings))


def test_an_event_forgets_the_weights_and_keeps_the_masks():
    model = models.mlp()
    event = event_of(model, "magnitude")
    layer = event.sites[0].layer
    layer.kernel.assign(np.where(np.arange(8) < 4, 0, layer.kernel))
    masks = event.masks
    layer.kernel.assign(np.ones(layer.kernel.shape))
    assert not event.snapshots[0].kernel.all()  # what was read first
    event.forget()
    assert event.snapshots[0].kernel.all()
    np.testing.assert_array_equal(event.snapshots[0].mask, masks[event.sites[0].name])


def test_no_more_than_one_kernel_is_read_while_a_layer_is_pruned(monkeypatch):
    model, held = models.mlp(), []
    decide = Event.decide

    def noted(self, *args):
        held.append([len(one.snapshots) for one in events if "snapshots" in vars(one)])
        return decide(self, *args)

    events = [event_of(model, "wanda", "uniform")]
    monkeypatch.setattr(Event, "decide", noted)
    layer_by_layer.pruned(events[0], 0.5, RNG.normal(size=(20, 6)).astype("float32"))
    assert held == [[], [], []]


@pytest.mark.parametrize("granularity", ["2:4", "weight"])
def test_shares_are_those_by_scores_where_some_weights_are_gone(granularity, monkeypatch):
    """Also where a group of four has lost three, so that not all of them can go."""
    x = RNG.normal(size=(50, 8)).astype("float32")

    def network():
        keras.utils.set_random_seed(1)
        hidden = [keras.layers.Dense(8, "relu") for _ in range(2)]
        model = keras.Sequential([keras.Input((8,)), *hidden, keras.layers.Dense(2)])
        gone = np.arange(8)[:, None] < 3 * (np.arange(8) < 2)
        hidden[0].kernel.assign(np.where(gone, 0, hidden[0].kernel))
        return model

    for allocation in ("uniform", "erk", "global"):
        more = {"granularity": granularity, "data": x, "verbose": 0}
        one = ap.prune(network(), 0.5, "sparsegpt", allocation, sequential=True, **more)
        other = ap.prune(network(), 0.5, "sparsegpt", allocation, **more)
        assert one.table()["pruned"].tolist() == other.table()["pruned"].tolist()


def test_data_is_read_for_shares_only_where_scores_matter(monkeypatch):
    x, gathered = RNG.normal(size=(20, 6)).astype("float32"), []
    gather, walk = gathering.gather, walking.walk
    monkeypatch.setattr(
        gathering, "gather", lambda *a, **k: (gathered.append(1), gather(*a, **k))[1]
    )
    monkeypatch.setattr(walking, "walk", lambda *a: (gathered.append(2), walk(*a))[1])
    for criterion, allocation, reads in (
        ("wanda", "uniform", [2]), ("wanda", "global", [1, 2]), ("lobs", "erk", [2]),
        ("lobs", "global", [2, 2]), ("activation", "uniform", [1, 1, 1]),
    ):  # fmt: skip
        gathered.clear()
        more = {"data": x, "sequential": True, "verbose": 0}
        ap.prune(models.mlp(), 0.5, criterion, allocation, **more)
        assert gathered == reads


def test_criteria_without_data_show_no_bar(capsys):
    ap.prune(models.mlp(), 0.5, sequential=True)
    assert capsys.readouterr().out == ""
