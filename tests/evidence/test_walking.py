"""One walk through a model: what is seen on it is what whole runs of the model would show."""

import collections
import gc

import awkward
import keras
import numpy as np
import pytest
from keras import layers, ops

import activation_pruning as ap
from activation_pruning import keras_private, sites
from activation_pruning.evidence import gathering, inputs, walking
from activation_pruning.evidence.states import States

pytestmark = pytest.mark.backend
RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.normal(size=shape).astype("float32")


@keras.saving.register_keras_serializable("walking")
class Block(layers.Layer):
    """A block of a transformer, its layers in the order of their calls."""

    def __init__(self, width=8, **kwargs):
        super().__init__(**kwargs)
        self.before, self.after = layers.LayerNormalization(), layers.LayerNormalization()
        self.attention = layers.MultiHeadAttention(2, width // 2, name="attention")
        self.wide = layers.Dense(2 * width, activation="gelu", name="wide")
        self.narrow = layers.Dense(width, name="narrow")

    def call(self, x, training=None):
        h = self.before(x)
        x = x + self.attention(h, h, use_causal_mask=True, training=training)
        return x + self.narrow(self.wide(self.after(x)))


def transformer():
    x = y = keras.Input((6, 8))
    for number in range(2):
        y = Block(name=f"block_{number}")(y)
    return keras.Model(x, layers.Dense(3, name="out")(y[:, 0])), noise(30, 6, 8)


class Tagger(keras.Model):
    """Subclassed, with words that are padded, a dict of inputs, and a block."""

    def __init__(self, times):
        super().__init__()
        self.words = layers.Embedding(9, 8, mask_zero=True, trainable=False)
        self.tags = layers.Dense(8, name="tags")
        self.block, self.times = Block(name="block"), times
        self.out = layers.Dense(2, name="out")

    def call(self, x):
        y = self.words(x["words"]) + self.tags(x["tags"])
        for _ in range(self.times):
            y = self.block(y)
        return self.out(y)


def subclassed(times=1):
    words = RNG.integers(0, 9, (30, 5)).astype("int32")
    words[:, 3:] *= RNG.integers(0, 2, (30, 2))
    model, x = Tagger(times), {"words": words, "tags": noise(30, 5, 4)}
    model(x)
    return model, x


def repeated():
    """A block that is called twice."""
    return subclassed(times=2)


def padded():
    """Masks that travel from layer to layer, also past attention, which takes them off."""
    ids = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 8, mask_zero=True, trainable=False)(ids)
    y = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    y = layers.Dense(8, "relu", name="dense")(layers.Add()([x, y]))
    y = layers.TimeDistributed(layers.Dense(4, name="inner"), name="each")(y)
    words = RNG.integers(0, 9, (40, 5)) * (np.arange(5) < RNG.integers(1, 6, (40, 1)))
    return keras.Model(ids, layers.Dense(2, name="out")(y)), words.astype("int32")


def mlp():
    hidden = [layers.Dense(8, "relu", name=name) for name in "ab"]
    return keras.Sequential([keras.Input((6,)), *hidden, layers.Dense(3)]), noise(50, 6)


def residual():
    """A convolutional network with a skip, batch normalisation, groups and a depthwise layer."""
    x = keras.Input((6, 6, 3))
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(x)))
    z = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", groups=2)(y))
    z = layers.DepthwiseConv2D(3, padding="same")(layers.ReLU()(z))
    y = layers.Add()([layers.Conv2D(8, 1)(y), z])
    y = layers.Conv2D(8, 3, strides=2, name="last")(y)
    model = keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling2D()(y)))
    for one in model.layers:
        if isinstance(one, layers.BatchNormalization):
            one.moving_mean.assign(noise(8))
            one.moving_variance.assign(np.abs(noise(8)) + 0.5)
    return model, noise(20, 6, 6, 3)


def nested():
    inner_x = keras.Input((8,))
    inner = keras.Model(inner_x, layers.Dense(8, "tanh", name="deep")(inner_x), name="inner")
    x = keras.Input((6,))
    y = keras.Sequential([layers.Dense(8, name="first"), inner], name="outer")(x)
    return keras.Model(x, layers.Dense(3, name="out")(inner(y))), noise(40, 6)


def shared():
    """A layer that is called twice, with one between that is called once."""
    layer, between = layers.Dense(6, "relu", name="layer"), layers.Dense(6, name="between")
    x = keras.Input((6,))
    y = layer(between(layer(x)))
    return keras.Model(x, layers.Dense(2, name="out")(layers.Concatenate()([y, x]))), noise(40, 6)


def several():
    """Two inputs, which are given in a dict."""
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    y = layers.Concatenate()([layers.Dense(5, "relu", name="left")(a), b])
    model = keras.Model({"a": a, "b": b}, layers.Dense(2)(layers.Dense(6, name="joint")(y)))
    return model, {"a": noise(30, 4), "b": noise(30, 3)}


def fixed():
    """Batches of a fixed size, the last of which is filled up."""
    x = keras.Input(batch_shape=(8, 6))
    return keras.Model(x, layers.Dense(2)(layers.Dense(8, "relu", name="a")(x))), noise(21, 6)


def wrapped():
    model, x = mlp()
    return ap.wrap(model), x


class Backwards(layers.Layer):
    """Stays whole, since it owns a weight; its layers are made in another order than called."""

    def __init__(self):
        super().__init__(name="backwards")
        self.second, self.first = layers.Dense(6, name="second"), layers.Dense(6, name="first")

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        for _ in range(2):
            x = self.second(ops.relu(self.first(x))) * self.scale
        return x


def opaque():
    x = keras.Input((6,))
    return keras.Model(x, layers.Dense(2, name="out")(Backwards()(x))), noise(40, 6)


MODELS = [
    transformer, subclassed, repeated, padded, mlp, residual, nested, shared, several, fixed,
    wrapped, opaque,
]  # fmt: skip


def built(make, seed=5):
    global RNG
    RNG = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    model, x = make()
    for variable in model.trainable_variables:  # no zero biases: dead layers are all alike
        if len(variable.shape) == 1:
            variable.assign(variable + 0.1 * noise(*variable.shape))
    return model, x


def one_by_one(model, x, sparsity, criterion, **more):
    """As `sequential=True` says: each layer alone, on the model as those before have left it."""
    for site in sites.find(model, more.get("include"), more.get("exclude")).sites:
        ap.prune(model, sparsity, criterion, data=x, include=site.layer, verbose=0)


def equal(model, other):
    """The same masks, and kernels to rounding errors."""
    pairs = zip(model.get_weights(), other.get_weights(), strict=True)
    for own, expected in pairs:
        np.testing.assert_array_equal(own == 0, expected == 0)
        np.testing.assert_allclose(own, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("criterion", ["wanda", ap.surgeons.SparseGPT(damping=0.1)])
@pytest.mark.parametrize("make", MODELS)
def test_a_walk_is_as_good_as_a_run_for_every_layer(make, criterion, monkeypatch):
    model, x = built(make)
    expected, _ = built(make)
    one_by_one(expected, x, 0.5, criterion)
    assert walking.walk(model, sites.find(model).sites, x, ["input_norm"]) is not None
    monkeypatch.setattr(gathering, "gather", None)  # nothing runs the model from the start
    ap.prune(model, 0.5, criterion, "uniform", data=x, sequential=True, verbose=0)
    equal(model, expected)
    assert any((w == 0).any() for w in model.get_weights())


@pytest.mark.parametrize("make", [transformer, residual])
def test_states_in_files_are_the_same(make, monkeypatch):
    model, x = built(make)
    expected, _ = built(make)
    files = []
    saved = np.save
    monkeypatch.setattr(np, "save", lambda path, array: (files.append(path), saved(path, array)))
    ap.prune(expected, 0.5, "wanda", "uniform", data=x, sequential=True, verbose=0)
    assert not files
    monkeypatch.setattr(walking.walk, "__defaults__", (0,))
    ap.prune(model, 0.5, "wanda", "uniform", data=x, sequential=True, verbose=0)
    assert files
    assert not any(path.exists() or path.parent.exists() for path in files)
    equal(model, expected)


def counted(model, monkeypatch):
    """How often each layer without others inside is called: a counter of layers."""
    calls = collections.Counter()

    def counting(layer, call):
        def wrapped_call(*args, **kwargs):
            calls[layer] += 1
            return call(*args, **kwargs)

        return wrapped_call

    for layer in keras_private.with_sublayers(model):
        if not keras_private.sublayers(layer):
            monkeypatch.setitem(vars(layer), "call", counting(layer, layer.call))
    return calls


@pytest.mark.parametrize("make", [transformer, residual, mlp, subclassed])
def test_each_layer_is_called_once_for_each_batch(make, monkeypatch):
    model, x = built(make)
    found = [site.layer for site in sites.find(model).sites]
    calls = counted(model, monkeypatch)
    for _ in walking.walk(model, sites.find(model).sites, x, ["input_norm"]):
        pass
    assert found[-1] not in calls  # nothing comes behind it
    inside = [
        one
        for layer in keras_private.with_sublayers(model)
        if isinstance(layer, layers.MultiHeadAttention)
        for one in keras_private.sublayers(layer)
        if one not in found
    ]
    assert set(found[:-1]) <= set(calls)
    assert {n for layer, n in calls.items() if layer not in inside} == {1}
    assert {calls[layer] for layer in inside} <= {0, 1, 2}  # between projections and output


def test_what_lies_between_two_calls_of_a_layer_is_run_once_more(monkeypatch):
    model, x = built(shared)
    calls = counted(model, monkeypatch)
    for _ in walking.walk(model, sites.find(model, exclude=()).sites, x, ["input_norm"]):
        pass
    assert calls[model.get_layer("layer")] == 3
    assert calls[model.get_layer("between")] == 2


def test_a_layer_called_twice_is_seen_on_both_calls():
    model, x = built(shared)
    layer = model.get_layer("layer")
    first, second = x, ops.convert_to_numpy(model.get_layer("between")(layer(x)))
    live = sites.find(model).sites
    walk = walking.walk(model, live, x, ["input_norm"])
    site, found = next(walk)
    walk.close()
    squares = (first**2).sum(axis=0) + (second**2).sum(axis=0)
    expected = np.repeat(np.sqrt(squares)[:, None], 6, axis=1)
    assert site.path == "layer"
    np.testing.assert_allclose(found.statistics["input_norm"], expected, rtol=1e-5)


def test_no_more_is_kept_than_calls_to_come_take(monkeypatch):
    """Of a chain one tensor, of a block two: what goes around it, and what goes through it.

    Within attention also its three projections.
    """
    for make, most, more in ((mlp, 1, 0), (residual, 2, 0), (transformer, 2, 3)):
        model, x = built(make)
        kept, known = [], []
        load, save = States.load, States.save

        def noted(self, batch, tensors, save=save, kept=kept):
            save(self, batch, tensors)
            kept.append(len(self._batches[batch]))

        def loaded(self, batch, load=load, known=known):
            known.append(load(self, batch))
            return known[-1]

        monkeypatch.setattr(States, "save", noted)
        monkeypatch.setattr(States, "load", loaded)
        for _ in walking.walk(model, sites.find(model).sites, [x, x], ["input_norm"]):
            assert max(map(len, known)) <= most + more
        monkeypatch.undo()
        assert max(kept) <= most
        assert len(kept) >= 2


def test_memory_of_states_does_not_grow_with_the_depth():
    """Bytes held at each layer of a chain: those of its inputs, however deep it is."""
    layer = [layers.Dense(6, name=f"layer_{i}") for i in range(6)]
    model, x = keras.Sequential([keras.Input((6,)), *layer]), noise(64, 6)
    walk = walking.walk(model, sites.find(model, exclude=()).sites, x, ["input_norm"])
    states = []
    for _ in walk:
        states += [one for one in gc.get_objects() if isinstance(one, States)][:1]
        assert states[-1].bytes == 64 * 6 * 4


def test_layers_that_lead_nowhere_are_not_run(monkeypatch):
    model, x = built(residual)
    calls = counted(model, monkeypatch)
    live = sites.find(model).sites[:2]
    for _ in walking.walk(model, live, x, ["input_norm"]):
        pass
    names = {layer.name for layer in calls}
    assert "last" not in names
    assert not any("depthwise" in name for name in names)
    assert names


def test_layers_that_are_done_are_left_alone(monkeypatch):
    model, x = built(mlp)
    ap.prune(model, 0.5, ap.surgeons.SparseGPT(), "uniform", data=x, include="a", verbose=0)
    before = model.get_layer("a").get_weights()[0]
    seen = []
    update = inputs.Moments.update
    monkeypatch.setattr(
        inputs.Moments, "update", lambda *args: (seen.append(args[1]), update(*args))
    )
    ap.prune(model, 0.5, "sparsegpt", "uniform", data=x, sequential=True, verbose=0)
    assert {place[0].name for place in seen} == {"b"}
    np.testing.assert_array_equal(model.get_layer("a").get_weights()[0], before)


def test_a_stopped_run_goes_on_where_it_was():
    (model, x), (whole, _) = built(transformer), built(transformer)
    ap.prune(whole, 0.5, "wanda", "uniform", data=x, sequential=True, verbose=0)
    seen = []

    def stopped(site):
        seen.append(site.name)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return ap.criteria.get("wanda")(site)

    stopped.needs = {"input_norm"}
    with pytest.raises(KeyboardInterrupt):
        ap.prune(model, 0.5, stopped, "uniform", data=x, sequential=True, verbose=0)
    assert 0 < ap.prune(model, 0.0).sparsity < 0.4
    ap.prune(model, 0.5, "wanda", "uniform", data=x, sequential=True, verbose=0)
    equal(model, whole)


@pytest.mark.parametrize("criterion", ["sparsegpt", "lobs", "wanda"])
def test_the_allocation_by_scores_is_that_of_the_model_before(criterion, monkeypatch):
    (model, x), (at_once, _) = built(transformer), built(transformer)
    other = ap.prune(at_once, 0.5, criterion, data=x, verbose=0)
    if criterion != "wanda":
        monkeypatch.setattr(gathering, "gather", None)  # all the Hessians at once
    one = ap.prune(model, 0.5, criterion, data=x, sequential=True, verbose=0)
    assert one.table()["pruned"].tolist() == other.table()["pruned"].tolist()


def test_batches_are_small_where_layers_are_wide(monkeypatch):
    (model, x), (expected, _) = built(transformer), built(transformer)
    ap.prune(expected, 0.5, "wanda", "uniform", data=x, sequential=True, verbose=0)
    sizes = []
    update = inputs.Moments.update
    monkeypatch.setattr(
        inputs.Moments, "update", lambda *args: (sizes.append(len(args[2])), update(*args))
    )
    monkeypatch.setattr(walking, "_WIDEST", 6 * 16 * 4)  # 6 steps of twice 8 numbers
    ap.prune(model, 0.5, "wanda", "uniform", data=x, sequential=True, verbose=0)
    assert set(sizes) == {4, 2}
    equal(model, expected)


def test_half_precision_and_lengths_that_are_open():
    def make():
        ids = keras.Input((None,), dtype="int32")
        y = layers.Embedding(9, 8, trainable=False)(ids)
        return keras.Model(ids, layers.Dense(2)(Block()(y))), RNG.integers(0, 9, (30, 5))

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        (model, x), (expected, _) = built(make), built(make)
    finally:
        keras.config.set_dtype_policy("float32")
    batches = [x[:16], x[16:, :3]]
    assert walking.walk(model, sites.find(model).sites, batches, ["input_norm"]) is not None
    ap.prune(model, 0.5, "wanda", "uniform", data=batches, sequential=True, verbose=0)
    one_by_one(expected, batches, 0.5, "wanda")
    equal(model, expected)


@pytest.mark.parametrize("allocation", ["uniform", "erk", "global"])
def test_shares_that_need_no_scores_are_those_with_scores(allocation):
    (model, x), (at_once, _) = built(transformer), built(transformer)
    for granularity in ("weight", "2:4"):
        more = {"granularity": granularity, "data": x, "verbose": 0}
        one = ap.prune(model, 0.5, "sparsegpt", allocation, sequential=True, **more)
        other = ap.prune(at_once, 0.5, "sparsegpt", allocation, **more)
        assert one.table()["pruned"].tolist() == other.table()["pruned"].tolist()


def test_models_whose_graph_is_not_known_go_as_before():
    class Branches(keras.Model):
        def __init__(self):
            super().__init__()
            self.a, self.b = layers.Dense(6, name="a"), layers.Dense(6, name="b")
            self.out = layers.Dense(2, name="out")

        def call(self, x):
            y = self.a(x)
            if float(ops.sum(y)) > -1e9:
                y = self.b(y)
            return self.out(y)

    def make():
        model, x = Branches(), noise(20, 5)
        model(x)
        return model, x

    (model, x), (expected, _) = built(make), built(make)
    assert walking.walk(model, sites.find(model).sites, x, ["input_norm"]) is None
    ap.prune(model, 0.5, "wanda", "uniform", data=x, sequential=True, verbose=0)
    one_by_one(expected, x, 0.5, "wanda")
    equal(model, expected)


def test_batches_of_another_length_go_as_before():
    model, x = built(subclassed)
    batches = [x, {"words": x["words"][:, :3], "tags": x["tags"][:, :3]}]
    assert walking.walk(model, sites.find(model).sites, batches, ["input_norm"]) is None


def test_progress_counts_layers(capsys):
    model, x = built(mlp)
    ap.prune(model, 0.5, "sparsegpt", "uniform", data=x, sequential=True, verbose=1)
    assert "2/2" in capsys.readouterr().out


@pytest.mark.parametrize("make", [awkward.tied_before, awkward.tied_autoencoder])
def test_tied_weights_are_those_of_before_at_every_use(make):
    """A layer that uses the weights of a later one: the inputs of that are as in a whole run."""
    model, _ = make()
    x = noise(40, 6)
    live = sites.find(model, exclude=()).sites
    live = [s for s in live if isinstance(s.layer, layers.Dense)]
    expected = inputs.gather(model, live[:1], x, ["input_norm"])[live[0].name]["input_norm"]
    site, found = next(walking.walk(model, live, x, ["input_norm"]))
    assert site is live[0]
    np.testing.assert_allclose(found.statistics["input_norm"], expected, rtol=1e-5)


def test_states_keep_masks_types_and_files(tmp_path):
    for room, files in ((1 << 20, 0), (0, 2)):
        states = States(tmp_path, room)
        words = layers.Embedding(4, 3, mask_zero=True)(np.array([[1, 0], [2, 3]]))
        half = ops.cast(ops.arange(5), "bfloat16")
        states.save(0, {1: words, 2: half, 3: None})
        assert len(list(tmp_path.iterdir())) == files
        found = states.load(0)
        np.testing.assert_array_equal(ops.convert_to_numpy(found[1]), ops.convert_to_numpy(words))
        mask = keras_private.get_keras_mask(found[1])
        assert ops.convert_to_numpy(mask).tolist() == [[True, False], [True, True]]
        assert keras.backend.standardize_dtype(found[2].dtype) == "bfloat16"
        assert ops.convert_to_numpy(ops.cast(found[2], "float32")).tolist() == [0, 1, 2, 3, 4]
        assert found[3] is None
        states.save(0, {})
        assert states.bytes == 0
        assert states.load(0) == {}
        assert not list(tmp_path.iterdir())
