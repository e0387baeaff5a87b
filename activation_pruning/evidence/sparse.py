"""Sparse inputs as the dense arrays that they stand for, a batch at a time."""

from typing import Any

import keras


def dense(batch: Any) -> Any:
    """The batch, with arrays in the place of what is sparse in it, of SciPy or the backend.

    Example:
        >>> import numpy as np, scipy.sparse
        >>> dense({"x": scipy.sparse.eye(2), "y": np.ones(1)})
        {'x': array([[1., 0.],
               [0., 1.]]), 'y': array([1.])}
    """
    return keras.tree.map_structure(_as_array, batch)


def sliceable(leaf: Any) -> Any:
    """Sparse inputs in a form that has rows; all else as it is.

    Example:
        >>> import scipy.sparse
        >>> sliceable(scipy.sparse.coo_array([[1, 0], [0, 2]]))[1:].toarray()
        array([[0, 2]])
    """
    if hasattr(leaf, "tocsr"):  # of SciPy
        return leaf.tocsr()
    return leaf if hasattr(leaf, "__getitem__") else _as_array(leaf)  # TensorFlow's has none


def _as_array(leaf):
    if hasattr(leaf, "toarray"):  # of SciPy
        return leaf.toarray()
    sparse = hasattr(leaf, "todense") or type(leaf).__name__ == "SparseTensor"  # JAX, TensorFlow
    return keras.ops.convert_to_numpy(leaf) if sparse else leaf
