"""Pruned weights are zeros at the end of every epoch, whoever has written them."""

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap
from activation_pruning.hooks.attachment import attachment
from activation_pruning.hooks.gradients import Gradients

pytestmark = pytest.mark.backend

BACKEND = keras.backend.backend()
KO = keras.optimizers
LAYERS = ("a", "b")
HIDDEN = {}  # optimizers that no model holds


class Zeros(keras.callbacks.Callback):
    """The share of zeros in the hidden kernels, as the callbacks after it see them."""

    def __init__(self):
        super().__init__()
        self.ends, self.begins = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.begins.append(models.pruned(self.model, *LAYERS))

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append(models.pruned(self.model, *LAYERS))


class Own(keras.Model):
    """A training step of one's own: `where` says where its optimizer is, or writes weights."""

    def put(self, where, optimizer):
        self.where = where
        places = {
            "dict": lambda: setattr(self, "rules", {"one": {"two": optimizer}}),
            "list": lambda: setattr(self, "rules", [optimizer]),
            "layer": lambda: setattr(self.layers[1], "rule", optimizer),
            "global": lambda: HIDDEN.update(one=optimizer),
            "scaled": lambda: setattr(self, "rules", (KO.LossScaleOptimizer(optimizer),)),
        }
        places.get(where, lambda: None)()
        return self

    def found(self):
        places = {
            "dict": lambda: self.rules["one"]["two"],
            "list": lambda: self.rules[0],
            "layer": lambda: self.layers[1].rule,
            "global": lambda: HIDDEN["one"],
            "scaled": lambda: self.rules[0],
        }
        return places[self.where]()

    if BACKEND == "jax":

        def loss_of(self, trainable, fixed, x, y):
            y_pred, fixed = self.stateless_call(trainable, fixed, x, training=True)
            return self.compute_loss(x, y, y_pred), fixed

        def train_step(self, state, data):
            import jax

            trainable, fixed, slots, metrics = state
            compute = jax.value_and_grad(self.loss_of, has_aux=True)
            (loss, fixed), gradients = compute(trainable, fixed, *data)
            # On JAX the state has the variables of `compile`'s optimizer only: plain descent.
            trainable = [v - 0.1 * g + 0.01 for v, g in zip(trainable, gradients, strict=True)]
            return {"loss": loss}, (trainable, fixed, slots, metrics)

    else:

        def gradients(self, x, y):
            if BACKEND == "torch":
                self.zero_grad()
                loss = self.compute_loss(y=y, y_pred=self(x, training=True))
                loss.backward()
                return loss, [v.value.grad for v in self.trainable_weights]
            import tensorflow as tf

            with tf.GradientTape() as tape:
                loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            return loss, tape.gradient(loss, self.trainable_variables)

        def train_step(self, data):
            loss, gradients = self.gradients(*data)
            variables = list(self.trainable_variables)
            if self.where == "assigned":
                for variable in variables:
                    variable.assign(variable - 0.01)
            elif BACKEND == "torch":
                import torch

                with torch.no_grad():
                    self.found().apply(gradients, variables)
            else:
                self.found().apply(gradients, variables)
            return {"loss": loss}


PLACES = ["dict", "list", "layer", "global", "scaled", "assigned"]


@pytest.mark.parametrize("where", PLACES if BACKEND != "jax" else ["assigned"])
def test_a_training_step_of_ones_own(where):
    plain = models.mlp()
    model = models.compiled(Own(plain.inputs, plain.outputs), metrics=None)
    optimizer = KO.Adam(0.01)
    model.put(where, optimizer)
    if where != "assigned":
        model.found().build(model.trainable_variables)
    zeros, pruner = Zeros(), ap.PruningCallback(ap.schedules.OneShot(0.75, at=1), "magnitude")
    x, y = models.data(samples=24)
    kernels = []
    look = keras.callbacks.LambdaCallback(
        on_test_begin=lambda logs: kernels.append(models.kernels(model, *LAYERS))
    )
    history = model.fit(
        x, y, batch_size=8, epochs=4, verbose=0, callbacks=[zeros, pruner, look],
        validation_data=(x, y),
    ).history  # fmt: skip
    assert zeros.ends[1:] == zeros.begins[1:] == [0.75] * 3
    assert history["sparsity"] == [0.75] * 4
    for before, now in zip(kernels[2], kernels[3], strict=True):
        assert ((before == 0) == (now == 0)).all()  # validation sees zeros as well
        assert (before != now).any()


class SetWeights(keras.callbacks.Callback):
    """Brings the dense weights back at the end of every epoch."""

    def __init__(self, moment):
        super().__init__()
        setattr(self, moment, self.write)

    def set_model(self, model):
        super().set_model(model)
        self.weights = model.get_weights()

    def write(self, *args, **kwargs):
        self.model.set_weights(self.weights)


@pytest.mark.parametrize("moment", ["on_epoch_end", "on_train_end"])
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("kind", ["pruning", "keeping"])
def test_weights_that_another_callback_sets(moment, order, kind):
    model = models.compiled(models.mlp(), KO.Adam(0.01))
    x, y = models.data(samples=24)
    writer = SetWeights(moment)
    writer.set_model(model)
    if kind == "pruning":
        ours = ap.PruningCallback(ap.schedules.OneShot(0.75, at=1), "magnitude")
    else:
        ap.prune(model, 0.75)
        ours = ap.KeepPruned(exclude=["out"])
        writer.set_model = lambda model: None
    zeros = Zeros()
    callbacks = [writer, ours] if order == "before" else [ours, writer]
    with pytest.warns(UserWarning, match="no longer zeros"):
        model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[zeros, *callbacks])
    assert zeros.begins[1:] == [0.75] * 2
    assert models.pruned(model, *LAYERS) == 0.75


@pytest.mark.parametrize("kind", ["pruning", "growing", "keeping"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_what_another_callback_prunes_is_kept(kind, order):
    class Prune(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                ap.prune(self.model, 0.75, "magnitude")

    model = models.compiled(models.mlp(), KO.Adam(0.01))
    x, y = models.data(samples=24)
    if kind == "pruning":
        ours = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "magnitude")
    elif kind == "growing":
        schedule = ap.schedules.Constant(0.5, end=1)
        ours = ap.PruningCallback(schedule, "magnitude", regrow="set", respect_zeros=False)
    else:
        ours = ap.KeepPruned(exclude=["out"])
    callbacks = [Prune(), ours] if order == "before" else [ours, Prune()]
    zeros = Zeros()
    model.fit(x, y, batch_size=8, epochs=4, verbose=0, callbacks=[zeros, *callbacks])
    assert zeros.ends[2:] == [0.75] * 2
    assert models.pruned(model, *LAYERS) == 0.75
    assert np.mean([mask.mean() for mask in ours.masks().values()]) < 0.5


def test_alive_weights_that_are_zeros_for_a_while_are_not_pruned():
    """Only what somebody has pruned is taken over: these rows had no inputs so far."""
    model = models.compiled(models.mlp(), KO.SGD(0.1))
    kernel = model.get_layer("a").kernel

    def zero(epoch, logs):
        if epoch == 0:
            values = keras.ops.convert_to_numpy(kernel).copy()
            values[:3] = 0.0
            kernel.assign(values)

    ours = ap.PruningCallback(ap.schedules.OneShot(0.5, at=3), "magnitude")
    x, y = models.data(samples=24)
    x[:, :3] = 0.0
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=zero), ours]
    history = model.fit(x, y, batch_size=8, epochs=4, verbose=0, callbacks=callbacks).history
    masked = [np.count_nonzero(~mask) for mask in ours.masks().values()]
    assert ours.table()["pruned"].sum() == 44
    assert sum(masked) == 44
    assert history["target_sparsity"] == [0, 0, 0.5, 0.5]


@pytest.mark.parametrize("kind", ["pruning", "keeping"])
def test_what_is_written_before_an_epoch_does_not_train(kind):
    class Write(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.model.set_weights([np.ones_like(w) for w in self.model.get_weights()])

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 0:
                seen.append(models.pruned(self.model, *LAYERS))

    seen, model = [], models.compiled(models.mlp(), KO.SGD(0.1))
    if kind == "pruning":
        ours = ap.PruningCallback(ap.schedules.OneShot(0.75, at=1), "magnitude")
    else:
        ap.prune(model, 0.75)
        ours = ap.KeepPruned(exclude=["out"])
    with pytest.warns(UserWarning, match="no longer zeros"):
        model.fit(*models.data(), epochs=3, verbose=0, callbacks=[Write(), ours, Look()])
    assert seen[1:] == [0.75] * 2


def test_two_owners_of_one_kernel():
    """What either of them masks stays zero."""
    model = models.compiled(models.mlp(), KO.SGD(0.1, momentum=0.9))
    x, y = models.data()
    model.fit(x, y, verbose=0)  # momenta
    hooks, (site, *_) = attachment(model), ap.sites.find(model).sites
    union = np.ones(site.kernel().shape, bool)
    for owner, rows in (("one", slice(0, 4)), ("two", slice(2, 6))):
        alive = np.ones_like(union)
        alive[rows, :4] = False
        hooks.mask(owner, [site])
        hooks.set_masks(owner, [site], {site.name: alive})
        union &= alive
    model.fit(x, y, epochs=2, verbose=0)
    assert ((site.kernel() != 0) == union).all()
    hooks.remove()


def test_a_plain_training_step_does_not_pay(monkeypatch):
    """Where Keras's own step runs, weights are not masked once more after it."""
    calls = []
    monkeypatch.setattr(Gradients, "_mask_all", lambda self, model, result: calls.append(1))
    model = models.compiled(models.mlp(), KO.Adam(0.01))
    ap.prune(model, 0.5)
    model.fit(*models.data(), epochs=1, verbose=0, callbacks=[ap.KeepPruned()])
    assert calls == []
