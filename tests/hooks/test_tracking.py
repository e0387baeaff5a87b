"""What the trackers hold equals the gradients worked out by hand, whatever trains the model."""

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap
from activation_pruning.hooks.attachment import attachment
from activation_pruning.hooks.tracking import TRACKED

pytestmark = pytest.mark.backend

BACKEND = keras.backend.backend()
KO = keras.optimizers


def tracked(model, x, y, statistics=tuple(TRACKED), batch_size=64, **kwargs):
    """{site name: {statistic: array}} after a fit that tracks every site."""
    owner, hooks = object(), attachment(model)
    trackers = hooks.track(owner, ap.sites.find(model, exclude=()).sites, statistics)
    try:
        model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0, **kwargs)
        return {name: tracker.read() for name, tracker in trackers.items()}
    finally:
        hooks.release(owner)


def by_hand(model, x, y, rate=0.0, epochs=1, size=8):
    """The last gradient and the movement of every kernel of an `mlp` that SGD trains."""
    values = [value.astype("float64") for value in model.get_weights()]
    kernels, biases = values[::2], values[1::2]
    movement = [np.zeros_like(kernel) for kernel in kernels]
    for bx, by in list(models.batches((x, y), size)) * epochs:
        found = models.gradients(bx, by, kernels, biases)
        for i, (gradient, shift) in enumerate(found):
            movement[i] -= gradient * kernels[i]
            kernels[i], biases[i] = kernels[i] - rate * gradient, biases[i] - rate * shift
    return [gradient for gradient, _ in found], movement


@pytest.mark.parametrize("rate", [0.0, 0.5])
@pytest.mark.parametrize("size", [8, 64])
def test_the_last_gradient_and_the_movement_equal_those_by_hand(rate, size):
    x, y = models.data()
    model = models.compiled(models.mlp(), KO.SGD(rate))
    last, movement = by_hand(model, x, y, rate, epochs=3, size=size)
    found = tracked(model, x, y, batch_size=size, epochs=3)
    assert list(found) == ["a/kernel", "b/kernel", "out/kernel"]
    for values, gradient, moved in zip(found.values(), last, movement, strict=True):
        assert np.abs(gradient).max() > 0.01
        np.testing.assert_allclose(values["last_gradient"], gradient, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(values["movement"], moved, rtol=1e-4, atol=1e-6)


def test_one_weight_by_eye():
    """w = 2, x = 3, y = 0, loss (wx - y)^2: the gradient is 2 * 6 * 3 = 36, the movement -72."""
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer=keras.initializers.Constant(2))
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(KO.SGD(0.0), "mse")
    found = tracked(model, np.full((4, 1), 3.0), np.zeros((4, 1)), batch_size=2)
    values = found[f"{layer.name}/kernel"]
    assert values["last_gradient"].tolist() == [[36.0]]
    assert values["movement"].tolist() == [[-144.0]]  # two steps


def steps_of(model, x, y):
    """The gradients of one batch, as plain SGD with a learning rate of 1 shows them."""
    found = ap.sites.find(model, exclude=()).sites
    before = {site.name: site.kernel().copy() for site in found}
    model.fit(x, y, batch_size=64, shuffle=False, verbose=0)
    return {site.name: before[site.name] - site.kernel() for site in found}


@pytest.mark.parametrize("kind", models.KINDS)
def test_every_model_kind(kind):
    model = models.compiled(getattr(models, kind)(), KO.SGD(1.0))
    twin = models.compiled(getattr(models, kind)(), KO.SGD(0.0))
    x, y = models.data_for(kind)
    twin.set_weights(model.get_weights())
    found, expected = tracked(twin, x, y), steps_of(model, x, y)
    assert sum(np.abs(step).max() > 1e-4 for step in expected.values()) >= 2
    for values, step in zip(found.values(), expected.values(), strict=True):
        np.testing.assert_allclose(values["last_gradient"], step, rtol=1e-2, atol=2e-6)


OPTIMIZERS = {
    "adam": lambda: KO.Adam(0.0),
    "clipped": lambda: KO.SGD(0.0, clipnorm=1e-3),
    "accumulated": lambda: KO.SGD(0.0, gradient_accumulation_steps=2),
    "decayed": lambda: KO.SGD(0.0, weight_decay=0.1),
    "averaged": lambda: KO.SGD(0.0, use_ema=True),
    "scaled": lambda: KO.SGD(0.0, loss_scale_factor=64.0),
    "loss scale": lambda: KO.LossScaleOptimizer(KO.SGD(0.0), initial_scale=64.0),
    "growing loss scale": lambda: KO.LossScaleOptimizer(
        KO.Adam(0.0), initial_scale=64.0, dynamic_growth_steps=2
    ),
}
if hasattr(KO, "MultiOptimizer"):

    def several():
        adam, sgd = KO.Adam(0.0), KO.SGD(0.0)
        choose = lambda variable: adam if "a/" in variable.path else sgd  # noqa: E731
        return KO.MultiOptimizer(choose, loss_scale_factor=64.0)

    OPTIMIZERS["several"] = several


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_gradient_is_that_of_the_loss_under(name):
    x, y = models.data()
    model = models.compiled(models.mlp(), OPTIMIZERS[name]())
    last, movement = by_hand(model, x, y, epochs=2)
    found = tracked(model, x, y, batch_size=8, epochs=2)
    for values, gradient, moved in zip(found.values(), last, movement, strict=True):
        np.testing.assert_allclose(values["last_gradient"], gradient, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(values["movement"], moved, rtol=1e-4, atol=1e-6)


def test_steps_that_loss_scaling_skips_leave_no_trace():
    x, y = models.data()
    inner = KO.SGD(0.0)
    optimizer = KO.LossScaleOptimizer(inner, initial_scale=2.0**127)
    model = models.compiled(models.mlp(), optimizer, loss_weights=64.0)
    _, movement = by_hand(model, x, y, size=64)
    found = tracked(model, x, y, batch_size=64, epochs=24)
    used = int(keras.ops.convert_to_numpy(inner.iterations))
    assert 0 < used < 24
    for values, moved in zip(found.values(), movement, strict=True):
        np.testing.assert_allclose(values["movement"], used * 64 * moved, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_half_precision_is_followed_in_single(policy):
    x, y = models.data()
    keras.config.set_dtype_policy(policy)
    try:
        sgd = KO.SGD(0.0)
        if policy == "mixed_float16":  # as compile would do, but for the scale
            sgd = KO.LossScaleOptimizer(sgd, initial_scale=64.0)
        model = models.compiled(models.mlp(), sgd)
    finally:
        keras.config.set_dtype_policy("float32")
    last, movement = by_hand(model, x, y, epochs=4)
    found = tracked(model, x, y, batch_size=8, epochs=4)
    for values, gradient, moved in zip(found.values(), last, movement, strict=True):
        assert values["movement"].dtype == np.float32
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(values["last_gradient"], gradient, atol=0.05 * scale)
        np.testing.assert_allclose(values["movement"], moved, atol=0.05 * np.abs(moved).max())


COMPILED = [{"run_eagerly": True}, {"jit_compile": False}]
if BACKEND != "torch":
    COMPILED += [{"jit_compile": True}, {"steps_per_execution": 2}]


@pytest.mark.parametrize("options", COMPILED, ids=str)
def test_compile(options):
    x, y = models.data()
    model = models.compiled(models.mlp(), KO.SGD(0.2), **options)
    last, movement = by_hand(model, x, y, 0.2, epochs=2)
    found = tracked(model, x, y, batch_size=8, epochs=2, validation_data=(x, y))
    for values, gradient, moved in zip(found.values(), last, movement, strict=True):
        np.testing.assert_allclose(values["last_gradient"], gradient, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(values["movement"], moved, rtol=1e-3, atol=1e-6)


def test_pruned_weights_have_gradients_and_no_movement():
    x, y = models.data()
    model = models.compiled(models.mlp(), KO.Adam(0.01))
    ap.prune(model, 0.5)
    model.fit(x, y, verbose=0, callbacks=[ap.KeepPruned()])  # its masks are gone with it
    looks = []

    class Look(ap.KeepPruned):
        def _attach(self, hooks):
            super()._attach(hooks)
            self.trackers = hooks.track(self, self._sites, tuple(TRACKED))

        def on_train_end(self, logs=None):
            looks.extend(tracker.read() for tracker in self.trackers.values())
            super().on_train_end(logs)

    model.fit(x, y, verbose=0, epochs=2, callbacks=[Look(exclude=["out"])])
    assert models.pruned(model, "a", "b") == 0.5
    for values, kernel in zip(looks, models.kernels(model, "a", "b"), strict=True):
        assert np.abs(values["last_gradient"][kernel == 0]).max() > 1e-4
        assert not values["movement"][kernel == 0].any()
        assert values["movement"][kernel != 0].any()


def test_sums_start_again_and_the_last_gradient_stays():
    x, y = models.data()
    model = models.compiled(models.mlp(), KO.SGD(0.0))
    hooks, owner = attachment(model), object()
    tracker = hooks.track(owner, ap.sites.find(model).sites, tuple(TRACKED))["a/kernel"]
    model.fit(x, y, verbose=0)
    assert tracker.read()["movement"].any()
    tracker.reset()
    assert not tracker.read()["movement"].any()
    assert tracker.read()["last_gradient"].any()
    hooks.release(owner)


def test_two_owners_track_and_nothing_is_left_behind():
    x, y = models.data()
    model = models.compiled(models.mlp(), KO.SGD(0.0))
    hooks, owners = attachment(model), [object(), object()]
    found = ap.sites.find(model).sites
    first, second = (hooks.track(owner, found, ("movement",)) for owner in owners)
    model.fit(x, y, verbose=0)
    for name, tracker in first.items():
        assert (tracker.read()["movement"] == second[name].read()["movement"]).all()
    for owner in owners:
        hooks.release(owner)
    assert not {"apply", "stateless_apply"} & set(vars(model.optimizer))
    before = first["a/kernel"].read()["movement"].copy()
    model.fit(x, y, verbose=0)
    assert (first["a/kernel"].read()["movement"] == before).all()
    assert len(model.non_trainable_variables) == 0


def test_a_layer_that_the_loss_does_not_reach():
    inputs = keras.Input((6,))
    dense = keras.layers.Dense
    answer = dense(models.CLASSES, "softmax", name="answer")(inputs)
    model = keras.Model(inputs, {"answer": answer, "aside": dense(4, name="aside")(inputs)})
    loss = {"answer": "sparse_categorical_crossentropy"}
    model.compile(KO.SGD(0.1), loss)
    x, y = models.data()
    found = tracked(model, x, {"answer": y})  # who asked leaves it out
    assert not found["aside/kernel"]["last_gradient"].any()
    assert found["answer/kernel"]["last_gradient"].any()


class PastTheOptimizer(keras.Model):
    """A train_step that changes nothing, as one that updates the weights by itself."""

    def train_step(self, *args):
        loss = keras.ops.zeros(())
        return ({"loss": loss}, args[0]) if BACKEND == "jax" else {"loss": loss}


def test_a_train_step_that_goes_past_the_optimizer():
    plain = models.mlp()
    model = models.compiled(PastTheOptimizer(plain.inputs, plain.outputs), metrics=None)
    with pytest.raises(ValueError, match=r"no gradient of \['a', 'b', 'out'\].*exclude="):
        tracked(model, *models.data())
