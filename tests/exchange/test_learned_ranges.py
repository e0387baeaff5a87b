"""Files of integers by the ranges that training has learned."""

import keras
import numpy as np
import pytest
from keras import layers as L

import activation_pruning as ap

pytestmark = [
    pytest.mark.lowest,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="converts on TensorFlow"),
]


def images(samples=400, seed=0):
    """Four kinds of pictures that a small network can tell apart."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, samples)
    x = generator.normal(0, 0.4, size=(samples, 8, 8, 1))
    for picture, label in zip(x, labels, strict=True):
        picture[4 * (label // 2) :][:4, 4 * (label % 2) :][:, :4] += 1
    return x.astype("float32"), labels


def plain():
    return keras.Sequential(
        [keras.Input((8, 8, 1)), L.Conv2D(6, 3, activation="relu"), L.MaxPooling2D(2), L.Flatten(),
         L.Dense(16, "relu"), L.Dense(4)]
    )  # fmt: skip


def residual():
    x = inputs = keras.Input((8, 8, 1))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(6, 3, padding="same", use_bias=False)(x)))
    y = L.ReLU()(L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(x)))
    x = L.ReLU()(L.Add()([x, L.BatchNormalization()(L.Conv2D(6, 1)(y))]))
    x = L.Flatten()(L.AveragePooling2D(2)(x))
    return keras.Model(inputs, L.Dense(4, "softmax")(L.Dense(8, "tanh")(x)))


@pytest.fixture(scope="module", params=[plain, residual])
def trained(request):
    keras.utils.set_random_seed(0)
    model, (x, y) = request.param(), images()
    logits = request.param is plain
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    model.compile(keras.optimizers.Adam(0.02), loss)
    model.fit(x, y, epochs=10, verbose=0)
    ap.prune(model, 0.6, allocation="uniform")
    done = ap.fake_quantize(model)
    model.fit(x, y, epochs=10, verbose=0, callbacks=[ap.KeepPruned()])
    return model, done


def integers_of_litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    details = [d for d in interpreter.get_tensor_details() if d["dtype"] is np.int8]
    held = [d for d in details if len(d["quantization_parameters"]["scales"]) > 1]
    return [interpreter.get_tensor(d["index"]) for d in held]


def integers_of_onnx(path):
    import onnx
    from onnx import numpy_helper

    arrays = [numpy_helper.to_array(one) for one in onnx.load(str(path)).graph.initializer]
    return [array for array in arrays if array.dtype == np.int8 and array.ndim > 1]


def step_of(model, done, outputs):
    """One step of the integers of the outputs; behind a softmax, what one step before it makes."""
    table = done.table().set_index(["layer", "tensor"])
    last = model.layers[-1].name
    known = "before activation" if (last, "before activation") in table.index else "output"
    row = table.loc[(last, known)]
    return (row["maximum"] - row["minimum"]) / 255


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_files_hold_the_integers_and_the_zeros(trained, suffix, tmp_path):
    model, done = trained
    x, _ = images(seed=1)
    path = tmp_path / f"model{suffix}"
    report = ap.export(model, path, quantize="int8" if suffix == ".tflite" else None)
    wanted, found = model.predict(x, verbose=0), ap.load_exported(path)(x)
    assert (wanted.argmax(1) == found.argmax(1)).mean() >= 0.995
    if model.layers[-1].activation.__name__ == "linear":
        # Rounding of sums in between may tip: in few samples, by one step.
        assert np.abs(found - wanted).max() <= 2.01 * step_of(model, done, wanted)
        assert (np.abs(found - wanted) <= 1.01 * step_of(model, done, wanted)).mean() > 0.99
    stored = (integers_of_litert if suffix == ".tflite" else integers_of_onnx)(path)
    kernels = [w for w in model.get_weights() if w.ndim > 1]
    assert len(stored) == len(kernels)
    zeros = sorted((w.size, np.count_nonzero(w == 0)) for w in kernels)
    rounded = ap.strip(model)
    least = sorted((w.size, np.count_nonzero(w == 0)) for w in rounded.get_weights() if w.ndim > 1)
    assert sorted((w.size, np.count_nonzero(w == 0)) for w in stored) == least
    assert all(a[1] <= b[1] for a, b in zip(zeros, least, strict=True))
    assert report.size_bytes == path.stat().st_size


def test_what_a_file_cannot_hold_is_refused(trained, tmp_path):
    model, _ = trained
    with pytest.raises(ValueError, match="holds integers; give quantize='int8'"):
        ap.export(model, tmp_path / "model.tflite")
    fresh = plain()
    ap.fake_quantize(fresh)
    with pytest.raises(ValueError, match="were never seen"):
        ap.export(fresh, tmp_path / "model.tflite", quantize="int8")
    other = plain()
    ap.fake_quantize(other, activation_bits=None)
    with pytest.raises(ValueError, match="this model has none such"):
        ap.export(other, tmp_path / "model.onnx")
    coarse = plain()
    ap.fake_quantize(coarse, bits=4, data=images(8)[0])
    with pytest.raises(ValueError, match="fake-quantised to 4 bits"):
        ap.export(coarse, tmp_path / "model.tflite", quantize="int8")
    ap.export(coarse, tmp_path / "model.onnx")
    (small, *_) = integers_of_onnx(tmp_path / "model.onnx")
    assert np.abs(small).max() == 7
    four = plain()
    ap.fake_quantize(four, activation_bits=4, data=images(8)[0])
    with pytest.raises(ValueError, match="hold activations in 8 bits"):
        ap.export(four, tmp_path / "model.tflite", quantize="int8")
    half = keras.Sequential([keras.Input((4,)), L.Dense(2, dtype="float16")])
    ap.fake_quantize(half, data=np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"computes in .*float16"):
        ap.export(half, tmp_path / "model.onnx")
    loop = keras.Sequential([keras.Input((6, 8)), L.GRU(5, name="loop"), L.Dense(1)])
    ap.fake_quantize(loop, data=np.ones((4, 6, 8)))
    with pytest.raises(ValueError, match=r"cannot run \['loop'\]"):
        ap.export(loop, tmp_path / "model.onnx")
    assert not list(tmp_path.glob("*.tflite"))
