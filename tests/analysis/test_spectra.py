"""Spectra, norms and comparisons against SciPy, on every kind of layer."""

import keras
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import activation_pruning as ap
from activation_pruning.evidence import spectrum

L = keras.layers


def model_of(*layers, shape):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(shape), *layers])


def values_of(table):
    return table["value"].to_numpy()


def conv(kernel):
    """filters x (positions * channels), written out."""
    filters = kernel.shape[-1]
    return np.array([kernel[..., f].ravel() for f in range(filters)])


UNFOLDED = {
    "dense": (L.Dense(5), (7,), lambda k: [k]),
    "conv1d": (L.Conv1D(4, 3), (9, 2), lambda k: [conv(k)]),
    "conv2d": (L.Conv2D(5, (2, 3)), (8, 8, 3), lambda k: [conv(k)]),
    "conv3d": (L.Conv3D(3, 2), (4, 4, 4, 2), lambda k: [conv(k)]),
    "one filter": (L.Conv2D(1, 3), (8, 8, 3), lambda k: [conv(k)]),
    "transpose": (
        L.Conv2DTranspose(5, 2),
        (4, 4, 3),
        lambda k: [np.array([k[:, :, f, :].ravel() for f in range(5)])],
    ),
    "groups": (
        L.Conv2D(6, 2, groups=3),
        (4, 4, 9),
        lambda k: [conv(k[..., 2 * g : 2 * g + 2]) for g in range(3)],
    ),
    "depthwise": (
        L.DepthwiseConv2D(3, depth_multiplier=2),
        (8, 8, 4),
        lambda k: [k[:, :, c, :].reshape(9, 2).T for c in range(4)],
    ),
    "embedding": (L.Embedding(11, 6), (3,), lambda k: [k]),
    "lstm": (L.LSTM(3), (5, 4), lambda k: [k]),
    "einsum": (
        L.EinsumDense("abc,cde->abde", (None, 3, 4)),
        (2, 5),
        lambda k: [k.reshape(5, 12)],
    ),
}


@pytest.mark.parametrize("kind", UNFOLDED)
def test_values_are_scipys(kind):
    layer, shape, matrices = UNFOLDED[kind]
    layer = type(layer).from_config(layer.get_config())
    model = model_of(layer, shape=shape)
    table = ap.analysis.spectra(model)
    first = table[table["site"] == table["site"].iloc[0]]
    kernel = ap.sites.find(model, exclude=()).sites[0].kernel().astype("float64")
    wanted = np.concatenate([scipy.linalg.svdvals(matrix) for matrix in matrices(kernel)])
    np.testing.assert_allclose(values_of(first), np.sort(wanted)[::-1], rtol=1e-5)
    assert first["block"].nunique() == len(matrices(kernel))


def test_separable_has_two_kernels():
    model = model_of(L.SeparableConv2D(4, 3), shape=(8, 8, 3))
    table = ap.analysis.norms(model)
    assert table[["blocks", "rows", "columns"]].to_numpy().tolist() == [[3, 1, 9], [1, 4, 3]]


@settings(deadline=None, max_examples=200)
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 7), st.integers(1, 7)),
        elements=st.floats(-1e6, 1e6, width=32) | st.just(0.0) | st.just(1.0),
    )
)
def test_sum_rule_and_scipy(matrix):
    values = spectrum.singular_values(matrix)
    wanted = scipy.linalg.svdvals(matrix.astype("float64"))
    assert values.shape == (min(matrix.shape),)
    assert np.all(np.diff(values) <= 0)
    # Below 1e-9 of the largest one there is nothing but rounding in either.
    np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-9 * (wanted[0] + 1e-300))
    square = np.sum(matrix.astype("float64") ** 2)
    np.testing.assert_allclose(np.sum(values**2), square, rtol=1e-9)


@pytest.mark.parametrize("smallest", [1e-2, 1e-4, 1e-6])
def test_small_values_are_not_lost_in_the_squares(smallest):
    random = np.random.default_rng(0)
    u, _ = np.linalg.qr(random.normal(size=(40, 30)))
    v, _ = np.linalg.qr(random.normal(size=(30, 30)))
    wanted = np.geomspace(1, smallest, 30)
    np.testing.assert_allclose(spectrum.singular_values(u * wanted @ v), wanted, rtol=1e-7)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_extreme_scales_neither_vanish_nor_overflow(scale):
    values = spectrum.singular_values(np.diag([3.0, 4.0]) * scale)
    np.testing.assert_allclose(values, np.array([4.0, 3.0]) * scale)


def test_pruned_units_are_exact_zeros():
    matrix = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    matrix[:, [1, 3]] = 0
    values = spectrum.singular_values(matrix)
    assert values[3:].tolist() == [0, 0]
    assert values[2] > 0


def test_norms_of_a_matrix_known_by_heart():
    model = model_of(L.Dense(3, name="a"), shape=(4,))
    kernel = np.zeros((4, 3))
    kernel[0, 0], kernel[1, 1] = 3, 4
    model.layers[0].set_weights([kernel, np.zeros(3)])
    row = ap.analysis.norms(model).iloc[0]
    assert row[["spectral", "frobenius", "nuclear", "rank"]].tolist() == pytest.approx([4, 5, 7, 2])
    assert row["stable_rank"] == pytest.approx(25 / 16)
    p = np.array([4, 3]) / 7
    assert row["effective_rank"] == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert row["condition_number"] == np.inf
    assert row["sparsity"] == pytest.approx(10 / 12)


def test_a_kernel_of_zeros_has_rank_zero():
    model = model_of(L.Dense(3, kernel_initializer="zeros"), shape=(4,))
    row = ap.analysis.norms(model).iloc[0]
    assert row[["spectral", "rank", "stable_rank", "effective_rank"]].tolist() == [0, 0, 0, 0]
    assert ap.analysis.spectra(model)["relative"].tolist() == [0, 0, 0]


def test_rank_is_numpys():
    random = np.random.default_rng(1)
    model = model_of(L.Dense(20), shape=(30,))
    low = random.normal(size=(30, 7)) @ random.normal(size=(7, 20))
    model.layers[0].set_weights([low, np.zeros(20)])
    kernel = model.layers[0].get_weights()[0]
    assert ap.analysis.norms(model)["rank"].tolist() == [np.linalg.matrix_rank(kernel)] == [7]


def test_compare_gives_differences_and_the_norms_of_the_difference():
    model = model_of(L.Dense(5, name="a"), L.Dense(2, name="b"), shape=(7,))
    pruned = keras.models.clone_model(model)
    pruned.set_weights(model.get_weights())
    ap.prune(pruned, 0.6, include="a")
    table = ap.analysis.compare(model, pruned).set_index(["layer", "norm"])
    old, new = model.layers[0].get_weights()[0], pruned.layers[0].get_weights()[0]
    row = table.loc[("a", "nuclear")]
    before, after = (np.linalg.norm(k.astype("float64"), "nuc") for k in (old, new))
    wanted = [before, after, after - before, after / before]
    assert row[["before", "after", "difference", "ratio"]].tolist() == pytest.approx(wanted)
    assert table.loc[("a", "difference_spectral"), "after"] == pytest.approx(
        np.linalg.norm((new - old).astype("float64"), 2)
    )
    assert (table.loc["b", "ratio"].drop("difference_spectral") >= 0).all()
    assert table.loc[("b", "difference_frobenius"), "after"] == 0


def test_different_architectures_are_refused():
    model = model_of(L.Dense(5, name="a"), shape=(7,))
    with pytest.raises(ValueError, match="'a/kernel' has shape"):
        ap.analysis.compare(model, model_of(L.Dense(6, name="a"), shape=(7,)))
    deeper = model_of(L.Dense(5, name="a"), L.Dense(5, name="b"), shape=(7,))
    with pytest.raises(ValueError, match="1 and 2 kernels; 'b/kernel'"):
        ap.analysis.compare(model, deeper)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value):
    model = model_of(L.Dense(5, name="a"), shape=(7,))
    kernel = model.layers[0].get_weights()
    kernel[0][1, 2] = value
    model.layers[0].set_weights(kernel)
    for look in (ap.analysis.spectra, ap.analysis.norms):
        with pytest.raises(ValueError, match=f"'a' holds 1 weights that are not finite .{value}"):
            look(model)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = keras.Sequential([keras.Input((4,)), L.Dense(3, name="first")])
        self.last = L.Dense(2)

    def call(self, x):
        return self.last(self.inner(x))


def test_nested_and_subclassed_models_are_left_as_they_are():
    model = Subclassed()
    model(np.zeros((1, 4)))
    before = [w.copy() for w in model.get_weights()]
    assert len(ap.analysis.norms(model)) == 2
    ap.analysis.spectra(model)
    ap.analysis.compare(model, model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50"])
def test_networks_of_keras_applications(name):
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3))
    before = [w.tobytes() for w in model.get_weights()]
    table = ap.analysis.norms(model)
    assert len(table) == sum(len(w.shape) > 1 for w in model.trainable_weights)
    assert np.isfinite(table["nuclear"]).all()
    assert [w.tobytes() for w in model.get_weights()] == before
