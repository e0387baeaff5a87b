"""AC/DC: masks are held in sparse phases, let go in dense ones, and chosen anew after those."""

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap
from activation_pruning import keras_private

pytestmark = pytest.mark.backend

KO = keras.optimizers
LAYERS = ("a", "b")
SITES = ["a/kernel", "b/kernel"]
TOTAL = 8 * 16 + 16 * 12
GONE = int(np.floor(0.8 * TOTAL + 0.5))
SPARSE = GONE / TOTAL
PHASES = ap.schedules.Alternating(0.8, begin=1, end=7, sparse=2, dense=2)
# After epochs 1, 3, 5 and 7 a phase begins: sparse, dense, sparse, sparse for good.
EXPECTED = [SPARSE, SPARSE, 0.0, 0.0, SPARSE, SPARSE, SPARSE, SPARSE]


class Watch(keras.callbacks.Callback):
    """The masks, kernels and momenta with which each epoch begins, and the kernels it ends with."""

    def __init__(self, pruner):
        super().__init__()
        self.pruner, self.masks, self.begun, self.ended, self.momenta = pruner, [], [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:
            keras_private.sync(self.model)
            self.masks.append(np.concatenate([m.ravel() for m in self.pruner.masks().values()]))
            self.begun.append(kernels(self.model))
            found = keras_private.optimizers(self.model)[0]
            held = [keras.ops.convert_to_numpy(m) for m in keras_private.momenta(found)]
            self.momenta.append(sum(np.abs(one).sum() for one in held))

    def on_train_batch_end(self, batch, logs=None):
        keras_private.sync(self.model)
        self.last = kernels(self.model)

    def on_epoch_end(self, epoch, logs=None):
        self.ended.append(self.last)


def kernels(model):
    return np.concatenate([kernel.ravel() for kernel in models.kernels(model, *LAYERS)])


def network(optimizer=None):
    model = models.mlp(hidden=(16, 12), features=8, activation="tanh")
    return models.compiled(model, optimizer or KO.SGD(0.1, momentum=0.9))


def train(model, epochs=8, schedule=PHASES, initial_epoch=0, **kwargs):
    pruner = ap.PruningCallback(schedule, "magnitude", **kwargs)
    watch = Watch(pruner)
    x, y = models.data((8,), 32)
    history = model.fit(
        x, y, batch_size=8, epochs=epochs, initial_epoch=initial_epoch, verbose=0,
        callbacks=[watch, pruner],
    )  # fmt: skip
    return history.history, pruner, watch


def largest(values):
    """True for those that magnitude spares, of all weights together."""
    mask = np.ones(values.size, bool)
    mask[np.argsort(np.abs(values), kind="stable")[:GONE]] = False
    return mask


OPTIMIZERS = {
    "momentum": lambda: KO.SGD(0.5, momentum=0.9, weight_decay=0.01),
    "adam": lambda: KO.Adam(0.1),
    "averaged": lambda: KO.Adam(0.1, use_ema=True, ema_momentum=0.9),
    "scaled": lambda: KO.LossScaleOptimizer(KO.Adam(0.1), initial_scale=4.0),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_phases_under(name):
    history, pruner, watch = train(network(OPTIMIZERS[name]()))
    assert history["sparsity"] == EXPECTED
    assert history["target_sparsity"] == [0.8, 0.8, 0.0, 0.0, 0.8, 0.8, 0.8, 0.8]
    masks = watch.masks
    assert [int((~mask).sum()) for mask in masks] == [0, GONE, GONE, 0, 0, GONE, GONE, GONE]
    for epoch in (1, 5):  # chosen among all weights, as they were
        np.testing.assert_array_equal(masks[epoch], largest(watch.ended[epoch - 1]))
    for epoch in (2, 6, 7):  # and held
        np.testing.assert_array_equal(masks[epoch], masks[epoch - 1])
    assert (masks[5] & ~masks[2]).sum() > 0  # some that had been pruned are among the largest now
    for epoch, (begun, ended) in enumerate(zip(watch.begun, watch.ended, strict=True)):
        gone = ~masks[epoch]
        assert not begun[gone].any()
        if name != "averaged" or epoch < 7:
            assert not ended[gone].any()
    released = ~masks[2]
    assert not watch.begun[3][released].any()  # they start at zero,
    assert (watch.ended[3][released] != 0).mean() > 0.9  # and learn
    assert watch.momenta[3] == 0
    assert all(one > 0 for one in watch.momenta[1:3] + watch.momenta[4:])
    table = pruner.table()
    assert table.groupby("event")["epoch"].first().tolist() == [1, 3, 5, 7]
    assert table.groupby("event")["grown"].sum().tolist() == [0, GONE, 0, 0]
    assert table.groupby("event")["total_sparsity"].first().tolist() == [SPARSE, 0, SPARSE, SPARSE]


def test_phases_by_step():
    schedule = ap.schedules.Alternating(0.8, begin=2, end=10, sparse=2, dense=3, by="step")
    history, pruner, _ = train(network(), epochs=3, schedule=schedule)
    # Steps 2, 4, 7, 9 and 10; an epoch has four.
    assert pruner.table().groupby("event")["step"].first().tolist() == [2, 4, 7, 9, 10]
    assert history["sparsity"] == [0.0, SPARSE, SPARSE]


def test_a_kernel_that_nothing_moves_is_dense_in_a_dense_phase():
    """Alive weights that are zeros still are no pruned ones: neither counted nor masked so."""
    model = network(KO.SGD(0.0))
    history, _, watch = train(model)
    assert history["sparsity"] == EXPECTED
    np.testing.assert_array_equal(watch.masks[5], watch.masks[2])  # the same are the largest
    assert (~watch.masks[4]).sum() == 0


@pytest.mark.parametrize("epoch", [3, 4])
def test_a_fit_goes_on_in_a_dense_phase(epoch):
    """The weights of a file are sparse there, or hold zeros that have not moved."""
    model, rest = network(), network(KO.SGD(0.0))
    train(model, epochs=3, schedule=ap.schedules.OneShot(0.8, at=2))
    rest.set_weights(model.get_weights())
    history, pruner, watch = train(rest, epochs=8, initial_epoch=epoch)
    assert (~watch.masks[0]).sum() == 0
    assert history["sparsity"] == EXPECTED[epoch:]
    assert pruner.table().groupby("event")["epoch"].first().tolist()[0] == epoch


def test_a_fit_goes_on_in_a_sparse_phase():
    model = network()
    train(model, epochs=3, schedule=ap.schedules.OneShot(0.8, at=2))
    history, _, watch = train(model, initial_epoch=6)
    np.testing.assert_array_equal(watch.masks[0], watch.masks[1])
    assert (~watch.masks[0]).sum() == GONE
    assert history["sparsity"] == [SPARSE, SPARSE]


def test_a_schedule_that_does_not_say_so_gives_nothing_back():
    class Falling(ap.schedules.Schedule):
        final_sparsity = 0.2

        def due(self, progress):
            return progress.epoch in (1, 2)

        def target(self, progress):
            return 0.8 if progress.epoch == 1 else 0.2

    history, *_ = train(network(), epochs=3, schedule=Falling())
    assert history["sparsity"] == [SPARSE] * 3

    class Releasing(Falling):
        releases = True

    history, *_ = train(network(), epochs=3, schedule=Releasing())
    assert history["sparsity"] == [SPARSE, 64 / TOTAL, 64 / TOTAL]


def test_other_granularities():
    schedule = ap.schedules.Alternating(0.5, begin=1, end=3, sparse=1, dense=1)
    history, *_ = train(network(), epochs=4, schedule=schedule, granularity="2:4")
    assert history["sparsity"] == [0.5, 0.0, 0.5, 0.5]


def test_wrapped_layers_have_phases_too():
    model = ap.wrap(network(), exclude=["out"])
    pruner = ap.PruningCallback(PHASES, "magnitude")
    x, y = models.data((8,), 32)
    history = model.fit(x, y, batch_size=8, epochs=8, verbose=0, callbacks=[pruner]).history
    assert history["sparsity"] == EXPECTED


def test_whole_units_and_regrowth_are_refused():
    with pytest.raises(
        ValueError, match=r"Unit\(round_to=1\) with schedule=Alternating.*may never"
    ):
        ap.PruningCallback(PHASES, "magnitude", granularity="unit")
    with pytest.raises(ValueError, match=r"regrow='set' keeps a sparsity.*Alternating.*Constant"):
        ap.PruningCallback(PHASES, "magnitude", regrow="set")


def test_a_fit_that_is_too_short_says_so():
    with pytest.warns(UserWarning, match=r"end=7 lies after the last epoch of this fit, 3"):
        train(network(), epochs=3)
