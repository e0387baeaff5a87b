"""When the callbacks prune, what they say about it, and what they refuse."""

import subprocess
import sys
import textwrap
import warnings

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap

LAYERS = ("a", "b")
WEIGHTS = 6 * 8 + 8 * 5


class Scripted(keras.callbacks.Callback):
    """Reports the accuracy it is told to, one value per epoch."""

    def __init__(self, *values, name="accuracy"):
        super().__init__()
        self.values, self.name = values, name

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]


class Steps(keras.callbacks.Callback):
    """Measures the sparsity after each step, as any callback of a user's might."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        self.seen.append(models.pruned(self.model, *LAYERS))


def fit(schedule, epochs=3, callbacks=(), model=None, samples=24, **kwargs):
    model = models.compiled(models.mlp()) if model is None else model
    kwargs.setdefault("criterion", "magnitude")
    pruner = ap.PruningCallback(schedule, **kwargs)
    x, y = models.data(samples=samples)
    history = model.fit(
        x, y, batch_size=4, epochs=epochs, verbose=0, callbacks=[*callbacks, pruner]
    )
    return model, pruner, history.history


def rounded(sparsity):
    """The sparsity after rounding to whole weights."""
    return np.floor(sparsity * WEIGHTS + 0.5) / WEIGHTS


# -- when ------------------------------------------------------------------------------------------


def test_events_by_epoch():
    schedule = ap.schedules.Linear(0.6, begin=1, end=3)
    model, pruner, history = fit(schedule, epochs=5)
    assert history["sparsity"] == [0.0, rounded(0.3), *[rounded(0.6)] * 3]
    assert history["target_sparsity"] == pytest.approx([0.0, 0.3, 0.6, 0.6, 0.6])
    assert pruner.table()["epoch"].unique().tolist() == [1, 2, 3]
    assert pruner.table()["step"].unique().tolist() == [6, 12, 18]
    assert models.pruned(model, *LAYERS) == rounded(0.6)


def test_events_by_step_in_the_middle_of_an_epoch():
    schedule = ap.schedules.Linear(0.6, begin=2, end=8, frequency=3, by="step")
    steps = Steps()
    pruner = ap.PruningCallback(schedule, "magnitude")
    x, y = models.data(samples=24)
    model = models.compiled(models.mlp(), keras.optimizers.Adam(0.01))
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[pruner, steps])
    assert steps.seen == [0.0] * 4 + [rounded(0.3)] * 3 + [rounded(0.6)] * 5
    events = pruner.table().groupby("event")[["epoch", "step"]].first().to_numpy().tolist()
    assert events == [[0, 2], [0, 5], [1, 8]]


def test_an_event_before_training():
    steps = Steps()
    _, pruner, _ = fit(ap.schedules.OneShot(0.5, at=0), epochs=1, callbacks=[steps])
    assert steps.seen == [0.5] * 6
    assert pruner.table()["step"].tolist() == [0, 0]


@pytest.mark.parametrize("granularity", ["weight", "unit"])
def test_accuracy_triggers_in_order_and_at_most_once_an_epoch(granularity):
    schedule = ap.schedules.AccuracyTriggered(0.5, 0.9, events=3, final_sparsity=0.6)
    # Levels 0.5, 0.7, 0.9: too low, all three reached at once, back down, up again.
    accuracies = (0.4, 0.95, 0.6, 0.6, 0.75, 0.8, 0.95)
    model = models.compiled(models.mlp(hidden=(30, 20)))
    _, pruner, history = fit(
        schedule, 7, [Scripted(*accuracies)], model=model, granularity=granularity
    )
    events = pruner.table().groupby("event")[["epoch", "target_sparsity"]].first()
    assert events["epoch"].tolist() == [2, 5, 7]
    np.testing.assert_allclose(events["target_sparsity"], schedule.targets)
    grain = 1e-3 if granularity == "weight" else 30 / 780
    np.testing.assert_allclose(history["sparsity"][-1], 0.6, atol=grain)


@pytest.mark.filterwarnings("ignore:.*no validation data")
def test_a_metric_that_falls():
    schedule = ap.schedules.AccuracyTriggered(
        2.0, 1.0, events=2, final_sparsity=0.5, monitor="val_loss"
    )
    _, pruner, _ = fit(schedule, 4, [Scripted(3.0, 1.5, 1.5, 0.9, name="val_loss")])
    assert pruner.table()["epoch"].unique().tolist() == [2, 4]


def test_schedule_objects_of_tfmot():
    pytest.importorskip("tensorflow_model_optimization")
    code = """
        import tensorflow_model_optimization as tfmot  # sets TF_USE_LEGACY_KERAS=1
        import activation_pruning as ap, keras, models
        sparsity = tfmot.sparsity.keras
        schedules = [
            sparsity.PolynomialDecay(0.0, 0.5, begin_step=2, end_step=10, frequency=2),
            sparsity.ConstantSparsity(0.5, begin_step=4, frequency=3),
        ]
        for schedule in schedules:
            model = models.compiled(models.mlp())
            pruner = ap.PruningCallback(schedule, "activation_magnitude")
            x, y = models.data(samples=24)
            history = model.fit(x, y, batch_size=4, epochs=3, verbose=0, callbacks=[pruner])
            steps = pruner.table()["step"].unique().tolist()
            print(steps, history.history["sparsity"], models.pruned(model, "a", "b"))
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, cwd=models.HERE, env=models.environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    polynomial, constant = done.stdout.strip().splitlines()[-2:]
    at_six = rounded(0.5 * (1 - (1 - 4 / 8) ** 3))
    assert polynomial == f"[2, 4, 6, 8, 10] {[float(at_six), 0.5, 0.5]} 0.5"
    assert constant.endswith("[0.5, 0.5, 0.5] 0.5")
    assert constant.startswith("[4, 7, 10, 13, 16]")


# -- what is told ----------------------------------------------------------------------------------


def test_the_table_of_events():
    model, pruner, _ = fit(ap.schedules.Linear(0.6, begin=1, end=3), epochs=3)
    table = pruner.table()
    assert list(table) == [
        "event", "epoch", "step", "layer", "site", "target_sparsity", "total_sparsity",
        "sparsity", "pruned", "weights",
    ]  # fmt: skip
    assert len(table) == 3 * 2
    last = table[table["event"] == 3].set_index("layer")
    for name, kernel in zip(LAYERS, models.kernels(model, *LAYERS), strict=True):
        assert last.loc[name, "pruned"] == (kernel == 0).sum()
        assert last.loc[name, "sparsity"] == pytest.approx((kernel == 0).mean())
    assert (table["pruned"].groupby(table["event"]).sum() / WEIGHTS).tolist() == [
        0.0,
        rounded(0.3),
        rounded(0.6),
    ]


def test_history_of_the_pruned_and_of_the_kept():
    """With KeepPruned beside it, which looks at more layers, the PruningCallback has the say."""
    for order in (1, -1):
        pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "magnitude")
        model = models.compiled(models.mlp())
        callbacks = [ap.KeepPruned(), pruner][::order]
        history = model.fit(*models.data(), epochs=2, verbose=0, callbacks=callbacks)
        assert history.history["sparsity"] == [0.5, 0.5]


def test_tables_before_a_fit():
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5), "magnitude")
    assert len(pruner.table()) == 0
    with pytest.raises(ValueError, match="needs no activity"):
        pruner.activity()
    with pytest.raises(ValueError, match="nothing counted yet"):
        ap.ActivationCounter().table()


def test_the_same_seed_gives_the_same_masks():
    def zeros(seed):
        keras.utils.set_random_seed(3)
        model, _, _ = fit(ap.schedules.OneShot(0.5), 1, criterion="random", seed=seed)
        return [(kernel == 0).tolist() for kernel in models.kernels(model, *LAYERS)]

    assert zeros(1) == zeros(1)
    assert zeros(1) != zeros(2)


def test_counts_anew_after_each_event():
    schedule = ap.schedules.Constant(0.5, begin=1)
    _, pruner, _ = fit(schedule, 3, criterion="activation", reset_counts=False)
    assert (pruner.activity()["samples"] == 72).all()
    _, pruner, _ = fit(
        ap.schedules.OneShot(0.5, at=2), 3, criterion="activation", reset_counts=True
    )
    assert (pruner.activity()["samples"] == 24).all()


# -- zeros that are there already ------------------------------------------------------------------


def test_zeros_found_at_the_start_count_as_pruned():
    model = models.compiled(models.mlp())
    ap.prune(model, 0.25)
    zeros = [kernel == 0 for kernel in models.kernels(model, *LAYERS)]
    _, _, history = fit(ap.schedules.OneShot(0.5, at=2), 3, model=model)
    assert history["sparsity"] == [0.25, 0.5, 0.5]
    for kernel, zero in zip(models.kernels(model, *LAYERS), zeros, strict=True):
        assert not kernel[zero].any()


def test_zeros_are_not_respected_on_request():
    model = models.compiled(models.mlp(activation="tanh"), keras.optimizers.Adam(0.05))
    ap.prune(model, 0.6)
    _, _, history = fit(ap.schedules.OneShot(0.5, at=2), 3, model=model, respect_zeros=False)
    assert history["sparsity"][0] < 0.5
    assert history["sparsity"][1:] == [0.5, 0.5]


def test_a_kernel_that_starts_as_zeros_is_not_a_pruned_one():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, name="a"),
            keras.layers.Dense(5, kernel_initializer="zeros", name="b"),
            keras.layers.Dense(models.CLASSES, "softmax", name="out"),
        ]
    )
    model, _, history = fit(ap.schedules.OneShot(0.5, at=2), 3, model=models.compiled(model))
    assert history["sparsity"] == [0.0, 0.5, 0.5]
    assert models.kernels(model, "b")[0].any()


# -- what is refused, and what is warned about -----------------------------------------------------


@pytest.fixture
def untouched():
    """A model and what to call when its weights must be as before."""
    model = models.compiled(models.mlp())
    before = model.get_weights()

    def check():
        assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))

    return model, check


def watching(monitor, level=0.0):
    schedule = ap.schedules.AccuracyTriggered(level, level, 1, 0.5, monitor=monitor)
    return ap.PruningCallback(schedule, "magnitude")


@pytest.mark.parametrize("monitor", ["accuracyy", "val_f1", "learning_rate"])
def test_a_metric_that_is_not_produced(untouched, monitor):
    model, unchanged = untouched
    x, y = models.data()
    with pytest.raises(ValueError, match=r"accuracy.*loss"):
        model.fit(x, y, verbose=0, callbacks=[watching(monitor)], validation_data=(x, y))
    unchanged()


def test_a_validation_metric_without_validation_data(untouched):
    model, unchanged = untouched
    x, y = models.data()
    with pytest.raises(ValueError, match=r"no validation data.*or watch 'accuracy'"):
        model.fit(x, y, verbose=0, callbacks=[watching("val_accuracy")])
    unchanged()
    callbacks = [Scripted(0.9, name="val_accuracy"), watching("val_accuracy")]
    with pytest.warns(UserWarning, match="no validation data"):
        model.fit(x, y, verbose=0, callbacks=callbacks)
    assert models.pruned(model, *LAYERS) == 0.5


def test_a_metric_that_comes_in_some_epochs_only():
    model = models.compiled(models.mlp())
    x, y = models.data()
    pruner = watching("val_accuracy")
    arguments = {"validation_split": 0.25, "validation_freq": 2}
    model.fit(x, y, verbose=0, epochs=2, callbacks=[pruner], **arguments)
    assert pruner.table()["epoch"].unique().tolist() == [2]


def test_metrics_that_others_log():
    class Model(keras.Sequential):
        def compute_metrics(self, *args, **kwargs):
            return super().compute_metrics(*args, **kwargs) | {"mine": 1.0}

    x, y = models.data()
    model = models.compiled(Model([keras.Input((6,)), *models.mlp().layers]))
    model.fit(x, y, verbose=0, callbacks=[watching("mine")])
    assert models.pruned(model, *LAYERS) == 0.5
    model = models.compiled(models.mlp())
    rate = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1)
    model.fit(x, y, verbose=0, callbacks=[rate, watching("learning_rate")])
    assert models.pruned(model, *LAYERS) == 0.5


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="Keras itself fails before any callback"
)
def test_empty_training_data(untouched):
    model, unchanged = untouched
    x, y = models.data()
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1))
    with pytest.raises(ValueError, match="empty"):
        model.fit(x[:0], y[:0], verbose=0, callbacks=[pruner])
    unchanged()


def test_a_callback_list_without_parameters(untouched):
    model, unchanged = untouched
    x, y = models.data()
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1))
    with pytest.raises(ValueError, match="give fit a plain list"):
        model.fit(x, y, verbose=0, callbacks=keras.callbacks.CallbackList([pruner], model=model))
    unchanged()


@pytest.mark.parametrize("place", [0, 1])
def test_a_checkpoint_is_not_denser_or_says_so(tmp_path, place):
    path = tmp_path / "best.keras"
    saver = keras.callbacks.ModelCheckpoint(path, monitor="loss", save_best_only=True)
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=2), "magnitude")
    model = models.compiled(models.mlp())
    x, y = models.data()
    callbacks = [pruner]
    callbacks.insert(place, saver)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(x, y, epochs=2, verbose=0, callbacks=callbacks)
    denser = [w for w in told if "holds a denser network" in str(w.message)]
    assert len(denser) == (1 if place == 0 else 0)
    wanted = 0.0 if place == 0 else 0.5
    assert models.pruned(keras.saving.load_model(path), *LAYERS) == wanted


def test_two_callbacks_measure_together():
    first, second = LAYERS[:2]
    x, y = models.data()
    model = models.compiled(models.mlp())
    both = [
        ap.PruningCallback(ap.schedules.OneShot(share, at=1), "magnitude", include=name)
        for share, name in ((0.5, first), (0.75, second))
    ]
    history = model.fit(x, y, verbose=0, callbacks=both).history
    assert history["sparsity"][-1] == pytest.approx(models.pruned(model, first, second))


def test_keep_pruned_keeps_what_is_pruned_meanwhile():
    class Prune(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                ap.prune(self.model, 0.5)

    model = models.compiled(models.mlp(), "adam")
    x, y = models.data()
    model.fit(x, y, epochs=3, verbose=0, callbacks=[ap.KeepPruned(), Prune()])
    assert models.pruned(model, *LAYERS) == 0.5


@pytest.mark.parametrize("monitor", ["acc", "val_nll", "loss", "top"])
def test_metrics_that_are_produced(monitor):
    metrics = ["acc", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top")]
    nll = keras.metrics.SparseCategoricalCrossentropy(name="nll")
    model = models.compiled(models.mlp(), metrics=metrics, weighted_metrics=[nll])
    start = 9.0 if "loss" in monitor else 0.0
    schedule = ap.schedules.AccuracyTriggered(start, start, 1, 0.5, monitor=monitor)
    pruner = ap.PruningCallback(schedule, "magnitude")
    x, y = models.data()
    model.fit(x, y, verbose=0, callbacks=[pruner], validation_data=(x, y))
    assert models.pruned(model, *LAYERS) == 0.5


def test_metrics_of_several_outputs():
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, name="a")(inputs)
    heads = [keras.layers.Dense(3, "softmax", name=name)(hidden) for name in ("left", "right")]
    model = keras.Model(inputs, heads)
    loss = ["sparse_categorical_crossentropy"] * 2
    model.compile("sgd", loss, metrics=[["accuracy"], ["accuracy"]])
    schedule = ap.schedules.AccuracyTriggered(0.0, 0.0, 1, 0.5, monitor="right_accuracy")
    x, y = models.data()
    model.fit(x, [y, y], verbose=0, callbacks=[ap.PruningCallback(schedule, "magnitude")])
    assert models.pruned(model, "a") == 0.5


def test_activity_asked_for_before_anything_is_counted():
    model = models.compiled(models.mlp())
    with pytest.warns(UserWarning, match="before any training step"):
        _, pruner, history = fit(ap.schedules.Constant(0.5), model=model, criterion="activation")
    assert pruner.table()["epoch"].unique().tolist()[0] == 1
    assert history["sparsity"] == [0.5] * 3


@pytest.mark.parametrize("by", ["epoch", "step"])
def test_a_first_target_of_zero_is_no_event(by):
    schedule = ap.schedules.Linear(0.5, begin=0, end=2, by=by)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        _, pruner, history = fit(schedule, criterion="activation_magnitude")
    assert history["sparsity"][-1] == 0.5
    assert (pruner.table()["target_sparsity"] > 0).all()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"criterion": "magnitud"}, "magnitude"),
        ({"allocation": "globl"}, "global"),
        ({"granularity": "units"}, "unit"),
    ],
)
def test_unknown_names(arguments, match):
    with pytest.raises(ValueError, match=match):
        ap.PruningCallback(ap.schedules.OneShot(0.5), **arguments)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"exclude": ["aa"]}, "Did you mean 'a'"),
        ({"granularity": "4:5"}, "; a: 4:5 granularity needs an input axis that 5 divides"),
        ({"granularity": "2:4", "include": ["b"]}, "2:4|0.5"),
    ],
)
def test_settings_that_do_not_fit_the_model(untouched, arguments, match):
    model, unchanged = untouched
    with pytest.raises(ValueError, match=match):
        fit(ap.schedules.OneShot(0.75), model=model, **arguments)
    unchanged()


def test_weights_that_are_not_finite():
    model = models.compiled(models.mlp())
    kernel, bias = model.get_layer("b").get_weights()
    kernel[0, 0] = np.nan
    model.get_layer("b").set_weights([kernel, bias])
    with pytest.raises(ValueError, match=r"'b'.*NaN"):
        fit(ap.schedules.OneShot(0.5), model=model)


def test_a_model_that_is_not_built():
    model = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(3)])
    models.compiled(model)
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(ValueError, match="not built"):
            fit(ap.schedules.OneShot(0.5), model=model)
    else:  # built by `fit` itself, from the first batch, before callbacks see it
        _, pruner, _ = fit(ap.schedules.OneShot(0.5), model=model)
        assert pruner.table()["total_sparsity"].iloc[-1] == 0.5


@pytest.mark.parametrize(
    "schedule",
    [
        ap.schedules.OneShot(0.5, at=9),
        ap.schedules.OneShot(0.5, at=90, by="step"),
        ap.schedules.AccuracyTriggered(0.5, 0.9, events=9, final_sparsity=0.5),
    ],
    ids=["epoch", "step", "accuracy"],
)
def test_a_schedule_that_cannot_fire_warns_before_the_first_epoch(schedule):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            raise StopIteration

    with pytest.warns(UserWarning, match="Train longer"), pytest.raises(StopIteration):
        fit(schedule, 3, [Stop()])


def test_a_target_that_was_not_reached_warns_at_the_end():
    schedule = ap.schedules.AccuracyTriggered(0.5, 0.9, events=2, final_sparsity=0.5)
    with pytest.warns(UserWarning, match=r"after 3 epochs at sparsity 0\.27.*1 events"):
        fit(schedule, 3, [Scripted(0.1, 0.6, 0.8)])


@pytest.mark.parametrize("granularity", ["weight", "unit"])
def test_a_fit_that_does_what_it_should_warns_of_nothing(granularity):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(ap.schedules.Linear(0.5, 1, 2), 3, granularity=granularity)


def test_no_epochs_at_all():
    model, pruner, _ = fit(ap.schedules.OneShot(0.5, at=0), epochs=0)
    assert len(pruner.table()) == 0
    assert models.pruned(model, *LAYERS) == 0


def test_weights_restored_by_a_callback_of_the_users_own_are_masked_again():
    class Restore(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.weights = self.model.get_weights()

        def on_train_end(self, logs=None):
            self.model.set_weights(self.weights)

    with pytest.warns(UserWarning, match="restored"):
        model, _, _ = fit(ap.schedules.OneShot(0.5), 2, [Restore()])
    assert models.pruned(model, *LAYERS) == 0.5


def test_what_a_fit_leaves_out_is_told():
    model, (x, y) = models.compiled(models.mlp()), models.data()
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), exclude="a")
    model.fit(x, y, verbose=0, callbacks=[pruner])
    table = pruner.left_out()
    assert table.columns.tolist() == ["layer", "reason"]
    assert dict(table.values.tolist())["a"] == "excluded"
