"""Sparse inputs are seen as the dense arrays that they stand for."""

import keras
import models
import numpy as np
import pytest
import scipy.sparse

import activation_pruning as ap
from activation_pruning import sites
from activation_pruning.evidence import batches, gathering

pytestmark = pytest.mark.backend
X, Y = models.data(samples=40)
X = np.maximum(X, 0)  # half of it zeros


def of_backend(x):
    """The backend's own sparse tensor; PyTorch's are not taken by Keras."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.sparse.from_dense(x)
    if keras.backend.backend() == "jax":
        from jax.experimental import sparse

        return sparse.BCOO.fromdense(x)
    pytest.skip("Keras has no sparse tensors on PyTorch")


KINDS = {"csr": scipy.sparse.csr_matrix, "coo": scipy.sparse.coo_array, "backend": of_backend}


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_those_of_dense_arrays(kind):
    sparse, model = KINDS[kind], models.mlp()
    whole, parts = sparse(X), [sparse(X[:16]), sparse(X[16:])]
    for data in (whole, (whole, Y), parts, [(part, None) for part in parts]):
        found = list(batches.inputs_of(data, 16, model))
        assert [len(x) for x in found][:1] == [16]
        np.testing.assert_array_equal(np.concatenate(found), X)
    pairs = list(batches.pairs_of((whole, Y), 16, model))
    pairs += batches.pairs_of(list(zip(parts, (Y[:16], Y[16:]), strict=True)), 16, model)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in pairs]), np.tile(X, (2, 1)))
    np.testing.assert_array_equal(np.concatenate([y for _, y in pairs]), np.tile(Y, 2))
    assert batches.count(whole, 16, model) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_those_of_numpy(kind):
    model = models.mlp()
    kernel, bias = (keras.ops.convert_to_numpy(v) for v in model.layers[0].trainable_variables)
    live = sites.find(model).sites
    found = gathering.observe(model, live, KINDS[kind](X))[live[0].name]
    assert found.samples == 40
    np.testing.assert_allclose(found.frequency, (X @ kernel + bias > 0).mean(0), atol=1e-6)


@pytest.mark.parametrize("criterion", ["wanda", "taylor", "lobs"])
def test_what_is_pruned_is_the_same(criterion):
    found = []
    for x in (X, scipy.sparse.csr_matrix(X)):
        keras.utils.set_random_seed(0)
        model = models.compiled(models.mlp())
        ap.prune(model, 0.5, criterion, data=(x, Y), verbose=0)
        found.append(model.get_weights())
    for dense, sparse in zip(*found, strict=True):
        np.testing.assert_allclose(sparse, dense, atol=1e-6)
