"""Files that other runtimes take: equal to Keras, smaller, or not there at all."""

import contextlib

import keras
import models
import numpy as np
import pytest
from keras import layers

from activation_pruning import ActivationCounter, L0Layer, PruningCallback, prune, schedules, wrap
from activation_pruning.exchange import converters
from activation_pruning.exchange.exported import Runner, load_exported
from activation_pruning.exchange.exporting import export

pytestmark = pytest.mark.lowest

for module in ("ai_edge_litert", "onnx", "onnxruntime", "tf2onnx"):
    pytest.importorskip(module)
if keras.backend.backend() != "tensorflow":
    pytest.skip("conversion is TensorFlow's", allow_module_level=True)

FORMATS = ["model.tflite", "model.onnx"]


def lenet():
    """Two convolutions, one with BatchNormalization whose statistics are not those of the start."""
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 3, activation="relu", name="conv2"),
            layers.Flatten(),
            layers.Dense(32, "relu", name="dense"),
            layers.Dense(models.CLASSES, "softmax", name="out"),
        ]
    )
    generator = np.random.default_rng(3)
    shape = [weights.shape for weights in model.get_layer("norm").get_weights()]
    values = [generator.uniform(0.5, 2.0, size).astype("float32") for size in shape]
    model.get_layer("norm").set_weights(values)
    return model


def residual():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="a")(inputs)
    y = layers.DepthwiseConv2D(3, padding="same", name="depth")(x)
    y = layers.Conv2D(8, 1, name="point")(layers.ReLU(6.0)(y))
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, y]))
    return keras.Model(inputs, layers.Dense(models.CLASSES, name="out")(x))


def several():
    """Two inputs and two outputs, named against their order, of different sizes."""
    first, second = keras.Input((4,), name="zeta"), keras.Input((6,), name="alpha")
    joined = layers.Concatenate()([layers.Dense(5, "relu")(first), layers.Dense(7)(second)])
    return keras.Model([first, second], [layers.Dense(2)(joined), layers.Dense(3)(joined)])


def many():
    """Eleven inputs, whose names sort otherwise than their numbers."""
    inputs = [keras.Input((2,)) for _ in range(11)]
    scaled = [layers.Rescaling(10.0**-k)(x) for k, x in enumerate(inputs)]
    return keras.Model(inputs, layers.Dense(2)(layers.Concatenate()(scaled)))


def by_name():
    inputs = {"zeta": keras.Input((4,), name="zeta"), "alpha": keras.Input((6,), name="alpha")}
    joined = layers.Concatenate()([inputs["zeta"], inputs["alpha"]])
    outputs = {"y": layers.Dense(2)(joined), "x": layers.Dense(3)(joined)}
    return keras.Model(inputs, outputs)


def open_length():
    inputs = keras.Input((None, 3))
    x = layers.GlobalMaxPooling1D()(layers.Conv1D(5, 3, name="conv")(inputs))
    return keras.Model(inputs, layers.Dense(2)(x))


def lstm():
    return keras.Sequential([keras.Input((6, 3)), layers.LSTM(5), layers.Dense(2)])


class Shifted(layers.Layer):
    """Keeps a tensor that is no variable, as many layers keep their constants."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.shift = keras.ops.arange(200, dtype="float32") / 100

    def call(self, x):
        return x + self.shift


def constants():
    """Tensors that no variable holds, small and large: Normalization derives its own."""
    scaled = layers.Normalization()
    scaled.adapt(3 + np.random.default_rng(0).normal(size=(50, 6)))
    shifted = [keras.Input((6,)), scaled, layers.Dense(200), Shifted(), layers.Dense(2)]
    return keras.Sequential(shifted)


KINDS = [
    constants,
    models.mlp,
    lenet,
    residual,
    several,
    many,
    by_name,
    open_length,
    models.nested,
    models.shared,
    models.attention,
    models.embedded,
]


def inputs_of(model, samples=1000, seed=7):
    """What `model` takes, as it takes it, and flat: for a file."""
    generator, flat = np.random.default_rng(seed), []
    for tensor in model.inputs:
        size = (samples, *(axis or 9 for axis in tensor.shape[1:]))
        if "int" in tensor.dtype:
            flat.append(generator.integers(0, 7, size).astype(tensor.dtype))
        else:
            flat.append(generator.normal(size=size).astype("float32"))
    if isinstance(model, keras.Sequential):
        return flat[0], flat
    return keras.tree.pack_sequence_as(model.input, flat), flat


def outputs_of(model, x):
    return [np.asarray(part) for part in keras.tree.flatten(model(x, training=False))]


def assert_equal(run, model, tolerance=1e-4, samples=1000):
    """A file and its model return the same for 1,000 inputs that neither has seen."""
    x, flat = inputs_of(model, samples)
    found = run(flat)
    found = found if isinstance(found, list) else [found]
    for file, kernel in zip(found, outputs_of(model, x), strict=True):
        assert file.shape == kernel.shape
        np.testing.assert_allclose(file, kernel, rtol=0, atol=tolerance)


def zeros(path):
    """Exact zeros among the constants of a file with at least two axes, however encoded."""
    if path.suffix == ".onnx":
        import onnx

        found = map(onnx.numpy_helper.to_array, onnx.load(path).graph.initializer)
    else:
        from ai_edge_litert.interpreter import Interpreter

        reader, found = Interpreter(str(path)), []
        for item in reader.get_tensor_details():
            with contextlib.suppress(ValueError):  # without memory: no constant
                found.append(reader.get_tensor(item["index"]))
    return sum(int((a == 0).sum()) for a in found if a.ndim > 1 and a.dtype.kind in "fi")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_file_returns_what_keras_returns(kind, name, tmp_path):
    model = kind()
    before = model.get_weights()
    report = export(model, tmp_path / name)
    assert report.path == tmp_path / name
    assert report.size_bytes == report.path.stat().st_size
    assert report.samples == 256
    assert report.largest_difference <= 1e-4
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert_equal(load_exported(report.path), model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("name", FORMATS)
def test_a_subclassed_model_says_its_inputs_by_data(name, tmp_path):
    model = models.subclassed()
    with pytest.raises(ValueError, match=r"Subclassed does not say .* data="):
        export(model, tmp_path / name)
    x, _ = models.data(samples=30)
    report = export(model, tmp_path / name, data=x.astype("float64"))
    assert report.samples == 30
    found = load_exported(tmp_path / name)(x)
    np.testing.assert_allclose(found, outputs_of(model, x)[0], rtol=0, atol=1e-6)


def test_recurrent_layers_in_batches_of_one_size(tmp_path):
    model = lstm()
    with pytest.raises(ValueError, match=r"cannot be converted to LiteRT.*batch_size=1"):
        export(model, tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []
    report = export(model, tmp_path / "model.tflite", batch_size=7, samples=40)
    assert report.batch_size == 7
    assert "batches of 7" in str(report)
    assert_equal(load_exported(report.path), model, samples=40)  # the last batch is filled up
    export(model, tmp_path / "model.onnx")
    assert_equal(load_exported(tmp_path / "model.onnx"), model)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_becomes_float32(policy, name, tmp_path):
    model = lenet()
    keras.config.set_dtype_policy(policy)
    try:
        mixed = lenet()
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(model.get_weights())
    report = export(mixed, tmp_path / name)
    assert report.largest_difference < 1e-4 < report.difference_from_model < 0.1
    assert "from Keras in float32, " in str(report)
    assert " from the model as it is " in str(report)
    assert export(model, tmp_path / name).difference_from_model is None
    assert mixed.get_layer("conv").compute_dtype == policy.removeprefix("mixed_")
    assert_equal(load_exported(tmp_path / name), model)


# -- pruned ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", [models.mlp, lenet], ids=["mlp", "lenet"])
def test_zeros_stay_zeros(kind, name, tmp_path):
    model = kind()
    report = prune(model, 0.8, allocation="uniform")
    dead = sum(int((weights == 0).sum()) for weights in model.get_weights() if weights.ndim > 1)
    assert dead >= report.sparsity * 50
    export(model, tmp_path / name)
    assert zeros(tmp_path / name) == dead  # BatchNormalization is folded into the kernel
    assert_equal(load_exported(tmp_path / name), model)


@pytest.mark.parametrize("name", FORMATS)
def test_wrappers_are_stripped_and_their_masks_applied(name, tmp_path):
    model = models.mlp()
    wrapped = wrap(model)
    mask = np.arange(48).reshape(6, 8) % 3 == 0
    wrapped.layers[0].set_mask("kernel", mask)
    wrapped.layers[0].layer.kernel.assign(np.ones((6, 8)))  # as momentum might
    export(wrapped, tmp_path / name)
    assert zeros(tmp_path / name) == 32
    assert_equal(load_exported(tmp_path / name), wrapped)
    x = np.eye(6, dtype="float32")
    model.get_layer("a").kernel.assign(mask)
    np.testing.assert_allclose(load_exported(tmp_path / name)(x), model.predict(x, verbose=0), 1e-5)


def test_gates_act_as_in_inference(tmp_path):
    model = wrap(models.mlp(), wrapper=L0Layer, penalty=1e-4)
    export(model, tmp_path / "model.tflite")
    assert_equal(load_exported(tmp_path / "model.tflite"), model)


def test_attached_callbacks_neither_disturb_nor_notice(tmp_path):
    model, (x, y) = models.compiled(models.mlp()), models.data()
    pruner = PruningCallback(schedules.OneShot(0.5, at=1), criterion="activation")
    counter, path = ActivationCounter(), tmp_path / "model.tflite"
    exporter = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epoch == 1 and export(model, path, samples=10)
    )
    model.fit(x, y, epochs=3, batch_size=8, verbose=0, callbacks=[pruner, counter, exporter])
    assert set(counter.table()["samples"]) == {66}  # of training alone
    assert zeros(tmp_path / "model.tflite") == 44  # half of 6 x 8 + 8 x 5
    export(model, path)
    assert_equal(load_exported(path), model)


# -- smaller -----------------------------------------------------------------------------------


def wide():
    return keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(100, "relu", name="a"),
            layers.Dense(100, "relu", name="b"),
            layers.Dense(10, "softmax", name="out"),
        ]
    )


def test_quantised_files_are_smaller_and_run(tmp_path):
    model, (x, _) = wide(), models.data((64,), 300)
    plain = export(model, tmp_path / "plain.tflite")
    dynamic = export(model, tmp_path / "dynamic.tflite", quantize="dynamic")
    whole = export(model, tmp_path / "int8.tflite", quantize="int8", data=x)
    assert dynamic.size_bytes < 0.4 * plain.size_bytes
    assert whole.size_bytes < 0.4 * plain.size_bytes
    assert (dynamic.quantize, whole.quantize, plain.quantize) == ("dynamic", "int8", None)
    assert whole.samples == 256
    for report in (dynamic, whole):
        assert 1e-6 < report.largest_difference < 0.03
        assert f"quantised ({report.quantize})" in str(report)
        assert_equal(load_exported(report.path), model, tolerance=0.05)
    with pytest.raises(ValueError, match="differ from those of Keras"):
        export(model, tmp_path / "int8.tflite", quantize="int8", data=x, tolerance=1e-6)
    assert whole.path.stat().st_size == whole.size_bytes  # the older file is still there


def test_int8_calibrates_each_input_on_its_own_values(tmp_path):
    model = several()
    _, (first, second) = inputs_of(model, 100)
    data = [first, 100 * second]  # mixed up, the ranges would be off by a factor of 100
    report = export(model, tmp_path / "model.tflite", quantize="int8", data=data)
    assert report.largest_difference < 0.03 * report.largest_output
    named = {"zeta": data[0], "alpha": data[1]}
    again = export(model, tmp_path / "model.tflite", quantize="int8", data=named)
    assert again.largest_difference == report.largest_difference


def test_int8_of_convolutions_and_of_fixed_batches(tmp_path):
    x, _ = models.data((12, 12, 1), 60)
    for options in ({}, {"batch_size": 7}):
        report = export(lenet(), tmp_path / "model.tflite", quantize="int8", data=x, **options)
        assert report.largest_difference < 0.1


def test_quantised_zeros_stay_zeros(tmp_path):
    model, (x, _) = wide(), models.data((64,), 100)
    prune(model, 0.9)
    dead = sum(int((weights == 0).sum()) for weights in model.get_weights() if weights.ndim > 1)
    for quantize in ("dynamic", "int8"):
        export(model, tmp_path / "model.tflite", quantize=quantize, data=x)
        assert zeros(tmp_path / "model.tflite") >= dead  # small weights round to zero as well


def test_sparse_encoding_is_smaller_and_exact(tmp_path):
    model = wide()
    prune(model, 0.9)
    dense = export(model, tmp_path / "dense.tflite")
    sparse = export(model, tmp_path / "sparse.tflite", sparse=True)
    assert sparse.size_bytes < 0.35 * dense.size_bytes
    assert (dense.sparse_tensors, sparse.sparse_tensors) == (0, 2)
    assert "2 sparse tensors" in str(sparse)
    assert_equal(load_exported(sparse.path), model)


def test_sparse_encoding_that_does_not_pay_says_so(tmp_path):
    with pytest.warns(UserWarning, match="sparse=True: no kernel"):
        report = export(wide(), tmp_path / "model.tflite", sparse=True)
    assert report.sparse_tensors == 0


# -- the comparison ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_differs_is_not_written(name, tmp_path, monkeypatch):
    model = wide()
    traced = converters.Signature.traced

    def wrong(signature):
        model.layers[1].kernel.assign_add(np.full((100, 100), 0.1))
        return traced(signature)

    (tmp_path / name).write_text("older")
    monkeypatch.setattr(converters.Signature, "traced", wrong)
    with pytest.raises(ValueError, match=r"differ .* tolerance=0.0001; no file was written"):
        export(model, tmp_path / name)
    assert (tmp_path / name).read_text() == "older"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_tolerance_grows_with_the_outputs(tmp_path):
    model = keras.Sequential([keras.Input((64,)), layers.Dense(300, "relu"), layers.Dense(5)])
    model.layers[0].kernel.assign(1e4 * model.layers[0].kernel)
    report = export(model, tmp_path / "model.onnx")
    assert report.largest_output > 1e3
    assert report.largest_difference < 1e-4 * report.largest_output


def test_infinite_outputs_are_named(tmp_path):
    model = wide()
    model.layers[0].bias.assign(np.full(100, np.nan))
    with pytest.raises(ValueError, match="outputs of the model are NaN"):
        export(model, tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []


def test_the_same_seed_gives_the_same_samples(tmp_path):
    model = wide()
    found = [
        export(model, tmp_path / "model.tflite", quantize="dynamic", seed=seed).largest_difference
        for seed in (1, 1, 2)
    ]
    assert found[0] == found[1] != found[2]


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("model.h5", {}, r"'.h5'; it must end in one of '.tflite' \(LiteRT\), '.onnx'"),
        ("model.tflite", {"quantize": "int4"}, "quantize='int4'; it must be one of"),
        ("model.tflite", {"quantize": "int8"}, "needs data="),
        ("model.tflite", {"quantize": "dynamic", "sparse": True}, "do not go together"),
        ("model.onnx", {"quantize": "dynamic"}, "for .tflite files only"),
        ("model.onnx", {"sparse": True}, "for .tflite files only"),
        ("model.tflite", {"samples": 0}, "samples=0"),
        ("model.tflite", {"batch_size": 0}, "batch_size=0"),
        ("model.tflite", {"tolerance": -1}, "tolerance=-1"),
        ("model.tflite", {"tolerance": True}, "tolerance=True"),
        ("model.tflite", {"data": np.zeros((3, 5))}, "shape"),
    ],
)
def test_bad_options_are_refused_before_any_work(name, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(models.mlp(), tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def no_work(*args, **kwargs):
    raise AssertionError("work was done")


def test_missing_folders_are_made(tmp_path):
    report = export(models.mlp(), tmp_path / "new" / "one" / "model.tflite")
    assert report.size_bytes == (tmp_path / "new" / "one" / "model.tflite").stat().st_size


def test_places_that_cannot_be_written_are_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(converters.Signature, "traced", no_work)
    model = models.mlp()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write"):
        export(model, tmp_path / "file" / "model.tflite")
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(IsADirectoryError, match="cannot write"):
        export(model, tmp_path / "model.onnx")
    with pytest.raises(OSError, match="cannot write"):
        export(model, "/proc/model.tflite")


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("model.tflite", "ai_edge_litert", "litert"),
        ("model.onnx", "onnxruntime", "onnx"),
        ("model.onnx", "tf2onnx", "onnx"),
    ],
)
def test_what_is_not_installed_is_named(name, module, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install 'activation-pruning\[{extra}\]'"):
        export(models.mlp(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_say_what_to_do(backend, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with pytest.raises(RuntimeError, match=f"this is {backend}. .*KERAS_BACKEND=tensorflow"):
        export(models.mlp(), tmp_path / "model.onnx")


def test_models_that_are_none(tmp_path):
    with pytest.raises(TypeError, match=r"must be a keras\.Model"):
        export("model.keras", tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="not built"):
        export(keras.Sequential([layers.Dense(2)]), tmp_path / "model.onnx")


# -- the runners -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_a_runner_takes_lists_and_names(name, tmp_path):
    model = several()
    _, (first, second) = inputs_of(model, 5)
    export(model, tmp_path / name)
    run = load_exported(tmp_path / name, threads=2)
    assert isinstance(run, Runner)
    kind = np.dtype("float32")
    assert run.inputs == {"input_0": ((-1, 4), kind), "input_1": ((-1, 6), kind)}
    expected = run([first, second])
    for x in ({"input_1": second, "input_0": first}, [first.astype("float64"), second]):
        for found, wanted in zip(run(x), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    for bad, message in (
        (first, "1 inputs, where the file takes 2"),
        ({"input_0": first, "b": second}, "inputs .'b', 'input_0'.; the file takes"),
        ([second, first], r"'input_0' has shape \(5, 6\), the file takes \(-1, 4\)"),
        ([first, second[:3]], r"inputs of \[3, 5\] samples"),
        ([first[:0], second[:0]], "samples"),
        ([first, second.astype("complex64")], "dtype complex64"),
    ):
        with pytest.raises(ValueError, match=message):
            run(bad)


def test_files_that_cannot_be_loaded(tmp_path):
    with pytest.raises(ValueError, match="must end in one of"):
        load_exported(tmp_path / "model.keras")
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        load_exported(tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="threads=0"):
        load_exported(tmp_path / "model.onnx", threads=0)
    for name in FORMATS:
        (tmp_path / name).write_text("not a model")
        with pytest.raises(ValueError, match=f"{name}' is no .* file"):
            load_exported(tmp_path / name)


@pytest.mark.parametrize("path", [None, 5])
def test_what_is_no_path_is_refused(path):
    for call in (lambda: export(models.mlp(), path), lambda: load_exported(path)):
        with pytest.raises(TypeError, match=rf"path={path}; give the path of a file"):
            call()
