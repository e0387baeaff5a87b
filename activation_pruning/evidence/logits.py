"""The outputs of a model before their final softmax or sigmoid, and the loss's curvature there."""

from contextlib import AbstractContextManager

import keras
import numpy as np

from activation_pruning import keras_private, sites
from activation_pruning.support.types import Array, Model

_SOFTMAX, _SIGMOID, _LINEAR = "softmax", "sigmoid", "linear"
_LOSSES = {
    "sparse_categorical_crossentropy": _SOFTMAX,
    "categorical_crossentropy": _SOFTMAX,
    "binary_crossentropy": _SIGMOID,
    "mean_squared_error": _LINEAR,
}


class Logits:
    """Where a model's loss is curved: H_L = S S^T, the Hessian of the loss in the logits.

    | loss | logits | S for one sample with K outputs |
    |---|---|---|
    | categorical cross-entropy, sparse or not | before softmax | diag(sqrt p) - p sqrt(p)^T |
    | binary cross-entropy | before sigmoid | diag(sqrt(p (1 - p) / K)) |
    | mean squared error | the outputs | sqrt(2 / K) I |

    None of them depends on the labels. The model is built and compiled; ValueError for another
    loss, several outputs, or logits that cannot be reached.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "softmax")])
        >>> model.compile(loss="categorical_crossentropy")
        >>> logits = Logits(model)
        >>> with logits.shown():
        ...     z = keras.ops.convert_to_numpy(model(np.ones((1, 2))))
        >>> root = logits.root(z)[0]
        >>> np.allclose((root @ root.T).sum(0), 0)  # probabilities sum to 1
        True
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.kind, inside = _kind(model)
        # Where the loss takes probabilities, the last activation makes them of the logits.
        self.layer = None if inside or self.kind == _LINEAR else _last_activation(model, self.kind)

    def shown(self) -> AbstractContextManager[None]:
        """Have the model return its logits."""
        name = "activation" if hasattr(self.layer, "activation") else "call"
        shadow = self.layer, name, lambda x, *args, **kwargs: x
        return keras_private.overridden([] if self.layer is None else [shadow])

    def root(self, logits: Array) -> Array:
        """S for each sample, float64 (samples, K, columns of S), at logits of (samples, K)."""
        if logits.ndim != 2:
            raise ValueError(
                f"model has outputs of shape {logits.shape}; this derivative wants (samples, "
                "outputs). Choose the criterion 'obd_hutchinson', which takes any model."
            )
        z, size = np.asarray(logits, np.float64), logits.shape[1]
        if self.kind == _LINEAR:
            return np.broadcast_to(np.sqrt(2 / size) * np.eye(size), (len(z), size, size))
        if self.kind == _SIGMOID:
            # p (1 - p) = 1 / (2 + e^z + e^-z), which neither rounds to zero nor overflows early.
            curvature = 1 / (2 + np.exp(np.minimum(z, 700)) + np.exp(np.minimum(-z, 700)))
            return np.sqrt(curvature / size)[:, :, None] * np.eye(size)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return np.sqrt(p)[:, None] * (np.eye(size) - p[:, :, None])


def _kind(model):
    """(what makes probabilities of the logits, whether the loss itself does it)."""
    if not model.compiled or model.loss is None:
        raise ValueError("model is not compiled with a loss, whose curvature is asked for")
    if len(keras.tree.flatten(model.loss)) > 1 or len(getattr(model, "outputs", None) or [1]) > 1:
        raise ValueError(
            "model has several outputs or losses; choose 'obd_hutchinson', which takes any model, "
            "or the surgeon 'lobs', which does not look at the loss"
        )
    loss = keras.losses.get(keras.tree.flatten(model.loss)[0])
    name = getattr(getattr(loss, "fn", loss), "__name__", type(loss).__name__)
    config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
    foreign = isinstance(loss, keras.losses.Loss) and not type(loss).__module__.startswith("keras.")
    own = type(model).compute_loss is not keras.Model.compute_loss
    if name not in _LOSSES or foreign or own or config.get("ignore_class") is not None:
        name = "compute_loss of the model" if own else type(loss).__name__ if foreign else name
        raise ValueError(
            f"loss {name!r}: its curvature is not known here, only that of {sorted(_LOSSES)}; "
            "choose the criterion 'obd_hutchinson', which takes any loss"
        )
    return _LOSSES[name], bool(config.get("from_logits", False))


def _last_activation(model, kind):
    """The layer whose activation makes the outputs."""
    last = around = model
    while sites.is_graph(last):
        around = last
        last = keras_private.output_operations(last)[0]
    own = getattr(last, "activation", None)
    softmax_layer = isinstance(last, keras.layers.Softmax) and kind == _SOFTMAX
    if not softmax_layer and getattr(own, "__name__", None) != kind:
        raise ValueError(
            f"the loss takes probabilities, but the model's outputs are not seen to come from a "
            f"{kind} activation (a subclassed model cannot be followed); end a Sequential or "
            "Functional model in one, compile with from_logits=True, or choose 'obd_hutchinson'"
        )
    if keras_private.calls_in_graph(last, sites.operations(around)) > 1:
        raise ValueError(
            f"the last activation, {last.name!r}, is called several times; give the outputs one of "
            "their own, or choose the criterion 'obd_hutchinson'"
        )
    return last
