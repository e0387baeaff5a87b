"""Low-rank and factorized networks against scikit-learn and NumPy."""

import keras
import models
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

import activation_pruning as ap
from activation_pruning.analysis import linalg

L = keras.layers


def mlp(inputs=12):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            L.Dense(10, "relu", name="a"),
            L.Dense(8, "relu", name="b", use_bias=False),
            L.Dense(3, "softmax", name="out"),
        ]
    )


def cnn():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((10, 10, 3)),
            L.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="conv"),
            L.Conv2D(12, (3, 2), dilation_rate=2, name="dilated"),
            L.DepthwiseConv2D(1, name="depthwise"),
            L.Flatten(),
            L.Dense(3, name="out"),
        ]
    )


def kernel(model, name):
    return np.asarray(model.get_layer(name).get_weights()[0])


def inputs_of(model, samples=6):
    shape = (samples, *model.input_shape[1:])
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("rank", [1, 4, 9])
def test_pca_is_scikit_learns(rank, standardize):
    model = mlp()
    reduced = ap.analysis.low_rank(
        model, {"a": rank}, method="pca", standardize=standardize, exclude=()
    )
    matrix = kernel(model, "a").astype("float64")
    scaler = StandardScaler(with_mean=standardize, with_std=standardize).fit(matrix)
    scaled = scaler.transform(matrix)
    pca = PCA(rank).fit(scaled)
    wanted = scaler.inverse_transform(pca.inverse_transform(pca.transform(scaled)))
    np.testing.assert_allclose(kernel(reduced, "a"), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(kernel(reduced, "out"), kernel(model, "out"))


def test_svd_is_the_nearest_matrix():
    model = mlp()
    reduced = ap.analysis.low_rank(model, rank=3, method="svd")
    old, new = kernel(model, "a"), kernel(reduced, "a")
    values = np.linalg.svd(old, compute_uv=False)
    assert np.linalg.matrix_rank(new) == 3
    assert np.linalg.norm(old - new) == pytest.approx(np.sqrt(np.sum(values[3:] ** 2)), rel=1e-4)


def test_convolutions_reduce_filters_by_positions_and_channels():
    model = cnn()
    reduced = ap.analysis.low_rank(model, {"conv": 4})
    matrix = kernel(model, "conv").reshape(-1, 16).T
    pca = PCA(4).fit(matrix)
    wanted = pca.inverse_transform(pca.transform(matrix)).T.reshape(3, 3, 3, 16)
    np.testing.assert_allclose(kernel(reduced, "conv"), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["pca", "svd"])
@pytest.mark.parametrize("make", [mlp, cnn])
def test_full_rank_changes_nothing(make, method):
    model = make()
    full = {
        row["layer"]: min(row["rows"], row["columns"])
        for _, row in ap.analysis.norms(model, exclude="out").iterrows()
    }
    reduced = ap.analysis.low_rank(model, full, method=method)
    for old, new in zip(model.get_weights(), reduced.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("energy", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("method", ["pca", "svd"])
def test_energy_takes_the_fewest_components(energy, method):
    values = linalg.decompose(kernel(mlp(), "a"), method)[2][1]
    share = np.cumsum(values**2) / np.sum(values**2)
    r = linalg.components_for(values, energy)
    assert share[r - 1] >= energy - 1e-9
    assert r == 1 or share[r - 2] < energy
    if method == "svd":
        reduced = ap.analysis.low_rank(mlp(), energy=energy, method=method)
        assert np.linalg.matrix_rank(kernel(reduced, "a")) == r


def test_like_takes_the_ranks_of_a_pruned_copy():
    model, pruned = mlp(), mlp()
    ap.prune(pruned, 0.8, granularity="unit")
    reduced = ap.analysis.low_rank(model, like=pruned, method="svd")
    ranks = ap.analysis.norms(pruned)["rank"].tolist()
    assert ranks[0] < 10
    assert ap.analysis.norms(reduced)["rank"].tolist() == ranks


@pytest.mark.parametrize("method", ["pca", "svd"])
@pytest.mark.parametrize("make", [mlp, cnn, models.one_dimensional, models.nested, models.shared])
def test_factorized_gives_the_outputs_of_low_rank(make, method):
    model = make()
    wanted = ap.analysis.low_rank(model, energy=0.3, method=method, exclude=())
    found = ap.analysis.factorize(model, energy=0.3, method=method, exclude=())
    x = [
        np.random.default_rng(0).normal(size=(5, *tensor.shape[1:])).astype("float32")
        for tensor in model.inputs
    ]
    x = x if len(x) > 1 else x[0]
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(found(x)),
        keras.ops.convert_to_numpy(wanted(x)),
        rtol=1e-4,
        atol=1e-5,
    )
    assert found.count_params() <= model.count_params()


def test_factorizing_saves_the_weights_it_promises():
    model = cnn()
    small = ap.analysis.factorize(model, rank={"conv": 2, "dilated": 3}, method="svd")
    assert small.get_layer("conv").count_params() == 2 * (27 + 16) + 16
    assert small.get_layer("dilated").count_params() == 3 * (6 * 16 + 12) + 12
    assert small.get_layer("depthwise").count_params() == 2 * 12


def test_a_kernel_that_would_grow_stays_whole():
    small = ap.analysis.factorize(mlp(), rank={"a": 6}, method="svd")  # 6 * 22 > 120
    assert isinstance(small.get_layer("a"), L.Dense)
    assert np.linalg.matrix_rank(kernel(small, "a")) == 6


def test_copies_are_compiled_and_train(tmp_path):
    model = models.compiled(mlp(6))
    x, y = models.data()
    for make in (ap.analysis.low_rank, ap.analysis.factorize):
        copy = make(model, energy=0.5)
        copy.fit(x, y, verbose=0)
        copy.save(tmp_path / "m.keras")
        np.testing.assert_array_equal(
            keras.saving.load_model(tmp_path / "m.keras").predict(x, verbose=0),
            copy.predict(x, verbose=0),
        )


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.last = L.Dense(8, name="first"), L.Dense(2, name="last")

    def call(self, x):
        return self.last(self.first(x))


def test_subclassed_models_are_copied_and_not_changed():
    model = Subclassed()
    model(np.zeros((1, 6)))
    before = [w.copy() for w in model.get_weights()]
    reduced = ap.analysis.low_rank(model, rank=2, method="svd")
    assert ap.analysis.norms(reduced)["rank"].tolist() == [2, 2]
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(TypeError, match="subclassed Subclassed"):
        ap.analysis.factorize(model, rank=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 11}, r"rank=11 for kernel 'a/kernel': its matrix is 12 x 10.*\[0, 10\]"),
        ({"rank": -1}, "rank=-1"),
        ({"rank": 2.5}, "rank=2.5"),
        ({"rank": {"c": 2}}, r"rank=\['c'\] names no kernel"),
        ({"energy": 0}, r"energy=0; it must be a share in \(0, 1\]"),
        ({"energy": 1.1}, "energy=1.1"),
        ({"energy": float("nan")}, "energy=nan"),
        ({"energy": 0.9, "method": "qr"}, "method='qr'"),
        ({"energy": 0.9, "method": "svd", "standardize": True}, "standardize=True"),
        ({}, "exactly one"),
        ({"energy": 0.9, "rank": 2}, "exactly one"),
        ({"energy": 0.9, "include": "z"}, "include='z'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ap.analysis.low_rank(mlp(), **arguments)
    with pytest.raises(ValueError, match=message):
        ap.analysis.factorize(mlp(), **arguments)


def test_wrapped_models_are_refused():
    model = mlp()
    ap.prune(model, 0.5)
    with pytest.raises(ValueError, match=r"ap\.strip it"):
        ap.analysis.low_rank(ap.wrap(model), rank=2)


def test_the_rank_of_a_short_dtype_is_by_its_own_rounding():
    random = np.random.default_rng(0)
    low = (random.normal(size=(30, 3)) @ random.normal(size=(3, 10))).astype("float32")
    layer = L.Dense(10, use_bias=False, dtype="bfloat16")
    model = keras.Sequential([keras.Input((30,)), layer])
    model.set_weights([low])
    assert ap.analysis.norms(model)["rank"].tolist() == [3]


def test_factors_that_would_not_be_smaller_are_told():
    """60 weights in 12 x 5 need fewer than 60 / 17 = 3.53 components; 4 give 68 weights."""
    model = keras.Sequential([keras.Input((12,)), L.Dense(5, name="a"), L.Dense(3, name="out")])
    with pytest.warns(UserWarning, match=r"not made of two factors: 'a/kernel' \(rank 4 of 12 x 5"):
        found = ap.analysis.factorize(model, 4, method="svd")
    assert found.count_params() == model.count_params()
    assert np.linalg.matrix_rank(kernel(found, "a")) == 4
    with pytest.warns(UserWarning, match="keeps its full rank"):
        found = ap.analysis.factorize(model, 5, method="svd")
    np.testing.assert_array_equal(kernel(found, "a"), kernel(model, "a"))


def test_a_kernel_that_others_use_stays_in_one_piece():
    dense = L.Dense(50, name="a")
    inputs = keras.Input((60,))
    tied = L.Lambda(lambda x: keras.ops.matmul(x, keras.ops.transpose(dense.kernel)), name="tied")
    model = keras.Model(inputs, tied(dense(inputs)))
    with pytest.warns(UserWarning, match="no other layer shares"):
        found = ap.analysis.factorize(model, 2, method="svd", exclude=())
    x = np.random.default_rng(0).normal(size=(4, 60)).astype("float32")
    u, s, v = np.linalg.svd(kernel(model, "a").astype("float64"), full_matrices=False)
    low = u[:, :2] * s[:2] @ v[:2]
    np.testing.assert_allclose(found.predict(x, verbose=0), x @ low @ low.T, atol=1e-4)


@pytest.mark.parametrize("options", [{"rank": True}, {"energy": True}, {"rank": {"a": True}}])
def test_truth_values_are_no_numbers(options):
    with pytest.raises(ValueError, match="True"):
        ap.analysis.low_rank(mlp(), **options)
