"""L0 gates: the formulas, what training makes of them, and the plain model that is left."""

import keras
import numpy as np
import pytest
from gates import RATE, array, fit, mlp, noise, outputs, recurrent, set_gates, sigmoid
from keras import layers, ops

import activation_pruning as ap
from activation_pruning import sites
from activation_pruning.layers.l0 import HardConcrete
from activation_pruning.pruning import report

pytestmark = pytest.mark.backend


def names(model):
    return [one.name for one in model.layers if not isinstance(one, layers.InputLayer)]


def gated(inner, *shape, **arguments):
    """A built `L0Layer` whose gates are scattered."""
    layer = ap.L0Layer(inner, **arguments)
    layer(noise(2, *shape))
    set_gates(layer)
    return layer


def wrap(model, **arguments):
    model = ap.wrap(model, wrapper=ap.L0Layer, **arguments)
    for seed, layer in enumerate(model.layers):
        set_gates(layer, seed)
    return model


def shared():
    x = keras.Input((6,))
    both = layers.Dense(6, activation="tanh", name="both")
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(4, name="nested")], name="inner")
    return keras.Model(x, layers.Dense(3, name="out")(inner(both(both(x)))))


def convolutional():
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.SeparableConv2D(4, 3, name="separable"),
            layers.Flatten(),
            layers.Dense(3, name="out"),
        ]
    )


MODELS = {
    "mlp": (mlp, (6,)),
    "shared": (shared, (6,)),
    "convolutional": (convolutional, (8, 8, 2)),
    "recurrent": (recurrent, (5, 6)),
}
each_model = pytest.mark.parametrize("kind", MODELS)
each_granularity = pytest.mark.parametrize("granularity", ["weight", "unit"])


# -- the distribution -------------------------------------------------------------------------


def test_gates_by_hand():
    gate = HardConcrete(temperature=0.5, limits=(-0.5, 1.5))
    u = np.array([0.5, 0.75, 0.99, 0.01], "float32")
    # logits 0, log 3, ...; over 0.5: sigmoid 1/2, 9/10; stretched by 2 from -0.5
    np.testing.assert_allclose(array(gate.sample(np.zeros(4, "float32"), u)), [0.5, 1, 1, 0])
    gate = HardConcrete(temperature=1.0, limits=(-0.5, 1.5))
    found = array(gate.sample(np.full(3, np.log(3), "float32"), np.array([0.1, 0.25, 0.5], "f4")))
    np.testing.assert_allclose(found, [0, 0.5, 1], atol=1e-6)  # odds of 1/3, 1, 3
    found = array(gate.deterministic(np.log(np.array([1 / 4, 1 / 3, 1, 2, 4], "float32"))))
    np.testing.assert_allclose(found, [0, 0, 0.5, 5 / 6, 1], atol=1e-6)
    # log(-gamma / zeta) = -log 3
    found = array(gate.open_probability(np.log(np.array([1 / 3, 1, 3], "float32"))))
    np.testing.assert_allclose(found, [1 / 2, 3 / 4, 9 / 10], rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.2, 2 / 3, 1.0])
@pytest.mark.parametrize("limits", [(-0.1, 1.1), (-0.3, 1.05)])
def test_formulas_are_those_of_numpy(temperature, limits):
    gate, (gamma, zeta) = HardConcrete(temperature, limits), limits
    log_alpha = noise(1000) * 3
    u = np.random.default_rng(1).uniform(1e-6, 1 - 1e-6, 1000).astype("float32")
    s = sigmoid((np.log(u) - np.log(1 - u.astype(float)) + log_alpha) / temperature)
    sampled = np.clip(s * (zeta - gamma) + gamma, 0, 1)
    np.testing.assert_allclose(array(gate.sample(log_alpha, u)), sampled, atol=2e-5)
    steady = np.clip(sigmoid(log_alpha) * (zeta - gamma) + gamma, 0, 1)
    np.testing.assert_allclose(array(gate.deterministic(log_alpha)), steady, atol=1e-6)
    opened = sigmoid(log_alpha - temperature * np.log(-gamma / zeta))
    np.testing.assert_allclose(array(gate.open_probability(log_alpha)), opened, rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.2, 2 / 3, 1.0])
def test_the_expected_l0_is_that_of_many_samples(temperature):
    """The gates are read off a layer of ones: its outputs on unit vectors are its gates."""
    inner = layers.Dense(40, use_bias=False, kernel_initializer="ones")
    layer = ap.L0Layer(inner, temperature=temperature, seed=3)
    eye = np.eye(50, dtype="float32")
    layer(eye)
    set_gates(layer)
    counts = [np.count_nonzero(array(layer(eye, training=True))) for _ in range(200)]
    error = np.std(counts) / np.sqrt(len(counts))
    assert 0 < error < 2
    assert np.mean(counts) == pytest.approx(layer.expected_l0(), abs=4 * error)


# -- the layer --------------------------------------------------------------------------------


def test_inference_takes_the_deterministic_gates():
    layer, x = gated(layers.Dense(7), 9), noise(4, 9)
    kernel, bias = layer.layer.get_weights()
    z = layer.gates()["kernel"]
    assert z.shape == (9, 7)
    assert layer.closed() == (z == 0).mean()
    assert 0.1 < layer.closed() < 0.9
    np.testing.assert_allclose(array(layer(x)), x @ (kernel * z) + bias, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(array(layer(x)), array(layer(x)))


def test_training_draws_anew_for_each_batch_not_each_sample():
    layer = ap.L0Layer(layers.Dense(30, use_bias=False), seed=1)
    x = np.ones((3, 6), "float32")
    first, second = (array(layer(x, training=True)) for _ in range(2))
    np.testing.assert_allclose(first, np.broadcast_to(first[0], first.shape), rtol=1e-6)
    assert not np.allclose(first, second)


def test_gates_of_units_cover_whole_units():
    layer = gated(layers.Conv2D(12, 3), 8, 8, 2, granularity="unit")
    (z,) = layer.gates().values()
    assert z.shape == (12,)
    kernel = sites.find(layer, exclude=()).sites[0].kernel()
    np.testing.assert_array_equal((kernel == 0).all(axis=(0, 1, 2)), z == 0)
    assert ((kernel == 0).any(axis=(0, 1, 2)) == (z == 0)).all()
    log_alpha = next(v for v in layer.trainable_variables if "log_alpha" in v.name)
    opened = sigmoid(RATE * array(log_alpha) - 2 / 3 * np.log(0.1 / 1.1))
    assert layer.expected_l0() == pytest.approx(18 * opened.sum(), rel=1e-5)


def test_a_unit_of_an_lstm_is_closed_in_all_four_of_its_parts():
    layer = gated(layers.LSTM(6), 5, 4, granularity="unit")
    gates = layer.gates()
    assert {name: z.shape for name, z in gates.items()} == {
        "kernel": (6,),
        "recurrent_kernel": (6,),
    }
    for site, z in zip(sites.find(layer, exclude=()).sites, gates.values(), strict=True):
        assert (z == 0).any()
        np.testing.assert_array_equal((site.kernel() == 0).all(axis=0), np.tile(z == 0, 4))


@each_granularity
def test_the_penalty_is_paid_once_by_a_shared_layer(granularity):
    model = wrap(shared(), exclude=(), penalty=0.25, granularity=granularity)
    model(noise(4, 6))
    found = [layer for layer in model.layers if isinstance(layer, ap.L0Layer)]
    inner = model.get_layer("inner").layers[-1]
    expected = 0.25 * sum(layer.expected_l0() for layer in [*found, inner])
    assert len(found) == 2
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)
    model.compile("sgd", lambda y, prediction: 0 * ops.sum(prediction))
    loss = model.evaluate(noise(4, 6), noise(4, 3), verbose=0)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_losses_and_updates_of_the_layer_inside_come_through():
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, activity_regularizer="l1"), layers.BatchNormalization()]
    )
    model = keras.Sequential([keras.Input((6,)), ap.L0Layer(inner, penalty=0.0)])
    model.compile("sgd", lambda y, prediction: 0 * ops.sum(prediction))
    assert model.evaluate(noise(8, 6), noise(8, 5), verbose=0) > 0
    before = array(inner.layers[-1].moving_mean)
    model.fit(noise(8, 6), noise(8, 5), verbose=0)
    assert not np.array_equal(array(inner.layers[-1].moving_mean), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"penalty": -1e-4}, "penalty=-0.0001; it must be a finite number of at least 0"),
        ({"penalty": "l0"}, "penalty='l0'"),
        ({"rate": 0}, "rate=0; it must be a finite number greater than 0"),
        ({"temperature": True}, "temperature=True; it must be a number in"),
        ({"limits": (-1, True)}, r"limits=\(-1, True\); give"),
        ({"granularity": "block"}, "unknown granularity 'block'.*Valid: unit, weight"),
        ({"temperature": 0.0}, r"temperature=0.0; it must be a number in \(0, 1\]"),
        ({"temperature": 1.5}, "temperature=1.5"),
        ({"droprate": 0.0}, r"droprate=0.0; it must be in \(0, 1\)"),
        ({"droprate": 1.0}, "droprate=1.0"),
        ({"limits": (0.0, 1.1)}, r"limits=\(0.0, 1.1\); give \(gamma, zeta\)"),
        ({"limits": (-0.1, 1.0)}, "gamma < 0 and zeta > 1"),
        ({"limits": (-0.1,)}, "limits="),
        ({"limits": 1.1}, "limits="),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ap.L0Layer(layers.Dense(3), **arguments)


def test_layers_that_cannot_be_gated_are_refused():
    with pytest.raises(ValueError, match="no prunable layers"):
        ap.L0Layer(layers.BatchNormalization())(noise(2, 3))
    for once, twice in ((ap.L0Layer, ap.PrunedLayer), (ap.PrunedLayer, ap.L0Layer)):
        with pytest.raises(ValueError, match=f"is or holds the {once.__name__} .*each once"):
            twice(once(layers.Dense(3, name="d")))(noise(2, 3))
    with pytest.raises(ValueError, match="not built"):
        ap.L0Layer(layers.Dense(3)).gates()


# -- training ---------------------------------------------------------------------------------


@each_granularity
def test_training_closes_the_gates_of_what_is_irrelevant(granularity):
    x, weights = noise(256, 8), np.array([[2.0], [-3], [1.5], [0], [0], [0], [0], [0]], "float32")
    if granularity == "weight":
        inner, y, relevant = layers.Dense(1, name="d"), x @ weights, weights != 0
    else:  # of four outputs, two have nothing to learn
        y = np.concatenate([x @ weights, x @ -weights, 0 * x[:, :2]], axis=1)
        inner, relevant = layers.Dense(4, name="d"), np.array([True, True, False, False])
    layer = ap.L0Layer(inner, penalty=0.1, granularity=granularity, seed=0, rate=1)
    model = keras.Sequential([keras.Input((8,)), layer])
    fit(model, x, y, epochs=120)
    z = layer.gates()["kernel"]
    assert (z[relevant] > 0.9).all()
    assert (z[~relevant] == 0).all()
    assert layer.closed() == (~relevant).mean()
    stripped = ap.strip(model)
    kernel = array(stripped.layers[0].kernel)
    np.testing.assert_array_equal((kernel != 0).any(axis=0) if z.ndim == 1 else kernel != 0, z > 0)
    np.testing.assert_array_equal(outputs(stripped, x), outputs(model, x))


@each_model
@each_granularity
def test_every_kind_of_model_trains_and_is_stripped_to_equal_outputs(kind, granularity):
    make, shape = MODELS[kind]
    x, y = noise(32, *shape), noise(32, 3)
    plain = make()
    model = wrap(plain, granularity=granularity, penalty=1e-3)
    found = [v for v in model.trainable_variables if v.name.endswith("log_alpha")]
    assert found
    before = [array(v) for v in found]
    fit(model, x, y, epochs=2)
    for variable, old in zip(found, before, strict=True):
        assert not np.array_equal(array(variable), old)
    stripped = ap.strip(model)
    np.testing.assert_allclose(outputs(stripped, x), outputs(model, x), rtol=1e-5, atol=1e-6)
    assert names(stripped) == names(plain)
    pairs = zip(
        sites.find(model, exclude=()).sites, sites.find(stripped, exclude=()).sites, strict=True
    )
    zeros = 0
    for site, bare in pairs:
        assert bare.wrapper is None
        np.testing.assert_array_equal(bare.kernel(), site.kernel())
        zeros += (bare.kernel() == 0).sum()
    assert zeros > 0


def test_biases_stay_when_a_unit_closes():
    layer = gated(layers.Dense(9, bias_initializer="ones"), 4, granularity="unit")
    stripped = ap.strip(keras.Sequential([keras.Input((4,)), layer]))
    kernel, bias = stripped.layers[0].get_weights()
    assert (kernel == 0).all(axis=0).any()
    assert (bias == 1).all()


def test_a_model_that_is_built_by_its_first_batch_trains():
    model = keras.Sequential([ap.L0Layer(layers.Dense(4)), layers.Dense(3)])
    assert np.isfinite(fit(model, noise(32, 6), noise(32, 3), epochs=2)).all()
    assert model.layers[0].gates()["kernel"].shape == (6, 4)


def test_equal_seeds_give_equal_trainings():
    def losses(**arguments):
        keras.utils.set_random_seed(7)
        model = keras.Sequential([keras.Input((6,)), ap.L0Layer(layers.Dense(3), **arguments)])
        model.layers[0].layer.set_weights([noise(6, 3), np.zeros(3)])
        return fit(model, noise(64, 6), noise(64, 3), epochs=2)

    assert losses(seed=1) == losses(seed=1)
    assert losses(seed=1) != losses(seed=2)
    assert losses() == losses()


def test_gates_can_be_left_out_of_weight_decay():
    def decayed(*names):
        layer = ap.L0Layer(layers.Dense(3), penalty=0.0)
        model = keras.Sequential([keras.Input((6,)), layer])
        set_gates(layer)
        before = layer.gates()["kernel"]
        optimizer = keras.optimizers.AdamW(1e-8, weight_decay=1e7)
        optimizer.exclude_from_weight_decay(var_names=[*names, "bias"])
        fit(model, noise(8, 6), noise(8, 3), optimizer=optimizer)
        return np.abs(layer.gates()["kernel"] - before).max()

    assert decayed("log_alpha") < 1e-6
    assert decayed() > 0.01


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_gates_have_full_precision_whatever_the_policy(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = wrap(mlp(), penalty=1e-3)
    finally:
        keras.config.set_dtype_policy("float32")
    x = noise(64, 6)
    fit(model, x, noise(64, 3), epochs=2)
    layer = model.layers[0]
    (log_alpha,) = [v for v in layer.trainable_variables if v.name.endswith("log_alpha")]
    assert keras.backend.standardize_dtype(log_alpha.dtype) == "float32"
    assert keras.backend.standardize_dtype(layer(x).dtype) == "bfloat16"
    stripped = ap.strip(model)
    assert stripped.layers[0].kernel.dtype == layer.layer.kernel.dtype
    np.testing.assert_array_equal(
        outputs(stripped, x).astype("float32"), outputs(model, x).astype("float32")
    )


# -- files and copies -------------------------------------------------------------------------


@each_model
def test_gates_come_back_from_a_file_and_train_on(kind, tmp_path):
    make, shape = MODELS[kind]
    model, x = wrap(make(), granularity="unit", limits=(-0.2, 1.2)), noise(32, *shape)
    model.save(tmp_path / "gated.keras")
    loaded = keras.saving.load_model(tmp_path / "gated.keras")
    np.testing.assert_allclose(outputs(loaded, x), outputs(model, x), rtol=1e-5, atol=1e-6)
    for layer, again in zip(model.layers, loaded.layers, strict=True):
        assert type(again) is type(layer)
        if isinstance(layer, ap.L0Layer):
            settings, wanted = again.get_config(), layer.get_config()
            assert {**settings, "layer": None} == {**wanted, "layer": None}
            assert again.expected_l0() == layer.expected_l0() > 0
    before = loaded.get_weights()
    fit(loaded, x, noise(32, 3))
    moved = [not np.array_equal(a, b) for a, b in zip(loaded.get_weights(), before, strict=True)]
    assert all(moved[i] for i, v in enumerate(loaded.weights) if "log_alpha" in v.name)


def test_a_trained_model_keeps_its_outputs_at_a_small_droprate():
    model, x = mlp(), noise(5, 6)
    same = ap.wrap(model, wrapper=ap.L0Layer, droprate=0.08, penalty=0.5)
    assert [type(layer).__name__ for layer in same.layers] == [
        "L0Layer",
        "BatchNormalization",
        "L0Layer",
        "Dense",
    ]
    np.testing.assert_allclose(outputs(same, x), outputs(model, x), rtol=1e-6)
    assert same.layers[0].penalty == 0.5
    half = ap.wrap(model, wrapper=ap.L0Layer)
    assert not np.allclose(outputs(half, x), outputs(model, x))


def test_wrap_leaves_gated_layers_as_they_are():
    model, x = wrap(mlp()), noise(5, 6)
    again = ap.wrap(model, exclude=())
    assert [type(layer).__name__ for layer in again.layers] == [
        "L0Layer",
        "BatchNormalization",
        "L0Layer",
        "PrunedLayer",
    ]
    np.testing.assert_allclose(outputs(again, x), outputs(model, x), rtol=1e-6)
    np.testing.assert_array_equal(outputs(ap.strip(again), x), outputs(ap.strip(model), x))


@pytest.mark.parametrize("wrapper", [layers.Dense, layers.TimeDistributed, "l0", ap.wrap])
def test_wrap_takes_wrappers_only(wrapper):
    with pytest.raises(
        TypeError, match=r"wrapper=.*ap\.PrunedLayer, ap\.L0Layer, .* or ap\.StraightThroughLayer"
    ):
        ap.wrap(mlp(), wrapper=wrapper)


@pytest.mark.parametrize("wrapper", [ap.L0Layer, ap.PrunedLayer])
def test_strip_says_which_wrapper_it_cannot_reach(wrapper):
    inner = wrapper(layers.Dense(3, name="d"), name="deep")
    model = keras.Sequential([keras.Input((4, 6)), layers.TimeDistributed(inner, name="each")])
    with pytest.raises(ValueError, match=r"'deep' out of 'each'.*Layer\(each\)"):
        ap.strip(model)


# -- together with pruning --------------------------------------------------------------------


def test_prune_counts_closed_gates_and_prunes_what_acts_least():
    model = wrap(mlp())
    (first, second) = sites.find(model).sites
    acting = [first.kernel(), second.kernel()]
    closed = sum(int((kernel == 0).sum()) for kernel in acting)
    assert 0 < closed < 44
    assert sites.find(model, exclude=()).skipped == []
    done = ap.prune(model, 0.5)
    assert done.sparsity == 0.5
    cut = np.sort(np.abs(np.concatenate([kernel.ravel() for kernel in acting])))[44]
    for site, before in zip((first, second), acting, strict=True):
        np.testing.assert_array_equal(site.kernel(), np.where(np.abs(before) < cut, 0, before))
        assert ((array(site.variable) == 0) == (site.kernel() == 0)).all()
    assert report.total_sparsity(report.measure(sites.find(ap.strip(model)).sites)) == 0.5


def test_callbacks_prune_a_gated_model_and_keep_it_pruned():
    model, x, y = wrap(mlp(), penalty=0.0), noise(64, 6), noise(64, 3)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.75, at=1))
    history = model.fit(x, y, epochs=3, verbose=0, callbacks=[pruner])
    assert history.history["sparsity"][-1] >= 0.75  # gates may close besides
    assert sum(int((array(s.variable) == 0).sum()) for s in sites.find(model).sites) == 66
    np.testing.assert_allclose(outputs(ap.strip(model), x), outputs(model, x), rtol=1e-5, atol=1e-6)


def test_a_low_rank_copy_of_a_gated_model_is_refused():
    with pytest.raises(ValueError, match=r"L0Layer, 'l0_a'.*ap\.strip"):
        ap.analysis.low_rank(wrap(mlp()), rank=1)
