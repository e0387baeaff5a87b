"""Compressed models: what is loaded is what was compressed, whatever the model; shared training."""

import keras
import models
import numpy as np
import pytest
from keras import layers

import activation_pruning as ap
from activation_pruning import compression
from activation_pruning.compression import CompressedFileError, container
from activation_pruning.compression.compressed import read
from activation_pruning.compression.tensors import Raw, Shared
from activation_pruning.hooks import attachment

pytestmark = pytest.mark.backend

KINDS = ("mlp", "functional", "normalised", "nested", "shared", "convolutional", "recurrent",
         "attention", "embedded")  # fmt: skip


def weights(model):
    """Names, types and bytes of all weights of a model."""
    values = [keras.ops.convert_to_numpy(v) for v in model.weights]
    return [(v.dtype, v.shape, v.tobytes()) for v in values]


def pruned(kind="mlp", sparsity=0.6, **arguments):
    model = getattr(models, kind)(**arguments)
    # With the same share of each, so that no layer is left with a single weight.
    ap.prune(model, sparsity, exclude=(), allocation="uniform")
    return model


def wide():
    """An mlp whose kernels are worth sharing."""
    return pruned("mlp", 0.8, hidden=(60, 50), features=40)


# -- round trips --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_models_are_the_compressed_ones(tmp_path, kind):
    model = pruned(kind)
    before = weights(model)
    compressed = compression.compress(model, bits=2)
    path = tmp_path / "model.apz"
    compressed.save(path)
    loaded, made = compression.load_compressed(path), compressed.model()
    assert weights(model) == before
    assert weights(loaded) == weights(made)
    kinds = {type(tensor) for tensor in compressed.weights}
    assert Shared in kinds
    shape = [(2, *x.shape[1:]) for x in model.inputs]
    x = [np.random.default_rng(0).integers(0, 7, one).astype("float32") for one in shape]
    x = x if len(x) > 1 else x[0]
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), made.predict(x, verbose=0))


@pytest.mark.parametrize("kind", KINDS)
def test_sharing_keeps_zeros_and_limits_values(kind):
    model = pruned(kind)
    made = compression.compress(model, bits=2)
    for tensor, before, after in zip(
        made.weights, model.get_weights(), made.model().get_weights(), strict=True
    ):
        if isinstance(tensor, Raw):
            np.testing.assert_array_equal(after, before)
        else:
            assert ((after == 0) == (before == 0)).all()
            assert len(np.unique(after[after != 0])) <= 4
            assert np.abs(after - before).max() < np.ptp(before)


@pytest.mark.parametrize("policy", ["bfloat16", "float16", "mixed_bfloat16"])
def test_half_precision(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = keras.Sequential(
            [keras.Input((40,)), layers.Dense(30, "relu"), layers.BatchNormalization(),
             layers.Dense(3)]
        )  # fmt: skip
    finally:
        keras.config.set_dtype_policy("float32")
    ap.prune(model, 0.5, exclude=())
    compressed = compression.compress(model, bits=3)
    compressed.save(tmp_path / "model.apz")
    loaded = compression.load_compressed(tmp_path / "model.apz")
    assert weights(loaded) == weights(compressed.model())
    assert loaded.layers[0].dtype_policy.name == policy
    kernel = np.asarray(keras.ops.convert_to_numpy(loaded.layers[0].kernel), "float32")
    assert len(np.unique(kernel)) == 9
    assert compressed.raw_bytes == sum(v.size for v in model.get_weights()) * (
        4 if policy.startswith("mixed") else 2
    )


def test_few_values_are_kept_to_the_last_bit():
    model = models.mlp((20,), 30)
    kernel = np.random.default_rng(0).choice([-0.3, 0.0, 0.1, 0.7], (30, 20))
    model.layers[0].set_weights([kernel, np.arange(20) / 7])
    compressed = compression.compress(model, bits=2)
    assert isinstance(compressed.weights[0], Shared)
    for one, other in zip(compressed.model().get_weights()[:2], model.get_weights(), strict=False):
        np.testing.assert_array_equal(one, other)


def test_a_wholly_pruned_kernel(tmp_path):
    model = models.mlp((20,), 30)
    model.layers[0].kernel.assign(np.zeros((30, 20)))
    compressed = compression.compress(model)
    compressed.save(tmp_path / "model.apz")
    loaded = compression.load_compressed(tmp_path / "model.apz")
    assert not loaded.get_weights()[0].any()
    assert compressed.table()["clusters"][0] == 0


def test_states_of_layers_come_along(tmp_path):
    data = np.random.default_rng(0).normal(3, 2, (50, 6)).astype("float32")
    norm = layers.Normalization()
    norm.adapt(data)
    model = keras.Sequential([keras.Input((6,)), norm, layers.Dense(9), layers.Dropout(0.5)])
    compressed = compression.compress(model, bits=6)  # as many as there are weights
    compressed.save(tmp_path / "model.apz")
    loaded = compression.load_compressed(tmp_path / "model.apz")
    made = compressed.model().predict(data, verbose=0)
    np.testing.assert_array_equal(loaded.predict(data, verbose=0), made)
    np.testing.assert_allclose(made, model.predict(data, verbose=0), atol=1e-5)


def test_how_a_model_is_compiled_is_not_stored():
    model = wide()
    model.compile(keras.optimizers.Adam(), lambda y, p: keras.ops.mean(p))  # no code of mine
    compressed = compression.compress(model)
    assert model.compiled
    assert not compressed.model().compiled
    assert "compile_config" not in compressed.config or not compressed.config["compile_config"]


def test_saving_leaves_a_whole_file_or_none(tmp_path, monkeypatch):
    compressed = compression.compress(wide())
    compressed.save(tmp_path / "deep" / "model.apz")
    before = (tmp_path / "deep" / "model.apz").read_bytes()
    assert before == compressed.to_bytes()
    monkeypatch.setattr(compressed, "to_bytes", lambda: "no bytes")
    with pytest.raises(TypeError):
        compressed.save(tmp_path / "deep" / "model.apz")
    assert [path.read_bytes() for path in (tmp_path / "deep").iterdir()] == [before]


# -- arguments ----------------------------------------------------------------------------------


def test_bits_by_layer():
    model = pruned("mlp", 0.5, hidden=(60, 50), features=40)
    compressed = compression.compress(model, bits={"b": 6, "*": 3})
    table = compressed.table().set_index("tensor")
    assert table["bits"].dropna().to_dict() == {"a/kernel": 3, "b/kernel": 6, "out/kernel": 3}
    assert table["clusters"].dropna().to_dict() == {"a/kernel": 8, "b/kernel": 64, "out/kernel": 8}
    one = compression.compress(model, bits={"a": 3})
    np.testing.assert_array_equal(one.model().get_weights()[2], model.get_weights()[2])


def test_bad_arguments_are_named():
    model = wide()
    for bits in (0, 12, 2.5, "5", None, {"a": 0}):
        with pytest.raises(ValueError, match=r"integer in \[1, 11\]"):
            compression.compress(model, bits=bits)
    with pytest.raises(ValueError, match="bits='conv' matches no prunable layer"):
        compression.compress(model, bits={"conv": 5})
    with pytest.raises(TypeError, match=r"must be a keras\.Model"):
        compression.compress(3)
    with pytest.raises(TypeError, match="received the layer"):
        compression.compress(model.layers[0])
    with pytest.raises(ValueError, match=r"ap\.strip"):
        compression.compress(ap.wrap(model))
    model.layers[0].kernel.assign(np.full((40, 60), np.nan))
    with pytest.raises(ValueError, match="a/kernel"):
        compression.compress(model)


def test_code_is_refused():
    inputs = keras.Input((6,))
    x = layers.Lambda(lambda x: 2 * x, name="twice")(layers.Dense(5)(inputs))
    with pytest.raises(ValueError, match=r"Python lambda \('twice'\)"):
        compression.compress(keras.Model(inputs, x))


def test_vocabularies_are_refused():
    pytest.importorskip("tensorflow", reason="Keras makes lookup layers with TensorFlow only")
    model = keras.Sequential(
        [keras.Input((1,), dtype="int64"), layers.IntegerLookup(vocabulary=[3, 4], name="look"),
         layers.Dense(4)]
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"'look' \(IntegerLookup\) keeps a vocabulary"):
        compression.compress(model)


def test_subclasses_need_a_configuration(tmp_path):
    with pytest.raises(ValueError, match="Classes of your own must be registered"):
        compression.compress(pruned("subclassed"))
    known = {"Subclassed": models.Subclassed}
    compressed = compression.compress(pruned("subclassed"), 2, known)
    compressed.save(tmp_path / "model.apz")
    loaded = compression.load_compressed(tmp_path / "model.apz", known)
    assert weights(loaded) == weights(compressed.model(known))

    class Silent(keras.Model):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def call(self, x):
            return self.layer(x)

    model = Silent(layers.Dense(3))
    model(np.ones((1, 20)))
    with pytest.raises(ValueError, match=r"cannot be stored|cannot be made"):
        compression.compress(model, custom_objects={"Silent": Silent})

    class Built(keras.Model):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units, self.a, self.b = units, layers.Dense(units), layers.Dense(3)

        def build(self, shape):
            self.a.build(shape)
            self.b.build((shape[0], self.units))
            self.built = True

        def call(self, x):
            return self.b(self.a(x))

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    model = Built(70)
    model.build((None, 20))
    compressed = compression.compress(model, bits=3, custom_objects={"Built": Built})
    compressed.save(tmp_path / "model.apz")
    with pytest.raises(CompressedFileError, match="registered"):
        compression.load_compressed(tmp_path / "model.apz")
    loaded = compression.load_compressed(tmp_path / "model.apz", {"Built": Built})
    assert weights(loaded) == weights(compressed.model({"Built": Built}))


# -- files --------------------------------------------------------------------------------------


def forged(tmp_path, change):
    """A file of a small model whose header was changed, with checksums that fit."""
    data = compression.compress(wide()).to_bytes()
    header, sections = container.unpack(data)
    change(header)
    path = tmp_path / "forged.apz"
    path.write_bytes(container.pack(header, [bytes(section) for section in sections]))
    return path


def test_code_in_a_file_is_not_run(tmp_path):
    def change(header):
        code = {"class_name": "__lambda__", "config": {"code": "", "defaults": 0, "closure": 0}}
        config = {"name": "evil", "function": code}
        layer = {"module": "keras.layers", "class_name": "Lambda", "config": config}
        header["config"]["config"]["layers"].append(layer | {"registered_name": None})

    keras.config.enable_unsafe_deserialization()
    try:
        with pytest.raises(CompressedFileError, match=r"it holds code, a Python lambda \('evil'\)"):
            compression.load_compressed(forged(tmp_path, change))
    finally:
        keras.src.saving.serialization_lib.SAFE_MODE = None
        keras.backend.clear_session()


def test_files_whose_parts_do_not_fit(tmp_path):
    def fewer(header):
        header["config"]["config"]["layers"].pop()

    def other_units(header):
        header["config"]["config"]["layers"][1]["config"]["units"] = 61

    def other_type(header):
        header["config"]["config"]["layers"][1]["config"]["dtype"] = "bfloat16"

    for change in (fewer, other_units, other_type):
        with pytest.raises(CompressedFileError, match=r"forged\.apz' cannot be loaded: the model"):
            compression.load_compressed(forged(tmp_path, change))
    with pytest.raises(CompressedFileError, match="a dict that is not a built"):
        compression.load_compressed(forged(tmp_path, lambda header: header["config"].clear()))
    nobody = {"class_name": "Nobody", "module": "nowhere", "config": {}}
    with pytest.raises(CompressedFileError, match="cannot be made from its configuration"):
        compression.load_compressed(
            forged(tmp_path, lambda header: header["config"].update(nobody))
        )
    with pytest.raises(FileNotFoundError):
        compression.load_compressed(tmp_path / "nothing.apz")


def test_no_injury_passes_the_loader(tmp_path):
    data = compression.compress(wide(), bits=3).to_bytes()
    generator, path = np.random.default_rng(0), tmp_path / "injured.apz"
    for _ in range(300):
        injured = bytearray(data)
        place = int(generator.integers(len(data)))
        if generator.random() < 0.5:
            injured[place] ^= 1 << int(generator.integers(8))
        else:
            del injured[place : place + int(generator.integers(1, 99))]
        path.write_bytes(injured)
        with pytest.raises(CompressedFileError, match=r"injured\.apz' cannot be loaded"):
            compression.load_compressed(path)


# -- numbers ------------------------------------------------------------------------------------


def test_the_table_adds_up():
    compressed = compression.compress(wide(), bits=4)
    table = compressed.table()
    assert table["huffman_bytes"].sum() == compressed.size_bytes == len(compressed.to_bytes())
    assert table["raw_bytes"].sum() == compressed.raw_bytes == 4 * wide().count_params()
    assert compressed.ratio == compressed.raw_bytes / compressed.size_bytes
    kernel = table.set_index("tensor").loc["b/kernel"]
    assert (kernel["weights"], kernel["nonzeros"], kernel["clusters"]) == (3000, 600, 16)
    assert kernel["form"] == "sparse"
    # Without fillers: 600 weights of 32 bits (4 when quantised), each with its distance.
    width = int(kernel["index_bits"])
    assert kernel["pruned_bytes"] >= 600 * (32 + width) / 8
    entries = round(8 * kernel["pruned_bytes"] / (32 + width))
    assert kernel["quantised_bytes"] == -(-entries * (4 + width) // 8) + 4 * 16
    assert kernel["huffman_bytes"] < kernel["quantised_bytes"] < kernel["pruned_bytes"] < 12_000
    assert "times smaller" in repr(compressed)


# -- training what is shared ---------------------------------------------------------------------


def linear(reduction_seed=0):
    """(compressed linear model, inputs, targets): one kernel, no bias."""
    keras.utils.set_random_seed(reduction_seed)
    model = keras.Sequential([keras.Input((30,)), layers.Dense(20, use_bias=False, name="a")])
    ap.prune(model, 0.7, exclude=())
    generator = np.random.default_rng(0)
    x = generator.normal(size=(16, 30)).astype("float32")
    return compression.compress(model, bits=2), x, generator.normal(size=(16, 20)).astype("float32")


def centroid_gradient(tensor, codebook, x, y):
    """Summed gradients of the mean squared error by cluster, and the clusters' sizes."""
    kernel = np.append(0.0, codebook)[tensor.codes]
    gradient = 2 * x.T.astype("float64") @ (x @ kernel - y) / y.size
    sums = np.bincount(tensor.codes.ravel(), gradient.ravel(), len(codebook) + 1)[1:]
    return sums, np.bincount(tensor.codes.ravel())[1:]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_step_of_sgd_is_one_on_the_centroids(reduction):
    compressed, x, y = linear()
    tensor = compressed.weights[0]
    expected = tensor.codebook.astype("float64")
    for _ in range(3):
        sums, sizes = centroid_gradient(tensor, expected, x, y)
        expected = expected - 0.05 * (sums if reduction == "sum" else sums / sizes)
    model = compressed.model()
    model.compile(keras.optimizers.SGD(0.05), "mse")
    model.fit(
        x, y, batch_size=16, epochs=3, verbose=0,
        callbacks=[ap.SharedWeights(compressed, reduction)],
    )  # fmt: skip
    np.testing.assert_allclose(compressed.weights[0].codebook, expected, rtol=1e-5)
    assert np.abs(expected - tensor.codebook).max() > 1e-3
    assert (compressed.weights[0].codes == tensor.codes).all()
    assert weights(model) == weights(compressed.model())


def test_steps_of_adam_are_those_on_the_centroids():
    compressed, x, y = linear()
    tensor = compressed.weights[0]
    expected, m, v = tensor.codebook.astype("float64"), 0.0, 0.0
    for step in range(1, 6):
        gradient, _ = centroid_gradient(tensor, expected, x, y)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        expected = expected - 0.01 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-7)
    model = compressed.model()
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(
        x, y, batch_size=16, epochs=5, verbose=0,
        callbacks=[ap.SharedWeights(compressed)],
    )  # fmt: skip
    np.testing.assert_allclose(compressed.weights[0].codebook, expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["normalised", "convolutional", "embedded"])
def test_training_keeps_codes_and_zeros(kind, tmp_path):
    compressed = compression.compress(pruned(kind), bits=2)
    before, model = list(compressed.weights), compressed.model()
    zeros = [w == 0 for w in model.get_weights()]
    models.compiled(model, keras.optimizers.AdamW(0.01))
    x, y = models.data({"convolutional": (8, 8, 2), "embedded": (4,)}.get(kind, (6,)))
    x = np.abs(x).astype("int32") if kind == "embedded" else x
    keep, share = ap.KeepPruned(), ap.SharedWeights(compressed)
    model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[keep, share])
    found, changed = model.get_weights(), 0
    for tensor, old, array, zero in zip(compressed.weights, before, found, zeros, strict=True):
        np.testing.assert_array_equal(np.asarray(array), tensor.array)
        if isinstance(tensor, Shared):
            assert (array[zero] == 0).all()
            assert (tensor.codes == old.codes).all()
            changed += (tensor.codebook != old.codebook).sum()
    assert changed > 0
    compressed.save(tmp_path / "model.apz")  # not what was written before
    assert weights(compression.load_compressed(tmp_path / "model.apz")) == weights(model)
    model.fit(x, y, verbose=0)  # the hooks are gone: weights part
    assert any((a != b).any() for a, b in zip(found, model.get_weights(), strict=True))
    assert not attachment.attachment(model).owners


def test_the_model_to_train_is_that_which_was_compressed():
    compressed, x, y = linear()
    biased = keras.Sequential([keras.Input((30,)), layers.Dense(20, name="a")])
    for other, what in ((biased, "2 weight tensors, not 1"), (linear(1)[0].model(), "differ")):
        other.compile("sgd", "mse")
        with pytest.raises(ValueError, match=what):
            other.fit(x, y, verbose=0, callbacks=[ap.SharedWeights(compressed)])
    with pytest.raises(ValueError, match="choose 'sum' or 'mean'"):
        ap.SharedWeights(compressed, reduction="max")
    with pytest.raises(TypeError, match=r"received a NoneType; give what ap.compress"):
        ap.SharedWeights(None)


def test_training_that_diverges_leaves_what_was_compressed():
    compressed, x, y = linear()
    before, model = compressed.to_bytes(), compressed.model()
    model.compile(keras.optimizers.SGD(1e30), "mse")
    with pytest.raises(ValueError, match="a/kernel"):
        model.fit(x, y, epochs=5, verbose=0, callbacks=[ap.SharedWeights(compressed)])
    assert compressed.to_bytes() == before


def test_files_are_read_without_keras():
    compressed = compression.compress(wide())
    found = read(compressed.to_bytes())
    assert found.config == compressed.config
    for one, other in zip(found.weights, compressed.weights, strict=True):
        assert one.array.tobytes() == other.array.tobytes()
