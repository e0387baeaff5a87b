"""HGQ2's quantised layers: found, counted, pruned, and zeros after each of its quantisers."""

import itertools
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from chosen_sites import names, sequential, skipped
from keras import layers

import activation_pruning as ap

pytest.importorskip("hgq", reason="HGQ2 is not installed: make test-hgq")

from hgq import layers as q
from hgq.config import QuantizerConfig, QuantizerConfigScope
from hgq.quantizer import Quantizer
from hgq.utils import trace_minmax
from hgq.utils.minmax_trace import TrainingFlagWrapper

pytestmark = pytest.mark.hgq
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(96, 6, 6, 2)).astype("float32")
SEQUENCES = RNG.normal(size=(96, 3, 4)).astype("float32")
OUTPUT = {"out": "output layer (excluded by default)"}


def convolutional():
    return sequential(
        q.QConv2D(4, 3, activation="relu", name="conv"),
        layers.Reshape((16, 4)),
        q.QConv1D(5, 2, activation="relu", name="conv1d"),
        layers.Flatten(),
        q.QDense(12, activation="relu", name="dense"),
        q.QBatchNormDense(10, activation="relu", name="normed"),
        q.QEinsumDense("ab,bc->ac", 9, bias_axes="c", activation="relu", name="einsum"),
        q.QEinsumDenseBatchnorm("ab,bc->ac", 8, bias_axes="c", name="both"),
        q.QDense(3, name="out"),
        shape=IMAGES.shape[1:],
    )


def small():
    return sequential(
        q.QConv2D(4, 3, activation="relu", name="conv"),
        layers.Flatten(),
        q.QDense(5, activation="relu", name="dense"),
        q.QDense(3, name="out"),
        shape=IMAGES.shape[1:],
    )


def recurrent():
    return sequential(
        q.QSimpleRNN(5, activation="tanh", return_sequences=True, name="rnn"),
        q.QGRU(6, activation="tanh", recurrent_activation="sigmoid", name="gru"),
        q.QDense(3, name="out"),
        shape=SEQUENCES.shape[1:],
    )


def attentive():
    x = keras.Input(SEQUENCES.shape[1:])
    y = q.QMultiHeadAttention(2, 4, fuse="qkv", name="mha")(x, x, x)
    return keras.Model(x, q.QDense(3, name="out")(layers.Flatten()(y)))


def in_three_dimensions():
    return sequential(
        q.QConv3D(4, 2, name="conv"), layers.Flatten(), q.QDense(3, name="out"), shape=(3, 3, 3, 2)
    )


MODELS = {
    "convolutional": (convolutional, ["conv", "conv1d", "dense", "normed", "einsum", "both"]),
    "recurrent": (recurrent, ["rnn", "rnn", "gru", "gru"]),
    "attentive": (attentive, [f"mha/{one}" for one in ("query", "key", "value")]),
    "in_three_dimensions": (in_three_dimensions, ["conv"]),
}


def data(model):
    x = RNG.normal(size=(64, *model.input_shape[1:])).astype("float32")
    return x, RNG.integers(0, 3, 64)


def compiled(make):
    model = make()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(0.01), loss)
    return model


def act_as_zeros(model):
    """Check that weights which are zeros in the kernel are zeros where the layer computes."""
    for site in ap.sites.find(model).sites:
        layer = getattr(site.layer, "cell", site.layer)
        recurrent_one = site.name.endswith("recurrent_kernel")
        acting = layer.qrecurrent_kernel if recurrent_one else layer.qkernel
        acting = keras.ops.convert_to_numpy(acting)
        assert acting.shape == site.kernel().shape
        assert (acting[site.kernel() == 0] == 0).all(), site.name
        assert acting.any(), site.name


# -- what is found -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODELS)
def test_kernels_are_found_and_widths_are_not_mentioned(kind):
    make, expected = MODELS[kind]
    model = make()
    found = [site.path for site in ap.sites.find(model).sites]
    assert [path for path in found if path != "mha/attention_output"] == expected
    assert skipped(model) == OUTPUT


def test_units_and_activities_are_those_of_the_plain_layers():
    plain = sequential(
        layers.Conv2D(4, 3, activation="relu", name="conv"), layers.Flatten(),
        layers.Dense(5, activation="relu", name="dense"), layers.Dense(3, name="out"),
        shape=IMAGES.shape[1:],
    )  # fmt: skip
    pairs = [ap.sites.find(model).sites for model in (plain, small())]
    for one, other in zip(*pairs, strict=True):
        assert (one.name, one.input_axis, one.n_units) == (
            other.name, other.input_axis, other.n_units,
        )  # fmt: skip
        np.testing.assert_array_equal(one.units, other.units)
        assert one.source.axes == other.source.axes
        assert other.source.label == "own activation"


def test_a_layer_that_shifts_its_zeros_is_left_out():
    shifted = QuantizerConfig("kbi", "weight", affine=(1.0, 0.25))
    scaled = QuantizerConfig("kbi", "weight", affine=(0.5, 0.0), scaler=3.0)
    model = sequential(
        q.QDense(4, kq_conf=shifted, name="shifted"),
        q.QDense(4, kq_conf=scaled, name="scaled"),
        q.QDense(3, name="out"),
    )
    assert names(model) == ["scaled/kernel"]
    assert "`kq` makes 0.25 of a zero" in skipped(model)["shifted"]


def test_each_kernel_of_a_recurrent_layer_has_its_quantiser():
    shifted = QuantizerConfig("kbi", "weight", affine=(1.0, 0.25))
    model = sequential(
        q.QSimpleRNN(4, kq_conf=shifted, return_sequences=True, name="inputs"),
        q.QSimpleRNN(4, rkq_conf=shifted, name="states"),
        q.QDense(3, name="out"),
        shape=SEQUENCES.shape[1:],
    )
    assert names(model) == ["inputs/recurrent_kernel", "states/kernel"]
    assert "`cell.kq` makes" in skipped(model)["inputs"]
    assert "`cell.rkq` makes" in skipped(model)["states"]


def run(code):
    """What a fresh interpreter prints."""
    code = "import activation_pruning as ap, keras, sys\n" + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_nobody_else_pays_for_it():
    code = """
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    ap.prune(model, 0.5)
    print("hgq" in sys.modules, "activation_pruning.sites.foreign.hgq2" in sys.modules)
    """
    assert run(code) == ["False", "False"]


def test_imported_late_it_is_known_and_what_users_say_holds():
    code = """
    x = keras.Input((6, 6, 2))
    plain = keras.Model(x, keras.layers.Conv2D(3, 2)(x))
    print(len(ap.sites.find(plain, exclude=()).sites))
    from hgq.layers import QConv2D, QDense
    ap.sites.register(QDense, lambda layer: [])
    y = QDense(3, name="dense")(QConv2D(3, 2, name="conv")(x))
    print(*(site.name for site in ap.sites.find(keras.Model(x, y), exclude=()).sites))
    """
    assert run(code) == ["1", "conv/kernel"]


# -- zeros stay zeros ----------------------------------------------------------------------------

ROUNDING = ["TRN", "RND", "RND_CONV", "TRN_ZERO", "RND_ZERO", "RND_MIN_INF", "RND_INF"]
FIXED = [
    *itertools.product(ROUNDING, ["WRAP", "SAT", "SAT_SYM"]),
    *itertools.product(["S_RND", "S_RND_CONV"], ["WRAP", "SAT", "SAT_SYM"]),
    *itertools.product(["RND", "RND_CONV"], ["WRAP_SM"]),
]
TRAINING = {"inference": False, "training": True, "tracing": TrainingFlagWrapper("tracing")}
WIDTHS = {"b": (0, 23), "i": (-24, 24), "f": (-24, 24), "m": (-1, 8), "e": (0, 4), "e0": (-16, 16)}


def quantised(quantizer, training):
    """Zeros, and numbers of all sizes: whatever widths training may come to, each its own."""
    x = (RNG.normal(size=2000) * 10.0 ** RNG.integers(-6, 4, 2000)).astype("float32")
    x[::2] = 0
    if not quantizer.built:
        quantizer.build(x.shape)
    for variable in quantizer.quantizer.weights:
        if variable.name in WIDTHS:
            low, high = WIDTHS[variable.name]
            variable.assign(RNG.integers(low, high + 1, x.shape))
        elif variable.name == "k":  # keeps the sign
            variable.assign(RNG.integers(0, 2, x.shape))
    return x, keras.ops.convert_to_numpy(quantizer(x, training=TRAINING[training]))


@pytest.mark.parametrize("training", TRAINING)
@pytest.mark.parametrize("kind", ["kbi", "kif"])
def test_fixed_point_quantisers_keep_zeros(kind, training):
    for rounding, overflow in FIXED:
        if overflow == "WRAP_SM" and training == "training":
            continue  # see below
        config = QuantizerConfig(kind, "weight", round_mode=rounding, overflow_mode=overflow)
        x, y = quantised(Quantizer(config), training)
        assert not y[x == 0].any(), (rounding, overflow)
        assert y.any()


@pytest.mark.parametrize("kind", ["kbi", "kif"])
def test_wrap_sm_moves_zeros_while_training_where_nothing_is_left_of_a_weight(kind):
    """HGQ2's own: unsigned and without a bit, -2**-f while training; zero again in inference."""
    config = QuantizerConfig(kind, "weight", overflow_mode="WRAP_SM")
    quantizer = Quantizer(config)
    x, y = quantised(quantizer, "training")
    inner = quantizer.quantizer
    k, i, f = (keras.ops.convert_to_numpy(one) for one in inner.kif)
    assert set(np.flatnonzero((x == 0) & (y != 0))) <= set(np.flatnonzero(k + i + f <= 0))
    assert not keras.ops.convert_to_numpy(quantizer(x, training=False))[x == 0].any()


@pytest.mark.parametrize("training", ["inference", "training"])
def test_floating_point_quantisers_keep_zeros(training):
    config = QuantizerConfig("float", "weight")
    config.config.pop("is_weight", None)  # HGQ2 0.2.0 hands it to a layer that does not know it
    x, y = quantised(Quantizer(config), training)
    assert not y[x == 0].any()
    assert y.any()


# -- pruned and trained --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODELS)
def test_one_shot_prunes_as_many_as_asked_for_and_zeros_stay(kind):
    model = compiled(MODELS[kind][0])
    report = ap.prune(model, 0.6)
    total = sum(site.kernel().size for site in ap.sites.find(model).sites)
    assert report.table()["weights"].sum() == total
    assert report.sparsity == int(0.6 * total + 0.5) / total
    act_as_zeros(model)
    pruned = [site.kernel() == 0 for site in ap.sites.find(model).sites]
    model.fit(*data(model), epochs=2, verbose=0, callbacks=[ap.KeepPruned()])
    for site, mask in zip(ap.sites.find(model).sites, pruned, strict=True):
        np.testing.assert_array_equal(site.kernel() == 0, mask)
    act_as_zeros(model)
    trace_minmax(model, data(model)[0])
    act_as_zeros(model)


@pytest.mark.parametrize(
    ("criterion", "widths"),
    [("magnitude", "kbi"), ("activation_magnitude", "kif"), ("movement", "kbi")],
)
def test_a_callback_prunes_within_fit(criterion, widths, tmp_path):
    with QuantizerConfigScope(default_q_type=widths):
        model = compiled(small)
    pruner = ap.PruningCallback(ap.schedules.Linear(0.6, begin=0, end=2), criterion)
    history = model.fit(*data(model), epochs=3, verbose=0, callbacks=[pruner]).history
    assert history["sparsity"][-1] == pytest.approx(0.6, abs=1e-3)
    act_as_zeros(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(*(ap.sites.find(m).sites for m in (model, loaded)), strict=True):
        np.testing.assert_array_equal(one.kernel(), other.kernel())


def test_wrapped_layers_compute_with_zeros_too():
    model = small()
    wrapped = ap.wrap(model)
    ap.prune(wrapped, 0.6)
    plain = ap.strip(wrapped)
    assert names(plain) == names(model)
    x = IMAGES[:8]
    np.testing.assert_allclose(
        wrapped.predict(x, verbose=0), plain.predict(x, verbose=0), atol=1e-6
    )
    act_as_zeros(plain)


def test_compaction_leaves_them_as_they_are():
    model = compiled(convolutional)
    ap.prune(model, 0.5, granularity="unit")
    x = IMAGES[:8]
    before = model.predict(x, verbose=0)
    with pytest.warns(UserWarning, match="no unit can be removed"):
        compacted = ap.compact(model)
    np.testing.assert_array_equal(compacted.predict(x, verbose=0), before)
