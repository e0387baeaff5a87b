"""Weights change places, their number stays: SET and RigL within `fit`, and pruning by movement."""

import warnings

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap
from activation_pruning import keras_private
from activation_pruning.hooks.attachment import attachment

pytestmark = pytest.mark.backend

BACKEND = keras.backend.backend()
KO = keras.optimizers
LAYERS = ("a", "b")
SITES = ["a/kernel", "b/kernel"]
SIZES = {"a/kernel": 8 * 16, "b/kernel": 16 * 12}
TOTAL = sum(SIZES.values())
ALIVE = TOTAL - int(np.floor(0.7 * TOTAL + 0.5))
# Enough of it, and from batches shuffled anew, that the weights just grown are not grown again.
RIGL = ap.regrowth.RigL(0.5, decay="constant")
RULES = pytest.mark.parametrize("regrow", ["set", RIGL], ids=["set", "rigl"])
ORDERS = pytest.mark.parametrize("order", ["before", "after"])


def network(optimizer=None, **kwargs):
    model = models.mlp(hidden=(16, 12), features=8, activation="tanh")
    return models.compiled(model, optimizer or KO.Adam(0.01), **kwargs)


def data(samples=24):
    return models.data((8,), samples)


def pruner(regrow="set", schedule=None, **kwargs):
    """As in the papers: a random topology before the first step, an exchange after every epoch."""
    schedule = schedule or ap.schedules.Constant(0.7)
    arguments = {"criterion": "random", "allocation": "erk", **kwargs}
    return ap.PruningCallback(schedule, regrow=regrow, **arguments)


class Watch(keras.callbacks.Callback):
    """Notes masks, weights and momenta around every exchange; listed after the pruner."""

    def __init__(self, watched):
        super().__init__()
        self.watched, self.masks, self.kernels, self.slots = watched, [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        now = self.watched.masks()
        if self.masks and all((now[name] == self.masks[-1][name]).all() for name in now):
            return
        keras_private.sync(self.model)
        self.masks.append(now)
        found = ap.sites.find(self.model).sites
        self.kernels.append({site.name: site.kernel() for site in found})
        (optimizer,) = keras_private.optimizers(self.model)
        optimizer.build(self.model.trainable_variables)  # before the first step it is not
        self.slots.append(
            {
                site.name: [
                    keras.ops.convert_to_numpy(slot)
                    for slot in keras_private.slots(optimizer, site.variable)
                ]
                for site in found
            }
        )

    def exchanges(self):
        """(name, mask before, mask after, kernel after, slots after) of every exchange and site."""
        for i in range(1, len(self.masks)):
            for name in SITES:
                before, after = self.masks[i - 1][name], self.masks[i][name]
                yield name, before, after, self.kernels[i][name], self.slots[i][name]


def train(callback, model=None, epochs=4, callbacks=(), **kwargs):
    """A fit that is watched: (model, history, watch)."""
    model, watch = model or network(), Watch(callback)
    x, y = data()
    arguments = {"batch_size": 8, "epochs": epochs, "verbose": 0, **kwargs}
    history = model.fit(x, y, callbacks=[callback, watch, *callbacks], **arguments)
    return model, history.history, watch


def check(model, history, callback, watch, exchanges=3):
    """Counts are constant, in all and in each site; zeros are zeros; the rest has learned."""
    assert history["sparsity"] == [1 - ALIVE / TOTAL] * len(history["sparsity"])
    assert len(watch.masks) == exchanges + 1
    counts = {name: watch.masks[0][name].sum() for name in SITES}
    assert sum(counts.values()) == ALIVE
    grown = 0
    for name, before, after, kernel, slots in watch.exchanges():
        new = after & ~before
        grown += new.sum()
        assert after.sum() == counts[name]
        assert not kernel[new | ~after].any()  # grown weights start at zero
        assert not any(slot[new | ~after].any() for slot in slots)
        assert not slots or any(slot[after & before].any() for slot in slots)
    assert grown >= 5 * exchanges
    for name, kernel in zip(SITES, models.kernels(model, *LAYERS), strict=True):
        assert not kernel[~callback.masks()[name]].any()
        assert (kernel[callback.masks()[name]] != 0).mean() > 0.9
    table = callback.table()
    assert (table["total_sparsity"] == 1 - ALIVE / TOTAL).all()
    assert table["grown"].sum() == grown
    assert table.groupby("site")["pruned"].nunique().tolist() == [1, 1]


OPTIMIZERS = {
    "sgd": lambda: KO.SGD(0.1),
    "momentum": lambda: KO.SGD(0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda: KO.Adam(0.01),
    "adamw": lambda: KO.AdamW(0.01, weight_decay=0.1),
    "averaged": lambda: KO.Adam(0.01, use_ema=True, ema_momentum=0.9),
    "averaged, overwriting": lambda: KO.Adam(0.01, use_ema=True, ema_overwrite_frequency=2),
    "accumulated": lambda: KO.Adam(0.01, gradient_accumulation_steps=3),
    "clipped": lambda: KO.SGD(0.1, momentum=0.9, global_clipnorm=0.5),
    "scaled": lambda: KO.LossScaleOptimizer(KO.Adam(0.01), initial_scale=4.0),
    "lion": lambda: KO.Lion(0.01),
    "rmsprop": lambda: KO.RMSprop(0.01, momentum=0.9, centered=True),
    "muon": lambda: KO.Muon(0.01),
}


@RULES
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_sparsity_is_constant_and_grown_weights_start_anew_under(name, regrow):
    callback = pruner(regrow)
    check(*(found := train(callback, network(OPTIMIZERS[name]())))[:2], callback, found[2])


COMPILED = [{"run_eagerly": True}, {"jit_compile": False}]
if BACKEND != "torch":
    COMPILED += [{"jit_compile": True}, {"steps_per_execution": 2}]


@RULES
@pytest.mark.parametrize("options", COMPILED, ids=str)
def test_compile(options, regrow):
    callback = pruner(regrow)
    found = train(callback, network(**options), validation_data=data())
    check(*found[:2], callback, found[2])


@RULES
def test_events_by_step(regrow):
    schedule = ap.schedules.Constant(0.7, frequency=2, by="step", end=8)
    callback = pruner(regrow, schedule)
    found = train(callback)  # 3 steps an epoch; events at 0, 2, 4, 6, 8
    check(*found[:2], callback, found[2], exchanges=4)
    assert callback.table()["step"].unique().tolist() == [0, 2, 4, 6, 8]
    assert callback.table()["epoch"].unique().tolist() == [0, 1, 2]


def test_nothing_changes_from_the_end_on():
    callback = pruner("rigl", ap.schedules.Constant(0.7, end=2))
    train(callback)  # cosine decay ends with the schedule
    assert callback.table()["epoch"].unique().tolist() == [0, 1]
    callback = pruner(ap.regrowth.SET(end=3))
    train(callback)
    assert callback.table()["epoch"].unique().tolist() == [0, 1, 2]


def test_the_table_of_exchanges():
    callback = pruner(ap.regrowth.SET(0.2))
    train(callback, epochs=3)
    table = callback.table()
    assert list(table.columns[-4:]) == ["sparsity", "pruned", "weights", "grown"]
    assert table["event"].tolist() == [1, 1, 2, 2, 3, 3]
    assert table["epoch"].tolist() == [0, 0, 1, 1, 2, 2]
    assert table["step"].tolist() == [0, 0, 3, 3, 6, 6]
    assert table["grown"][:2].tolist() == [0, 0]
    alive = table["weights"] - table["pruned"]
    most = np.floor(0.2 * alive + 0.5)[2:]  # some that are dropped are grown again
    assert (table["grown"][2:] <= most).all()
    assert (table["grown"][2:] > 0.5 * most).all()


@pytest.mark.parametrize("end", [None, 3])
def test_the_largest_gradients_are_grown(end):
    """One batch an epoch, so that the gradients of the last step can be worked out by hand."""
    callback = ap.PruningCallback(
        ap.schedules.Constant(0.7), "random", "erk", regrow=ap.regrowth.RigL(0.4, end=end)
    )
    model = models.compiled(models.mlp((16, 12), 8), KO.SGD(0.5))
    x, y = data()
    weights = []

    class Weights(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            weights.append([w.astype("float64") for w in model.get_weights()])

    class Both(Watch):  # every epoch, whether masks have changed or not
        def on_train_batch_begin(self, batch, logs=None):
            self.masks.append(self.watched.masks())

    watch = Both(callback)
    model.fit(x, y, batch_size=64, epochs=5, verbose=0, callbacks=[Weights(), callback, watch])
    changed = 0
    for epoch in range(1, 5):
        duration = 5 if end is None else end
        fraction = 0.2 * (1 + np.cos(np.pi * epoch / duration)) if epoch < duration else 0
        then = weights[epoch - 1]
        # the weights of the step, after the exchange before it: what it dropped is zero
        then = [w.copy() for w in then]
        for i, name in enumerate(SITES):
            then[2 * i][~watch.masks[epoch - 1][name]] = 0
        gradients = models.gradients(x, y, then[::2], then[1::2])
        for i, name in enumerate(SITES):
            before, after = watch.masks[epoch - 1][name].ravel(), watch.masks[epoch][name].ravel()
            kernel = np.abs(weights[epoch][2 * i]).ravel()
            alive = np.flatnonzero(before)
            count = int(np.floor(fraction * alive.size + 0.5))
            kept = alive[np.argsort(kernel[alive])[count:]]
            rest = np.setdiff1d(np.arange(before.size), kept)
            size = np.abs(gradients[i][0]).ravel()
            grown = rest[np.argsort(size[rest])[rest.size - count :]]
            assert set(np.flatnonzero(after)) == {*kept, *grown}
            changed += (before != after).sum()
    assert changed > 20


def test_a_weight_dropped_and_grown_again_keeps_its_value():
    class Same(ap.regrowth.SET):
        def scores(self, site, time):
            return np.abs(site.kernel)  # what is dropped has the highest score of the rest

    callback = pruner(Same(0.5))
    with pytest.warns(UserWarning, match="no weight has changed places"):
        _, history, watch = train(callback)
    assert len(watch.masks) == 1
    assert len(callback.table()["event"].unique()) == 1
    assert history["sparsity"] == [1 - ALIVE / TOTAL] * 4


@pytest.mark.parametrize("criterion", ["random", "magnitude"])
def test_the_same_seed_gives_the_same_masks(criterion):
    found = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(0)
        callback = pruner("set", seed=seed, criterion=criterion)
        train(callback)
        found.append(np.concatenate([mask.ravel() for mask in callback.masks().values()]))
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).any()


def test_what_is_grown_starts_from_zero_whatever_has_become_of_it():
    model, owner = network(), object()
    model.fit(*data(), verbose=0)
    found, hooks = ap.sites.find(model).sites, attachment(model)
    hooks.mask(owner, found)
    shapes = {site.name: site.variable.shape for site in found}
    alive = {name: np.arange(SIZES[name]).reshape(shape) > 30 for name, shape in shapes.items()}
    hooks.set_masks(owner, found, alive)
    (optimizer,) = keras_private.optimizers(model)
    for site in found:
        for variable in (site.variable, *keras_private.slots(optimizer, site.variable)):
            variable.assign(np.ones(variable.shape))
    hooks.set_masks(owner, found, {name: np.ones_like(mask) for name, mask in alive.items()})
    for site in found:
        for variable in (site.variable, *keras_private.slots(optimizer, site.variable)):
            assert (keras.ops.convert_to_numpy(variable) == alive[site.name]).all()
    hooks.release(owner)


def test_a_rising_target_is_pruned_to_before_weights_change_places():
    schedule = ap.schedules.Linear(0.6, begin=1, end=4, initial_sparsity=0.3)
    callback = pruner(RIGL, schedule, allocation="uniform", criterion="magnitude")
    _, history, watch = train(callback, epochs=6)
    assert history["sparsity"] == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.6, 0.6], abs=0.004)
    table = callback.table().groupby("event").agg({"epoch": "first", "grown": "sum"})
    # pruned after epochs 1 to 4; from the second time on weights change places as well
    assert table["epoch"].tolist() == [1, 2, 2, 3, 3, 4, 4]
    assert (table["grown"] > 0).tolist() == [False, *[False, True] * 3]
    assert len(watch.masks) == 5  # before each step: dense, and after epochs 1 to 4


@RULES
def test_a_network_that_is_sparse_already(regrow):
    model = network()
    ap.prune(model, 0.7)
    callback = pruner(regrow)
    _, history, watch = train(callback, model)
    assert history["sparsity"] == [1 - ALIVE / TOTAL] * 4
    # the first exchange is before the first step, or once there is a gradient
    assert callback.table()["step"].unique().tolist() == [0 if regrow == "set" else 1, 3, 6, 9]
    assert len(watch.masks) == 4 + (regrow is RIGL)


# -- grown weights that never move -----------------------------------------------------------------


def test_alive_weights_that_are_zeros_count_as_alive():
    """Inputs that are always zero give no gradient: what grows there stays where it is."""
    x, y = data()
    x[:, :4] = 0
    model = network(KO.SGD(0.1))
    histories = []
    for _ in range(2):  # the second fit finds masks with zeros that were alive
        callback = pruner("set")
        history = model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[callback])
        histories.append(history.history["sparsity"])
        kernel = models.kernels(model, "a")[0]
        mask = callback.masks()["a/kernel"]
        assert (kernel[:4][mask[:4]] == 0).sum() > 3
        assert callback.table()["total_sparsity"].iloc[-1] == 1 - ALIVE / TOTAL
        alive = callback.table().query("event == event.max()").set_index("site")
        assert (alive["weights"] - alive["pruned"]).to_dict() == {
            name: mask.sum() for name, mask in callback.masks().items()
        }
    assert histories == [[1 - ALIVE / TOTAL] * 3] * 2


def test_two_callbacks_measure_together_what_is_alive():
    x, y = data()
    x[:, :4] = 0
    first = pruner("set", include=["a"])
    second = ap.PruningCallback(ap.schedules.OneShot(0.5, at=0), "magnitude", include=["b"])
    model = network(KO.SGD(0.1))
    for callbacks in ([first, second], [second, first]):
        history = model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=callbacks)
        pruned = np.floor(0.7 * 128 + 0.5) + 96
        assert history.history["sparsity"] == [pruned / TOTAL] * 3
    assert (models.kernels(model, "a")[0] == 0).sum() > np.floor(0.7 * 128 + 0.5)


# -- neighbours ------------------------------------------------------------------------------------


class Scripted(keras.callbacks.Callback):
    """Reports the validation loss it is told to, one per epoch."""

    def __init__(self, *values):
        super().__init__()
        self.values, self.kept = values, []

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = self.values[epoch]
        self.kept.append(self.model.get_weights())


def in_order(order, neighbour, callback):
    return [neighbour, callback] if order == "before" else [callback, neighbour]


@ORDERS
@RULES
@pytest.mark.parametrize("losses", [(5, 1, 2, 3, 4), (5, 4, 1, 2), (5, 4, 3, 2)])
def test_early_stopping_restores_the_best_epoch_as_it_was(order, regrow, losses):
    """Comparisons do not start over at an exchange, and the best weights are not masked away."""
    callback, scripted = pruner(regrow), Scripted(*losses)
    stopping = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    model, best = network(), int(np.argmin(losses))
    callbacks = [scripted, *in_order(order, stopping, callback)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        x, y = data()
        model.fit(x, y, batch_size=8, epochs=4, verbose=0, callbacks=callbacks)
    assert len(scripted.kept) == min(best + 3, 4)
    for restored, kept in zip(model.get_weights(), scripted.kept[best], strict=True):
        assert (restored == kept).all()
    alive = sum((kernel != 0).sum() for kernel in models.kernels(model, *LAYERS))
    assert 0.9 * ALIVE < alive <= ALIVE
    if order == "before" and best < len(scripted.kept) - 1:
        for name, kernel in zip(SITES, models.kernels(model, *LAYERS), strict=True):
            assert (callback.masks()[name] == (kernel != 0)).all()


def test_denser_weights_that_somebody_restores_are_masked_again():
    model = network()
    dense = model.get_weights()

    class Restore(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            model.set_weights(dense)

    x, y = data()
    with pytest.warns(UserWarning, match="masks were applied to them again"):
        model.fit(x, y, epochs=3, verbose=0, callbacks=[Restore(), pruner()])
    assert sum((kernel != 0).sum() for kernel in models.kernels(model, *LAYERS)) == ALIVE


def test_the_best_checkpoint_is_the_network_that_was_measured(tmp_path):
    callback, scripted = pruner("rigl"), Scripted(4, 3, 1, 2)
    best = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    model, (x, y) = network(), data()
    model.fit(x, y, epochs=4, verbose=0, callbacks=[callback, scripted, best])
    loaded = keras.models.load_model(tmp_path / "best.keras")
    for saved, kept in zip(loaded.get_weights(), scripted.kept[2], strict=True):
        assert (saved == kept).all()


def test_averages_swapped_in_by_the_callback_of_keras():
    model = network(KO.Adam(0.01, use_ema=True, ema_momentum=0.9))
    callback = pruner("rigl")
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    found = train(callback, model, callbacks=[swap], validation_data=data())
    assert found[1]["sparsity"] == [1 - ALIVE / TOTAL] * 4
    for name, kernel in zip(SITES, models.kernels(model, *LAYERS), strict=True):
        assert not kernel[~callback.masks()[name]].any()


class Interrupt(Exception):
    pass


class Interrupter(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 3:
            raise Interrupt


@ORDERS
@RULES
@pytest.mark.parametrize("by", ["epoch", "step"])
def test_backup_and_restore_goes_on_where_it_was(regrow, order, by, tmp_path):
    x, y = data()

    def fit(*extra):
        keras.utils.set_random_seed(0)
        model = network()
        schedule = ap.schedules.Constant(0.7, by=by, frequency=1 if by == "epoch" else 3)
        callback = pruner(regrow, schedule)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        history = keras.callbacks.History()
        callbacks = [*in_order(order, backup, callback), *extra, history]
        arguments = {"batch_size": 8, "epochs": 5, "verbose": 0, "shuffle": False}
        try:
            model.fit(x, y, callbacks=callbacks, **arguments)
        except Interrupt:
            pass
        return model, callback, history.history["sparsity"]

    whole, known, _ = fit()
    fit(Interrupter())
    model, callback, sparsity = fit()
    assert sparsity == [1 - ALIVE / TOTAL] * 2
    assert callback.table()["epoch"].unique().tolist() == [3, 4]
    counts = {name: mask.sum() for name, mask in known.masks().items()}
    assert {name: mask.sum() for name, mask in callback.masks().items()} == counts
    if regrow == "set":  # the gradient that RigL had is not in the backup: it waits for another
        for one, other in zip(whole.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_spectra_are_kept_around_exchanges():
    logger = ap.SpectrumLogger()
    callback = pruner("set")
    train(callback, callbacks=[logger])
    events = logger.norms().query("moment == 'after'").groupby("event")["epoch"].first()
    assert events.to_dict() == {1: 0, 2: 1, 3: 2, 4: 3}


def test_what_is_left_is_a_plain_network_that_keeps_its_zeros():
    model, _, _ = train(pruner("rigl"))
    before = models.kernels(model, *LAYERS)
    assert not {"apply", "stateless_apply"} & set(vars(model.optimizer))
    x, y = data()
    model.fit(x, y, verbose=0, callbacks=[ap.KeepPruned(exclude=["out"])])
    for kernel, now in zip(before, models.kernels(model, *LAYERS), strict=True):
        assert ((kernel == 0) == (now == 0)).all()


@RULES
@pytest.mark.parametrize("kind", models.KINDS)
def test_every_model_kind(kind, regrow):
    model = models.compiled(getattr(models, kind)(), KO.Adam(0.01))
    x, y = models.data_for(kind)
    callback = ap.PruningCallback(
        ap.schedules.Constant(0.5), "magnitude", exclude=["out"], regrow=regrow
    )
    history = model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[callback])
    found = callback.masks()
    weights = sum(mask.size for mask in found.values())
    pruned = int(np.floor(0.5 * weights + 0.5))
    assert sum(np.count_nonzero(~mask) for mask in found.values()) == pruned
    assert history.history["sparsity"] == [pruned / weights] * 3
    assert callback.table()["grown"].sum() > 1
    for site in ap.sites.find(model, exclude=["out"]).sites:
        assert not site.kernel()[~found[site.name]].any()


# -- what cannot be --------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["unit", "2:4", (2, 2)])
def test_only_single_weights_change_places(granularity):
    with pytest.raises(ValueError, match=r"regrow='set' with granularity=.*only single weights"):
        pruner("set", granularity=granularity)


@RULES
def test_frozen_layers(regrow):
    model = models.mlp()
    model.get_layer("a").trainable = False
    models.compiled(model)
    with pytest.raises(ValueError, match=r"\['a'\] are frozen.*exclude="):
        model.fit(*models.data(), verbose=0, callbacks=[pruner(regrow, exclude=())])
    model.fit(*models.data(), verbose=0, callbacks=[pruner(regrow)], epochs=3)
    assert models.pruned(model, "a") == 0
    assert models.pruned(model, "b") > 0


def test_layers_that_hide_their_gradients():
    x, y = data()
    wrapped = ap.wrap(network())
    with pytest.raises(ValueError, match=r"hidden by PrunedLayer in .*'pruned_a'.*ap.strip"):
        wrapped.fit(x, y, verbose=0, callbacks=[pruner("rigl")])
    callback = pruner("set")
    history = wrapped.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[callback])
    assert history.history["sparsity"] == [1 - ALIVE / TOTAL] * 3
    alive = sum((kernel != 0).sum() for kernel in models.kernels(ap.strip(wrapped), *LAYERS))
    assert 0.9 * ALIVE < alive <= ALIVE


def test_layers_that_another_callback_masks():
    x, y = data()
    model = network()
    with pytest.raises(ValueError, match=r"\['a', 'b'\] are masked by another callback"):
        model.fit(x, y, verbose=0, callbacks=[ap.KeepPruned(), pruner()])
    callbacks = [ap.KeepPruned(include=["out"]), pruner()]
    history = model.fit(x, y, verbose=0, epochs=3, callbacks=callbacks)
    assert history.history["sparsity"][0] == 1 - ALIVE / TOTAL


def test_an_epoch_of_unknown_length():
    schedule, batch = ap.schedules.Constant(0.7, frequency=2, by="step"), data()
    with pytest.raises(ValueError, match="give end=, in training steps"):
        network().fit((b for b in [batch] * 3), verbose=0, callbacks=[pruner("rigl", schedule)])
    callback = pruner(ap.regrowth.RigL(end=4), schedule)
    network().fit((b for b in [batch] * 5), verbose=0, callbacks=[callback])
    assert callback.table()["step"].unique().tolist() == [0, 2]


def test_a_schedule_with_one_event_only():
    with pytest.warns(UserWarning, match=r"no weight has changed places under regrow=SET"):
        train(pruner("set", ap.schedules.OneShot(0.7, at=1)))


def test_masks_before_a_fit():
    with pytest.raises(ValueError, match="no masks yet"):
        pruner().masks()


# -- pruning by movement ---------------------------------------------------------------------------


def moved(model, x, y, epochs=1, size=8):
    """The movement of the hidden kernels at a learning rate of 0, by hand."""
    values = [value.astype("float64") for value in model.get_weights()]
    movement = [0.0, 0.0]
    for bx, by in list(models.batches((x, y), size)) * epochs:
        found = models.gradients(bx, by, values[::2], values[1::2])
        movement = [m - found[i][0] * values[2 * i] for i, m in enumerate(movement)]
    return movement


@pytest.mark.parametrize("by", ["epoch", "step"])
def test_the_weights_that_move_towards_zero_are_pruned(by):
    x, y = data()
    model = models.compiled(models.mlp((16, 12), 8), KO.SGD(0.0))
    epochs = 2 if by == "epoch" else 1
    movement = np.concatenate([m.ravel() for m in moved(model, x, y, epochs)])
    at = 2 if by == "epoch" else 3
    callback = ap.PruningCallback(ap.schedules.OneShot(0.4, at=at, by=by), "movement")
    model.fit(x, y, batch_size=8, epochs=3, verbose=0, shuffle=False, callbacks=[callback])
    kernels = np.concatenate([k.ravel() for k in models.kernels(model, *LAYERS)])
    assert set(np.flatnonzero(kernels == 0)) == set(np.argsort(movement)[:128])
    assert (movement < 0).sum() > 100


@pytest.mark.parametrize("reset", [False, True])
def test_movement_over_all_the_training_or_since_the_last_event(reset):
    x, y = data()
    model = network(KO.SGD(0.0))
    schedule = ap.schedules.Linear(0.2, begin=1, end=2, initial_sparsity=0.1)
    seen = []

    def looking(site):
        seen.append(site.statistics["movement"].copy())
        return np.abs(site.kernel)

    looking.needs = frozenset({"movement"})
    callback = ap.PruningCallback(schedule, looking, include=["b"], reset_counts=reset)
    x, y = data()
    model.fit(x, y, batch_size=24, epochs=3, verbose=0, callbacks=[callback])
    first, second = seen
    alive = models.kernels(model, "b")[0] != 0
    ratio = second[alive] / first[alive]
    assert np.median(ratio) == pytest.approx(1 if reset else 2, rel=0.1)


def test_movement_before_the_first_step_waits():
    schedule = ap.schedules.Constant(0.5)
    callback = ap.PruningCallback(schedule, "movement")
    x, y = data()
    with pytest.warns(UserWarning, match="before any training step"):
        history = network().fit(x, y, epochs=2, verbose=0, callbacks=[callback])
    assert history.history["sparsity"] == [0.5, 0.5]
    assert callback.table()["epoch"].unique().tolist() == [1, 2]


def test_movement_is_nothing_that_can_be_had_without_training():
    with pytest.raises(ValueError, match=r"'movement' needs the gradients .*ap\.PruningCallback"):
        ap.prune(network(), 0.5, "movement")


def test_movement_and_regrowth_together():
    callback = ap.PruningCallback(ap.schedules.Constant(0.7, begin=1), "movement", regrow=RIGL)
    _, history, watch = train(callback)
    assert history["sparsity"] == [1 - ALIVE / TOTAL] * 4
    assert len(watch.masks) == 4  # dense, pruned after epoch 1, exchanges after 2 and 3
