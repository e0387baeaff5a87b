"""The learning rate starts over: read off a weight whose gradient is always one."""

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap

pytestmark = pytest.mark.backend

KO = keras.optimizers
STEPS = 4  # in an epoch


def curve(step):
    return 0.5 / 2**step


LINEAR = KO.schedules.PolynomialDecay(0.5, decay_steps=4, end_learning_rate=0.1)


class Rates(keras.callbacks.Callback):
    """By how much each step moves a bias whose gradient is one."""

    def __init__(self):
        super().__init__()
        self.seen, self.last = [], None

    def on_train_batch_begin(self, batch, logs=None):
        self.last = self.bias()

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.last - self.bias())

    def bias(self):
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        return float(keras.ops.convert_to_numpy(self.model.layers[-1].bias)[0])


def network(optimizer=None, **kwargs):
    layers = [keras.layers.Dense(20, name="a"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(optimizer or KO.SGD(1.0), lambda y, x: keras.ops.mean(x, axis=-1), **kwargs)
    return model


def train(callbacks, epochs=4, model=None, **kwargs):
    rates, model = Rates(), model or network()
    x, y = np.zeros((2 * STEPS, 4), "float32"), np.zeros((2 * STEPS, 1), "float32")
    history = model.fit(
        x, y, batch_size=2, epochs=epochs, verbose=0, callbacks=[rates, *callbacks], **kwargs
    )
    return rates.seen, history.history


def expected(*since):
    return pytest.approx([curve(step) for step in since], abs=1e-6)


ORDERS = pytest.mark.parametrize("order", [1, -1], ids=["pruner first", "pruner last"])


@ORDERS
def test_events_by_epoch_rewind(order):
    pruner = ap.PruningCallback(ap.schedules.Polynomial(0.8, 1, 3, frequency=2), "magnitude")
    both = [pruner, ap.RewindLearningRate(curve, pruner)][::order]
    rates, history = train(both)
    assert pruner.table()["epoch"].unique().tolist() == [1, 3]
    assert rates == expected(*range(4), *range(8), *range(4))
    assert history["learning_rate"] == expected(3, 3, 7, 3)
    assert history["sparsity"][-1] == 0.8


@ORDERS
def test_events_by_step_rewind(order):
    schedule = ap.schedules.Linear(0.8, begin=3, end=9, frequency=3, by="step")
    pruner = ap.PruningCallback(schedule, "magnitude")
    both = [pruner, ap.RewindLearningRate(curve, pruner)][::order]
    rates, _ = train(both, epochs=3)
    assert rates == expected(*[0, 1, 2] * 4)


def test_rewinds_every_so_many_steps():
    rates, history = train([ap.RewindLearningRate(LINEAR, every=5)], epochs=3)
    assert rates == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1] * 2 + [0.5, 0.4], abs=1e-6)
    assert history["learning_rate"] == pytest.approx([0.2, 0.3, 0.4])


def test_a_resumed_fit_goes_on_with_the_period():
    rates, _ = train([ap.RewindLearningRate(curve, every=5)], epochs=3, initial_epoch=2)
    assert rates == expected(3, 4, 0, 1)
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=3), "magnitude")
    both = [pruner, ap.RewindLearningRate(curve, pruner)]
    rates, _ = train(both, epochs=4, initial_epoch=2)
    assert rates == expected(*range(4), *range(4))


def test_both_rewind():
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "magnitude")
    rates, _ = train([pruner, ap.RewindLearningRate(curve, pruner, every=3)], epochs=2)
    assert rates == expected(0, 1, 2, 0, 0, 1, 2, 0)


def test_under_loss_scaling():
    model = network(KO.LossScaleOptimizer(KO.SGD(1.0), initial_scale=4.0))
    rates, _ = train([ap.RewindLearningRate(curve, every=3)], epochs=1, model=model)
    assert rates == expected(0, 1, 2, 0)


def test_a_rate_that_follows_a_curve_already_is_refused():
    model = network(KO.SGD(LINEAR))
    with pytest.raises(ValueError, match=r"compile the model with a number, and give the curve to"):
        train([ap.RewindLearningRate(curve, every=3)], model=model)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"curve": 0.1, "every": 3}, TypeError, r"curve=0\.1; give a function.*PolynomialDecay"),
        ({"curve": curve}, ValueError, "pruner=None and every=None: nothing would ever rewind"),
        ({"curve": curve, "every": 0}, ValueError, "every=0; it must be an integer of at least 1"),
        ({"curve": curve, "pruner": 3}, ValueError, "pruner=3; it must be the PruningCallback"),
    ],
)
def test_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        ap.RewindLearningRate(**arguments)


def test_a_curve_below_zero_is_refused():
    with pytest.raises(ValueError, match=r"learning rate of the curve=-1\.0.*at step 2"):
        train([ap.RewindLearningRate(lambda step: 1.0 - step, every=9)])


def test_data_of_the_usual_kind_trains():
    model = models.compiled(models.mlp(), KO.Adam(0.01))
    pruner = ap.PruningCallback(ap.schedules.Polynomial(0.8, 1, 3), "magnitude")
    both = [pruner, ap.RewindLearningRate(KO.schedules.CosineDecay(0.01, 6), pruner)]
    history = model.fit(*models.data(), batch_size=8, epochs=4, verbose=0, callbacks=both).history
    assert np.isfinite(history["loss"]).all()
    assert len(history["learning_rate"]) == 4
