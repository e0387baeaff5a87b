"""GPTQ that keeps zeros against its definition, and against Keras's own."""

import types

import keras
import numpy as np
import pytest

from activation_pruning.surgeons import GPTQ, SparseGPT
from activation_pruning.surgeons.gptq import Grid
from activation_pruning.surgeons.problems import Problem

pytestmark = [pytest.mark.backend, pytest.mark.lowest]


def problem(seed, inputs=12, units=5, rows=60):
    """(H, weights) with inputs that go together."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, inputs)) @ generator.normal(size=(inputs, inputs))
    hessian = x.T @ x / rows
    hessian[np.diag_indices(inputs)] += 0.01 * np.trace(hessian) / inputs
    return hessian, generator.normal(size=(units, inputs))


def error(hessian, before, after):
    gap = after - before
    return np.einsum("ui,ij,uj->", gap, hessian, gap)


def solved(surgeon, hessian, weights, alive, wanted=None):
    """What the surgeon makes of one block, and its grid."""
    one = Problem("a", hessian.copy(), weights.copy(), alive)
    block = surgeon._order(one).of(one, weights.dtype.type)
    if isinstance(surgeon, GPTQ):
        surgeon.grids["a"] = []
    site = types.SimpleNamespace(name="a")
    found, left = surgeon._solved(site, block, alive if wanted is None else wanted, None)
    return found, left


def by_definition(hessian, weights, alive, bits, size, symmetric):
    """Input by input, with the inverse of the Hessian of the inputs left, from scratch."""
    w, new, most = weights.copy(), np.zeros_like(weights), 2**bits - 1
    for i in range(w.shape[1]):
        if i % size == 0:
            group = np.where(alive, w, 0)[:, i : i + size]
            low, high = np.minimum(group.min(1), 0), np.maximum(group.max(1), 0)
            if symmetric:
                high = np.maximum(-low, high)
                low = -high
            low, high = np.where(low == high, -1, low), np.where(low == high, 1, high)
            scale = (high - low) / most
            zero = np.full(len(w), 2.0 ** (bits - 1)) if symmetric else np.rint(-low / scale)
        rounded = scale * (np.clip(np.rint(w[:, i] / scale + zero), 0, most) - zero)
        new[:, i] = np.where(alive[:, i], rounded, 0)
        inverse = np.linalg.inv(hessian[i:, i:])
        gap = (w[:, i] - new[:, i]) / inverse[0, 0]
        w[:, i:] -= gap[:, None] * inverse[0]
    return new


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("bits", "group_size"), [(2, -1), (3, 4), (4, 5), (8, 128)])
@pytest.mark.parametrize("density", [0.4, 1.0])
def test_the_pass_is_its_definition(bits, group_size, symmetric, density):
    hessian, weights = problem(bits)
    alive = np.random.default_rng(1).random(weights.shape) < density
    weights = np.where(alive, weights, 0)
    surgeon = GPTQ(bits=bits, group_size=group_size, symmetric=symmetric, block_size=4)
    found, left = solved(surgeon, hessian, weights, alive)
    size = weights.shape[1] if group_size == -1 else group_size
    wanted = by_definition(hessian, weights, alive, bits, size, symmetric)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    assert (found[~alive] == 0).all()
    np.testing.assert_array_equal(left, alive)
    (grid,) = surgeon.grids["a"]
    read = grid.scales[:, grid.groups] * (
        grid.codes.astype(float) - grid.zeros[:, grid.groups].astype(float)
    )
    np.testing.assert_allclose(read, found, rtol=1e-12, atol=1e-12)
    assert grid.codes.max() < 2**bits


def test_the_largest_inputs_may_come_first():
    hessian, weights = problem(3)
    alive = np.ones(weights.shape, bool)
    order = np.argsort(-np.diagonal(hessian), kind="stable")
    found, _ = solved(GPTQ(group_size=4, activation_order=True), hessian, weights, alive)
    permuted = hessian[np.ix_(order, order)]
    wanted = by_definition(permuted, weights[:, order], alive, 4, 4, False)
    np.testing.assert_allclose(found[:, order], wanted, rtol=1e-9, atol=1e-12)


def kerass(hessian, weights, bits):
    """What Keras's own GPTQ makes of a matrix of (units, inputs)."""
    from keras.src.quantizers.gptq import gptq_quantize_matrix
    from keras.src.quantizers.quantizers import GPTQQuantizer

    config = keras.quantizers.GPTQConfig(None, None, weight_bits=bits, group_size=-1)
    inverse = np.linalg.inv(hessian).astype("float32")
    codes, scale, zero, _ = gptq_quantize_matrix(
        keras.ops.convert_to_tensor(weights.astype("float32")),
        keras.ops.convert_to_tensor(inverse),
        group_size=-1,
        compute_scale_zero=GPTQQuantizer(config).find_params,
    )
    to_numpy = keras.ops.convert_to_numpy
    return to_numpy(scale) * (to_numpy(codes).astype(float) - to_numpy(zero).astype(float))


@pytest.mark.parametrize("bits", [2, 4])
def test_without_zeros_it_is_what_keras_makes_where_that_is_gptq(bits):
    """Keras takes rows of the inverse of H for those of its factor: alike for two inputs at most,

    and where inputs do not go together. (By its definition an input's error is spread with the
    inverse for the inputs that are left.) A unit has weights of either sign: with one sign alone
    the zero points of Keras leave uint8.
    """
    for inputs, diagonal in ((2, False), (12, True)):
        hessian, weights = problem(5, inputs)
        weights = np.abs(weights) * np.resize([1, -1], inputs)
        hessian = np.diag(np.diagonal(hessian)) if diagonal else hessian
        alive = np.ones(weights.shape, bool)
        found, _ = solved(GPTQ(bits=bits, group_size=-1), hessian, weights, alive)
        np.testing.assert_allclose(found, kerass(hessian, weights, bits), rtol=1e-4, atol=1e-5)


def test_where_inputs_go_together_it_errs_less_than_keras():
    for seed in range(5):
        hessian, weights = problem(seed, inputs=40, units=8, rows=200)
        found, _ = solved(GPTQ(group_size=-1), hessian, weights, np.ones(weights.shape, bool))
        own, other = (error(hessian, weights, w) for w in (found, kerass(hessian, weights, 4)))
        assert own < other


@pytest.mark.parametrize("group_size", [-1, 128])
@pytest.mark.parametrize("bits", [2, 4])
def test_pruning_and_rounding_at_once_is_no_worse_than_one_after_the_other(bits, group_size):
    errors = []
    for seed in range(20):
        hessian, weights = problem(seed, inputs=160, units=6, rows=400)
        alive = np.ones(weights.shape, bool)
        wanted = np.argsort(np.argsort(np.abs(weights), axis=1), axis=1) >= 80
        surgeon = GPTQ(bits=bits, group_size=group_size)
        together, left = solved(surgeon, hessian, weights, alive, wanted)
        sparse, kept = solved(SparseGPT(), hessian, weights, alive, wanted)
        after, _ = solved(surgeon, hessian, sparse, kept)
        assert left.sum() == kept.sum() == wanted.sum()
        assert (together[~left] == 0).all()
        errors.append([error(hessian, weights, w) for w in (together, after)])
    errors = np.array(errors)
    # Which weights go is chosen anew in each block of inputs: now and then that is the better luck.
    assert errors[:, 0].sum() < errors[:, 1].sum()
    assert np.count_nonzero(errors[:, 0] <= errors[:, 1]) >= 15


@pytest.mark.parametrize("values", [np.zeros((3, 1)), np.full((3, 1), 1e-30), np.ones((3, 1))])
@pytest.mark.parametrize("symmetric", [False, True])
def test_grids_hold_zero_whatever_the_weights(values, symmetric):
    grid, kept = Grid((1, 3), 4, 3, symmetric), np.array([[True], [False], [True]])
    for own in (values.astype("float32"), -values.astype("float32")):
        found = np.array([grid(i, own, kept)[0] for i in range(3)])
        assert np.isfinite(found).all()
        assert grid.codes[0, 1] == grid.zeros[0, 0]
        grid = Grid((1, 3), 4, 3, symmetric)


def test_bad_options_are_named():
    for options, told in (
        ({"bits": 5}, r"bits=5; it must be one of \(2, 3, 4, 8\)"),
        ({"group_size": 0}, "group_size"),
        ({"symmetric": 1}, "symmetric"),
    ):
        with pytest.raises((ValueError, TypeError), match=told):
            GPTQ(**options)
    hessian, weights = problem(0)
    surgeon, alive = GPTQ(activation_order=True), np.ones(weights.shape, bool)
    one = Problem("a", hessian, weights, alive)
    with pytest.raises(ValueError, match="activation_order False"):
        surgeon._solved(
            types.SimpleNamespace(name="a"), surgeon._order(one).of(one, float), alive, 4
        )
