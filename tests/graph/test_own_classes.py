"""Copies of models of users' own classes are of these classes again, and train as these do."""

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap
from activation_pruning.graph import copies

pytestmark = pytest.mark.backend

L, ops = keras.layers, keras.ops
WAYS = {
    "copy": copies.copy_model,
    "compact": ap.compact,
    "wrap": ap.wrap,
    "strip": lambda model: ap.strip(ap.wrap(model)),
    "low_rank": lambda model: ap.analysis.low_rank(model, 2),
    "factorize": lambda model: ap.analysis.factorize(model, 2),
}


class Weighted(keras.Model):
    """Takes an argument of its own, holds a metric, a layer and a function; has its own loss."""

    def __init__(self, inputs, outputs, extra, **kwargs):
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.extra = extra
        self.seen = keras.metrics.Mean(name="seen")
        self.first = self.layers[1]
        self.score = lambda y: ops.mean(y**2) + ops.mean(self.first.bias)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = self.extra * ops.mean((y - y_pred) ** 2)
        self.seen.update_state(loss)
        return loss

    def predict_step(self, *args):
        raise ZeroDivisionError("mine")


class Told(Weighted):
    """Its configuration says how it was made, not which layers it has."""

    def __init__(self, units=8, extra=3.0, **kwargs):
        inputs = keras.Input((6,))
        x = L.Dense(units, "relu", name="a")(inputs)
        super().__init__(inputs, L.Dense(2, name="out")(x), extra, **kwargs)
        self.units = units

    def get_config(self):
        return {"units": self.units, "extra": self.extra, "name": self.name}


class Plainly(keras.Model):
    """As `Told`, but it behaves as any model."""

    def __init__(self, units=8, **kwargs):
        inputs = keras.Input((6,))
        x = L.Dense(units, "relu", name="a")(inputs)
        super().__init__(inputs, L.Dense(2, name="out")(x), **kwargs)
        self.units = units

    def get_config(self):
        return {"units": self.units, "name": self.name}


class Stack(keras.Sequential):
    """A Sequential model with a loss of its own and other arguments than a list of layers."""

    def __init__(self, units, extra):
        super().__init__(
            [keras.Input((6,)), L.Dense(units, "relu", name="a"), L.Dense(2, name="out")]
        )
        self.extra = extra

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return self.extra * ops.mean((y - y_pred) ** 2)


class TwoOptimizers(Weighted):
    """Its `compile` takes other arguments than Keras's."""

    def compile(self, main, other, function):
        super().compile(optimizer=main)
        self.other, self.function = other, function
        self.other.build(self.trainable_variables)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return self.extra * self.function(y, y_pred)


def weighted(kind=Weighted):
    inputs = keras.Input((6,))
    x = L.Dense(8, "relu", name="a")(inputs)
    return kind(inputs=inputs, outputs=L.Dense(2, name="out")(x), extra=3.0, name="mine")


def error(y, y_pred):
    return ops.mean((y - y_pred) ** 2)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "make", [weighted, Told, lambda: Stack(8, 3.0)], ids=["model", "told", "seq"]
)
def test_a_copy_has_the_loss_of_its_class(make, way):
    model = make()
    model.compile("sgd", "mae", metrics=["mae"])
    x, _ = models.data()
    y = np.ones((22, 2), "float32")
    copy = WAYS[way](model)
    assert (type(copy), copy.extra, copy.name) == (type(model), 3.0, model.name)
    wanted = 3.0 * np.mean((y - keras.ops.convert_to_numpy(copy(x))) ** 2)
    history = copy.fit(x, y, batch_size=22, verbose=0).history
    assert history["loss"] == pytest.approx([wanted], rel=1e-5)
    assert "mae" in history


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", WAYS)
def test_what_the_class_holds_is_the_copys_own(way):
    model = weighted()
    model.compile("sgd")
    copy = WAYS[way](model)
    assert copy.seen is not model.seen
    assert copy.seen in copy.metrics
    assert copy.first is copy.layers[1]
    model.first.bias.assign(np.full(8, 5.0))
    if way not in ("wrap", "factorize"):  # there the first layer has no bias to read
        assert float(copy.score(ops.zeros((1,)))) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ZeroDivisionError, match="mine"):
        copy.predict(models.data()[0], verbose=0)


def test_a_compile_of_ones_own_is_kept():
    model = weighted(TwoOptimizers)
    model.compile(keras.optimizers.SGD(0.1), keras.optimizers.Adam(0.01), error)
    copy = copies.copy_model(model)
    assert copy.function is error
    assert copy.other is not model.other
    assert copy.other.built
    assert float(copy.other.learning_rate) == pytest.approx(0.01)
    history = copy.fit(models.data()[0], np.ones((22, 2)), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert int(model.optimizer.iterations) == 0


def test_a_class_whose_configuration_forgets_the_exchange_says_so():
    with pytest.warns(UserWarning, match="'mine' is a Told again, but a .keras file"):
        ap.wrap(Told(name="mine"))


@pytest.mark.parametrize("way", ["copy", "wrap"])
def test_a_class_without_behaviour_gives_way_to_a_file_that_loads(way, tmp_path):
    model = Plainly(5)
    if way == "copy":
        copy = WAYS[way](model)
    else:
        with pytest.warns(UserWarning, match="is a plain model, since a Plainly"):
            copy = WAYS[way](model)
    assert (type(copy) is Plainly) == (way == "copy")
    copy.save(tmp_path / "copy.keras")
    known = {"Plainly": Plainly}
    loaded = keras.saving.load_model(tmp_path / "copy.keras", custom_objects=known)
    x, _ = models.data()
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


class LastFirst(keras.Model):
    """Keeps its layers before it says what the graph is: Keras 3.15 tracks them so."""

    def __init__(self):
        self.last, self.first = L.Dense(2, name="last"), L.Dense(6, "relu", name="first")
        inputs = keras.Input((8,))
        super().__init__(inputs=inputs, outputs=self.last(self.first(inputs)))

    def get_config(self):
        return {}


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch takes no layers before the constructor"
)
@pytest.mark.parametrize("way", ["copy", "compact", "low_rank"])
@pytest.mark.filterwarnings("ignore")
def test_weights_keep_their_order(way):
    model = LastFirst()
    copy = WAYS[way](model)
    assert [v.path for v in copy.weights] == [v.path for v in model.weights]
    if way != "low_rank":
        for old, new in zip(model.get_weights(), copy.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
    else:
        singular = np.linalg.svd(copy.first.kernel - np.mean(copy.first.kernel, 0))[1]
        assert int((singular > 1e-5).sum()) == 2
        np.testing.assert_array_equal(copy.last.kernel, model.last.kernel)


def test_nested_models_keep_their_classes():
    inner = weighted()
    inputs = keras.Input((6,))
    copy = copies.copy_model(keras.Model(inputs, inner(inputs)))
    assert type(copy.get_layer("mine")) is Weighted
    assert copy.get_layer("mine").extra == 3.0


def test_a_call_that_is_not_the_graph_is_written_down_anew():
    class Doubled(Weighted):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training=training)

    model = weighted(Doubled)
    x, _ = models.data()
    copy = copies.copy_model(model)
    found, wanted = (keras.ops.convert_to_numpy(one(x)) for one in (copy, model))
    np.testing.assert_array_equal(found, wanted)
    ap.prune(model, 0.5, granularity="unit")
    with pytest.warns(UserWarning, match=r"'mine' \(Doubled\) has its own .*predict_step"):
        small = ap.compact(model)
    found, wanted = (keras.ops.convert_to_numpy(one(x)) for one in (small, model))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert small.count_params() < model.count_params()


class Subclassed(keras.Model):
    """No graph, no configuration, arguments that are layers and functions."""

    def __init__(self, inner, function):
        super().__init__()
        self.inner, self.function = inner, function
        self.head = keras.Sequential([L.Dropout(0.5), L.Dense(2, name="head")])
        self.score = keras.metrics.Mean(name="score")

    def call(self, x, training=None):
        return self.head(self.function(self.inner(x)), training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 3.0 * ops.mean((y - y_pred) ** 2)


def test_a_subclassed_model_needs_no_configuration():
    model = Subclassed(L.Dense(4, name="inner"), lambda x: ops.tanh(2 * x))
    x, y = models.data()[0], np.ones((22, 2), "float32")
    model.compile(keras.optimizers.Adam(0.1), "mae")
    model.fit(x, y, verbose=0)
    before = model.get_weights()
    copy = ap.analysis.low_rank(model, 1, include="inner", method="svd")
    assert type(copy) is Subclassed
    assert copy.function is model.function
    assert not {id(v) for v in copy.variables} & {id(v) for v in model.variables}
    assert np.linalg.matrix_rank(keras.ops.convert_to_numpy(copy.inner.kernel)) == 1
    same = copies.copy_model(model)
    np.testing.assert_array_equal(same.predict(x, verbose=0), model.predict(x, verbose=0))
    assert copy.fit(x, y, verbose=0).history["loss"][0] > 0
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_copy_made_in_a_fit_holds_nothing_of_the_callbacks():
    model = weighted()
    model.compile("sgd")
    found = []

    class Copying(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            found.append(copies.copy_model(model))

    x, y = models.data()[0], np.ones((22, 2))
    rule = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), criterion="activation")
    model.fit(x, y, epochs=1, verbose=0, callbacks=[rule, Copying()])
    (copy,) = found
    assert len(copy.variables) == len(model.variables)
    assert "train_step" not in vars(copy)
    copy.fit(x, y, verbose=0)
    assert type(copy) is Weighted
