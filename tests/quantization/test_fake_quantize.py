"""Training as if quantised: rounding by hand, zeros that stay, ranges, and what is left of it."""

import keras
import numpy as np
import pytest
from keras import layers as L

import activation_pruning as ap
from activation_pruning.hooks import ranges
from activation_pruning.quantization.places import places

pytestmark = pytest.mark.backend
numpy = keras.ops.convert_to_numpy


def dense():
    return keras.Sequential(
        [keras.Input((12,)), L.Dense(10, "relu", name="a"), L.Dense(8, "tanh", name="b"),
         L.Dense(3, "softmax", name="c")]
    )  # fmt: skip


def residual():
    x = inputs = keras.Input((8, 8, 2))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(6, 3, padding="same", name="first")(x)))
    y = L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(x))
    x = L.ReLU(name="joined")(L.Add()([x, L.Conv2D(6, 1, use_bias=False)(y)]))
    x = L.Dropout(0.2)(L.AveragePooling2D(2, name="means")(L.MaxPooling2D(2)(x)))
    return keras.Model(inputs, L.Dense(3, name="last")(L.Flatten()(x)))


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.last = L.Dense(9, "relu"), L.Dense(3)

    def call(self, x):
        return self.last(self.first(x))


def own():
    model = Own()
    model(np.zeros((1, 12), "float32"))
    return model


def data(model):
    generator = np.random.default_rng(0)
    shape = (8, 8, 2) if len(getattr(model, "input_shape", (0,))) == 4 else (12,)
    x = generator.normal(size=(96, *shape)).astype("float32")
    return x, generator.integers(0, 3, 96)


def compiled(make, optimizer="sgd", seed=0):
    keras.utils.set_random_seed(seed)
    model = make()
    outer = getattr(model.layers[-1], "activation", None)
    logits = getattr(outer, "__name__", "") != "softmax"
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def rounded(x, low, high, bits):
    """Jacob et al.: 2^bits values between the ends, moved so that zero is one of them."""
    most = 2**bits - 1
    scale = (high - low) / most
    zero = np.rint(-low / scale)
    return (np.clip(np.floor(x / scale + 0.5) + zero, 0, most) - zero) * scale


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_kernels_are_rounded_by_unit_and_gradients_pass(bits):
    generator = np.random.default_rng(bits)
    for shape, axes in (
        ((5, 4), (-1,)),
        ((3, 3, 2, 4), (-1,)),
        ((4, 2, 3), (-2, -1)),
        ((3, 4, 2), (-2,)),
    ):
        kernel = generator.normal(size=shape).astype("float32")
        kernel.flat[::3] = 0
        rest = tuple(i for i in range(kernel.ndim) if i - kernel.ndim not in axes)
        most = np.maximum(np.abs(kernel).max(axis=rest, keepdims=True), 1e-12)
        scale = most / (2 ** (bits - 1) - 1)
        wanted = np.rint(kernel / scale) * scale
        found = numpy(ranges.weights(keras.ops.convert_to_tensor(kernel), axes, bits))
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ranges.grid(kernel, axes, bits), wanted, rtol=1e-5, atol=1e-6)
        assert (found[kernel == 0] == 0).all()


def test_kernels_are_rounded_as_keras_rounds_them():
    kernel = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    most = np.abs(kernel).max(axis=0)
    wanted = keras.quantizers.fake_quant_with_min_max_vars(
        kernel, -most, most, num_bits=8, narrow_range=True, axis=1
    )
    found = ranges.weights(keras.ops.convert_to_tensor(kernel), (-1,), 8)
    np.testing.assert_allclose(numpy(found), numpy(wanted), atol=1e-6)


@pytest.mark.parametrize("bits", [3, 8])
def test_one_step_by_hand(bits):
    """y = relu(round(x) round(w)): the loss, and the step of SGD with that gradient."""
    layer = L.Dense(2, "relu", use_bias=False, name="a")
    model = keras.Sequential([keras.Input((3,)), layer])
    w = np.array([[0.9, -0.2], [0.31, 0.7], [-0.55, 0.0]], "float32")
    layer.set_weights([w])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    done = ap.fake_quantize(model, bits=bits, activation_bits=bits)
    x = np.array([[1.0, 0.3, -0.4], [0.5, -0.8, 0.77]], "float32")
    y = np.array([[0.2, 0.0], [0.0, 0.4]], "float32")
    found = model.train_on_batch(x, y)
    scale = np.abs(w).max(axis=0) / (2 ** (bits - 1) - 1)
    acting, seen = np.rint(w / scale) * scale, rounded(x, x.min(), x.max(), bits)
    before = seen @ acting
    relu = np.maximum(before, 0)
    output = rounded(relu, 0, relu.max(), bits)
    loss = found[0] if isinstance(found, list) else found
    np.testing.assert_allclose(loss, np.mean((output - y) ** 2), rtol=1e-4)
    pull = 2 * (output - y) / y.size * (before > 0)
    np.testing.assert_allclose(
        layer.get_weights()[0], w - 0.5 * seen.T @ pull, rtol=1e-4, atol=1e-6
    )
    table = done.table().set_index("tensor")
    np.testing.assert_allclose(table.loc["input", ["minimum", "maximum"]].astype(float), [-0.8, 1])
    np.testing.assert_allclose(table.loc["output", "maximum"], relu.max(), rtol=1e-5)


def test_ranges_move_by_their_momentum():
    model = keras.Sequential([keras.Input((2,)), L.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    done = ap.fake_quantize(model, momentum=0.75)
    for high in (2.0, 4.0):
        model.train_on_batch(np.array([[high, -1.0]]), np.zeros((1, 1)))
    row = done.table().set_index("tensor").loc["input"]
    assert (row["minimum"], row["maximum"]) == (-1.0, 0.75 * 2 + 0.25 * 4)


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.01),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("make", [dense, residual, own])
def test_zeros_stay_through_three_epochs(make, optimizer):
    model = compiled(make, OPTIMIZERS[optimizer]())
    x, y = data(model)
    ap.prune(model, 0.7, allocation="uniform")
    zeros = [w == 0 for w in model.get_weights() if w.ndim > 1]
    done = ap.fake_quantize(model)
    start = [w.copy() for w in model.get_weights()]
    model.fit(x, y, epochs=3, batch_size=32, verbose=0, callbacks=[ap.KeepPruned()])
    assert any((a != b).any() for a, b in zip(start, model.get_weights(), strict=True))
    for zero, w in zip(zeros, [w for w in model.get_weights() if w.ndim > 1], strict=True):
        assert (w[zero] == 0).all()
    done.finish()
    kernels = [w for w in model.get_weights() if w.ndim > 1]
    for zero, w in zip(zeros, kernels, strict=True):
        assert (w[zero] == 0).all()
        assert len(np.unique(np.round(w.reshape(-1, w.shape[-1])[:, 0], 7))) <= 255


def test_pruning_while_it_trains_as_if_quantised():
    model = compiled(dense)
    x, y = data(model)
    ap.fake_quantize(model, bits=4)
    pruner = ap.PruningCallback(
        ap.schedules.Polynomial(0.8, begin=0, end=3), "activation_magnitude"
    )
    model.fit(x, y, epochs=4, batch_size=32, verbose=0, callbacks=[pruner])
    assert pruner.table()["total_sparsity"].iloc[-1] == pytest.approx(0.8, abs=0.01)
    assert (pruner.activity()["samples"] > 0).all()


def test_shared_weights_train_as_if_quantised():
    model = compiled(dense)
    ap.prune(model, 0.5)
    shared = ap.compress(model, bits=3)
    model = shared.model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = data(model)
    ap.fake_quantize(model)
    model.fit(x, y, verbose=0, callbacks=[ap.SharedWeights(shared)])
    assert len(np.unique(model.get_weights()[0])) <= 9


@pytest.mark.parametrize("make", [dense, residual])
def test_files_are_plain_and_strip_gives_rounded_weights(make, tmp_path):
    model = compiled(make)
    x, y = data(model)
    names = [w.path for w in model.weights]
    done = ap.fake_quantize(model, data=x)
    model.fit(x, y, verbose=0)
    assert [w.path for w in model.weights] == names
    outputs = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    back = keras.saving.load_model(tmp_path / "model.keras")
    for old, new in zip(model.get_weights(), back.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    ap.fake_quantize(back, ranges=done.table())
    np.testing.assert_allclose(back.predict(x, verbose=0), outputs, atol=1e-6)
    plain = ap.strip(model)
    again = ap.fake_quantize(plain, ranges=done.table())  # what is rounded stays as it is
    np.testing.assert_allclose(plain.predict(x, verbose=0), outputs, atol=1e-5)
    again.remove()
    done.remove()
    np.testing.assert_array_equal(
        model.predict(x, verbose=0),
        keras.saving.load_model(tmp_path / "model.keras").predict(x, verbose=0),
    )


def test_where_activations_are_rounded():
    found = {one.path: (one.before, one.after) for one in places(residual())}
    assert found["joined"] == (False, True)
    assert found["means"] == (False, True)
    assert found["last"] == (False, True)
    assert "first" not in found  # done in one step with what follows
    assert not any("max_pooling" in path or "flatten" in path for path in found)
    assert {p.path: (p.before, p.after, p.fixed) for p in places(dense())} == {
        "a": (False, True, None),
        "b": (True, True, (-1.0, 127 / 128)),
        "c": (True, True, (0.0, 255 / 256)),
    }


def test_before_any_data_nothing_is_rounded_but_weights():
    model = compiled(residual)
    x, _ = data(model)
    before = model.predict(x, verbose=0)
    ap.fake_quantize(model, bits=8)
    after = model.predict(x, verbose=0)
    assert 0 < np.abs(after - before).max() < 0.1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"bits": 9}, "bits=9; it must be an integer from 2 to 8"),
        ({"bits": None}, "bits=None"),
        ({"activation_bits": 1}, "activation_bits=1; .* or None"),
        ({"momentum": 1.0}, "momentum"),
        ({"data": np.zeros((0, 12), "float32")}, "no samples|empty|at least"),
        ({"data": np.full((4, 12), np.nan, "float32")}, "NaN"),
        ({"ranges": 3}, "ranges=3; give what"),
    ],
)
def test_bad_calls_are_refused_and_leave_nothing(arguments, told):
    model = compiled(dense)
    x, _ = data(model)
    before = model.predict(x, verbose=0)
    with pytest.raises((ValueError, TypeError), match=told):
        ap.fake_quantize(model, **arguments)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)


def test_what_is_quantised_or_wrapped_is_refused():
    model = compiled(dense)
    done = ap.fake_quantize(model)
    with pytest.raises(ValueError, match="fake-quantised already"):
        ap.fake_quantize(model)
    with pytest.raises(ValueError, match="of another model"):
        ap.fake_quantize(compiled(residual), ranges=done.table())
    done.remove()
    ap.fake_quantize(model)
    with pytest.raises(ValueError, match="which multiplies weights"):
        ap.fake_quantize(ap.wrap(compiled(dense), exclude=()))
    other = compiled(dense)
    other.quantize("int8")
    with pytest.raises(ValueError, match="quantised already"):
        ap.fake_quantize(other)


@pytest.mark.parametrize("left", ["b", "c"])
def test_layers_that_stay_float_may_have_activations_of_their_own(left):
    model = compiled(dense)
    x, y = data(model)
    kernel = model.get_layer(left).kernel
    done = ap.fake_quantize(model, bits=2, exclude=left)
    model.fit(x, y, verbose=0)
    assert done.table()["seen"].all()
    done.finish()
    assert len(np.unique(numpy(kernel))) > 3 * kernel.shape[1]
    with pytest.raises(ValueError, match="was taken off"):
        done.finish()


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_tokens_have_no_range(dtype):
    keras.utils.set_random_seed(0)
    tokens, more = keras.Input((6,), dtype=dtype), keras.Input((3,))
    x = L.Flatten()(L.Embedding(20, 4)(tokens))
    model = keras.Model([tokens, more], L.Dense(2)(L.Concatenate()([x, more])))
    model.compile("sgd", "mse")
    generator = np.random.default_rng(0)
    x = [generator.integers(0, 20, (32, 6)).astype(dtype), generator.normal(size=(32, 3))]
    done = ap.fake_quantize(model, data=x)
    assert done.table().query("tensor == 'input'")["layer"].tolist() == ["input_1"]
    assert done.table()["seen"].all()
    model.fit(x, np.zeros((32, 2)), verbose=0)


def test_ranges_go_by_their_order_where_keras_has_named_the_layers():
    one, other = compiled(own), compiled(own)
    x, _ = data(one)
    done = ap.fake_quantize(one, data=x)
    again = ap.fake_quantize(other, ranges=done.table())
    np.testing.assert_array_equal(done.table()["maximum"], again.table()["maximum"])
    assert "FakeQuantization(bits=8)" in repr(again)
    odd = done.table().astype({"minimum": object})
    odd.loc[0, "minimum"] = "low"
    again.remove()
    with pytest.raises(ValueError, match="goes from low to"):
        ap.fake_quantize(other, ranges=odd)
