"""Recurrent networks as files: from zeros where they are stateful, and no int8 of loops."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from activation_pruning.exchange.exported import load_exported
from activation_pruning.exchange.exporting import export

for module in ("ai_edge_litert", "onnx", "onnxruntime", "tf2onnx"):
    pytest.importorskip(module)
if keras.backend.backend() != "tensorflow":
    pytest.skip("conversion is TensorFlow's", allow_module_level=True)

X = np.random.default_rng(0).normal(size=(12, 5, 3)).astype("float32")


def network(*recurrent):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(batch_shape=(4, 5, 3)), *recurrent, layers.Dense(2)])


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
def test_a_stateful_network_is_written_as_it_starts(name, tmp_path):
    model = network(layers.LSTM(6, stateful=True, name="recurrent"))
    fresh = model.predict(X, batch_size=4, verbose=0)  # the first batch starts from zeros
    kept = [ops.convert_to_numpy(state) for state in model.layers[0].states]
    report = export(model, tmp_path / name, data=X)
    run = load_exported(report.path)
    for _ in range(2):  # the file keeps no states
        output = run(X[:4])
        np.testing.assert_allclose(output, fresh[:4], atol=1e-5)
    for state, before in zip(model.layers[0].states, kept, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(state), before)


class Sums(layers.Layer):
    def call(self, x):
        steps = ops.transpose(x, (1, 0, 2))
        return ops.scan(lambda total, x: (total + x, total), ops.zeros_like(steps[0]), steps)[0]


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU, layers.SimpleRNN, Sums])
def test_int8_of_loops_over_steps_is_refused(kind, tmp_path):
    """The calibration of TensorFlow 2.21 ends the process there, with a segmentation fault."""
    loop = Sums(name="inner") if kind is Sums else kind(6, name="inner")
    with pytest.raises(ValueError, match=r"ranges of activations.*'inner'.*unroll=True"):
        export(network(loop), tmp_path / "model.tflite", quantize="int8", data=X)
    assert not list(tmp_path.iterdir())


def test_what_the_message_advises_works(tmp_path):
    unrolled = network(layers.LSTM(6, unroll=True))
    report = export(unrolled, tmp_path / "int8.tflite", quantize="int8", data=X)
    assert report.largest_difference < 0.05
    report = export(network(layers.LSTM(6)), tmp_path / "dynamic.tflite", quantize="dynamic")
    assert report.largest_difference < 0.05


def test_as_many_batches_as_steps_says(tmp_path):
    import tensorflow as tf

    model, endless = network(layers.Flatten()), tf.data.Dataset.from_tensors(X[:4]).repeat()
    assert export(model, tmp_path / "model.tflite", data=endless, steps=3).samples == 12
    with pytest.raises(ValueError, match="say steps=n"):
        export(model, tmp_path / "model.tflite", data=endless)
    with pytest.raises(ValueError, match="steps=3 counts the batches"):
        export(model, tmp_path / "model.tflite", data=X, steps=3)
