"""Layers whose kernels are functions of other weights, which training moves in their place."""

from typing import Any

import keras
from keras import ops

from activation_pruning.allocations import rounded
from activation_pruning.hooks.masking import masked
from activation_pruning.keras_private import wrapped
from activation_pruning.layers.kernel_wrapper import KernelWrapper, precision
from activation_pruning.support.checks import check_count, check_number, check_sparsity
from activation_pruning.support.types import Array


class Reparameterized(KernelWrapper):
    """A layer that acts with kernels w = f(v), while training moves v: the base of those below.

    v starts where w is the kernel that the layer holds when it is built. `ap.strip` makes plain
    layers of it that hold w. `sites.find`, criteria, `ap.prune` and the callbacks see w; criteria
    that look at the loss get its derivatives by v, so strip first for those.
    """

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        for name, site in self._kernels.items():
            self._add_own(name, site.variable)
            if not wrapped.start_from(site.variable, self.inverse):
                raise ValueError(
                    f"layer={self.layer.name!r} is built, but its wrapper {self.name!r} only in "
                    f"the call of a layer around it; build that before: {self.name}.build(shape)"
                )

    def _add_own(self, name, variable):
        """Make what f needs besides v."""

    def inverse(self, kernel: Any) -> Any:
        """The v for which w is `kernel`, a tensor, at the start; zeros for zeros."""
        return kernel

    def acting_of(self, variable: keras.Variable) -> Array:
        values = self.acting(self._name_of(variable), ops.convert_to_tensor(variable))
        return ops.convert_to_numpy(values) + 0  # of -0.0, too


class _Decay(keras.regularizers.Regularizer):
    """decay / 2 * s^2, whose gradient is decay * s; made by its layer, never saved by itself."""

    def __init__(self, decay):
        self.decay = decay

    def __call__(self, variable):
        paid = self.decay / 2 * ops.sum(ops.square(variable))
        # TensorFlow adds up losses of one dtype only.
        return ops.cast(paid, "float64" if keras.config.floatx() == "float64" else "float32")


@keras.saving.register_keras_serializable(package="activation_pruning")
class SoftThresholdLayer(Reparameterized):
    """Weights under a threshold that is learned are exact zeros, all others nearer to zero: STR.

    w = sign(v) relu(|v| - g), g = sigmoid(s), with one s for each kernel of the layer. Training
    moves v and s; a weight under the threshold gets no gradient, and comes back when the threshold
    falls. What makes the threshold rise is the decay of s: under plain SGD a step takes
    learning_rate * decay * s off s, so that from -10 (g = 0.00005) to -3 (g = 0.05) it takes
    1.2 / (learning_rate * decay) steps. Under an optimizer with weight_decay=, which reaches s as
    well, as in the paper, give decay=0. `ap.LearnedSparsity()` shows in `fit` what it comes to.

    Args:
        layer: the layer to wrap; it must hold at least one prunable kernel once built.
        decay: weight decay of s, at least 0: decay / 2 * s^2 joins the losses of the model.
        initial: s at the start, a finite number; weights below sigmoid(initial) are zeros then.

    Raises:
        ValueError: for an argument out of its range, or a layer without a prunable kernel.

    Source: Kusupati et al., "Soft Threshold Weight Reparameterization for Learnable Sparsity", ICML
    2020 (arXiv:2002.03231), equations 5 to 7.

    Example:
        >>> import keras, numpy as np, activation_pruning as ap
        >>> layer = ap.SoftThresholdLayer(keras.layers.Dense(1, use_bias=False), initial=0.0)
        >>> _ = layer(np.ones((1, 2)))
        >>> layer.layer.set_weights([np.array([[0.25], [-1.5]])])
        >>> layer.thresholds(), keras.ops.convert_to_numpy(layer(np.ones((1, 2)))).tolist()
        ({'kernel': 0.5}, [[-1.0]])
    """

    def __init__(
        self, layer: keras.Layer, decay: float = 1e-4, initial: float = -10.0, **kwargs: Any
    ) -> None:
        check_number("decay", decay, 0, "weight decay of s, 0.0001 as a rule")
        check_number("initial", initial, hint="s at the start, -10 as a rule")
        kwargs.setdefault("name", f"soft_threshold_{layer.name}")
        super().__init__(layer, **kwargs)
        self.decay, self.initial = float(decay), float(initial)
        self._s: dict[str, keras.Variable] = {}

    def _add_own(self, name, variable):
        self._s[name] = self.add_weight(
            (), keras.initializers.Constant(self.initial), precision(variable),
            autocast=False, regularizer=_Decay(self.decay), name=f"{name}_s",
        )  # fmt: skip

    def inverse(self, kernel: Any) -> Any:
        return kernel + ops.sign(kernel) * ops.cast(ops.sigmoid(self.initial), kernel.dtype)

    def acting(self, name: str, values: Any, training: bool = False) -> Any:
        threshold = ops.cast(ops.sigmoid(ops.convert_to_tensor(self._s[name])), values.dtype)
        return ops.sign(values) * ops.relu(ops.abs(values) - threshold)

    def thresholds(self) -> dict[str, float]:
        """{kernel: g now}, of a layer that is built."""
        return {name: float(ops.convert_to_numpy(ops.sigmoid(s))) for name, s in self._s.items()}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay": self.decay, "initial": self.initial}


@keras.saving.register_keras_serializable(package="activation_pruning")
class PowerpropagationLayer(Reparameterized):
    """Small weights learn slowly, large ones fast, so that more of them end up near zero.

    w = v |v|^(alpha - 1), so that the gradient of v is alpha |v|^(alpha - 1) times that of w. It
    prunes nothing by itself: prune by magnitude, while it trains or after `ap.strip`. A weight
    that is zero stays zero.

    Args:
        layer: the layer to wrap; it must hold at least one prunable kernel once built.
        alpha: above 1, which would be the plain layer; the larger, the more weights near zero.

    Raises:
        ValueError: for an argument out of its range, or a layer without a prunable kernel.

    Source: Schwarz et al., "Powerpropagation: A sparsity inducing weight reparameterisation",
    NeurIPS 2021 (arXiv:2110.00296), section 2.

    Example:
        >>> import keras, numpy as np, activation_pruning as ap
        >>> layer = ap.PowerpropagationLayer(keras.layers.Dense(1, use_bias=False), alpha=3.0)
        >>> _ = layer(np.ones((1, 2)))
        >>> layer.layer.set_weights([np.array([[0.5], [-1.0]])])
        >>> keras.ops.convert_to_numpy(layer(np.ones((1, 2)))).tolist()
        [[-0.875]]
    """

    def __init__(self, layer: keras.Layer, alpha: float = 2.0, **kwargs: Any) -> None:
        check_number("alpha", alpha, above=1, hint="2 as a rule; 1 is the plain layer")
        kwargs.setdefault("name", f"power_{layer.name}")
        super().__init__(layer, **kwargs)
        self.alpha = float(alpha)

    def inverse(self, kernel: Any) -> Any:
        return ops.sign(kernel) * ops.abs(kernel) ** (1 / self.alpha)

    def acting(self, name: str, values: Any, training: bool = False) -> Any:
        size = ops.abs(values)
        # Of a zero the power has no derivative.
        safe = ops.where(size > 0, size, ops.ones_like(size))
        return ops.where(size > 0, values * safe ** (self.alpha - 1), ops.zeros_like(values))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}


@keras.saving.register_keras_serializable(package="activation_pruning")
class StraightThroughLayer(Reparameterized):
    """The smallest weights act as zeros, but learn on, and may come back: straight-through masks.

    w = v * mask; the gradient of v is that of w, for masked weights too. The mask spares the
    largest |v| of each kernel and is chosen anew every so many training steps, from the first on:
    k = floor(sparsity * n + 0.5) of its n weights are masked, of equal ones those with the higher
    index, never all. Before the first training step nothing is.

    Args:
        layer: the layer to wrap; it must hold at least one prunable kernel once built.
        sparsity: of each kernel, in [0, 1).
        every: training steps (calls with `training=True`) from one choice to the next, at least 1.

    Raises:
        ValueError: for an argument out of its range, or a layer without a prunable kernel.

    Source: Bengio et al. 2013 (arXiv:1308.3432) for the gradient; Zhou et al., ICLR 2021
    (arXiv:2102.04010), section 4.1, for masks by magnitude.

    Example:
        >>> import keras, numpy as np, activation_pruning as ap
        >>> layer = ap.StraightThroughLayer(keras.layers.Dense(1, use_bias=False), sparsity=0.5)
        >>> _ = layer(np.ones((1, 2)))
        >>> layer.layer.set_weights([np.array([[0.25], [-1.5]])])
        >>> keras.ops.convert_to_numpy(layer(np.ones((1, 2)), training=True)).tolist()
        [[-1.5]]
    """

    def __init__(self, layer: keras.Layer, sparsity: float, every: int = 1, **kwargs: Any) -> None:
        check_sparsity("sparsity", sparsity)
        check_count("every", every, 1)
        kwargs.setdefault("name", f"straight_through_{layer.name}")
        super().__init__(layer, **kwargs)
        self.sparsity, self.every = float(sparsity), int(every)
        self._chosen: dict[str, keras.Variable] = {}

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        self._steps = self.add_weight((), "zeros", "int32", trainable=False, name="steps")

    def _add_own(self, name, variable):
        self._chosen[name] = self.add_weight(
            variable.shape, "ones", "bool", trainable=False, autocast=False, name=f"{name}_chosen"
        )

    def acting(self, name: str, values: Any, training: bool = False) -> Any:
        chosen = self._chosen[name]
        if not training:
            return masked(values, chosen.value)
        due = ops.equal(self._steps.value % self.every, 0)
        mask = ops.cond(due, lambda: self._largest(values), lambda: chosen.value)
        chosen.assign(mask)
        return values + ops.stop_gradient(masked(values, mask) - values)

    def call(self, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        outputs = super().call(*args, training=training, **kwargs)
        if training:
            self._steps.assign(self._steps.value + 1)
        return outputs

    def _largest(self, values):
        """True for the weights to spare."""
        size = ops.flip(ops.reshape(ops.cast(ops.abs(values), "float32"), (-1,)))
        count = size.shape[0]
        # Stable, and from the end, so that of equal ones the lower index is spared.
        gone = ops.argsort(size)[: min(rounded(self.sparsity, count), count - 1)]
        kept = ops.scatter_update(
            ops.ones_like(size), ops.expand_dims(gone, 1), ops.zeros_like(size)[: gone.shape[0]]
        )
        return ops.reshape(ops.flip(kept), values.shape) > 0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sparsity": self.sparsity, "every": self.every}
