"""Counting: equal to a NumPy oracle, only in training steps, and gone after the fit."""

import keras
import models
import numpy as np
import pytest

import activation_pruning as ap
from activation_pruning.hooks.attachment import attachment

pytestmark = [pytest.mark.backend, pytest.mark.lowest]

BACKEND = keras.backend.backend()


def frozen(model, dtype_policy=None, **kwargs):
    """Compiled with learning rate 0: whatever `fit` sees, an oracle can see afterwards."""
    return models.compiled(model, keras.optimizers.SGD(0.0), **kwargs)


def check(table, oracle, positions=1):
    """Counts are equal, not close; means within float32."""
    for layer, (sums, samples) in oracle.items():
        rows = table[table["layer"] == layer]
        assert (rows["samples"] == samples).all(), layer
        counts = rows["frequency"].to_numpy() * samples * positions
        assert np.abs(counts - np.rint(counts)).max() < 1e-6, layer
        assert np.rint(counts).astype(int).tolist() == np.rint(sums[0] * positions).tolist(), layer
        if "mean" in rows:  # a PruningCallback counts no more than its criterion needs
            np.testing.assert_allclose(rows["mean"], sums[1] / samples, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(rows["rms"] ** 2, sums[2] / samples, rtol=1e-4, atol=1e-5)


def through(model, *names):
    """Observe named layers of a functional model."""
    return lambda *inputs: models.outputs(model, names, *inputs)


def nested_observe(model):
    inner = model.get_layer("inner")

    def observe(x):
        found = models.outputs(inner, ["a", "b"], x)
        return {f"inner/{name}": values for name, values in found.items()}

    return observe


def shared_observe(model):
    layer = model.get_layer("both")
    return lambda *xs: {"both": [keras.ops.convert_to_numpy(layer(x)) for x in xs]}


def subclassed_observe(model):
    def observe(x):
        a = model.a(x)
        return {
            "a": keras.ops.convert_to_numpy(a),
            "b": keras.ops.convert_to_numpy(model.more[0](a)),
        }

    return observe


def normalised_observe(model):
    return lambda x: {"a": models.outputs(model, ["after"], x)["after"]}


def convolutional_observe(model):
    def observe(x):
        found = models.outputs(model, ["conv", "depth_relu", "sep", "up"], x)
        found["depth"] = found.pop("depth_relu")
        return found

    return observe


def recurrent_observe(model):
    def observe(x):
        found = models.outputs(model, ["lstm", "gru", "both_ways", "each", "simple"], x)
        both = found.pop("both_ways")
        table_names = _bidirectional_paths(model.get_layer("both_ways"))
        found[table_names[0]], found[table_names[1]] = both[..., :2], both[..., 2:]
        found["each/step"] = found.pop("each")
        return found

    return observe


def _bidirectional_paths(layer):
    return [f"{layer.name}/{part.name}" for part in (layer.forward_layer, layer.backward_layer)]


def attention_observe(model):
    def observe(x):
        mha = model.get_layer("mha")
        found = models.outputs(model, ["mha", "einsum"], x)
        heads = {
            "mha/query": mha.query_dense,
            "mha/key": mha.key_dense,
            "mha/value": mha.value_dense,
        }
        for name, layer in heads.items():
            values = keras.ops.convert_to_numpy(layer(x))
            found[name] = values.reshape(*values.shape[:2], -1)
        found["mha/attention_output"] = found.pop("mha")
        return found

    return observe


KINDS = {
    # build, observe, input shapes, positions that share a sample
    "sequential": (models.mlp, lambda m: through(m, "a", "b"), [(6,)], 1),
    "functional": (models.functional, lambda m: through(m, "left", "right"), [(6,)], 1),
    "batch norm": (models.normalised, normalised_observe, [(6,)], 1),
    "nested": (models.nested, nested_observe, [(6,)], 1),
    "shared": (models.shared, shared_observe, [(6,), (6,)], 1),
    "subclassed": (models.subclassed, subclassed_observe, [(6,)], 1),
    "conv": (models.convolutional, convolutional_observe, [(8, 8, 2)], 64),
    "conv1d": (models.one_dimensional, lambda m: through(m, "conv"), [(8, 3)], 8),
    "recurrent": (models.recurrent, recurrent_observe, [(4, 3)], 4),
    "attention": (models.attention, attention_observe, [(4, 6)], 4),
    "embedding": (models.embedded, lambda m: through(m, "words"), [(4,)], 4),
}


def inputs_for(kind, samples=22):
    shapes = KINDS[kind][2]
    if kind == "embedding":
        return [np.random.default_rng(0).integers(0, 7, (samples, 4)).astype("int32")]
    return [models.data(shape, samples, seed)[0] for seed, shape in enumerate(shapes)]


def as_input(arrays):
    return arrays if len(arrays) > 1 else arrays[0]


@pytest.mark.parametrize("kind", KINDS)
def test_counts_equal_the_oracle(kind):
    build, observe, _, positions = KINDS[kind]
    model, arrays = frozen(build()), inputs_for(kind)
    x, y = as_input(arrays), models.data()[1]
    counter = ap.ActivationCounter(exclude=["out"])
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False, callbacks=[counter])
    oracle = models.expected(observe(model), arrays, epochs=2)
    table = counter.table()
    assert set(oracle) <= set(table["layer"]), set(table["layer"])
    check(table, oracle, positions)


class Meddler(keras.callbacks.Callback):
    """Does to the model what users' callbacks do, in the middle of everything."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def on_train_batch_end(self, batch, logs=None):
        self.model.predict(self.x, verbose=0, batch_size=16)

    def on_epoch_end(self, epoch, logs=None):
        self.model.evaluate(self.x, self.y, verbose=0, batch_size=16)
        self.model.predict(self.x, verbose=0, batch_size=16)
        self.model(self.x)
        self.model(self.x, training=True)


@pytest.mark.parametrize("kind", ["sequential", "batch norm", "subclassed", "recurrent"])
def test_predict_and_evaluate_inside_callbacks_count_nothing(kind):
    build, observe, _, positions = KINDS[kind]
    model, arrays = frozen(build()), inputs_for(kind)
    y = models.data()[1]
    counter = ap.ActivationCounter(exclude=["out"])
    meddler = Meddler(arrays[0][:16], y[:16])
    model.fit(
        arrays[0], y, batch_size=8, verbose=0, shuffle=False, epochs=2,
        validation_data=(arrays[0], y), callbacks=[meddler, counter, Meddler(arrays[0], y)],
    )  # fmt: skip
    check(counter.table(), models.expected(observe(model), arrays, epochs=2), positions)


def test_threshold_and_the_output_layer():
    model = frozen(models.mlp())
    x, y = models.data()
    counter = ap.ActivationCounter(threshold=0.25)
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[counter])
    oracle = models.expected(through(model, "a", "b", "out"), [x], threshold=0.25)
    assert set(counter.table()["layer"]) == {"a", "b", "out"}
    check(counter.table(), oracle)


def test_second_fit_starts_anew_and_a_fit_without_callback_counts_nothing():
    model = frozen(models.mlp())
    x, y = models.data()
    counter = ap.ActivationCounter()
    model.fit(x, y, batch_size=8, verbose=0, epochs=2, callbacks=[counter])
    assert (counter.table()["samples"] == 44).all()
    model.fit(x, y, batch_size=8, verbose=0)
    assert (counter.table()["samples"] == 44).all()
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[counter])
    check(counter.table(), models.expected(through(model, "a", "b"), [x]))


def test_the_table_can_be_read_while_training():
    seen = []

    class Reader(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(set(counter.table()["samples"]))

    model = frozen(models.mlp())
    x, y = models.data()
    counter = ap.ActivationCounter()
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[Reader(), counter])
    assert seen == [{8}, {16}, {22}]


def test_three_callbacks_together():
    model = frozen(models.mlp())
    x, y = models.data()
    counter = ap.ActivationCounter(threshold=0.5)
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "activation")
    everything = [counter, pruner, ap.KeepPruned()]
    oracle = models.expected(through(model, "a", "b"), [x])
    halves = models.expected(through(model, "a", "b"), [x], threshold=0.5)
    model.fit(x, y, batch_size=8, verbose=0, callbacks=everything)
    check(pruner.activity(), oracle)
    check(counter.table(), halves)
    assert models.pruned(model, "a", "b") == 0.5


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_counts_beyond_256_are_exact_in_half_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = frozen(models.mlp())
    finally:
        keras.config.set_dtype_policy("float32")
    x, y = np.full((700, 6), 0.5, "float32"), np.zeros(700, int)
    model.get_layer("a").set_weights([np.ones((6, 8)), np.r_[np.zeros(7), -9.0]])
    counter = ap.ActivationCounter(include=["a"])
    model.fit(x, y, batch_size=32, verbose=0, callbacks=[counter])
    table = counter.table()
    assert (table["samples"] == 700).all()
    assert table["frequency"].tolist() == [1.0] * 7 + [0.0]
    np.testing.assert_allclose(table["mean"], [3.0] * 7 + [0.0], rtol=1e-5)


# -- leaving nothing behind ------------------------------------------------------------------------


class Died(Exception):
    pass


class Killer(keras.callbacks.Callback):
    """Raises after some steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise Died


def overrides(model):
    """Everything that `vars` of the model, its layers and optimizer hold of ours."""
    owners = [model, model.optimizer, *model._flatten_layers(include_self=False)]
    methods = {"call", "apply", "train_step"}
    own = [
        (owner.name, name)
        for owner in owners
        for name in vars(owner)
        if name in methods or "activation_pruning" in name
    ]
    return own + [owner.name for owner in owners if "activation_pruning" in owner.name]


def inventory(model):
    return len(model.weights), len(model.variables), len(model.trainable_variables)


def test_nothing_is_left_after_a_fit():
    model = frozen(models.nested())
    x, y = models.data()
    model.fit(x, y, verbose=0)
    before = inventory(model)
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5))
    model.fit(x, y, verbose=0, callbacks=[ap.ActivationCounter(), pruner, ap.KeepPruned()])
    assert overrides(model) == []
    assert inventory(model) == before


def test_listening_leaves_the_hooks_and_the_traced_step_as_they_are():
    model = frozen(models.mlp())
    model.fit(*models.data(), verbose=0)
    hooks, listener, heard = attachment(model), object(), []
    hooks.listen(listener, lambda *moment: heard.append(moment))
    assert attachment(model) is hooks
    assert "train_step" not in vars(model)
    hooks.count("counter", ap.sites.find(model).sites)
    before = vars(model)["train_step"], model.train_function
    hooks.listen(listener, lambda *moment: heard.append(moment))
    with hooks.event(3):
        heard.append("event")
    assert heard == [("before", 3), "event", ("after", 3)]
    assert set(hooks.owners) == {listener, "counter"}
    hooks.release(listener)
    assert (vars(model)["train_step"], model.train_function) == before
    hooks.release("counter")
    assert overrides(model) == []


def test_callbacks_that_keep_weights_see_only_the_models_own():
    model = frozen(models.mlp())
    shapes = [weight.shape for weight in model.get_weights()]
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append([w.shape for w in model.get_weights()])
    )
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5), "activation")
    model.fit(*models.data(), epochs=2, verbose=0, callbacks=[pruner, look])
    assert seen == [shapes, shapes]


def test_evaluate_and_predict_with_the_callback_leave_nothing_behind():
    model = frozen(models.mlp())
    x, y = models.data()
    counter = ap.ActivationCounter()
    model.evaluate(x, y, verbose=0, callbacks=[counter])
    model.predict(x, verbose=0, callbacks=[counter])
    assert overrides(model) == []
    with pytest.raises(Died):
        model.fit(x, y, verbose=0, batch_size=8, callbacks=[counter, Killer(1)])
    model.evaluate(x, y, verbose=0, callbacks=[counter])
    assert overrides(model) == []


def test_detach_after_a_fit_that_died():
    model = models.compiled(models.mlp(), keras.optimizers.Adam(0.01))
    x, y = models.data()
    model.fit(x, y, verbose=0)
    before = inventory(model)
    pruner = ap.PruningCallback(ap.schedules.Constant(0.5, begin=2, frequency=100, by="step"))
    with pytest.raises(Died):
        model.fit(
            x, y, verbose=0, batch_size=4, callbacks=[ap.ActivationCounter(), pruner, Killer(4)]
        )
    assert overrides(model) != []
    ap.detach(model)
    ap.detach(model)
    assert overrides(model) == []
    assert inventory(model) == before
    model.fit(x, y, verbose=0)  # trains on, dense again
    assert models.pruned(model, "a", "b") < 0.5


@pytest.mark.parametrize("same", [True, False], ids=["same callback", "new callback"])
def test_the_next_fit_repairs_one_that_died(same):
    model = frozen(models.mlp())
    x, y = models.data()
    counter = ap.ActivationCounter()
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1, by="step"))
    with pytest.raises(Died):
        model.fit(x, y, verbose=0, batch_size=4, callbacks=[counter, pruner, Killer(3)])
    if not same:
        counter = ap.ActivationCounter()
    model.fit(x, y, verbose=0, batch_size=8, callbacks=[counter])
    check(counter.table(), models.expected(through(model, "a", "b"), [x]))
    assert overrides(model) == []


def test_recompiling_between_fits():
    model = models.compiled(models.mlp(), keras.optimizers.SGD(0.1, momentum=0.9))
    x, y = models.data()
    pruner = ap.PruningCallback(ap.schedules.OneShot(0.5, at=1), "magnitude")
    model.fit(x, y, verbose=0, epochs=2, callbacks=[pruner])
    zeros = [kernel == 0 for kernel in models.kernels(model, "a", "b")]
    models.compiled(model, keras.optimizers.Adam(0.1))
    model.fit(x, y, verbose=0, epochs=2, callbacks=[ap.KeepPruned()])
    for kernel, zero in zip(models.kernels(model, "a", "b"), zeros, strict=True):
        assert not kernel[zero].any()
    model.fit(x, y, verbose=0)  # without the callback nothing is kept
    assert models.pruned(model, "a", "b") < 0.5


def test_one_callback_on_two_models_in_turn():
    x, y = models.data()
    counter = ap.ActivationCounter()
    first, second = frozen(models.mlp()), frozen(models.mlp(hidden=(7,)))
    first.fit(x, y, verbose=0, batch_size=8, callbacks=[counter])
    second.fit(x, y, verbose=0, batch_size=8, callbacks=[counter])
    check(counter.table(), models.expected(through(second, "a"), [x]))
    assert overrides(first) == overrides(second) == []


def test_train_on_batch_without_fit_is_untouched_after_the_fit():
    model = frozen(models.mlp())
    x, y = models.data()
    counter = ap.ActivationCounter()
    model.fit(x, y, verbose=0, callbacks=[counter])
    model.train_on_batch(x, y)
    assert (counter.table()["samples"] == 22).all()
