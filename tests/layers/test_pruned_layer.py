"""The wrapper: equal outputs, masks that are saved, and pruned weights that never act."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import activation_pruning as ap
from activation_pruning import sites
from activation_pruning.pruning import report

pytestmark = pytest.mark.backend

BACKEND = keras.backend.backend()


def noise(*shape, seed=5):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def outputs(model, x):
    return keras.tree.map_structure(ops.convert_to_numpy, model(x, training=False))


def mlp():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu", name="a"),
            layers.Dense(5, activation="relu", name="b"),
            layers.Dense(3, name="out"),
        ]
    )


def functional():
    x = keras.Input((6,))
    shared = layers.Dense(6, activation="tanh", name="shared")
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(4, name="nested")], name="inner")
    hidden = layers.BatchNormalization()(layers.Add()([x, shared(shared(x))]))
    return keras.Model(x, [layers.Dense(2, name="one")(inner(hidden)), layers.Dense(1)(hidden)])


def convolutional():
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, padding="same", name="conv"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.SeparableConv2D(4, 3, name="separable"),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.Flatten(),
            layers.Dense(3, name="out"),
        ]
    )


def recurrent():
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 6, mask_zero=True, name="words"),
            layers.Dense(6, name="dense"),
            layers.Bidirectional(layers.LSTM(4), name="both"),
            layers.Dense(3, name="out"),
        ]
    )


MODELS = {
    "mlp": (mlp, lambda: noise(7, 6)),
    "functional": (functional, lambda: noise(7, 6)),
    "convolutional": (convolutional, lambda: noise(7, 8, 8, 2)),
    "recurrent": (recurrent, lambda: np.arange(35).reshape(7, 5) % 4),
}


def close(found, expected):
    for a, b in zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def wrapped_layers(model):
    return [layer for layer in model.layers if isinstance(layer, ap.PrunedLayer)]


def names(model):
    return [one.name for one in model.layers if not isinstance(one, layers.InputLayer)]


def masks_of(model):
    return {
        site.name: ops.convert_to_numpy(site.mask_variable)
        for site in sites.find(model, exclude=()).sites
        if site.mask_variable is not None
    }


# -- wrap and strip ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODELS)
def test_wrap_and_strip_keep_the_outputs(kind):
    make, data = MODELS[kind]
    model, x = make(), data()
    expected = outputs(model, x)
    wrapped = ap.wrap(model)
    assert masks_of(wrapped)
    close(outputs(wrapped, x), expected)
    stripped = ap.strip(wrapped)
    assert not masks_of(stripped)
    close(outputs(stripped, x), expected)
    assert names(stripped) == names(model)


@pytest.mark.parametrize("kind", MODELS)
def test_pruned_models_stay_pruned_through_wrap_save_load_and_strip(kind, tmp_path):
    make, data = MODELS[kind]
    model, x = make(), data()
    pruned = ap.prune(model, 0.6)
    expected = outputs(model, x)
    wrapped = ap.wrap(model)
    for name, mask in masks_of(wrapped).items():
        site = next(s for s in sites.find(wrapped, exclude=()).sites if s.name == name)
        np.testing.assert_array_equal(mask, site.kernel() != 0)
    close(outputs(wrapped, x), expected)
    wrapped.save(tmp_path / "wrapped.keras")
    loaded = keras.saving.load_model(tmp_path / "wrapped.keras")
    close(outputs(loaded, x), expected)
    for name, mask in masks_of(wrapped).items():
        np.testing.assert_array_equal(masks_of(loaded)[name], mask)
    stripped = ap.strip(loaded)
    close(outputs(stripped, x), expected)
    measured = report.measure(sites.find(stripped).sites)
    assert report.total_sparsity(measured) == pruned.sparsity


def test_strip_leaves_the_wrapped_model_as_it_is():
    wrapped = ap.wrap(mlp())
    layer = wrapped.layers[0]
    layer.set_mask("kernel", np.tri(6, 8, dtype=bool))
    layer.layer.kernel.assign(np.ones((6, 8)))  # as momentum may do under the mask
    before = wrapped.get_weights()
    stripped = ap.strip(wrapped)
    np.testing.assert_array_equal(stripped.layers[0].get_weights()[0], np.tri(6, 8))
    for now, then in zip(wrapped.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_wrap_takes_names_and_leaves_out_the_output_layer():
    assert [w.layer.name for w in wrapped_layers(ap.wrap(mlp()))] == ["a", "b"]
    assert [w.layer.name for w in wrapped_layers(ap.wrap(mlp(), include=["b", "out"]))] == [
        "b",
        "out",
    ]
    twice = ap.wrap(ap.wrap(mlp()), exclude=())
    assert [w.layer.name for w in wrapped_layers(twice)] == ["a", "b", "out"]


def test_shared_layers_stay_shared():
    wrapped = ap.wrap(functional())
    assert sum(name.startswith("pruned_shared/") for name in masks_of(wrapped)) == 1
    outer = layers.Dense(6, name="everywhere")
    x = keras.Input((6,))
    inner = keras.Sequential([keras.Input((6,)), outer], name="inner")
    model = keras.Model(x, layers.Dense(2, name="out")(outer(inner(x))))
    wrapped, data = ap.wrap(model), noise(4, 6)
    assert len(masks_of(wrapped)) == 1
    close(outputs(wrapped, data), outputs(model, data))


def test_arguments_of_the_call_reach_the_layer():
    x, keep = keras.Input((5, 4)), keras.Input((5,), dtype="bool")
    state = layers.Dense(3, name="state")(layers.GlobalAveragePooling1D()(x))
    hidden = layers.GRU(3, name="gru")(x, mask=keep, initial_state=state)
    model = keras.Model([x, keep], layers.Dense(2, name="out")(hidden))
    data = [noise(6, 5, 4), noise(6, 5) > 0]
    wrapped = ap.wrap(model)
    assert len(wrapped_layers(wrapped)) == 2
    close(outputs(wrapped, data), outputs(model, data))
    close(outputs(ap.strip(wrapped), data), outputs(model, data))


class Conditioned(layers.Layer):
    """Takes a tensor and a number by name, and builds its layers in its first call."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.gate = layers.Dense(4, name="gate")

    def call(self, x, condition=None, scale=1.0):
        return scale * x * self.gate(condition)


@pytest.mark.parametrize("named", [True, False])
def test_tensors_and_numbers_reach_the_layer_by_name(named):
    a, b = keras.Input((4,)), keras.Input((3,))
    own = Conditioned(name="own")
    hidden = own(x=a, condition=b, scale=2.0) if named else own(a, b, scale=2.0)
    model = keras.Model([a, b], layers.Dense(2, name="out")(hidden))
    data = [noise(6, 4), noise(6, 3)]
    wrapped = ap.wrap(model)
    assert len(wrapped_layers(wrapped)) == 1
    close(outputs(wrapped, data), outputs(model, data))
    close(outputs(ap.strip(wrapped), data), outputs(model, data))


class Experts(layers.Layer):
    """Builds the layers that it holds in its first call."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.experts = [layers.Dense(4, name=f"expert_{index}") for index in range(2)]

    def call(self, x):
        return sum(expert(x) for expert in self.experts)


def test_a_layer_without_build_comes_back_from_a_file(tmp_path):
    model = keras.Sequential([keras.Input((6,)), Experts(), layers.Dense(2, name="out")])
    wrapped = ap.wrap(model)
    ap.prune(wrapped, 0.5)
    wrapped.save(tmp_path / "model.keras")
    known = {"Experts": Experts}
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects=known)
    x = noise(5, 6)
    close(outputs(loaded, x), outputs(wrapped, x))
    masks = [ops.convert_to_numpy(v) for v in loaded.variables if "mask" in v.name]
    assert [int((~mask).sum()) for mask in masks] != [0, 0]
    assert sum(int((~mask).sum()) for mask in masks) == 24


def test_custom_classes_and_lambdas_need_no_registration():
    class Mine(layers.Dense):
        pass

    model = keras.Sequential(
        [keras.Input((6,)), layers.Lambda(lambda x: 2 * x), Mine(4), layers.Dense(2, name="out")]
    )
    x = noise(3, 6)
    wrapped = ap.wrap(model)
    assert isinstance(wrapped_layers(wrapped)[0].layer, Mine)
    close(outputs(ap.strip(wrapped), x), outputs(model, x))


def test_compile_settings_are_kept():
    model = mlp()
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    for rebuilt in (ap.wrap(model), ap.strip(ap.wrap(model))):
        assert isinstance(rebuilt.optimizer, keras.optimizers.Adam)
        np.testing.assert_allclose(float(rebuilt.optimizer.learning_rate), 0.05, rtol=1e-6)
        history = rebuilt.fit(noise(8, 6), noise(8, 3), verbose=0).history
        assert {"loss", "mae"} <= set(history)


def test_attention_is_not_wrapped_and_says_so():
    x = keras.Input((5, 8))
    hidden = layers.Dense(8, name="a")(x)
    attended = layers.MultiHeadAttention(2, 4, name="mha")(hidden, hidden)
    model = keras.Model(x, layers.Dense(2, name="out")(attended))
    with pytest.warns(UserWarning, match=r"not wrapped: \['mha'\].*PruningCallback"):
        wrapped = ap.wrap(model)
    assert list(masks_of(wrapped)) == ["pruned_a/kernel"]
    data = noise(3, 5, 8)
    close(outputs(wrapped, data), outputs(model, data))


@pytest.mark.parametrize("function", [ap.wrap, ap.strip])
def test_subclassed_models_are_refused_with_a_way_out(function):
    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.a, self.b = layers.Dense(3), layers.Dense(2)

        def call(self, x):
            return self.b(self.a(x))

    model = Mine()
    model(noise(1, 4))
    with pytest.raises(TypeError, match=rf"{function.__name__}\(model\).*subclassed Mine"):
        function(model)
    with pytest.raises(ValueError, match="is not built"):
        function(keras.Sequential([layers.Dense(2)]))


# -- the layer itself ----------------------------------------------------------------------


def test_masked_weights_do_not_act_and_are_zeroed():
    layer = ap.PrunedLayer(layers.Dense(4, name="inner"))
    x = noise(3, 6)
    layer(x)
    kernel = layer.layer.get_weights()[0]
    mask = np.random.default_rng(0).random((6, 4)) > 0.5
    layer.set_mask("kernel", mask)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), x @ (kernel * mask), rtol=1e-4)
    assert ((layer.layer.get_weights()[0] == 0) == ~mask).all()
    layer.layer.kernel.assign(kernel)  # whatever comes back into the variable
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), x @ (kernel * mask), rtol=1e-4)


def test_unknown_kernel_names_raise():
    layer = ap.PrunedLayer(layers.LSTM(3))
    layer(noise(2, 4, 5))
    with pytest.raises(ValueError, match=r"name='kernels' .*\['kernel', 'recurrent_kernel'\]"):
        layer.set_mask("kernels", np.ones((5, 12), bool))


def test_layers_without_a_kernel_are_refused():
    with pytest.raises(ValueError, match="no prunable layers"):
        ap.PrunedLayer(layers.BatchNormalization())(noise(2, 3))


def test_masks_and_counts_come_back_from_a_file(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            ap.PrunedLayer(layers.Dense(4, activation="relu"), threshold=0.25, name="wrapped"),
            layers.Dense(2),
        ]
    )
    layer, x = model.layers[0], noise(10, 6)
    layer.set_mask("kernel", np.tri(6, 4, dtype=bool))
    model(x, training=True)
    model(x, training=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = loaded.layers[0]
    assert again.threshold == 0.25
    np.testing.assert_array_equal(masks_of(loaded)["wrapped/kernel"], np.tri(6, 4, dtype=bool))
    active = (ops.convert_to_numpy(layer(x)) > 0.25).sum(axis=0)
    for table in (layer.activity(), again.activity()):
        np.testing.assert_array_equal(table["frequency"], active / 10)
        assert table["samples"].tolist() == [10] * 4  # training calls only


def test_counting_can_be_left_out():
    layer = ap.PrunedLayer(layers.Dense(4), count=False)
    layer(noise(2, 3), training=True)
    assert len(layer.weights) == 3  # kernel, bias, mask
    with pytest.raises(ValueError, match="nothing counted"):
        layer.activity()


def test_composite_layers_are_masked_but_not_counted():
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(4, name="p"), layers.Dense(3, name="q")]
    )
    layer, x = ap.PrunedLayer(inner), noise(5, 6)
    layer(x, training=True)
    layer.set_mask("p_kernel", np.zeros((6, 4), bool))
    assert not ops.convert_to_numpy(layer(x)).any()
    with pytest.raises(ValueError, match="composite"):
        layer.activity()


# -- training --------------------------------------------------------------------------------


def fit(model, x, y, optimizer="adam", **kwargs):
    if not model.compiled:
        model.compile(optimizer, "mse")
    return model.fit(x, y, batch_size=8, verbose=0, shuffle=False, **kwargs)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_pruned_weights_stay_out_of_play_in_training(optimizer):
    x, y = noise(32, 6), noise(32, 3)
    made = {
        "sgd": keras.optimizers.SGD(0.05, momentum=0.9),
        "adam": keras.optimizers.Adam(0.05),
        "adamw": keras.optimizers.AdamW(0.05, weight_decay=0.1),
    }
    model = ap.wrap(mlp())
    fit(model, x, y, made[optimizer])  # builds momenta that will push at the pruned weights
    ap.prune(model, 0.7)
    masks = masks_of(model)
    assert sum(int((~mask).sum()) for mask in masks.values()) == round(0.7 * 88)
    before = model.layers[0].layer.get_weights()[0]
    fit(model, x, y, epochs=2)
    for name, mask in masks_of(model).items():
        np.testing.assert_array_equal(mask, masks[name])
    assert not np.array_equal(model.layers[0].layer.get_weights()[0], before)
    assert report.total_sparsity(report.measure(sites.find(model).sites)) == round(0.7 * 88) / 88
    stripped = ap.strip(model)
    close(outputs(stripped, x), outputs(model, x))
    for name, mask in masks.items():
        kernel = stripped.get_layer(name.split("/")[0].removeprefix("pruned_")).kernel
        assert not ops.convert_to_numpy(kernel)[~mask].any()


def test_pruning_a_wrapped_model_again_revives_nothing():
    x, y = noise(32, 6), noise(32, 3)
    model = ap.wrap(mlp())
    fit(model, x, y, keras.optimizers.SGD(0.1, momentum=0.9))
    ap.prune(model, 0.5)
    first = masks_of(model)
    fit(model, x, y)
    ap.prune(model, 0.5)
    for name, mask in masks_of(model).items():
        np.testing.assert_array_equal(mask, first[name])
    ap.prune(model, 0.8)
    assert all(not (mask & ~first[name]).any() for name, mask in masks_of(model).items())


def test_wrapped_and_plain_models_are_pruned_alike_from_data():
    model, x = mlp(), noise(40, 6)
    wrapped = ap.wrap(model)
    ap.prune(model, 0.6, "activation_magnitude", data=x)
    ap.prune(wrapped, 0.6, "activation_magnitude", data=x)
    for plain, layer in zip(model.layers[:2], wrapped.layers[:2], strict=True):
        np.testing.assert_array_equal(layer.layer.get_weights()[0], plain.get_weights()[0])


def test_a_wrapped_linear_layer_is_followed_to_its_activation():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(4, name="a"),
            layers.BatchNormalization(),
            layers.ReLU(name="relu"),
            layers.Dense(2, name="out"),
        ]
    )
    for one in (model, ap.wrap(model)):
        assert sites.find(one).sites[0].source.label == "relu"


def test_fit_counts_training_samples_only():
    x, y = noise(32, 6), noise(32, 3)
    model = ap.wrap(mlp())
    expected = (ops.convert_to_numpy(model.layers[0](x)) > 0).sum(axis=0)
    fit(model, x, y, keras.optimizers.SGD(0.0), epochs=2, validation_data=(x, y))
    model.predict(x, verbose=0)
    table = model.layers[0].activity()
    assert table["samples"].tolist() == [64] * 8
    np.testing.assert_array_equal(table["frequency"], expected / 32)


def test_batch_norm_dropout_and_regularizers_inside_train_as_outside():
    def make(wrap):
        keras.utils.set_random_seed(0)
        around = ap.PrunedLayer if wrap else lambda layer: layer
        inner = keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(5, kernel_regularizer="l2", activity_regularizer="l1", name="p"),
                layers.BatchNormalization(name="norm"),
                layers.Dropout(0.0),
            ],
            name="inner",
        )
        model = keras.Sequential([keras.Input((6,)), around(inner), layers.Dense(3, name="out")])
        return model, inner

    x, y = noise(32, 6), noise(32, 3)
    plain, plain_inner = make(False)
    wrapped, inner = make(True)
    for kernel, model in ((plain_inner, plain), (inner, wrapped)):
        kernel.set_weights([noise(*w.shape, seed=i) + 2 for i, w in enumerate(inner.get_weights())])
        model.layers[-1].set_weights([noise(5, 3), np.zeros(3)])
    losses = [fit(m, x, y, keras.optimizers.SGD(0.01), epochs=2).history for m in (plain, wrapped)]
    np.testing.assert_allclose(losses[1]["loss"], losses[0]["loss"], rtol=1e-4)
    for a, b in zip(inner.get_weights(), plain_inner.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_dropout_inside_draws_anew_in_every_call():
    layer = ap.PrunedLayer(
        keras.Sequential([keras.Input((6,)), layers.Dense(50), layers.Dropout(0.5)])
    )
    x = np.ones((1, 6), "float32")
    first, second = (ops.convert_to_numpy(layer(x, training=True)) == 0 for _ in range(2))
    assert not np.array_equal(first, second)
    assert not (ops.convert_to_numpy(layer(x, training=False)) == 0).any()


def test_mixed_precision_keeps_full_masks_counts_and_weights():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = ap.wrap(mlp())
    finally:
        keras.config.set_dtype_policy("float32")
    x, y = noise(600, 6), noise(600, 3)
    ap.prune(model, 0.5)
    fit(model, x, y, keras.optimizers.SGD(0.01, momentum=0.9))
    layer = model.layers[0]
    assert keras.backend.standardize_dtype(layer.layer.kernel.dtype) == "float32"
    assert keras.backend.standardize_dtype(layer(x).dtype) == "bfloat16"
    assert layer.activity()["samples"].tolist() == [600] * 8  # a bfloat16 count stops at 256
    assert report.total_sparsity(report.measure(sites.find(model).sites)) == 0.5


def test_a_layer_with_a_policy_of_its_own_is_wrapped_without_rounding():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4, dtype="float32", name="a")])
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        wrapped = ap.wrap(model, exclude=())
    finally:
        keras.config.set_dtype_policy("float32")
    x = noise(9, 6)
    np.testing.assert_array_equal(outputs(wrapped, x), outputs(model, x))


def _torch_step(model, x, y):
    import torch

    model.zero_grad()
    loss = ops.mean(ops.square(model(x, training=True) - y))
    loss.backward()
    variables = model.trainable_variables
    with torch.no_grad():
        model.optimizer.apply([v.value.grad for v in variables], variables)


def _tensorflow_step(model, x, y):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = ops.mean(ops.square(model(x, training=True) - y))
    variables = model.trainable_variables
    model.optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)


def _jax_step(model, x, y):
    import jax

    def loss_of(trainable, other):
        prediction, other = model.stateless_call(trainable, other, x, training=True)
        return ops.mean(ops.square(prediction - y)), other

    trainable = [v.value for v in model.trainable_variables]
    other = [v.value for v in model.non_trainable_variables]
    (_, other), grads = jax.value_and_grad(loss_of, has_aux=True)(trainable, other)
    model.optimizer.apply(grads, model.trainable_variables)
    for variable, value in zip(model.non_trainable_variables, other, strict=True):
        variable.assign(value)


def test_custom_training_loops_mask_and_count():
    model, x, y = ap.wrap(mlp()), noise(16, 6), noise(16, 3)
    ap.prune(model, 0.5)
    model.compile(keras.optimizers.SGD(0.1))
    model.optimizer.build(model.trainable_variables)
    masks, before = masks_of(model), outputs(model, x)
    step = {"tensorflow": _tensorflow_step, "torch": _torch_step, "jax": _jax_step}[BACKEND]
    for _ in range(3):
        step(model, ops.convert_to_tensor(x), ops.convert_to_tensor(y))
    assert not np.allclose(outputs(model, x), before)
    assert model.layers[0].activity()["samples"].tolist() == [48] * 8
    for layer in wrapped_layers(model):
        mask = masks[f"{layer.name}/kernel"]
        assert not layer.layer.get_weights()[0][~mask].any()  # no gradient reached them


def test_the_callback_prunes_a_wrapped_model():
    model, x, y = ap.wrap(mlp()), noise(32, 6), noise(32, 3)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    callback = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), criterion="magnitude")
    model.fit(x, y, epochs=3, verbose=0, callbacks=[callback])
    masks = masks_of(model)
    assert sum(int((~mask).sum()) for mask in masks.values()) == 44
    for layer in wrapped_layers(model):
        assert not layer.layer.get_weights()[0][~masks[f"{layer.name}/kernel"]].any()
