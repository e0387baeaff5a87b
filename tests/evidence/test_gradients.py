"""Derivatives of the loss against plain autodiff and finite sums."""

import contextlib

import keras
import models
import numpy as np
import pytest
from keras import layers, ops

import activation_pruning as ap
from activation_pruning import sites
from activation_pruning.evidence import autodiff, curvature, gathering, gradients
from activation_pruning.evidence.gradients import loss_function

pytestmark = [pytest.mark.backend, pytest.mark.lowest]


def problem(kind="mlp", samples=11):
    """(compiled model, its sites, inputs, labels) of seeded weights and data."""
    make, shape = KINDS[kind]
    model = make()
    generator = np.random.default_rng(3)
    model.set_weights(
        [
            abs(generator.normal(0.5, 0.4, w.shape)) + 0.1
            if "variance" in v.path
            else generator.normal(0, 0.4, w.shape)
            for v, w in zip(model.weights, model.get_weights(), strict=True)
        ]
    )
    models.compiled(model)
    x, y = models.data(shape, samples)
    if kind == "embedded":
        x = np.abs(x * 3).astype("int32") % 7
    return model, sites.find(model, exclude=()).sites, x, y


def convolutional():
    return keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            layers.Conv2D(4, 3, padding="same", strides=2, groups=1, activation="relu"),
            layers.DepthwiseConv2D(2, activation="tanh"),
            layers.Flatten(),
            layers.Dense(models.CLASSES, "softmax"),
        ]
    )


def logits_outside():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, "tanh"), layers.Dense(models.CLASSES)]
    )
    model.add(layers.Softmax())
    return model


def twice():
    """One layer called two times: gradients of a sample are sums over its calls."""
    inputs = keras.Input((6,))
    layer = layers.Dense(6, "tanh", name="twice")
    return keras.Model(inputs, layers.Dense(models.CLASSES, "softmax")(layer(layer(inputs))))


KINDS = {
    "mlp": (lambda: models.mlp((5, 4), activation="tanh"), (6,)),
    "functional": (models.functional, (6,)),
    "normalised": (models.normalised, (6,)),
    "nested": (models.nested, (6,)),
    "convolutional": (convolutional, (5, 5, 2)),
    "attention": (models.attention, (4, 6)),
    "recurrent": (lambda: small_recurrent(), (3, 2)),
    "embedded": (models.embedded, (4,)),
    "logits_outside": (logits_outside, (6,)),
    "twice": (twice, (6,)),
}


def small_recurrent():
    inputs = keras.Input((3, 2))
    x = layers.LSTM(2)(inputs)
    return keras.Model(inputs, layers.Dense(models.CLASSES, "softmax")(x))


def numpy(values):
    return [ops.convert_to_numpy(value) for value in values]


# -- the Gauss-Newton diagonal -----------------------------------------------------------------


def jacobian_of_log_probabilities(model, live, x):
    """(samples, classes, weights of all sites): one backward pass for each entry."""
    variables = [site.variable for site in live]
    rows = []
    for i in range(len(x)):
        for c in range(models.CLASSES):
            found = autodiff.gradients(
                lambda i=i, c=c: ops.log(model(x[i : i + 1]))[0, c], variables
            )
            rows.append(np.concatenate([g.reshape(-1) for g in numpy(found)]))
    return np.stack(rows).reshape(len(x), models.CLASSES, -1)


@pytest.mark.parametrize("kind", KINDS)
def test_gauss_newton_is_the_expected_square_of_log_probabilities(kind):
    """For cross-entropy the Gauss-Newton matrix is Fisher's: E_p[(d log p / dw)^2], by autodiff."""
    model, live, x, _ = problem(kind, samples=5)
    slopes = jacobian_of_log_probabilities(model, live, x).astype("float64")
    p = ops.convert_to_numpy(model(x))
    expected = np.einsum("nc,ncw->w", p, slopes**2) / len(x)
    found = curvature.gauss_newton(model, live, x, batch_size=3)
    flat = np.concatenate([found[site.name].reshape(-1) for site in live])
    np.testing.assert_allclose(flat, expected, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("loss", "activation"),
    [
        ("mse", "tanh"),
        ("binary_crossentropy", "sigmoid"),
        (keras.losses.BinaryCrossentropy(from_logits=True), None),
        (keras.losses.CategoricalCrossentropy(from_logits=True), None),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), None),
    ],
)
def test_gauss_newton_is_the_hessian_of_a_linear_model(loss, activation):
    """With one layer and its loss in natural form, nothing is left out: G is the Hessian."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation, name="a")])
    if activation == "tanh":  # not linear: G drops a term, which is zero where residuals are
        model.layers[0].activation = keras.activations.linear
    model.compile("sgd", loss)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(9, 4)).astype("float32")
    y = np.eye(3, dtype="float32")[generator.integers(0, 3, 9)]
    if "Sparse" in type(loss).__name__:
        y = y.argmax(1)
    live = sites.find(model, exclude=()).sites
    exact = curvature.hessian_diagonal(model, live, (x, y), batch_size=4)["a/kernel"]
    found = curvature.gauss_newton(model, live, x)["a/kernel"]
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-6)


def test_exact_diagonal_is_that_of_second_differences():
    model, live, x, y = problem("mlp")
    loss = loss_function(model, x, y)
    variables = [site.variable for site in live]
    diagonal = curvature.hessian_diagonal(model, live, (x, y), batch_size=4)
    step = 1e-2
    for number, site in enumerate(live):
        for place in [(0, 0), (2, 1), (3, 2)]:
            slopes = []
            for sign in (-1, 1):
                values = numpy([v.value for v in variables])
                values[number] = values[number].copy()
                values[number][place] += sign * step
                tensors = [ops.convert_to_tensor(v) for v in values]
                slopes.append(numpy(autodiff.gradients(loss, variables, tensors))[number][place])
            difference = (slopes[1] - slopes[0]) / (2 * step)
            np.testing.assert_allclose(diagonal[site.name][place], difference, atol=2e-4)


def test_hutchinson_converges_to_the_exact_diagonal():
    model, live, x, y = problem("mlp")
    exact = curvature.hessian_diagonal(model, live, (x, y))
    errors = {}
    for probes in (8, 800):
        found = curvature.hutchinson(model, live, (x, y), probes=probes, seed=1)
        pairs = [(found[name] - exact[name]).ravel() for name in exact]
        errors[probes] = np.sqrt(np.mean(np.concatenate(pairs) ** 2))
    scale = np.sqrt(np.mean(np.concatenate([v.ravel() for v in exact.values()]) ** 2))
    assert errors[800] < 0.2 * errors[8]  # a tenth is expected
    assert errors[800] < 0.2 * scale
    again = curvature.hutchinson(model, live, (x, y), probes=8, seed=1)
    first = curvature.hutchinson(model, live, (x, y), probes=8, seed=1)
    other = curvature.hutchinson(model, live, (x, y), probes=8, seed=2)
    name = live[0].name
    np.testing.assert_array_equal(again[name], first[name])
    assert (other[name] != first[name]).any()


@pytest.mark.parametrize("name", ["gauss_newton", "hutchinson", "hessian_diagonal"])
def test_second_derivatives_show_how_far_they_are(name):
    model, live, x, y = problem("mlp")
    steps = []
    data = (x, y) if name != "gauss_newton" else x
    function = getattr(curvature, name)
    function(model, live, data, batch_size=4, progress=lambda *step: steps.append(step))
    total = steps[0][1]
    assert steps == [(done, total) for done in range(1, total + 1)]
    assert total % 3 == 0  # eleven samples are three batches
    unknown = []
    batch = x if name == "gauss_newton" else (x, y)
    function(model, live, (b for b in [batch]), progress=lambda *step: unknown.append(step[1]))
    assert set(unknown) == {None}


# -- first derivatives -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mlp", "convolutional", "normalised", "recurrent"])
def test_gradients_do_not_depend_on_batches(kind):
    model, live, x, y = problem(kind)
    whole = numpy(autodiff.gradients(loss_function(model, x, y), [s.variable for s in live]))
    found = gradients.gradient(model, live, (x, y), batch_size=4)
    for site, expected in zip(live, whole, strict=True):
        np.testing.assert_allclose(found[site.name], expected, atol=1e-6)


def test_regularizers_are_no_part_of_the_loss():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, kernel_regularizer=keras.regularizers.L2(10.0))]
    )
    model.compile("sgd", "mse")
    x, y = np.zeros((5, 4)), np.zeros((5, 3))
    live = sites.find(model, exclude=()).sites
    assert (gradients.gradient(model, live, (x, y))[live[0].name] == 0).all()


def test_squared_gradients_are_averaged_over_batches():
    model, live, x, y = problem("mlp", samples=8)
    found = gradients.squared_gradient(model, live, (x, y), batch_size=4)
    halves = [
        gradients.gradient(model, live, (x[part], y[part])) for part in (slice(0, 4), slice(4, 8))
    ]
    for site in live:
        expected = np.mean([half[site.name] ** 2 for half in halves], axis=0)
        np.testing.assert_allclose(found[site.name], expected, rtol=1e-5)


def test_hessian_gradient_is_half_the_slope_of_the_squared_norm():
    model, live, x, y = problem("mlp")
    variables = [site.variable for site in live]
    loss = loss_function(model, x, y)

    def squared_norm():
        found = autodiff.gradients(loss, variables, differentiable=True)
        return sum(ops.sum(g**2) for g in found) / 2

    expected = numpy(autodiff.gradients(squared_norm, variables))
    found = gradients.hessian_gradient(model, live, (x, y), batch_size=4)
    for site, values in zip(live, expected, strict=True):
        np.testing.assert_allclose(found[site.name], values, atol=1e-6)


def test_activation_gradients_by_hand():
    """One linear output and squared error: dL_n/da_j = 2 (sum_j a_j v_j - y_n) v_j."""
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2, "relu", name="a"), layers.Dense(1, use_bias=False)]
    )
    model.compile("sgd", "mse")
    x, _ = models.data((3,), 7)
    y = np.linspace(-1, 1, 7)[:, None]
    hidden = np.maximum(x @ model.layers[0].get_weights()[0], 0)
    v = model.layers[1].get_weights()[0]
    slopes = 2 * (hidden @ v - y) @ v.T
    live = sites.find(model).sites
    found = gradients.activation_gradient(model, live, (x, y), batch_size=3)["a/kernel"]
    np.testing.assert_allclose(found, np.abs(hidden * slopes).mean(0), rtol=1e-5)


@pytest.mark.parametrize("kind", ["convolutional", "recurrent", "attention", "normalised"])
def test_activation_gradients_have_one_value_per_unit(kind):
    model, live, x, y = problem(kind)
    found = gradients.activation_gradient(model, live, (x, y))
    for site in live:
        assert found[site.name].shape == (site.n_units,)
        assert (found[site.name] >= 0).all()
    assert any(values.any() for values in found.values())


# -- synaptic flow -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mlp", "convolutional", "logits_outside"])
def test_synaptic_flow_is_conserved_from_layer_to_layer(kind):
    model, live, _, _ = problem(kind)
    before = model.get_weights()
    found = gradients.synaptic_flow(model, live)
    sums = [np.sum(np.abs(site.kernel()) * found[site.name]) for site in live]
    assert sums[0] > 0
    np.testing.assert_allclose(sums, sums[0], rtol=1e-5)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert all("activation" not in vars(layer) or layer.activation for layer in model.layers)


def test_synaptic_flow_by_hand():
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(2, "tanh", name="a"), layers.Dense(1, "sigmoid", name="b")]
    )
    a, b = np.array([[1.0, -2.0], [3.0, 4.0]]), np.array([[-5.0], [6.0]])
    model.set_weights([a, np.array([7.0, 8.0]), b, np.array([9.0])])
    live = sites.find(model, exclude=()).sites
    found = gradients.synaptic_flow(model, live)
    np.testing.assert_allclose(found["a/kernel"], np.tile([5.0, 6.0], (2, 1)))
    np.testing.assert_allclose(found["b/kernel"], [[4.0], [6.0]])


def test_synflow_keeps_every_layer_alive_where_one_step_would_not():
    model = models.mlp((40, 40, 3, 40))
    report = ap.prune(model, 0.97, "synflow", exclude=())
    assert report.sparsity == pytest.approx(0.97, abs=1e-3)
    live = sites.find(model, exclude=()).sites
    flow = gradients.synaptic_flow(model, live)
    assert all((np.abs(site.kernel()) * flow[site.name]).sum() > 0 for site in live)


def test_subclassed_models_need_data_for_their_shape():
    model = models.subclassed()
    with pytest.raises(ValueError, match="does not say what its inputs look like"):
        ap.prune(model, 0.5, "synflow")
    assert ap.prune(model, 0.5, "synflow", data=np.ones((2, 6))).sparsity == 0.5


# -- through `prune`, and bad input ------------------------------------------------------------


LABELLED = ["obd", "obd_exact", "obd_hutchinson", "taylor", "taylor_activation", "snip", "grasp"]


@pytest.mark.parametrize("criterion", LABELLED)
def test_prune_by_what_a_weight_does_to_the_loss(criterion):
    model, _, x, y = problem("mlp")
    report = ap.prune(model, 0.5, criterion, data=(x, y))
    assert report.sparsity == 0.5
    with pytest.raises(ValueError, match=f"{criterion}.* needs .*data="):
        ap.prune(model, 0.6, criterion)


@pytest.mark.parametrize("criterion", ["taylor", "snip", "grasp", "obd_hutchinson"])
def test_labels_must_be_there(criterion):
    model, _, x, y = problem("mlp")
    with pytest.raises(ValueError, match=r"no labels.*data=\(x, y\)|batches of \(x, y\)"):
        ap.prune(model, 0.5, criterion, data=x)
    with pytest.raises(ValueError, match=r"11.+10"):
        ap.prune(model, 0.5, criterion, data=(x, y[:10]))


def test_models_must_be_compiled():
    model = models.mlp()
    x, y = models.data()
    for criterion in ("snip", "obd"):
        with pytest.raises(ValueError, match="not compiled with a loss"):
            ap.prune(model, 0.5, criterion, data=(x, y))


def test_losses_of_unknown_curvature_are_named():
    model = models.mlp()
    model.compile("sgd", "poisson")
    x, y = models.data()
    with pytest.raises(ValueError, match=r"poisson.*obd_hutchinson"):
        ap.prune(model, 0.5, "obd", data=(x, y))
    model.compile("sgd", "binary_crossentropy")  # on softmax
    with pytest.raises(ValueError, match="sigmoid activation"):
        ap.prune(model, 0.5, "obd", data=(x, y))


def test_the_exact_diagonal_is_for_small_networks(monkeypatch):
    monkeypatch.setattr(curvature, "LARGEST", 49)
    model, _, x, y = problem("mlp")
    with pytest.raises(ValueError, match="at most 49 are allowed"):
        ap.prune(model, 0.5, "obd_exact", data=(x, y))


def test_what_takes_too_long_is_refused_after_a_few_products(monkeypatch):
    model, _, x, y = problem("mlp")
    now = iter(range(10**6))
    monkeypatch.setattr(curvature.time, "perf_counter", lambda: next(now))  # 1 s for 3 products
    weights = sum(
        site.variable.shape[0] * site.variable.shape[1] for site in sites.find(model).sites
    )
    minutes = round(weights / 3 / 60)
    limit = weights / 3 - 1
    told = rf"{weights:,} products .* 0\.33 s each about {minutes} minutes.*ExactOBD\(limit_s="
    with pytest.raises(ValueError, match=told):
        ap.prune(model, 0.5, ap.criteria.ExactOBD(limit), data=(x, y))
    assert next(now) == 2  # it was not the end that was waited for
    done = ap.prune(model, 0.5, ap.criteria.ExactOBD(limit_s=limit + 2), data=(x, y))
    assert done.sparsity == 0.5


# -- models of many kinds ------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", [ap.PrunedLayer, ap.L0Layer])
@pytest.mark.parametrize("criterion", ["obd", "taylor", "taylor_activation"])
def test_wrapped_layers_score_as_plain_ones(criterion, wrapper):
    model, _, x, y = problem("mlp")
    plain = ap.scores(model, criterion, (x, y))
    arguments = {"droprate": 0.01} if wrapper is ap.L0Layer else {}
    wrapped = ap.wrap(model, wrapper=wrapper, **arguments)
    found = ap.scores(wrapped, criterion, (x, y))
    for expected, scores in zip(plain.values(), found.values(), strict=True):
        assert expected.any()
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-9)


@contextlib.contextmanager
def mixed():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("criterion", LABELLED)
def test_mixed_precision(criterion):
    with mixed():
        model = models.mlp((5, 4))
    models.compiled(model)
    x, y = models.data()
    scores = ap.scores(model, criterion, (x, y))
    assert all(np.isfinite(values).all() and values.any() for values in scores.values())


def test_second_derivatives_of_attention():
    model, live, x, y = problem("attention")
    for criterion in ("obd_hutchinson", "grasp"):
        scores = ap.scores(model, criterion, (x, y), exclude=())
        assert set(scores) == {site.name for site in live}
        assert all(values.any() for values in scores.values())


def test_layers_with_several_outputs_and_without_activation():
    inputs = keras.Input((3, 2))
    x, state, _ = layers.LSTM(2, return_state=True, name="lstm")(inputs)
    dense = layers.Dense(4, name="a")
    out = layers.Dense(models.CLASSES, "softmax")(dense(layers.Add()([x, state])))
    model = models.compiled(keras.Model(inputs, out))
    dense.activation = None
    x, y = models.data((3, 2), 6)
    for criterion in ("obd", "taylor_activation"):
        assert ap.scores(model, criterion, (x, y))["a/kernel"].any()
    assert dense.activation is None


def test_a_shared_softmax_and_losses_of_ones_own_are_refused():
    softmax, inputs = layers.Softmax(name="twice"), keras.Input((6,))
    hidden = softmax(layers.Dense(5)(inputs))
    model = models.compiled(keras.Model(inputs, softmax(layers.Dense(models.CLASSES)(hidden))))
    x, y = models.data()
    with pytest.raises(ValueError, match="'twice', is called several times"):
        ap.scores(model, "obd", (x, y), exclude=())

    class Other(keras.losses.SparseCategoricalCrossentropy):
        def call(self, y_true, y_pred):
            return 100 * super().call(y_true, y_pred)

    for loss in (Other(), keras.losses.SparseCategoricalCrossentropy(ignore_class=0)):
        model = models.mlp()
        model.compile("sgd", loss)
        with pytest.raises(ValueError, match="its curvature is not known here"):
            ap.scores(model, "obd", (x, y))


def test_the_seed_decides_an_estimate():
    model, _, x, y = problem("mlp")
    first, again, other = (
        ap.scores(model, "obd_hutchinson", (x, y), seed=seed) for seed in (0, 0, 1)
    )
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).any()


def test_synaptic_flow_passes_clips_and_offsets_and_refuses_the_rest():
    model = keras.Sequential(
        [
            keras.Input((30,)),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Dense(40, name="a"),
            layers.ReLU(6.0),
            layers.Dense(40, name="b"),
            layers.ReLU(6.0),
            layers.Dense(3, name="out"),
        ]
    )
    scores = ap.scores(model, "synflow", exclude=())
    sums = [values.sum() for values in scores.values()]
    np.testing.assert_allclose(sums, sums[0], rtol=1e-4)
    centred = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5), layers.LayerNormalization(), layers.Dense(2)]
    )
    with pytest.raises(ValueError, match="no synaptic flow arrives here"):
        ap.prune(centred, 0.5, "synflow")
    with pytest.raises(ValueError, match="the model takes integers"):
        ap.prune(models.embedded(), 0.5, "synflow")


def test_rounds_are_no_business_of_between():
    calls = []
    model = models.mlp((30, 30))
    ap.prune(model, [0.5, 0.9], "synflow", between=calls.append)
    assert calls == [model]
    with pytest.raises(ValueError, match="between=3"):
        ap.prune(model, 0.9, between=3)


@pytest.mark.parametrize("need", ["hessian_diagonal", "hutchinson", "hessian_gradient"])
def test_second_derivatives_that_overflow_are_refused_by_name(need):
    model = keras.Sequential([keras.Input((1,))])
    for name, units in (("a", 2), ("out", 1)):
        model.add(layers.Dense(units, use_bias=False, name=name))
    model.set_weights([np.array([[1e18, 1.0]]), np.array([[1e18], [1.0]])])
    model.compile("sgd", "mse")
    x, y = np.array([[1e5], [1.0]], "float32"), np.zeros((2, 1), "float32")
    live = sites.find(model, exclude=()).sites
    with pytest.raises(ValueError, match=r"a/kernel: .* are NaN or infinite"):
        gathering.gather(model, live, (x, y), {need})
