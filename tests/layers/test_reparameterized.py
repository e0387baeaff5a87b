"""Kernels that are functions of other weights: formulas, steps by hand, what is left of them."""

import subprocess
import sys

import keras
import models
import numpy as np
import pytest
from gates import array, fit, mlp, noise, outputs, recurrent, sigmoid
from keras import layers, ops

import activation_pruning as ap
from activation_pruning import sites

pytestmark = pytest.mark.backend

WRAPPERS = {
    ap.SoftThresholdLayer: {"decay": 0.01},
    ap.PowerpropagationLayer: {"alpha": 3.0},
    ap.StraightThroughLayer: {"sparsity": 0.5},
}
each_wrapper = pytest.mark.parametrize("wrapper", WRAPPERS)
V = np.array([[0.5, -0.2], [-1.5, 0.7], [0.1, 2.0]], "float32")
X = noise(9, 3, seed=1)
Y = noise(9, 2, seed=2)
RATE = 0.1


def soft(v, g):
    return np.sign(v) * np.maximum(np.abs(v) - g, 0)


def linear(wrapper, optimizer=None, v=V, **arguments):
    """One wrapped layer without bias, compiled for squared errors: (model, wrapper)."""
    layer = wrapper(layers.Dense(2, use_bias=False, name="inner"), **arguments)
    model = keras.Sequential([keras.Input((3,)), layer])
    layer.layer.kernel.assign(v)
    model.compile(optimizer or keras.optimizers.SGD(RATE), "mse")
    return model, layer


def step(model, steps=1, x=X, y=Y):
    return model.fit(x, y, batch_size=len(x), epochs=steps, verbose=0, shuffle=False).history


def gradient(w, x=X, y=Y):
    """Of the mean squared error of x w, by hand, for w."""
    return 2 * x.T @ (x @ w - y) / y.size


def kernel(model):
    """The weights that act."""
    return sites.find(model, exclude=()).sites[0].kernel()


# -- values and steps by hand -----------------------------------------------------------------


def test_a_step_of_the_soft_threshold_by_hand():
    s, decay = -1.0, 0.3
    model, layer = linear(ap.SoftThresholdLayer, decay=decay, initial=s)
    g = sigmoid(s)  # 0.2689: two of the six weights are under it
    w = soft(V, g)
    assert (w == 0).sum() == 2
    np.testing.assert_allclose(kernel(model), w, rtol=1e-6)
    assert layer.thresholds()["kernel"] == pytest.approx(g)
    loss = step(model)["loss"][0]
    dw, alive = gradient(w), np.abs(V) > g
    ds = g * (1 - g) * -(np.sign(V) * dw * alive).sum() + decay * s
    np.testing.assert_allclose(loss, np.mean((X @ w - Y) ** 2) + decay / 2 * s**2, rtol=1e-5)
    np.testing.assert_allclose(array(layer.layer.kernel), V - RATE * dw * alive, rtol=1e-5)
    (trained,) = (v for v in layer.trainable_variables if v.name == "kernel_s")
    np.testing.assert_allclose(array(trained), s - RATE * ds, rtol=1e-5)


def test_decay_makes_the_threshold_rise_and_weights_leave():
    optimizer = keras.optimizers.SGD(0.0)  # of the loss; what is left is the decay of s alone
    optimizer.learning_rate = RATE
    model, layer = linear(ap.SoftThresholdLayer, optimizer, decay=1.0, initial=-4.0)
    x, y = np.zeros_like(X), np.zeros_like(Y)
    watch = ap.LearnedSparsity()
    history = model.fit(x, y, batch_size=9, epochs=20, verbose=0, callbacks=[watch]).history
    rising = [-4.0 * (1 - RATE) ** t for t in range(1, 21)]
    assert layer.thresholds()["kernel"] == pytest.approx(sigmoid(rising[-1]), rel=1e-4)
    expected = [float((np.abs(V) <= sigmoid(s)).mean()) for s in rising]
    assert history["learned_sparsity"] == pytest.approx(expected)
    assert expected[0] < expected[-1]


def test_weight_decay_of_the_optimizer_reaches_the_threshold():
    optimizer = keras.optimizers.SGD(RATE, weight_decay=0.2)
    model, layer = linear(ap.SoftThresholdLayer, optimizer, decay=0.0, initial=-50.0)
    step(model, x=np.zeros_like(X), y=np.zeros_like(Y))
    (trained,) = (v for v in layer.trainable_variables if v.name == "kernel_s")
    np.testing.assert_allclose(array(trained), -50 * (1 - RATE * 0.2), rtol=1e-6)


@pytest.mark.parametrize("alpha", [1.5, 3.0])
def test_a_step_of_powerpropagation_by_hand(alpha):
    v = V.copy()
    v[0, 1] = 0  # has a derivative, too: zero
    model, layer = linear(ap.PowerpropagationLayer, v=v, alpha=alpha)
    w = v * np.abs(v) ** (alpha - 1)
    np.testing.assert_allclose(kernel(model), w, rtol=1e-6)
    step(model)
    expected = v - RATE * gradient(w) * alpha * np.abs(v) ** (alpha - 1)
    np.testing.assert_allclose(array(layer.layer.kernel), expected, rtol=1e-5)
    assert kernel(model)[0, 1] == 0


def smallest_zero(v, sparsity):
    """v with k of its entries zero; of equal ones those with the higher index go."""
    flat = v.ravel()
    order = sorted(range(flat.size), key=lambda i: (abs(flat[i]), -i))
    k = int(np.floor(sparsity * flat.size + 0.5))
    return np.array([0 if i in order[:k] else x for i, x in enumerate(flat)]).reshape(v.shape)


def test_gradients_go_straight_through_the_mask():
    model, layer = linear(ap.StraightThroughLayer, sparsity=0.5)
    np.testing.assert_array_equal(kernel(model), V)  # no training step yet
    w = smallest_zero(V, 0.5)
    step(model)
    after = V - RATE * gradient(w)  # of every weight, masked ones too
    np.testing.assert_allclose(array(layer.layer.kernel), after, rtol=1e-5)
    np.testing.assert_array_equal(kernel(model) != 0, w != 0)
    np.testing.assert_allclose(kernel(model), np.where(w != 0, after, 0), rtol=1e-5)


@pytest.mark.parametrize("every", [1, 3])
def test_straight_through_masks_are_chosen_anew(every):
    model, layer = linear(ap.StraightThroughLayer, sparsity=0.5, every=every)
    v, masks = V.astype(float), []
    for time in range(7):
        mask = smallest_zero(v, 0.5) != 0 if time % every == 0 else masks[-1]
        v, masks = v - RATE * gradient(v * mask), [*masks, mask]
        step(model)
        np.testing.assert_array_equal(kernel(model) != 0, mask)
    np.testing.assert_allclose(array(layer.layer.kernel), v, rtol=1e-4)
    changes = [time for time in range(1, 7) if (masks[time] != masks[time - 1]).any()]
    assert changes  # some weight came back
    assert all(time % every == 0 for time in changes)


@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.5, 0.9, 0.99])
def test_straight_through_masks_are_exact_under_ties(sparsity):
    v = np.sign(noise(3, 2)) * np.array([[1, 2], [1, 1], [2, 1]], "float32")
    model, _ = linear(ap.StraightThroughLayer, keras.optimizers.SGD(0.0), v=v, sparsity=sparsity)
    step(model)
    expected = smallest_zero(v, min(sparsity, 5 / 6))  # never all
    np.testing.assert_array_equal(kernel(model), expected)


# -- layers and models of all kinds -------------------------------------------------------------


def convolutional():
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.BatchNormalization(),
            layers.SeparableConv2D(4, 3, name="separable"),
            layers.Flatten(),
            layers.Dense(3, name="out"),
        ]
    )


MODELS = {"mlp": (mlp, (6,)), "conv": (convolutional, (8, 8, 2)), "recurrent": (recurrent, (5, 6))}
each_model = pytest.mark.parametrize("kind", MODELS)


@each_model
@each_wrapper
def test_training_saving_and_stripping(wrapper, kind, tmp_path):
    make, shape = MODELS[kind]
    model, x, y = make(), noise(32, *shape), noise(32, 3)
    wrapped = ap.wrap(model, wrapper=wrapper, **WRAPPERS[wrapper])
    np.testing.assert_allclose(outputs(wrapped, x), outputs(model, x), rtol=1e-4, atol=1e-5)
    before = outputs(wrapped, x)
    fit(wrapped, x, y, epochs=2)
    assert np.isfinite(outputs(wrapped, x)).all()
    assert not np.allclose(outputs(wrapped, x), before)
    wrapped.save(tmp_path / "wrapped.keras")
    loaded = keras.saving.load_model(tmp_path / "wrapped.keras")
    np.testing.assert_allclose(outputs(loaded, x), outputs(wrapped, x), rtol=1e-6, atol=1e-7)
    plain = stripped(loaded)
    np.testing.assert_allclose(outputs(plain, x), outputs(loaded, x), rtol=1e-5, atol=1e-6)
    assert [one.name for one in plain.layers] == [one.name for one in model.layers]
    again = ap.wrap(plain, wrapper=wrapper, **WRAPPERS[wrapper])
    np.testing.assert_allclose(outputs(again, x), outputs(plain, x), rtol=1e-4, atol=1e-5)


def stripped(model):
    """Without the warning that nothing is pruned."""
    for layer in model.layers:
        if isinstance(layer, ap.SoftThresholdLayer):
            for variable in layer.trainable_variables:
                if variable.name.endswith("_s"):
                    variable.assign(ops.maximum(variable, -3.0))
    return ap.strip(model)


@each_wrapper
def test_what_is_stripped_loads_without_this_package(wrapper, tmp_path):
    model = ap.wrap(mlp(), wrapper=wrapper, **WRAPPERS[wrapper])
    fit(model, noise(32, 6), noise(32, 3))
    plain = stripped(model)
    plain.save(tmp_path / "plain.keras")
    code = "import keras; print(keras.saving.load_model('plain.keras').count_params())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        cwd=tmp_path, env=models.environment(package=False),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) == plain.count_params() == mlp().count_params()


def test_what_is_under_the_threshold_is_pruned_for_everybody():
    model = ap.wrap(mlp(), wrapper=ap.SoftThresholdLayer, initial=-2.0)
    for layer in model.layers:
        if isinstance(layer, ap.SoftThresholdLayer):  # moved: at first all are above
            values = array(layer.layer.kernel)
            layer.layer.kernel.assign(values * 0.6)
    x, y = noise(32, 6), noise(32, 3)
    plain = ap.strip(model)
    np.testing.assert_allclose(outputs(plain, x), outputs(model, x), rtol=1e-5, atol=1e-6)
    before = models.kernels(plain, "a", "b")
    zeros = sum(int((one == 0).sum()) for one in before)
    assert 0 < zeros < 88
    assert not any(np.signbit(one[one == 0]).any() for one in before)
    plain.compile(keras.optimizers.Adam(0.01), "mse")
    history = plain.fit(x, y, epochs=2, verbose=0, callbacks=[ap.KeepPruned()]).history
    assert history["sparsity"] == [zeros / 88] * 2
    for old, new in zip(before, models.kernels(plain, "a", "b"), strict=True):
        np.testing.assert_array_equal(new == 0, old == 0)
    assert ap.prune(plain, 0.0 + zeros / 88).sparsity == zeros / 88


@each_wrapper
def test_the_callback_prunes_on_top(wrapper):
    model, x, y = ap.wrap(mlp(), wrapper=wrapper, **WRAPPERS[wrapper]), noise(32, 6), noise(32, 3)
    model.compile(keras.optimizers.Adam(0.02), "mse")
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.75, at=1), "magnitude")
    history = model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[pruner]).history
    assert history["sparsity"][0] == 0.75
    assert history["sparsity"][-1] >= 0.75
    for site in sites.find(model).sites:
        assert not site.kernel()[~pruner.masks()[site.name]].any()


@each_wrapper
def test_zeros_of_a_pruned_model_are_taken_over(wrapper):
    model = mlp()
    ap.prune(model, 0.5)
    wrapped = ap.wrap(model, wrapper=wrapper, **WRAPPERS[wrapper])
    for old, new in zip(sites.find(model).sites, sites.find(wrapped).sites, strict=True):
        np.testing.assert_array_equal(new.kernel() == 0, old.kernel() == 0)


@each_wrapper
def test_mixed_precision_keeps_full_weights(wrapper):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = ap.wrap(mlp(), wrapper=wrapper, **WRAPPERS[wrapper])
    finally:
        keras.config.set_dtype_policy("float32")
    fit(model, noise(32, 6), noise(32, 3))
    for site in sites.find(model).sites:
        assert keras.backend.standardize_dtype(site.variable.dtype) == "float32"
        assert np.isfinite(site.kernel()).all()


def test_kernels_of_half_precision_and_of_double():
    for dtype in ("float64", "bfloat16"):
        for wrapper, arguments in WRAPPERS.items():
            layer = wrapper(layers.Dense(3, dtype=dtype), **arguments)
            assert np.isfinite(array(ops.cast(layer(noise(4, 6), training=True), "float32"))).all()


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch knows no XLA here")
@each_wrapper
def test_compiled_by_xla(wrapper):
    model = ap.wrap(mlp(), wrapper=wrapper, **WRAPPERS[wrapper])
    model.compile("sgd", "mse", jit_compile=True)
    loss = model.fit(noise(32, 6), noise(32, 3), epochs=2, verbose=0).history["loss"]
    assert np.isfinite(loss).all()


def test_a_shared_layer_pays_the_decay_once():
    shared = ap.SoftThresholdLayer(layers.Dense(3), decay=2.0, initial=-1.0)
    x = keras.Input((3,))
    model = keras.Model(x, shared(shared(x)))
    assert len(model.losses) == 1
    assert float(array(model.losses[0])) == pytest.approx(1.0)


class Outer(layers.Layer):
    """Builds the layer that it holds in its first call."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, x):
        return self.inner(x)


@pytest.mark.filterwarnings("ignore:Layer 'outer")
@each_wrapper
def test_a_layer_built_in_the_call_of_another_starts_where_it_would(wrapper):
    w = np.array([[0.25, -0.5], [0.0, 2.0], [1.0, 1.0]], "float32")
    dense = layers.Dense(2, use_bias=False, kernel_initializer=lambda shape, dtype: ops.array(w))
    outer = Outer(wrapper(dense, **WRAPPERS[wrapper]), name="outer")
    model = keras.Sequential([keras.Input((3,)), outer])
    np.testing.assert_allclose(outputs(model, np.eye(3)), w, rtol=1e-5, atol=1e-6)


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrapper", "arguments", "message"),
    [
        (ap.SoftThresholdLayer, {"decay": -1}, "decay=-1; it must be"),
        (ap.SoftThresholdLayer, {"initial": np.inf}, "initial=inf; it must be a finite number"),
        (ap.PowerpropagationLayer, {"alpha": 1}, "alpha=1; it must be"),
        (ap.StraightThroughLayer, {"sparsity": 90}, r"sparsity=90; .* 0\.8 for 80 %"),
        (ap.StraightThroughLayer, {"sparsity": 0.9, "every": 0}, "every=0; it must be an integer"),
    ],
)
def test_arguments_out_of_range(wrapper, arguments, message):
    with pytest.raises(ValueError, match=message):
        wrapper(layers.Dense(2), **arguments)


def test_nothing_under_the_threshold_is_told():
    model = ap.wrap(mlp(), wrapper=ap.SoftThresholdLayer)
    with pytest.warns(UserWarning, match=r"soft_threshold_a.*decay= \(now 0\.0001\)"):
        ap.strip(model)


def test_no_wrapper_to_look_at():
    model = models.compiled(models.mlp())
    with pytest.raises(ValueError, match=r"LearnedSparsity\(\) finds no built wrapper.*ap\.wrap"):
        model.fit(*models.data(), verbose=0, callbacks=[ap.LearnedSparsity()])
