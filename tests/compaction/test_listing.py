"""Why pruned units stay: each layer that has some and keeps them is listed with the reason."""

import keras
import numpy as np
import pytest
from keras import layers as L

import activation_pruning as ap
from activation_pruning import sites
from activation_pruning.graph import copies
from activation_pruning.sites import kernels


class Own(L.Layer):
    """A registered layer that compaction doesn't know."""

    def build(self, shape):
        self.table = self.add_weight(shape=(shape[-1], 6), name="table")

    def call(self, x):
        return keras.ops.matmul(x, self.table)


class Block(L.Layer):
    """A composite layer that owns a weight, so that it is not taken apart."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = L.Dense(6, name="inner")

    def build(self, shape):
        self.inner.build(shape)
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x):
        return self.scale * self.inner(x)


class Doubled(L.Dense):
    """A subclass, which may call something else."""

    def call(self, x):
        return 2 * super().call(x)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(kernels, "_REGISTRY", dict(kernels._REGISTRY))
    sites.register(Own, sites.Kernel("table"))


LEFT = {
    "own": (lambda: Own(name="x"), (8,), "x", "'x' (Own): not known to compaction"),
    "subclass": (lambda: Doubled(6, name="x"), (8,), "x", "'x' (Doubled): not known to compaction"),
    "block": (lambda: Block(name="x"), (8,), "x/inner", "'x' (Block): not known to compaction"),
    "grouped": (
        lambda: L.Conv2D(8, 3, groups=4, name="x"),
        (6, 6, 4),
        "x",
        "inputs of the model",
    ),
    "depthwise": (
        lambda: L.DepthwiseConv2D(3, depth_multiplier=2, name="x"),
        (6, 6, 4),
        "x",
        "inputs of the model",
    ),
    "recurrent": (
        lambda: L.LSTM(6, "softmax", name="x"),
        (4, 5),
        "x",
        "an activation of 'x' may look at all units; 'x' feeds them back, and they are not zero "
        "for all inputs; they meet others that vary before 'out'",
    ),
    "bidirectional": (
        lambda: L.Bidirectional(
            L.GRU(6, name="gru"),
            backward_layer=L.SimpleRNN(6, go_backwards=True),
            name="x",
        ),
        (4, 5),
        "x/forward_gru",
        "'x' (Bidirectional): its two layers are not of one class and size",
    ),
}


REMEDIES = {
    "own": "channels.register(Own, rule)",
    "subclass": "channels.register(Doubled, rule)",
    "block": "keep its weights in a layer that it calls",
    "grouped": "leave the layer out of unit pruning: exclude='x'",
    "depthwise": "leave the layer out of unit pruning: exclude='x'",
    "recurrent": "use one that takes each number by itself",
    "bidirectional": "make both of one class and size",
}


@pytest.mark.filterwarnings("ignore:__array__ implementation")
@pytest.mark.parametrize("kind", LEFT)
def test_a_layer_that_keeps_pruned_units_is_listed_with_what_blocks_it(kind):
    make, shape, path, reason = LEFT[kind]
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input(shape), make(), L.Flatten(), L.Dense(2, name="out")])
    report = ap.prune(model, 0.5, granularity="unit")
    assert f"Pruned units of {path}" in report.notes
    row = ap.removable(model).set_index("layer").loc[path]
    assert row["left"] > 0
    assert row["removed"] == 0
    assert row["reason"] == reason
    assert REMEDIES[kind] in row["remedy"]
    with pytest.warns(UserWarning, match="no unit can be removed") as warned:
        small = ap.compact(model)
    assert reason in "".join(str(one.message) for one in warned)
    assert small.count_params() == model.count_params()


def test_a_layer_quantised_after_it_was_pruned_is_listed():
    model = keras.Sequential([keras.Input((8,)), L.Dense(6, name="a"), L.Dense(2)])
    ap.prune(model, 0.5, granularity="unit")
    dead = ~model.get_layer("a").get_weights()[0].any(axis=0)
    model.get_layer("a").quantize("int8")
    row = ap.removable(model).set_index("layer").loc["a"]
    assert (row["constant"], row["left"]) == (dead.sum(), dead.sum())
    assert row["reason"] == "'a' (Dense): quantised to int8"


def test_what_goes_has_no_reason_and_what_has_no_pruned_units_no_row():
    model = keras.Sequential(
        [keras.Input((8,)), Own(name="own"), L.Dense(6, name="a"), L.Dense(2, name="out")]
    )
    ap.prune(model, 0.5, granularity="unit", include="a")
    table = ap.removable(model)
    assert table["layer"].tolist() == ["a", "out"]
    assert table["removed"].tolist() == [3, 0]
    assert table["left"].tolist() == [0, 0]
    assert table["reason"].tolist() == ["", ""]


def test_every_layer_that_a_report_names_has_a_row():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((4, 8))
    x = Block(name="block")(L.Dense(8, name="a")(x))
    x = L.MultiHeadAttention(2, 4, name="heads")(x, x)
    x = L.LSTM(5, name="memory")(x)
    model = keras.Model(inputs, L.Dense(3, name="out")(x))
    report = ap.prune(model, 0.6, granularity="unit")
    named = report.notes.split("Pruned units of ")[1].split(" cannot")[0].split(", ")
    table = ap.removable(model)
    left = table[table["left"] > 0]
    assert set(named) <= set(left["layer"])
    assert left["reason"].map(bool).all()
    for path in named:
        site = next(s for s in sites.find(model).sites if s.path == path)
        units = np.broadcast_to(site.units, site.kernel().shape)
        assert np.bincount(units[site.kernel() != 0], minlength=site.n_units).min() == 0


class Whole(L.Layer):
    """A block that does something else in training, and so stays whole."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = L.Dense(6, name="inner")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x, training=None):
        return self.inner(x) if training else 2 * self.inner(x)


class Net(keras.Model):
    """Layers in blocks, in a list."""

    def __init__(self, last, **kwargs):
        super().__init__(**kwargs)
        self.blocks, self.last = [Pair(name="first"), Pair(name="second")], last

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.last(x)


class Pair(L.Layer):
    """Two layers that are taken apart, the second of which adds to what comes in."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.wide, self.narrow = L.Dense(6, name="wide"), L.Dense(4, name="narrow")

    def build(self, shape):
        self.wide.build(shape)
        self.narrow.build((*shape[:-1], 6))

    def call(self, x):
        return x + self.narrow(self.wide(x))


def test_layers_of_models_that_are_taken_apart_go_by_the_paths_of_sites():
    model = Net(L.Dense(2, name="last"))
    model(np.ones((1, 4), "float32"))
    ap.prune(model, 0.5, granularity="unit", allocation="uniform", include="*/wide")
    table = ap.removable(model)
    paths = [site.path for site in sites.find(model, exclude=()).sites]
    assert table["layer"].tolist() == paths
    assert paths == ["first/wide", "first/narrow", "second/wide", "second/narrow", "last"]
    assert table["removed"].tolist() == [3, 0, 3, 0, 0]


def test_what_meets_others_is_to_be_pruned_with_them():
    layers = keras.Input((8,)), L.Dense(4, name="a"), Pair(name="b"), L.Dense(2)
    model = keras.Sequential(layers)
    whole = copies.copy_model(model)
    ap.prune(model, 0.5, granularity="unit", include="a")
    row = ap.removable(model).set_index("layer").loc["a"]
    assert "they meet others that vary" in row["reason"]
    assert row["remedy"].startswith("prune those they meet as well")
    ap.prune(whole, 0.5, granularity="unit")
    assert ap.removable(whole).set_index("layer").loc["a", "removed"] == 2


def test_a_block_that_stays_whole_says_where_its_call_leaves_keras():
    model = keras.Sequential([keras.Input((4,)), L.Dense(8, name="a"), Whole(name="whole")])
    model.layers[1].inner.kernel.assign(np.ones((8, 6)) * [0, 1, 1, 1, 1, 1])
    table = ap.removable(model).set_index("layer")
    row = table.loc["whole/inner"]
    assert row["left"] == 1
    assert row["reason"].startswith("'whole' (Whole) cannot be written down as a graph: ")
    assert "(test_listing.py, line " in row["reason"]
    assert row["remedy"] == "make its call of layers and keras.ops only"
