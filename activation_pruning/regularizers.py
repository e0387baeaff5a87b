"""Regularizers that act on the singular values of a kernel."""

import warnings
from typing import Any

import keras
from keras import ops

from activation_pruning import keras_private
from activation_pruning.callbacks.base import AttachedCallback
from activation_pruning.support import names
from activation_pruning.support.checks import check_number, is_integer, is_number
from activation_pruning.support.shown import shown

_EPS = 1.1920929e-07  # of float32, in which the singular values are found


@keras.saving.register_keras_serializable(package="activation_pruning")
class NuclearNorm(keras.regularizers.Regularizer):
    """Penalise the sum of a kernel's singular values, which lowers its rank.

    penalty = strength * sum_i c_i s_i, where s_1 >= s_2 >= ... are the singular values of the
    kernel as a matrix (all axes but the last) x (last axis), and c_i = 1 ("none") or c_i = i
    ("index": the smaller the value, the harder it is pressed). Gradient: strength * U diag(c) V^T
    over the values above s_1 * max(rows, columns) * eps; directions below get 0, a subgradient,
    so it is always finite. Each training step costs an SVD of the kernel. On TensorFlow compile
    with `jit_compile=False`: XLA's own SVD is slower by orders of magnitude on a CPU.

    Args:
        strength: factor of the penalty, at least 0.
        weighting: "none" or "index".
        start_when: None for at once; else a whole number of epochs or a training accuracy in
            (0, 1) to wait for, which needs `Starter` among the callbacks.

    Raises:
        ValueError: for an argument out of its range.

    Source: Fazel, Hindi & Boyd, "A rank minimization heuristic", ACC 2001; the subgradient is
    that of Watson, Linear Algebra and its Applications 170, 1992.

    Example:
    >>> import numpy as np
    >>> from activation_pruning.regularizers import NuclearNorm
    >>> float(NuclearNorm(0.5)(np.diag([3.0, 4.0]).astype("float32")))
    3.5
    """

    def __init__(
        self, strength: float = 1e-4, weighting: str = "none", start_when: float | None = None
    ) -> None:
        check_number("strength", strength, 0)
        if weighting not in ("none", "index"):
            raise ValueError(f"weighting={shown(weighting)}; choose 'none' or 'index'")
        epochs = is_integer(start_when) and start_when >= 0
        level = is_number(start_when) and 0 < start_when < 1
        if not (start_when is None or epochs or level):
            raise ValueError(
                f"start_when={shown(start_when)}; give None, a whole number of epochs of at least "
                "0, or a training accuracy in (0, 1)"
            )
        self.strength, self.weighting = float(strength), weighting
        self.start_when, self.active, self.followed = start_when, start_when is None, False

    def __repr__(self) -> str:
        return names.called(self)

    def __call__(self, x: Any) -> Any:
        """The penalty of a kernel, a scalar of its own dtype or float32 where that is shorter."""
        if not self.active:
            if not self.followed:
                warnings.warn(
                    f"NuclearNorm(start_when={shown(self.start_when)}) does nothing yet: add "
                    "activation_pruning.regularizers.Starter() to the callbacks of fit",
                    stacklevel=2,
                )
            return ops.zeros((), "float32")
        x = ops.convert_to_tensor(x)
        if keras.backend.standardize_dtype(x.dtype) != "float64":
            x = ops.cast(x, "float32")
        x = ops.reshape(x, (-1, x.shape[-1]))
        # sum c_i s_i = <U diag(c) V^T, x>, so with the factors held constant the gradient of the
        # product is U diag(c) V^T: nothing is differentiated through the SVD.
        u, values, v = ops.svd(ops.stop_gradient(x), full_matrices=False)
        kept = ops.cast(values > values[0] * (max(x.shape) * _EPS), x.dtype)
        if self.weighting == "index":
            kept = kept * ops.arange(1, kept.shape[0] + 1, dtype=x.dtype)
        return self.strength * ops.sum(ops.stop_gradient(ops.matmul(u * kept, v)) * x)

    def get_config(self) -> dict[str, Any]:
        # What has started stays so, in copies and in saved models as well.
        start_when = None if self.active else self.start_when
        return {"strength": self.strength, "weighting": self.weighting, "start_when": start_when}


class Starter(AttachedCallback):
    """Start the `NuclearNorm(start_when=...)` regularizers of a model when their time has come.

    Looks at the end of each epoch; those waiting for an accuracy start after the epoch whose
    `monitor` has reached it. What has started stays so in later fits.

    Args:
        monitor: name of the training accuracy in the logs of `fit`.

    Raises:
        ValueError: at the start of `fit`, for a model without such regularizers; at the end of
            an epoch, when `monitor` is not in the logs.

    Example:
    >>> import keras, numpy as np
    >>> from activation_pruning.regularizers import NuclearNorm, Starter
    >>> penalty = NuclearNorm(0.1, start_when=1)
    >>> model = keras.Sequential([keras.Input((4,)),
    ...                           keras.layers.Dense(3, kernel_regularizer=penalty)])
    >>> model.compile("sgd", "mse", jit_compile=False)
    >>> history = model.fit(np.zeros((8, 4)), np.zeros((8, 3)), epochs=2, verbose=0,
    ...                     callbacks=[Starter()])
    >>> history.history["loss"][0], history.history["loss"][1] > 0
    (0.0, True)
    """

    def __init__(self, monitor: str = "accuracy") -> None:
        super().__init__(exclude=())
        self.monitor = monitor
        self._waiting: list[NuclearNorm] = []

    def _attach(self, hooks):
        held = [site.variable.regularizer for site in self._sites]
        found = [penalty for penalty in held if isinstance(penalty, NuclearNorm)]
        self._waiting = [penalty for penalty in found if not penalty.active]
        if not any(penalty.start_when is not None for penalty in found):
            raise ValueError("Starter: the model has no NuclearNorm(start_when=...) regularizer")
        for penalty in found:
            penalty.followed = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start(epoch, None)  # an epoch to start at may be behind a resumed training

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._start(epoch + 1, logs or {})

    def _due(self, penalty, epochs, logs):
        if is_integer(penalty.start_when):
            return epochs >= penalty.start_when
        if logs is None:  # before training
            return False
        if self.monitor not in logs:
            raise ValueError(
                f"monitor={shown(self.monitor)} is not among the metrics of this fit: "
                f"{sorted(logs)}; add it to compile(metrics=[...]) or name one of these"
            )
        return logs[self.monitor] >= penalty.start_when

    def _start(self, epochs, logs):
        """Start what is due after so many epochs."""
        for penalty in self._waiting:
            penalty.active = bool(self._due(penalty, epochs, logs))
        left = [penalty for penalty in self._waiting if not penalty.active]
        if len(left) < len(self._waiting):
            keras_private.forget_traces(self.model)
        self._waiting = left
