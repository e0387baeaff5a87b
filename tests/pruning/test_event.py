"""One pruning event: the weights are read once, decided on, and written."""

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap
from activation_pruning import sites
from activation_pruning.pruning import Event, Settings
from activation_pruning.support.counts import counted


@pytest.fixture
def reads(monkeypatch):
    """{id of a variable: how often it has been copied to NumPy}."""
    counts, original = {}, keras.ops.convert_to_numpy

    def counting(x):
        counts[id(x)] = counts.get(id(x), 0) + 1
        return original(x)

    monkeypatch.setattr(keras.ops, "convert_to_numpy", counting)
    return counts


def event_of(model, **more):
    return Event(model, sites.find(model).sites, **more)


def test_prune_reads_each_kernel_once_to_decide_and_once_to_measure(reads):
    model = models.mlp(hidden=(6, 5), features=4)
    ap.prune(model, 0.5)
    assert [reads[id(site.variable)] for site in sites.find(model).sites] == [2, 2]


def test_an_event_of_a_fit_reads_each_kernel_once_to_decide_and_once_to_measure(reads):
    model = models.compiled(models.mlp(hidden=(6,), features=4), "sgd")
    x, y = models.data((4,), 8)
    variable, found = sites.find(model).sites[0].variable, []

    class Around(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            found.append(reads.get(id(variable), 0))

    schedule = ap.schedules.OneShot(0.5, at=1, by="step")
    pruner = ap.PruningCallback(schedule, "magnitude")
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[Around(), pruner, Around()])
    assert found[1] - found[0] == 2


def test_deciding_writes_nothing_and_reads_no_more(reads):
    model = models.mlp(hidden=(6,), features=4)
    event = event_of(model, settings=Settings("magnitude"))
    before = model.get_weights()
    lower, higher = (event.decide(share)[0] for share in (0.25, 0.75))
    assert all((higher[name] <= mask).all() for name, mask in lower.items())
    assert counted(lower.values()).pruned == 6
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))
    assert reads[id(event.sites[0].variable)] == 1


def test_assign_leaves_other_sites_as_they_are():
    model = models.mlp(hidden=(6, 5), features=4)
    event = event_of(model)
    first, second = event.sites
    event.assign({first.name: np.zeros((4, 6), bool)})
    assert not first.kernel().any()
    assert second.kernel().all()


def test_what_is_alive_is_read_from_the_weights():
    model = models.mlp(hidden=(3,), features=2)
    (site,) = event_of(model).sites
    site.variable.assign([[0.0, 1.0, 2.0], [3.0, 0.0, 4.0]])
    assert event_of(model).masks[site.name].tolist() == [[False, True, True], [True, False, True]]
    assert event_of(model, respect_zeros=False).masks[site.name].all()
    site.variable.assign(np.zeros((2, 3)))
    assert event_of(model).masks[site.name].all()  # a fresh kernel of zeros


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_short_floats_survive_what_is_written(dtype):
    policy = keras.dtype_policies.DTypePolicy(dtype)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6, dtype=policy, name="a")])
    event = Event(model, sites.find(model, exclude=()).sites)
    before = event.snapshots[0].kernel
    masks, _ = event.decide(0.5)
    event.assign(masks)
    np.testing.assert_array_equal(event.sites[0].kernel(), np.where(masks["a/kernel"], before, 0))
    assert event.sites[0].variable.dtype == dtype
