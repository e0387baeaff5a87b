"""Derivatives with respect to Keras variables, the same call on every backend."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from activation_pruning import keras_private
from activation_pruning.support.types import Array, Arrays


def gradients(
    function: Callable[[], Any],
    variables: Sequence[keras.Variable],
    values: Sequence[Any] | None = None,
    constants: Sequence[tuple[keras.Variable, Any]] = (),
    differentiable: bool = False,
) -> list[Any]:
    """d function() / d variable for each of `variables`.

    Nothing is updated: the function runs in a `keras.StatelessScope`.

    Args:
        function: without arguments; returns a scalar tensor that depends on the variables.
        values: tensors at which to take the derivatives, None for the variables' own values.
        constants: pairs (variable, tensor) that take the place of other variables.
        differentiable: whether the gradients are to be differentiated in their turn.

    Returns a list of tensors in the variables' shapes, zeros where nothing depends on one.

    Example:
        >>> w = keras.Variable([1.0, 2.0])
        >>> gradient, = gradients(lambda: ops.sum(w.value**3), [w])
        >>> ops.convert_to_numpy(gradient).tolist()
        [3.0, 12.0]
    """
    given = [variable.value for variable in variables] if values is None else list(values)

    def evaluate(tensors):
        pairs = [*zip(variables, tensors, strict=True), *constants]
        with keras_private.stateless_scope(pairs):
            return ops.sum(function())

    return _BACKENDS[keras.backend.backend()](evaluate, given, differentiable)


def hessian_product(
    function: Callable[[], Any], variables: Sequence[keras.Variable], vectors: Sequence[Any]
) -> list[Any]:
    """H v = d (g . v) / d w for the Hessian of function() in `variables`, without forming H.

    Args, returns: as for `gradients`; `vectors` are tensors or arrays in the variables' shapes.

    Source: Pearlmutter, "Fast Exact Multiplication by the Hessian", 1994, by reverse over reverse.

    Example:
        >>> w = keras.Variable([1.0, 2.0])
        >>> product, = hessian_product(lambda: ops.sum(w.value**3), [w], [ops.ones(2)])
        >>> ops.convert_to_numpy(product).tolist()
        [6.0, 12.0]
    """
    vectors = [ops.cast(vector, "float32") for vector in vectors]

    def directional():
        found = gradients(function, variables, differentiable=True)
        return sum(ops.sum(ops.cast(g, "float32") * v) for g, v in zip(found, vectors, strict=True))

    return gradients(directional, variables)


def widened(tensor: Any) -> Array:
    """The tensor as a float64 array, in which products lose nothing and don't overflow."""
    return ops.convert_to_numpy(tensor).astype(np.float64)


def checked(found: Arrays, what: str) -> Arrays:
    """{site name: array}, as it is; ValueError, with the name, where one is not finite."""
    for name, values in found.items():
        if not np.isfinite(values).all():
            raise ValueError(
                f"{name}: {what} of the loss are NaN or infinite; lower the learning rate, load "
                "weights from before they diverged, scale the data, or choose another criterion"
            )
    return found


def _tensorflow(evaluate, values, differentiable):
    import tensorflow as tf

    # Fresh tensors: a tape that watched the variables would not tell two of its kind apart.
    tensors = [tf.identity(value) for value in values]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensors)
        result = evaluate(tensors)
    found = tape.gradient(result, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [tf.convert_to_tensor(gradient) for gradient in found]  # rows of an Embedding: sparse


def _torch(evaluate, values, differentiable):
    import torch

    # As they are, where they have a history: that of a derivative around this one.
    tensors = [v if v.requires_grad else v.detach().requires_grad_() for v in values]
    # The fast kernels of attention have no second derivatives.
    plain = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with torch.enable_grad(), plain:
        options = {"create_graph": differentiable, "materialize_grads": True}
        return list(torch.autograd.grad(evaluate(tensors), tensors, **options))


def _jax(evaluate, values, differentiable):
    import jax

    return jax.grad(evaluate)(values)


_BACKENDS = {"tensorflow": _tensorflow, "torch": _torch, "jax": _jax}
