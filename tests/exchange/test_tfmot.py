"""Legacy tf_keras models become Keras 3 models that compute the same."""

import os

import keras
import numpy as np
import pytest

from activation_pruning import KeepPruned, prune
from activation_pruning.exchange.tfmot import from_tfmot

pytestmark = pytest.mark.lowest

tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is an extra")
legacy_layers = tf_keras.layers


@pytest.fixture(scope="module")
def tfmot():
    """tfmot's Keras API; its import turns tf.keras into tf_keras for processes started later."""
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    module = pytest.importorskip("tensorflow_model_optimization").sparsity.keras
    if before is None:
        os.environ.pop("TF_USE_LEGACY_KERAS", None)
    return module


def randomised(model, seed=2):
    """`model` with random weights, all of them: BatchNormalization's start as zeros and ones."""
    generator = np.random.default_rng(seed)
    weights = model.get_weights()
    model.set_weights([generator.uniform(0.2, 1.0, w.shape).astype(w.dtype) for w in weights])
    return model


def assert_equal(new, legacy, *shapes, tolerance=1e-5):
    """Both models return the same for inputs that the conversion has not compared them on."""
    generator = np.random.default_rng(11)
    x = [generator.normal(size=(20, *shape)).astype("float32") for shape in shapes]
    x = x if len(x) > 1 else x[0]
    pairs = zip(
        keras.tree.flatten(new(x, training=False)),
        keras.tree.flatten(legacy(x, training=False)),
        strict=True,
    )
    for found, wanted in pairs:
        found = keras.ops.convert_to_numpy(found)
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5, atol=tolerance)


def mlp():
    return tf_keras.Sequential(
        [
            legacy_layers.Dense(20, "relu", input_shape=(10,), name="a"),
            legacy_layers.BatchNormalization(name="norm"),
            legacy_layers.Dropout(0.5),
            legacy_layers.Dense(3, "softmax", name="out"),
        ]
    )


def functional():
    """Two inputs and two outputs, a shared layer, a nested model, arguments by name."""
    first, second = (tf_keras.Input((6, 4), name=name) for name in ("zeta", "alpha"))
    inner = tf_keras.Sequential(
        [
            legacy_layers.Dense(8, "relu", input_shape=(6, 5), name="in"),
            legacy_layers.LSTM(3, name="lstm"),
        ],
        name="inner",
    )
    both = legacy_layers.Dense(5, "tanh", name="both")
    left, right = both(first), both(second)
    attended = legacy_layers.MultiHeadAttention(2, 3, name="mha")(left, value=right)
    attended = legacy_layers.LayerNormalization()(legacy_layers.Add()([left, attended]))
    joined = legacy_layers.Concatenate()([inner(attended), inner(right)])
    ends = [legacy_layers.Dense(2, name="y")(joined), legacy_layers.Dense(3, name="x")(joined)]
    return tf_keras.Model([first, second], ends, name="whole")


def pruned(tfmot, model, sparsity=0.6, **options):
    """`model` in tfmot's wrappers, trained for one epoch."""
    schedule = tfmot.ConstantSparsity(sparsity, 0, frequency=1)
    model = tfmot.prune_low_magnitude(model, schedule, **options)
    model.compile("adam", "mse")
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(40, 10)), generator.normal(size=(40, 3))
    model.fit(x, y, epochs=2, verbose=0, callbacks=[tfmot.UpdatePruningStep()])
    return model


LAYERS = {
    "Dense": ((5,), lambda layers: layers.Dense(3, "gelu", kernel_regularizer="l2")),
    "Dense_rank3": ((4, 5), lambda layers: layers.Dense(3, kernel_constraint="max_norm")),
    "EinsumDense": ((4, 5), lambda layers: layers.EinsumDense("abc,cd->abd", (4, 6))),
    "Conv1D": ((8, 3), lambda layers: layers.Conv1D(4, 3, padding="causal", dilation_rate=2)),
    "Conv2D": ((8, 8, 4), lambda layers: layers.Conv2D(6, 3, strides=2, groups=2)),
    "Conv3D": ((4, 4, 4, 2), lambda layers: layers.Conv3D(2, 2)),
    "Conv2DTranspose": ((4, 4, 3), lambda layers: layers.Conv2DTranspose(2, 3, 2, "same")),
    "DepthwiseConv1D": ((8, 3), lambda layers: layers.DepthwiseConv1D(3)),
    "DepthwiseConv2D": ((8, 8, 3), lambda layers: layers.DepthwiseConv2D(3, depth_multiplier=2)),
    "SeparableConv1D": ((8, 3), lambda layers: layers.SeparableConv1D(4, 3)),
    "SeparableConv2D": ((8, 8, 3), lambda layers: layers.SeparableConv2D(4, 3, activation="elu")),
    "BatchNormalization": ((4, 3), lambda layers: layers.BatchNormalization(axis=1, epsilon=0.1)),
    "LayerNormalization": ((4, 3), lambda layers: layers.LayerNormalization(axis=[1, 2])),
    "GroupNormalization": ((4, 6), lambda layers: layers.GroupNormalization(3)),
    "UnitNormalization": ((6,), lambda layers: layers.UnitNormalization()),
    "Normalization": ((3,), lambda layers: layers.Normalization()),
    "LSTM": ((5, 3), lambda layers: layers.LSTM(4, return_sequences=True)),
    "GRU": ((5, 3), lambda layers: layers.GRU(4)),
    "GRU_before": ((5, 3), lambda layers: layers.GRU(4, reset_after=False)),
    "SimpleRNN": ((5, 3), lambda layers: layers.SimpleRNN(4, go_backwards=True)),
    "RNN": (
        (5, 3),
        lambda layers: layers.RNN([layers.LSTMCell(4), layers.GRUCell(2)]),
    ),
    "ConvLSTM2D": ((3, 4, 4, 2), lambda layers: layers.ConvLSTM2D(2, 2)),
    "Bidirectional": ((5, 3), lambda layers: layers.Bidirectional(layers.LSTM(4))),
    "Bidirectional_two": (
        (5, 3),
        lambda layers: layers.Bidirectional(
            layers.GRU(4), "sum", backward_layer=layers.LSTM(4, go_backwards=True)
        ),
    ),
    "TimeDistributed": ((5, 4, 3), lambda layers: layers.TimeDistributed(layers.Conv1D(2, 2))),
    "ReLU": ((6,), lambda layers: layers.ReLU(0.7, 0.1, 0.2)),
    "LeakyReLU": ((6,), lambda layers: layers.LeakyReLU(0.1)),
    "PReLU": ((4, 6), lambda layers: layers.PReLU(shared_axes=[1])),
    "ELU": ((6,), lambda layers: layers.ELU(0.3)),
    "Softmax": ((4, 6), lambda layers: layers.Softmax(axis=1)),
    "Activation": ((6,), lambda layers: layers.Activation("swish")),
    "MaxPooling2D": ((6, 6, 2), lambda layers: layers.MaxPooling2D(3, 2, "same")),
    "AveragePooling1D": ((6, 2), lambda layers: layers.AveragePooling1D()),
    "GlobalMaxPooling2D": ((6, 6, 2), lambda layers: layers.GlobalMaxPooling2D(keepdims=True)),
    "GlobalAveragePooling1D": ((6, 2), lambda layers: layers.GlobalAveragePooling1D()),
    "Reshape": ((6, 2), lambda layers: layers.Reshape((3, -1))),
    "Permute": ((6, 2), lambda layers: layers.Permute((2, 1))),
    "Flatten": ((6, 2), lambda layers: layers.Flatten()),
    "RepeatVector": ((6,), lambda layers: layers.RepeatVector(2)),
    "ZeroPadding2D": ((3, 3, 2), lambda layers: layers.ZeroPadding2D(((1, 0), (0, 2)))),
    "Cropping2D": ((6, 6, 2), lambda layers: layers.Cropping2D(1)),
    "UpSampling2D": ((3, 3, 2), lambda layers: layers.UpSampling2D(interpolation="bilinear")),
    "Rescaling": ((3, 2), lambda layers: layers.Rescaling(0.5, [1.0, 2.0])),
    "Resizing": ((4, 4, 1), lambda layers: layers.Resizing(8, 6)),
    "Masking": ((5, 3), lambda layers: layers.Masking(0.0)),
    "SpatialDropout1D": ((5, 3), lambda layers: layers.SpatialDropout1D(0.2)),
    "GaussianNoise": ((5,), lambda layers: layers.GaussianNoise(0.2)),
    "AlphaDropout": ((5,), lambda layers: layers.AlphaDropout(0.2)),
    "ActivityRegularization": ((5,), lambda layers: layers.ActivityRegularization(0.1)),
    "RandomFlip": ((4, 4, 3), lambda layers: layers.RandomFlip("horizontal")),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_the_same(name):
    shape, make = LAYERS[name]
    legacy = tf_keras.Sequential([tf_keras.Input(shape), make(legacy_layers)])
    if not name.startswith(("Normalization", "Random")):
        randomised(legacy)
    new = from_tfmot(legacy)
    assert type(new.layers[0]) is getattr(keras.layers, name.split("_")[0])
    assert new.layers[0].name == legacy.layers[0].name
    assert_equal(new, legacy, shape)


def test_normalization_keeps_what_it_learned():
    legacy = tf_keras.Sequential([tf_keras.Input((3,)), legacy_layers.Normalization()])
    legacy.layers[0].adapt(np.random.default_rng(0).normal(5.0, 2.0, (100, 3)))
    new = from_tfmot(legacy)
    assert_equal(new, legacy, (3,))
    assert np.abs(keras.ops.convert_to_numpy(new(np.full((1, 3), 5.0)))).max() < 1.0


def test_integers_go_into_embeddings():
    layers = [legacy_layers.Embedding(7, 4, input_length=5, mask_zero=True), legacy_layers.LSTM(3)]
    legacy = randomised(tf_keras.Sequential([tf_keras.Input((5,), dtype="int32"), *layers]))
    new = from_tfmot(legacy)
    x = np.random.default_rng(0).integers(0, 7, (20, 5))
    np.testing.assert_allclose(new(x), legacy(x), atol=1e-6)


def test_a_graph_is_followed_call_by_call():
    legacy = randomised(functional())
    new = from_tfmot(legacy)
    assert_equal(new, legacy, (6, 4), (6, 4))
    assert [tensor.name for tensor in new.inputs] == ["zeta", "alpha"]
    assert sum(layer.name == "both" for layer in new.layers) == 1
    assert [layer.name for layer in new.get_layer("inner").layers] == ["in", "lstm"]
    assert new.count_params() == legacy.count_params()


def test_inputs_and_outputs_by_name():
    inputs = {name: tf_keras.Input((size,), name=name) for name, size in (("b", 3), ("a", 4))}
    joined = legacy_layers.Concatenate()([inputs["b"], inputs["a"]])
    ends = {name: legacy_layers.Dense(2)(joined) for name in "yx"}
    legacy = randomised(tf_keras.Model(inputs, ends))
    new = from_tfmot(legacy)
    x = {"a": np.ones((2, 4), "float32"), "b": np.zeros((2, 3), "float32")}
    found, wanted = new(x), legacy(x)
    assert set(found) == {"x", "y"}
    for name in found:
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-6)


def test_layers_shared_with_another_model_and_a_part_of_a_graph():
    inputs = tf_keras.Input((4,))
    middle = legacy_layers.Dense(3, name="a")(inputs)
    end = legacy_layers.Dense(2, name="b")(middle)
    whole, part = tf_keras.Model(inputs, end), tf_keras.Model(inputs, middle)
    later = tf_keras.Model(middle, end)  # starts in the middle
    assert_equal(from_tfmot(whole), whole, (4,))
    assert [layer.name for layer in from_tfmot(part).layers][1:] == ["a"]
    assert_equal(from_tfmot(later), later, (3,))


def test_a_model_in_time_distributed():
    inner = tf_keras.Sequential([legacy_layers.Dense(3, "relu", input_shape=(4,), name="a")])
    inputs = tf_keras.Input((5, 4))
    legacy = tf_keras.Model(inputs, legacy_layers.TimeDistributed(inner)(inputs))
    new = from_tfmot(randomised(legacy))
    assert_equal(new, legacy, (5, 4))


@pytest.mark.slow
def test_a_deep_graph():
    options = {"weights": None, "input_shape": (32, 32, 3), "classes": 5, "alpha": 0.35}
    legacy = tf_keras.applications.MobileNetV2(**options)
    new = from_tfmot(legacy)
    assert len(new.layers) == len(legacy.layers)


def test_frozen_layers_stay_frozen_and_names_become_valid():
    legacy = tf_keras.Sequential(
        [
            tf_keras.Input((4,)),
            legacy_layers.Dense(3, name="block/a", trainable=False),
            legacy_layers.BatchNormalization(trainable=False),
            legacy_layers.Reshape((3, 1)),
            legacy_layers.SpatialDropout1D(0.5, trainable=False),  # Keras 3 knows no such argument
        ]
    )
    new = from_tfmot(randomised(legacy))
    assert [layer.trainable for layer in new.layers[:2]] == [False, False]
    assert new.layers[0].name == "block_a"
    assert_equal(new, legacy, (4,))


# -- pruned by tfmot ---------------------------------------------------------------------------


def test_wrapped_and_stripped_models_give_the_same_zeros(tfmot):
    wrapped = pruned(tfmot, mlp())
    stripped = tfmot.strip_pruning(wrapped)
    models = [from_tfmot(wrapped), from_tfmot(stripped)]
    for new in models:
        assert [layer.name for layer in new.layers] == [layer.name for layer in stripped.layers]
        assert_equal(new, stripped, (10,))
        for name, size in (("a", 200), ("out", 60)):
            kernel = keras.ops.convert_to_numpy(new.get_layer(name).kernel)
            old = stripped.get_layer(name).kernel.numpy()
            assert (kernel == 0).sum() == round(0.6 * size)
            np.testing.assert_array_equal(kernel, old)


def test_masks_act_even_where_the_weights_have_moved(tfmot):
    wrapped = pruned(tfmot, mlp())
    layer = wrapped.layers[0]
    mask = layer.pruning_vars[0][1].numpy()
    layer.layer.kernel.assign(np.ones((10, 20)))  # as momentum might, after the last mask
    new = from_tfmot(wrapped)
    np.testing.assert_array_equal(new.layers[0].kernel, mask)


def test_a_converted_model_goes_on_where_tfmot_stopped(tfmot, tmp_path):
    new = from_tfmot(pruned(tfmot, mlp(), sparsity_m_by_n=(2, 4)))
    zero = keras.ops.convert_to_numpy(new.get_layer("a").kernel) == 0
    assert zero.sum() == 80  # of 10 inputs the last two are in no whole group of four
    new.compile("adam", "mse")
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(40, 10)), generator.normal(size=(40, 3))
    new.fit(x, y, verbose=0, callbacks=[KeepPruned()])
    np.testing.assert_array_equal(new.get_layer("a").kernel == 0, zero)
    report = prune(new, 0.8)
    assert report.sparsity == 0.8
    assert (keras.ops.convert_to_numpy(new.get_layer("a").kernel)[zero] == 0).all()
    new.save(tmp_path / "new.keras")
    again = keras.saving.load_model(tmp_path / "new.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), new.predict(x, verbose=0))


def padded():
    """Sequences of which most hold steps of zeros: behind, in front or between."""
    x = np.random.default_rng(0).normal(size=(5, 6, 3)).astype("float32")
    x[0, 4:] = x[1, 1:] = x[2, 2] = x[3, :2] = 0
    return x


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_masked_steps_are_masked_in_the_copy(kind):
    layer = getattr(legacy_layers, kind)
    legacy = tf_keras.Sequential(
        [
            tf_keras.Input((6, 3)),
            legacy_layers.Masking(),
            layer(4, return_sequences=True),
            layer(4),
        ]
    )
    new, x = from_tfmot(legacy), padded()
    found = keras.ops.convert_to_numpy(new(x))
    np.testing.assert_allclose(found, legacy(x).numpy(), rtol=1e-5, atol=1e-6)
    whole = np.where(x == 0, 9.0, x).astype("float32")  # the mask does act on these
    assert np.abs(found - keras.ops.convert_to_numpy(new(whole))).max(axis=1)[:4].min() > 1e-3


def test_a_mask_that_tfmots_wrappers_lose_is_seen(tfmot):
    """Its wrappers mask nothing, the layers in them do: the same weights compute other outputs."""
    legacy = tf_keras.Sequential(
        [
            tf_keras.Input((6, 3)),
            legacy_layers.Masking(mask_value=-2.0),
            legacy_layers.LSTM(4, return_sequences=True),
            legacy_layers.LSTM(4),
        ]
    )
    wrapped = tfmot.prune_low_magnitude(legacy)
    with pytest.raises(ValueError, match="Wrappers of tfmot lose masks"):
        from_tfmot(wrapped)
    stripped, x = tfmot.strip_pruning(wrapped), padded() - 2.0 * (padded() == 0)
    found = keras.ops.convert_to_numpy(from_tfmot(stripped)(x))
    np.testing.assert_allclose(found, stripped(x).numpy(), rtol=1e-5, atol=1e-6)
    assert np.abs(found - wrapped(x).numpy()).max() > 1e-3


def test_a_layer_that_loses_the_mask_in_one_keras_only_is_named():
    legacy = tf_keras.Sequential(
        [
            tf_keras.Input((6, 3)),
            legacy_layers.Masking(),
            legacy_layers.Rescaling(2.0, name="scaled"),
            legacy_layers.LSTM(4),
        ]
    )
    with pytest.raises(ValueError, match="do not pass on the same masks: \\['scaled'\\]"):
        from_tfmot(legacy)


# -- refusals ----------------------------------------------------------------------------------


def test_layers_without_a_counterpart_are_named_all_at_once():
    inputs = tf_keras.Input((8, 4), name="here")
    x = legacy_layers.LocallyConnected1D(3, 2, name="local")(inputs)
    x = legacy_layers.ThresholdedReLU(0.5, name="thresholded")(x) + 1.0
    legacy = tf_keras.Model(inputs, legacy_layers.Lambda(lambda t: 2 * t, name="code")(x))
    with pytest.raises(ValueError, match="Keras 3 does not know") as caught:
        from_tfmot(legacy)
    text = str(caught.value)
    assert "'local' (LocallyConnected1D) give its Keras 3 class, custom_objects=" in text
    assert "'thresholded' (ThresholdedReLU) is keras.layers.ReLU(threshold=...)" in text
    assert "(TFOpLambda) is an operator" in text
    assert "'code' (Lambda) holds Python code" in text


class LegacyScale(legacy_layers.Layer):
    """Multiplies by a weight and a factor."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape):
        self.scale = self.add_weight("scale", (input_shape[-1],))

    def call(self, inputs):
        return self.factor * self.scale * inputs

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Scale(keras.layers.Layer):
    """The same for Keras 3."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape):
        self.scale = self.add_weight((input_shape[-1],), name="scale")

    def call(self, inputs):
        return self.factor * self.scale * inputs


class Shaped(Scale):
    """Says its shape, as TimeDistributed wants."""

    def compute_output_shape(self, input_shape):
        return input_shape


class Wrong(Scale):
    """Something else."""

    def call(self, inputs):
        return super().call(inputs) + 1e-3


class Larger(Scale):
    """With other weights."""

    def build(self, input_shape):
        self.scale = self.add_weight((1, input_shape[-1]), name="scale")


def test_layers_of_ones_own():
    legacy = tf_keras.Sequential([tf_keras.Input((4,)), LegacyScale(3.0), legacy_layers.Dense(2)])
    randomised(legacy)
    with pytest.raises(ValueError, match=r"\(LegacyScale\) give its Keras 3 class"):
        from_tfmot(legacy)
    new = from_tfmot(legacy, {"LegacyScale": Scale})
    assert new.layers[0].factor == 3.0
    assert_equal(new, legacy, (4,))
    with pytest.raises(ValueError, match=r"differ from the legacy ones .*tolerance=1e-05"):
        from_tfmot(legacy, {"LegacyScale": Wrong})
    assert from_tfmot(legacy, {"LegacyScale": Wrong}, tolerance=1.0) is not None
    with pytest.raises(ValueError, match=r"shapes \[\(4,\)\], .* \[\(1, 4\)\]"):
        from_tfmot(legacy, {"LegacyScale": Larger})
    with pytest.raises(ValueError, match="cannot be made in Keras 3"):
        from_tfmot(legacy, {"LegacyScale": keras.layers.Flatten})


def test_arguments_that_keras_3_lacks():
    layer = legacy_layers.LSTM(3, time_major=True, name="late")
    legacy = tf_keras.Sequential([tf_keras.Input((5, 4)), layer])
    with pytest.raises(ValueError, match="layer 'late': Keras 3's LSTM knows no time_major=True"):
        from_tfmot(legacy)


def test_unknown_layers_within_others():
    layer = legacy_layers.TimeDistributed(LegacyScale(2.0, name="scale"))
    legacy = randomised(tf_keras.Sequential([tf_keras.Input((3, 4)), layer]))
    with pytest.raises(ValueError, match="layer 'scale': Keras 3 does not know LegacyScale"):
        from_tfmot(legacy)
    with pytest.raises(ValueError, match="lacks compute_output_shape"):
        from_tfmot(legacy, {"LegacyScale": Scale})
    assert_equal(from_tfmot(legacy, {"LegacyScale": Shaped}), legacy, (3, 4))


class Subclassed(tf_keras.Model):
    """A legacy model without a graph."""

    def call(self, inputs):
        return inputs


def test_what_is_no_legacy_graph():
    with pytest.raises(TypeError, match="must be a legacy tf_keras model, received keras"):
        from_tfmot(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    with pytest.raises(TypeError, match=r"\(Subclassed\) is subclassed or not built"):
        from_tfmot(Subclassed())
    with pytest.raises(TypeError, match=r"\(Sequential\) is subclassed or not built"):
        from_tfmot(tf_keras.Sequential([legacy_layers.Dense(2)]))
    with pytest.raises(ValueError, match="tolerance=-1"):
        from_tfmot(mlp(), tolerance=-1)


def test_without_tf_keras(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tf_keras", None)
    with pytest.raises(ImportError, match=r"pip install 'activation-pruning\[tfmot\]'"):
        from_tfmot(None)
