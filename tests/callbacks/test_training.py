"""Pruned weights stay exact zeros and the others learn, whatever `fit` is asked to do."""

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap

pytestmark = pytest.mark.backend

BACKEND = keras.backend.backend()
LAYERS = ("a", "b")


def pruner(at=1, sparsity=0.5, criterion="magnitude", by="epoch", **kwargs):
    return ap.PruningCallback(ap.schedules.OneShot(sparsity, at=at, by=by), criterion, **kwargs)


class Masks(keras.callbacks.Callback):
    """Looks at the zeros at the end of every step and epoch after the event."""

    def __init__(self, watched):
        super().__init__()
        self.watched, self.after_event, self.revived = watched, None, 0

    def on_epoch_begin(self, epoch, logs=None):
        if self.after_event is None and len(self.watched.table()):
            self.after_event = models.kernels(self.model, *LAYERS)

    def on_train_batch_end(self, batch, logs=None):
        if BACKEND != "jax":  # whose steps leave the variables of the model alone
            self._look()

    def on_epoch_end(self, epoch, logs=None):
        self._look()

    def _look(self):
        if self.after_event is not None:
            for before, now in zip(
                self.after_event, models.kernels(self.model, *LAYERS), strict=True
            ):
                self.revived += np.count_nonzero(now[before == 0])


def check(model, history, callback, masks, sparsity=0.5, total=(6 * 8 + 8 * 5)):
    """Exact zeros, the measured sparsity reported, and surviving weights that learn."""
    assert masks.revived == 0
    assert history.history["sparsity"][-1] == sparsity == models.pruned(model, *LAYERS)
    assert callback.table()["total_sparsity"].iloc[-1] == sparsity
    for before, now in zip(masks.after_event, models.kernels(model, *LAYERS), strict=True):
        alive = before != 0
        assert not now[~alive].any()
        assert (now[alive] != before[alive]).mean() > 0.25  # a dead unit learns nothing


def train(model, epochs=3, callbacks=(), **kwargs):
    """Prune half of the two hidden layers after the first epoch and train on."""
    callback = pruner()
    masks = Masks(callback)
    x, y = models.data(samples=24)
    arguments = {"batch_size": 4, "epochs": epochs, "verbose": 0, **kwargs}
    if "x" not in arguments:
        arguments.update(x=x, y=y)
    history = model.fit(callbacks=[callback, masks, *callbacks], **arguments)
    check(model, history, callback, masks)
    return history


KO = keras.optimizers
OPTIMIZERS = {
    "sgd": lambda: KO.SGD(0.1),
    "momentum": lambda: KO.SGD(0.1, momentum=0.9),
    "nesterov": lambda: KO.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: KO.Adam(0.01),
    "amsgrad": lambda: KO.Adam(0.01, amsgrad=True),
    "adamw": lambda: KO.AdamW(0.01, weight_decay=0.1),
    "adam ema": lambda: KO.Adam(0.01, use_ema=True, ema_momentum=0.9),
    "adam ema overwriting": lambda: KO.Adam(0.01, use_ema=True, ema_overwrite_frequency=2),
    "lion": lambda: KO.Lion(0.01),
    "rmsprop": lambda: KO.RMSprop(0.01, momentum=0.9, centered=True),
    "adafactor": lambda: KO.Adafactor(0.1, epsilon_1=1e-7),  # Keras's 1e-30 gives NaN by itself
    "adagrad": lambda: KO.Adagrad(0.1),
    "adadelta": lambda: KO.Adadelta(1.0),
    "ftrl": lambda: KO.Ftrl(0.1),
    "lamb": lambda: KO.Lamb(0.01),
    "nadam": lambda: KO.Nadam(0.01),
    "adamax": lambda: KO.Adamax(0.01),
    "muon": lambda: KO.Muon(0.01),
    "muon ema": lambda: KO.Muon(0.01, use_ema=True, ema_overwrite_frequency=2),
    "accumulation": lambda: KO.Adam(0.01, gradient_accumulation_steps=2),
    "clipnorm": lambda: KO.SGD(0.1, momentum=0.9, clipnorm=0.1),
    "global clipnorm": lambda: KO.SGD(0.1, momentum=0.9, global_clipnorm=0.1),
    "weight decay": lambda: KO.SGD(0.1, momentum=0.9, weight_decay=0.1),
    "loss scale": lambda: KO.LossScaleOptimizer(KO.Adam(0.01), initial_scale=4.0),
    "learning rate schedule": lambda: KO.Adam(KO.schedules.CosineDecay(0.05, 20)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zeros_stay_zeros_under(name):
    train(models.compiled(models.mlp(), OPTIMIZERS[name]()))


def test_averages_swapped_in_by_the_callback_of_keras():
    optimizer = KO.Adam(0.01, use_ema=True, ema_momentum=0.9)
    model = models.compiled(models.mlp(), optimizer)
    train(
        model, callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
        validation_data=models.data(),
    )  # fmt: skip
    assert models.pruned(model, *LAYERS) == 0.5


@pytest.mark.skipif(not hasattr(KO, "MultiOptimizer"), reason="this Keras has no MultiOptimizer")
def test_several_optimizers_in_one():
    adam = KO.Adam(0.01, use_ema=True, ema_momentum=0.9)
    sgd = KO.SGD(0.1, momentum=0.9)
    optimizer = KO.MultiOptimizer(lambda variable: adam if "a/" in variable.path else sgd)
    train(models.compiled(models.mlp(), optimizer))


class Shift(keras.constraints.Constraint):
    """A constraint that moves every weight, zeros as well."""

    def __call__(self, w):
        return w + 0.01


REGULAR = {
    "l2": {"kernel_regularizer": keras.regularizers.L2(0.1)},
    "orthogonal": {"kernel_regularizer": keras.regularizers.OrthogonalRegularizer(0.5)},
    "max norm": {"kernel_constraint": keras.constraints.MaxNorm(0.5)},
    "shifting constraint": {"kernel_constraint": Shift()},
}


@pytest.mark.parametrize("name", REGULAR)
def test_zeros_stay_zeros_with(name):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, "relu", name="a", **REGULAR[name]),
            keras.layers.Dense(5, "relu", name="b", **REGULAR[name]),
            keras.layers.Dense(models.CLASSES, "softmax", name="out"),
        ]
    )
    train(models.compiled(model, KO.Adam(0.01)))


def test_a_frozen_layer_is_pruned_and_kept():
    model = models.mlp()
    model.get_layer("a").trainable = False
    models.compiled(model, KO.Adam(0.01))
    x, y = models.data()
    model.fit(x, y, verbose=0, epochs=2, callbacks=[pruner(include=LAYERS)])
    before = models.kernels(model, *LAYERS)
    assert models.pruned(model, *LAYERS) == 0.5
    model.fit(x, y, verbose=0, callbacks=[ap.KeepPruned()])
    after = models.kernels(model, *LAYERS)
    assert (before[0] == after[0]).all()
    assert ((before[1] == 0) == (after[1] == 0)).all()
    assert (before[1] != after[1]).any()


@pytest.mark.parametrize("kind", models.KINDS)
def test_every_model_kind_keeps_its_zeros(kind):
    model = models.compiled(getattr(models, kind)(), KO.Adam(0.01))
    x, y = models.data_for(kind)
    callback = ap.PruningCallback(
        ap.schedules.Linear(0.5, begin=1, end=2), "activation_magnitude", exclude=["out"]
    )
    history = model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[callback])
    found = ap.sites.find(model, exclude=["out"]).sites
    zeros = sum((site.kernel() == 0).sum() for site in found)
    weights = sum(site.kernel().size for site in found)
    assert zeros == int(np.floor(0.5 * weights + 0.5))
    assert history.history["sparsity"] == [0.0, zeros / weights, zeros / weights]
    last = callback.table().query("event == event.max()")
    assert dict(zip(last["site"], last["pruned"], strict=True)) == {
        site.name: (site.kernel() == 0).sum() for site in found
    }


# -- what `compile` and `fit` can be asked for -----------------------------------------------------


@pytest.mark.skipif(BACKEND == "torch", reason="torch has no steps_per_execution")
@pytest.mark.parametrize("by", ["epoch", "step"])
def test_steps_per_execution(by):
    model = models.compiled(models.mlp(), KO.Adam(0.01), steps_per_execution=4)
    x, y = models.data(samples=24)
    callback = pruner(at=1 if by == "epoch" else 3, criterion="activation", by=by)
    counter = ap.ActivationCounter()
    history = model.fit(
        x, y, batch_size=4, epochs=2, verbose=0, callbacks=[callback, counter], shuffle=False
    )
    assert (counter.table()["samples"] == 48).all()
    assert history.history["sparsity"] == [0.5, 0.5] == [models.pruned(model, *LAYERS)] * 2
    assert callback.table()["step"].iloc[0] == (6 if by == "epoch" else 4)


COMPILED = [{"jit_compile": False}, {"run_eagerly": True}]
if BACKEND != "torch":
    COMPILED.append({"jit_compile": True})


@pytest.mark.parametrize("options", COMPILED, ids=str)
def test_compile(options):
    train(models.compiled(models.mlp(), KO.Adam(0.01), **options), validation_data=models.data())


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_half_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = models.compiled(models.mlp(), KO.Adam(0.05))
    finally:
        keras.config.set_dtype_policy("float32")
    assert policy != "mixed_float16" or isinstance(model.optimizer, KO.LossScaleOptimizer)
    callback = pruner(criterion="activation_magnitude")
    x, y = models.data()
    history = model.fit(x, y, batch_size=4, epochs=3, verbose=0, callbacks=[callback])
    sites = ap.sites.find(model).sites
    assert sum((site.kernel() == 0).sum() for site in sites) == 44
    assert history.history["sparsity"] == [0.5] * 3


def test_class_and_sample_weights():
    train(models.compiled(models.mlp(), KO.Adam(0.01)), class_weight={0: 1.0, 1: 2.0, 2: 0.5})
    keras.utils.set_random_seed(0)
    weights = np.linspace(0.1, 1, 24).astype("float32")
    train(models.compiled(models.mlp(), KO.Adam(0.01)), sample_weight=weights)


class Batches(keras.utils.PyDataset):
    def __init__(self):
        super().__init__()
        self.x, self.y = models.data(samples=24)

    def __len__(self):
        return 6

    def __getitem__(self, index):
        part = slice(4 * index, 4 * index + 4)
        return self.x[part], self.y[part]


def generated():
    source = Batches()
    for _ in range(3):
        for index in range(6):
            yield source[index]


def datasets():
    yield "PyDataset", lambda: ({"x": Batches()})
    yield "generator", lambda: {"x": generated(), "steps_per_epoch": 6}

    def unknown_length():
        tf = pytest.importorskip("tensorflow")
        dataset = tf.data.Dataset.from_tensor_slices(models.data(samples=24)).batch(4)
        return {"x": dataset.filter(lambda x, y: True)}

    yield "tf.data of unknown length", unknown_length


@pytest.mark.parametrize(
    ("name", "make"), list(datasets()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_data_from(name, make):
    train(models.compiled(models.mlp(), KO.Adam(0.01)), batch_size=None, **make())


# -- neighbours: other callbacks -------------------------------------------------------------------


class Scripted(keras.callbacks.Callback):
    """Reports the metric values it is told to, one per epoch."""

    def __init__(self, *values, name="val_loss"):
        super().__init__()
        self.values, self.name = values, name

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[min(epoch, len(self.values) - 1)]


def in_order(order, neighbour, callback):
    return [neighbour, callback] if order == "before" else [callback, neighbour]


ORDERS = pytest.mark.parametrize("order", ["before", "after"])


@ORDERS
@pytest.mark.parametrize(
    ("losses", "epochs", "trained"),
    [
        ((1, 2, 3, 4, 5, 6), 6, None),  # the dense first epochs were the best
        ((1, 2, 5, 4, 6, 7, 8), 9, 6),  # stopped by patience after the event
        ((1, 2), 2, 2),  # epochs run out at the event
        ((3, 2, 1), 3, 3),
    ],
)
def test_early_stopping_never_restores_a_denser_network(order, losses, epochs, trained, recwarn):
    model = models.compiled(models.mlp(), KO.Adam(0.01))
    stopping = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    x, y = models.data()
    callbacks = [Scripted(*losses), *in_order(order, stopping, pruner(at=2))]
    history = model.fit(x, y, epochs=epochs, verbose=0, callbacks=callbacks)
    assert models.pruned(model, *LAYERS) == 0.5
    assert history.history["sparsity"][-1] == 0.5
    # Nor are denser weights brought back and masked again: what is left learned with its masks.
    assert not [warning for warning in recwarn if "restored" in str(warning.message)]
    if trained:
        assert len(history.history["loss"]) == trained


def test_early_stopping_restores_the_best_pruned_epoch():
    model = models.compiled(models.mlp(), KO.Adam(0.01))
    stopping = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    kept = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: kept.append(model.get_weights())
    )
    x, y = models.data()
    callbacks = [Scripted(0, 0, 9, 5, 6, 7), pruner(at=2), stopping, keep]
    model.fit(x, y, epochs=8, verbose=0, callbacks=callbacks)
    assert len(kept) == 6
    for restored, expected in zip(model.get_weights(), kept[3], strict=True):
        assert (restored == expected).all()


@ORDERS
def test_early_stopping_used_again_in_a_second_fit(order):
    stopping = keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True)
    x, y = models.data()
    model = models.compiled(models.mlp(), KO.Adam(0.01))
    model.fit(x, y, epochs=3, verbose=0, callbacks=[Scripted(0.1), stopping])
    callbacks = [Scripted(5, 4, 3, 2, 1), *in_order(order, stopping, pruner(at=2))]
    history = model.fit(x, y, epochs=5, verbose=0, callbacks=callbacks)
    assert len(history.history["loss"]) == 5
    assert models.pruned(model, *LAYERS) == 0.5


@ORDERS
def test_repeated_targets_do_not_keep_early_stopping_from_stopping(order):
    stopping = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    constant = ap.PruningCallback(ap.schedules.Constant(0.5, begin=1), "magnitude")
    model = models.compiled(models.mlp(), KO.Adam(0.01))
    callbacks = [Scripted(1, 2, 3, 4, 5, 6, 7, 8), *in_order(order, stopping, constant)]
    history = model.fit(*models.data(), epochs=8, verbose=0, callbacks=callbacks)
    assert len(history.history["loss"]) == 4
    assert models.pruned(model, *LAYERS) == 0.5


@ORDERS
def test_the_best_checkpoint_after_the_last_event_is_a_pruned_one(order, tmp_path):
    model = models.compiled(models.mlp(), KO.Adam(0.01))
    best = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    callbacks = [Scripted(1, 2, 6, 5, 7), *in_order(order, best, pruner(at=2))]
    model.fit(*models.data(), epochs=5, verbose=0, callbacks=callbacks)
    loaded = keras.models.load_model(tmp_path / "best.keras")
    assert models.pruned(loaded, *LAYERS) == 0.5
    assert best.best == 5


def test_learning_rate_reduction_starts_its_comparison_over():
    model = models.compiled(models.mlp(), KO.Adam(0.01))
    plateau = keras.callbacks.ReduceLROnPlateau(patience=2, factor=0.5)
    callbacks = [Scripted(1, 0, 6, 5, 4), pruner(at=2), plateau]
    history = model.fit(*models.data(), epochs=5, verbose=0, callbacks=callbacks)
    assert history.history["learning_rate"] == pytest.approx([0.01] * 5)


class Interrupt(Exception):
    pass


class Interrupter(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch and batch == 1:
            raise Interrupt

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch


SCHEDULES = {
    "polynomial": lambda: ap.schedules.Polynomial(0.8, begin=1, end=5),
    "triggered": lambda: ap.schedules.AccuracyTriggered(0.0, 0.001, events=4, final_sparsity=0.8),
    "one shot": lambda: ap.schedules.OneShot(0.8, at=3),
    "by step": lambda: ap.schedules.Linear(0.8, begin=6, end=30, frequency=6, by="step"),
}


@ORDERS
@pytest.mark.parametrize("name", SCHEDULES)
def test_backup_and_restore_goes_on_where_it_was(name, order, tmp_path):
    x, y = models.data(samples=24)

    def fit(*extra):
        model = models.compiled(models.mlp(), KO.Adam(0.01))
        callback = ap.PruningCallback(SCHEDULES[name](), "activation_magnitude")
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        callbacks = [Scripted(1.0, name="accuracy"), *in_order(order, backup, callback), *extra]
        history = keras.callbacks.History()
        try:
            model.fit(x, y, batch_size=4, epochs=6, verbose=0, callbacks=[*callbacks, history])
        except Interrupt:
            pass
        return model, callback, history.history["sparsity"]

    _, _, uninterrupted = fit()
    _, _, first = fit(Interrupter(epoch=3))
    model, callback, second = fit()
    assert first == uninterrupted[:3]
    # Saved before the event of its epoch when listed first, that event comes an epoch later.
    assert second[0] >= first[-1 if order == "after" else -2]
    assert second == sorted(second)
    assert len(second) == 3
    assert second[-1] == models.pruned(model, *LAYERS) == uninterrupted[-1]
    if order == "after":
        assert second == uninterrupted[3:]
        resumed = {"one shot": [], "by step": [3, 4], "polynomial": [4, 5], "triggered": [4]}
        assert callback.table()["epoch"].unique().tolist() == resumed[name]


# -- custom training steps -------------------------------------------------------------------------


class Custom(keras.Model):
    """The train_step of the Keras guides, for the backend in use; two optimizers on demand."""

    def set_second_optimizer(self, optimizer):
        self.second = optimizer

    if BACKEND == "tensorflow":

        def train_step(self, data):
            import tensorflow as tf

            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            variables = self.trainable_variables
            gradients = tape.gradient(loss, variables)
            pairs = list(zip(gradients, variables, strict=True))
            if hasattr(self, "second"):
                self.second.apply_gradients(pairs[:2])
                pairs = pairs[2:]
            self.optimizer.apply_gradients(pairs)
            return {"loss": loss}

    elif BACKEND == "torch":

        def train_step(self, data):
            import torch

            x, y = data
            self.zero_grad()
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            loss.backward()
            variables = list(self.trainable_weights)
            gradients = [v.value.grad for v in variables]
            with torch.no_grad():
                self.optimizer.apply(gradients, variables)
            return {"loss": loss}

    else:

        def loss_of(self, trainable, fixed, x, y):
            y_pred, fixed = self.stateless_call(trainable, fixed, x, training=True)
            return self.compute_loss(x, y, y_pred), fixed

        def train_step(self, state, data):
            import jax

            trainable, fixed, slots, metrics = state
            compute = jax.value_and_grad(self.loss_of, has_aux=True)
            (loss, fixed), gradients = compute(trainable, fixed, *data)
            trainable, slots = self.optimizer.stateless_apply(slots, gradients, trainable)
            return {"loss": loss}, (trainable, fixed, slots, metrics)


def custom():
    plain = models.mlp()
    return Custom(plain.inputs, plain.outputs)


def test_a_custom_train_step():
    model = models.compiled(custom(), KO.Adam(0.01), metrics=None)
    x, y = models.data()
    counter = ap.ActivationCounter()
    model.fit(x, y, batch_size=8, verbose=0, epochs=2, callbacks=[counter])
    assert (counter.table()["samples"] == 44).all()
    train(model)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="one state per optimizer on the other backends")
def test_a_custom_train_step_with_two_optimizers():
    model = custom()
    model.set_second_optimizer(KO.Adam(0.01, use_ema=True, ema_overwrite_frequency=2))
    models.compiled(model, KO.SGD(0.1, momentum=0.9), metrics=None)
    model.second.build(model.trainable_variables[:2])
    train(model)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="written with GradientTape")
def test_two_networks_trained_against_each_other():
    import tensorflow as tf

    class Gan(keras.Model):
        def __init__(self):
            super().__init__()
            dense = keras.layers.Dense
            self.maker = keras.Sequential([keras.Input((2,)), dense(8, "relu"), dense(6)])
            self.judge = keras.Sequential([keras.Input((6,)), dense(8, "relu"), dense(1)])
            self.built = True

        def compile(self, maker, judge):
            super().compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
            self.maker_optimizer, self.judge_optimizer = maker, judge

        def call(self, z):
            return self.judge(self.maker(z))

        def train_step(self, real):
            z = tf.random.normal((tf.shape(real)[0], 2))
            ones = tf.ones((tf.shape(real)[0], 1))
            with tf.GradientTape(persistent=True) as tape:
                fake = self.judge(self.maker(z, training=True), training=True)
                fooled = self.loss(ones, fake)
                caught = self.loss(0 * ones, fake) + self.loss(
                    ones, self.judge(real, training=True)
                )
            for part, loss, optimizer in (
                (self.maker, fooled, self.maker_optimizer),
                (self.judge, caught, self.judge_optimizer),
            ):
                variables = part.trainable_variables
                optimizer.apply_gradients(
                    zip(tape.gradient(loss, variables), variables, strict=True)
                )
            return {"loss": fooled, "caught": caught}

    gan = Gan()
    gan.compile(KO.Adam(0.01), KO.SGD(0.1, momentum=0.9))
    callback = pruner(criterion="activation_magnitude", exclude=())
    counter = ap.ActivationCounter()
    real = models.data()[0]
    history = gan.fit(real, epochs=3, batch_size=8, verbose=0, callbacks=[callback, counter])
    assert history.history["sparsity"] == [0.5] * 3
    per_layer = counter.table().groupby("layer")["samples"].first()
    assert sorted(per_layer) == [66, 66, 132, 132]  # the judge sees real and made samples


def test_training_goes_on_pruned_after_prune():
    model = models.compiled(models.mlp(), KO.AdamW(0.01))
    x, y = models.data()
    ap.prune(model, 0.75)
    before = models.kernels(model, *LAYERS)
    history = model.fit(x, y, verbose=0, epochs=2, callbacks=[ap.KeepPruned(exclude=["out"])])
    after = models.kernels(model, *LAYERS)
    assert history.history["sparsity"] == [0.75, 0.75]
    assert all(((a == 0) == (b == 0)).all() for a, b in zip(before, after, strict=True))
    assert all((a != b).any() for a, b in zip(before, after, strict=True))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a train_step of TensorFlow's")
def test_a_step_that_hands_on_gradients_alone():
    """`optimizer.apply(gradients)`: the variables are those that it was built for."""
    import tensorflow as tf

    class Own(keras.Sequential):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            self.optimizer.apply(tape.gradient(loss, self.trainable_variables))
            return {"loss": loss}

    layers = keras.layers
    model = Own([keras.Input((6,)), layers.Dense(8, "relu", name="a"), layers.Dense(5, name="b"),
                 layers.Dense(3, "softmax")])  # fmt: skip
    model.compile(KO.Adam(0.01), "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    callback = pruner()
    masks = Masks(callback)
    x, y = models.data(samples=24)
    model.fit(x, y, batch_size=4, epochs=3, verbose=0, callbacks=[callback, masks])
    assert masks.revived == 0
    assert models.pruned(model, *LAYERS) == 0.5
