"""Zeros survive `quantize`, and what its report says is what the layers and files hold."""

import keras
import numpy as np
import pytest
from keras import layers as L

import activation_pruning as ap

pytestmark = [pytest.mark.backend, pytest.mark.lowest]
HAS_AWQ = hasattr(keras.quantizers, "AWQConfig")
MODES = ["int8", "int4", "gptq", *(["awq"] if HAS_AWQ else [])]
GPTQ = ap.surgeons.GPTQ


def model(seed=0):
    """Attention, an embedding, a convolution, and layers of an odd number of units."""
    keras.utils.set_random_seed(seed)
    tokens = keras.Input((10,), dtype="int32")
    x = L.Embedding(20, 16)(tokens)
    x = L.MultiHeadAttention(2, 6, name="attention")(x, x)
    x = L.Conv1D(6, 3, activation="relu", name="convolution")(x)
    x = L.Dense(7, "relu", name="hidden")(L.Flatten()(x))
    return keras.Model(tokens, L.Dense(3, name="last")(x))


X = np.random.default_rng(0).integers(0, 20, (200, 10))


def pruned(seed=0):
    made = model(seed)
    ap.prune(made, 0.6, exclude=(), allocation="uniform")
    return made


def acting(layer, inputs):
    """The kernel as it acts: what a Dense layer makes of unit vectors, without bias."""
    bias = keras.ops.convert_to_numpy(layer.bias)
    eye = keras.ops.convert_to_numpy(layer(np.eye(inputs, dtype="float32")))
    none = keras.ops.convert_to_numpy(layer(np.zeros((1, inputs), "float32")))
    return eye - none, bias


@pytest.mark.parametrize("mode", MODES)
def test_zeros_survive(mode, tmp_path):
    made = pruned()
    zeros = {w.path: keras.ops.convert_to_numpy(w) == 0 for w in made.weights if w.ndim > 1}
    report = ap.quantize(made, mode, data=X, verbose=0)
    table = report.table().set_index("layer")
    assert report.refilled == 0
    assert (table["zeros_after"] >= table["zeros_before"]).all()
    last = made.get_layer("last")
    kernel, _ = acting(last, 7)
    assert (kernel[zeros[next(p for p in zeros if p.endswith("last/kernel"))]] == 0).all()
    assert table.loc["convolution", "note"] == "Conv1D has no quantised form in Keras"
    assert np.isnan(table.loc["convolution", "bits"].__float__()) if False else True
    file = tmp_path / "small.keras"
    made.save(file)
    back = keras.saving.load_model(file)
    np.testing.assert_array_equal(made.predict(X, verbose=0), back.predict(X, verbose=0))


def test_gptq_of_keras_fills_zeros_again_and_this_does_not():
    """Keras's pass on the same layer and inputs, as the peer."""
    from keras.src.quantizers.gptq import GPTQ as KerasGPTQ

    x = np.random.default_rng(1).normal(size=(300, 12)) @ np.random.default_rng(2).normal(
        size=(12, 12)
    )
    found = {}
    for own in (True, False):
        keras.utils.set_random_seed(0)
        layer = L.Dense(8, name="a")
        made = keras.Sequential([keras.Input((12,)), layer])
        ap.prune(made, 0.5, exclude=())
        alive = layer.get_weights()[0] != 0
        if own:
            ap.quantize(made, GPTQ(group_size=-1), data=x, verbose=0)
        else:
            config = keras.quantizers.GPTQConfig(None, None, group_size=-1)
            layer.quantize("gptq", config=config)
            work = KerasGPTQ(layer, config)
            work.update_hessian_with_batch(keras.ops.convert_to_tensor(x.astype("float32")))
            work.quantize_and_correct_layer()
        kernel, _ = acting(layer, 12)
        found[own] = np.count_nonzero(kernel[~alive])
    assert found[True] == 0
    assert found[False] > 0


@pytest.mark.parametrize("granularity", ["weight", "2:4"])
def test_pruning_and_quantising_in_one_pass(granularity):
    made = model()
    report = ap.quantize(
        made, GPTQ(group_size=8), data=X, sparsity=0.5, granularity=granularity,
        include=["hidden"], verbose=0,
    )  # fmt: skip
    assert report.sparsity >= 0.5
    (row,) = report.table().dropna(subset=["bits"]).to_dict("records")
    assert (row["layer"], row["bits"], row["weights"]) == ("hidden", 4, 8 * 6 * 7)
    assert row["zeros_before"] == 0


def test_the_table_is_by_hand():
    layer = L.Dense(6, name="a", use_bias=False)
    made = keras.Sequential([keras.Input((8,)), layer])
    layer.set_weights([np.where(np.arange(48).reshape(8, 6) < 12, 0, 1.0)])
    (row,) = ap.quantize(made, "int8").table().to_dict("records")
    assert (row["weights"], row["zeros_before"], row["zeros_after"]) == (48, 12, 12)
    assert row["float32_bytes"] == 4 * 48
    assert row["stored_bytes"] == 48 + 4 * 6  # codes and a scale for each unit
    assert row["bitmask_bytes"] == 48 // 8 + 36 + 4 * 6


def test_what_the_outputs_do():
    made = pruned()
    before = made.predict(X[:50], verbose=0)
    report = ap.quantize(made, "int4", data=X, samples=50)
    after = made.predict(X[:50], verbose=0)
    assert report.change["largest"] == pytest.approx(np.abs(after - before).max(), rel=1e-5)
    relative = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert report.change["relative"] == pytest.approx(relative, rel=1e-5)
    assert report.change["same_label"] == (before.argmax(1) == after.argmax(1)).mean()
    assert "samples keep their label" in str(report)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"mode": "int9"}, r"mode='int9'; it must be one of \('int8', 'int4', 'gptq', 'awq'\)"),
        ({"mode": "gptq"}, "mode='gptq' needs data="),
        ({"mode": "int8", "sparsity": 0.5}, "prunes nothing; call ap.prune before it"),
        ({"mode": "int8", "include": ["convolution"]}, "has no layer for it"),
        ({"mode": "gptq", "data": X[:3]}, "rows"),
    ],
)
def test_bad_calls_are_refused_and_change_nothing(arguments, told):
    made = model()
    before = made.get_weights()
    with pytest.raises(ValueError, match=told):
        ap.quantize(made, verbose=0, **arguments)
    for old, new in zip(before, made.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_what_is_quantised_is_not_quantised_again():
    made = model()
    made.get_layer("last").quantize("int8")
    with pytest.raises(ValueError, match=r"'last'.*quantised already"):
        ap.quantize(made, "int4")


def test_a_model_in_training_is_left_alone():
    made = model()
    made.compile("sgd", "mse")

    class Quantise(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            with pytest.raises(ValueError, match=r"ap\.detach\(model\)"):
                ap.quantize(self.model, "int8")

    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1))
    made.fit(X, np.zeros((200, 3)), verbose=0, callbacks=[pruner, Quantise()])


@pytest.mark.parametrize("mode", ["int8", "gptq"])
def test_generators_are_read_once_and_used_several_times(mode):
    def batches():
        for start in range(0, 200, 50):
            yield X[start : start + 50]

    found = [ap.quantize(pruned(), mode, data=data, verbose=0) for data in (X, batches())]
    first, second = (one.table().drop(columns="layer") for one in found)  # as Keras named them
    assert first.equals(second)
    assert found[0].change == pytest.approx(found[1].change, rel=1e-3)
    few = ap.quantize(pruned(), mode, data=batches(), steps=2, verbose=0)
    assert few.refilled == 0


def test_a_model_that_trains_as_if_quantised_is_refused():
    made = model()
    done = ap.fake_quantize(made)
    with pytest.raises(ValueError, match=r"fake-quantised already.*ap\.strip\(model\)"):
        ap.quantize(made, "int8")
    done.remove()
    assert ap.quantize(made, "int8").refilled == 0
    with pytest.raises(TypeError, match="unexpected argument 'foo'"):
        ap.quantize(model(), "gptq", data=X, foo=2)
    with pytest.raises(ValueError, match=r"bits=4\.0"):
        GPTQ(bits=4.0)
