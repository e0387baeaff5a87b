"""Files and models beyond the plain case: many outputs, no counterpart, text, files of others."""

import keras
import numpy as np
import pytest
from keras import layers

from activation_pruning.exchange import converters
from activation_pruning.exchange.exported import load_exported
from activation_pruning.exchange.exporting import export

pytestmark = pytest.mark.lowest

for module in ("ai_edge_litert", "onnx", "onnxruntime", "tf2onnx"):
    pytest.importorskip(module)
if keras.backend.backend() != "tensorflow":
    pytest.skip("conversion is TensorFlow's", allow_module_level=True)

FORMATS = ["model.tflite", "model.onnx"]


def scaled(*names):
    """A model whose output k is its input times k + 1, as a list or by these names."""
    x = keras.Input((3,))
    outputs = [layers.Rescaling(float(k + 1))(x) for k in range(len(names) or 12)]
    return keras.Model(x, dict(zip(names, outputs, strict=True)) if names else outputs)


@pytest.mark.parametrize("name", FORMATS)
def test_twelve_outputs_come_in_their_order(name, tmp_path):
    report = export(scaled(), tmp_path / name)
    x = np.ones((2, 3), "float32")
    found = load_exported(report.path)(x)
    np.testing.assert_allclose([y[0, 0] for y in found], np.arange(1, 13), rtol=1e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_outputs_by_name_come_as_keras_sorts_them(name, tmp_path):
    names = [f"y{k}" for k in (3, 11, 2, 10, 1, 0, 5, 6, 7, 8, 9, 4)]
    model = scaled(*names)
    found = load_exported(export(model, tmp_path / name).path)(np.ones((2, 3), "float32"))
    wanted = [1.0 + names.index(key) for key in sorted(names)]
    np.testing.assert_allclose([y[0, 0] for y in found], wanted, rtol=1e-6)


def test_what_onnx_cannot_hold_is_named(tmp_path):
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, layers.Conv2D(4, 3, groups=2, name="grouped")(inputs))
    with pytest.raises(ValueError, match=r"\['StatefulPartitionedCall'\] in \['grouped'\]") as got:
        export(model, tmp_path / "model.onnx")
    assert "Write a .tflite file" in str(got.value)
    assert list(tmp_path.iterdir()) == []
    export(model, tmp_path / "model.tflite")


@pytest.mark.parametrize("name", FORMATS)
def test_text_is_refused_by_name(name, tmp_path):
    inputs = keras.Input((1,), dtype="string", name="words")
    looked = layers.StringLookup(vocabulary=["a", "b"], output_mode="multi_hot")(inputs)
    model = keras.Model(inputs, layers.Dense(1)(looked))
    with pytest.raises(ValueError, match=r"input 'words' of the model .* takes text"):
        export(model, tmp_path / name)


@pytest.mark.parametrize("name", FORMATS)
def test_an_output_for_the_whole_batch_is_refused(name, tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, [inputs * 2, keras.ops.mean(inputs)])
    with pytest.raises(ValueError, match=r"output 1 of the model has shape \(\)"):
        export(model, tmp_path / name)


def test_random_inputs_meet_the_masks():
    """Of the samples that export compares on, some hold masked steps; none holds nothing else."""
    inputs = keras.Input((6, 3))
    model = keras.Model(inputs, layers.SimpleRNN(2)(layers.Masking(mask_value=-3.0)(inputs)))
    (batch,) = converters.signature(model).random(40, seed=0)
    masked = (batch[0] == -3.0).all(axis=2)
    assert masked[:, :5].any(axis=0).all()  # each step, in some sample
    assert 10 <= masked.any(axis=1).sum() <= 30
    assert not masked.all(axis=1).any()


# -- files of other makers -----------------------------------------------------------------------


def written(path, inputs, outputs, node, **attributes):
    """An ONNX file of one operation."""
    from onnx import helper, save

    graph = helper.make_graph([helper.make_node(*node, **attributes)], "foreign", inputs, outputs)
    opset = helper.make_opsetid("", 17)
    save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def value(name, kind, shape):
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, getattr(TensorProto, kind), shape)


def test_names_of_others_keep_the_order_of_the_file(tmp_path):
    inputs = [value("zeta", "FLOAT", ["n", 2]), value("alpha", "FLOAT", ["n", 2])]
    node = "Sub", ["zeta", "alpha"], ["y"]
    path = written(tmp_path / "foreign.onnx", inputs, [value("y", "FLOAT", ["n", 2])], node)
    run = load_exported(path)
    assert list(run.inputs) == ["zeta", "alpha"]
    found = run([np.full((3, 2), 5.0), np.full((3, 2), 2.0)])
    np.testing.assert_array_equal(found, np.full((3, 2), 3.0))


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("STRING", ["n", 2], r"its input 'x' takes string, where arrays of numbers"),
        ("FLOAT", [], r"its input 'x' takes a single number"),
        ("BFLOAT16", ["n", 2], r"its input 'x' takes bfloat16, where"),
    ],
)
def test_inputs_that_are_no_samples_are_named(kind, shape, message, tmp_path):
    ends = [value("x", kind, shape)], [value("y", kind, shape)]
    path = written(tmp_path / "foreign.onnx", *ends, ("Identity", ["x"], ["y"]))
    with pytest.raises(ValueError, match=message):
        load_exported(path)


def test_an_output_that_is_none_for_each_sample_is_named(tmp_path):
    ends = [value("x", "FLOAT", ["n", 2])], [value("total", "FLOAT", [])]
    node = "ReduceSum", ["x"], ["total"]
    path = written(tmp_path / "foreign.onnx", *ends, node, keepdims=0)
    with pytest.raises(ValueError, match=r"the output 'total' has shape \(\) for 3 samples"):
        load_exported(path)(np.ones((3, 2)))
