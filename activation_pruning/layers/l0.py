"""L0 regularisation: gates that learn, with the weights, which weights are zero."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from activation_pruning.layers.kernel_wrapper import KernelWrapper, precision
from activation_pruning.support import names
from activation_pruning.support.checks import check_number, is_number
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Array

_EPS = 1e-6  # keeps the uniform samples off 0 and 1, where their logits are infinite


@dataclasses.dataclass(frozen=True)
class HardConcrete:
    """The distribution of a gate on [0, 1], with exact zeros and ones: a clipped stretched sigmoid.

    temperature: beta in (0, 1]; the lower, the nearer to a coin.
    limits: (gamma, zeta) with gamma < 0 and zeta > 1, to which the sigmoid is stretched.

    Source: Louizos, Welling & Kingma, ICLR 2018 (arXiv:1712.01312), section 2.

    Example:
        >>> gate = HardConcrete()
        >>> [float(gate.deterministic(log_alpha)) for log_alpha in (-3.0, 0.0, 3.0)]
        [0.0, 0.5, 1.0]
    """

    temperature: float = 2 / 3
    limits: tuple[float, float] = (-0.1, 1.1)

    def __post_init__(self) -> None:
        beta = self.temperature
        if not (is_number(beta) and 0 < beta <= 1):
            raise ValueError(
                f"temperature={shown(beta)}; it must be a number in (0, 1], 2/3 as a rule"
            )
        limits = tuple(self.limits) if isinstance(self.limits, (list, tuple)) else ()
        known = len(limits) == 2 and all(map(is_number, limits))
        if not (known and -math.inf < limits[0] < 0 and 1 < limits[1] < math.inf):
            raise ValueError(
                f"limits={shown(self.limits)}; give (gamma, zeta) with gamma < 0 and zeta > 1, so "
                "that gates can be exactly 0 and 1, such as (-0.1, 1.1)"
            )
        object.__setattr__(self, "limits", limits)

    def sample(self, log_alpha: Any, u: Any) -> Any:
        """The gate of training: `deterministic((logit(u) + log_alpha) / beta)`, u in (0, 1)."""
        return self.deterministic((ops.log(u) - ops.log1p(-u) + log_alpha) / self.temperature)

    def deterministic(self, log_alpha: Any) -> Any:
        """The gate of inference: clip(sigmoid(log_alpha) (zeta - gamma) + gamma, 0, 1)."""
        gamma, zeta = self.limits
        return ops.clip(ops.sigmoid(log_alpha) * (zeta - gamma) + gamma, 0.0, 1.0)

    def open_probability(self, log_alpha: Any) -> Any:
        """P(z != 0) = sigmoid(log_alpha - beta log(-gamma / zeta)), in (0, 1)."""
        gamma, zeta = self.limits
        return ops.sigmoid(log_alpha - self.temperature * math.log(-gamma / zeta))


class _Price(keras.regularizers.Regularizer):
    """The penalty of one kernel's gates; made by its `L0Layer`, never saved by itself."""

    def __init__(self, opened, penalty, sizes):
        self.opened, self.penalty, self.sizes = opened, penalty, sizes

    def __call__(self, variable):
        paid = self.penalty * ops.sum(ops.multiply(self.opened(variable), self.sizes))
        # TensorFlow adds up losses of one dtype only.
        return ops.cast(paid, "float64" if keras.config.floatx() == "float64" else "float32")


@keras.saving.register_keras_serializable(package="activation_pruning")
class L0Layer(KernelWrapper):
    """A layer whose kernels are multiplied by stochastic gates that learn which weights are zero.

    y = layer(x; w * z), z ~ HardConcrete(log_alpha) in training, its deterministic value in
    inference; log_alpha is trained with the weights. The penalty joins the model's losses:

        penalty * sum over gates of (weights behind the gate) * P(z != 0)

    the expected number of non-zero weights. Each call draws one sample of the gates for its whole
    batch. `ap.strip` makes plain layers of it, with exact zeros behind closed gates; biases have no
    gates. `ap.prune` and the callbacks see the weights that act in inference: what a closed gate
    zeroes counts as pruned; `ap.L0Sparsity` puts it into the history of a fit. Keep weight decay
    off the gates: `optimizer.exclude_from_weight_decay(var_names=["log_alpha"])` before training.

    Args:
        layer: the layer to wrap; it must hold at least one prunable kernel once built.
        penalty: price of one weight in units of the loss, at least 0 (lambda / N in the paper,
            with N training samples); None for 1 / (weights of the layer), so that a layer with
            all of its gates open costs 1. A greater price closes more gates.
        granularity: "weight" or "unit": what one gate is for, in each kernel of the layer.
        temperature: beta of the hard concrete distribution, in (0, 1].
        droprate: sets where the gates start, sigmoid(log_alpha) = 1 - droprate, in (0, 1). A
            trained layer keeps its outputs with 0.05: up to 1/12 gates are fully open in
            inference, with the default `limits`.
        limits: (gamma, zeta), gamma < 0 and zeta > 1.
        rate: log_alpha = rate * its variable, above 0. Under Adam a variable moves by about the
            learning rate in a step, and a gate has 2.4 to go until it is closed: with 1 it takes
            2,400 steps at the usual 0.001, with 10 some 240.
        seed: of the samples, an integer; None draws one, reproducible under
            `keras.utils.set_random_seed`. Layers of equal seed and shape draw equal samples.

    Raises:
        ValueError: for an argument out of its range, or a layer without a prunable kernel.

    Source: Louizos, Welling & Kingma, "Learning Sparse Neural Networks through L0
    Regularization", ICLR 2018 (arXiv:1712.01312), section 2; with a constant start of log_alpha.

    Example:
        >>> import keras, numpy as np, activation_pruning as ap
        >>> layer = ap.L0Layer(keras.layers.Dense(3, use_bias=False), penalty=0.01)
        >>> y = layer(np.ones((2, 4)))
        >>> layer.gates()["kernel"][0].tolist()
        [0.5, 0.5, 0.5]
        >>> round(layer.expected_l0(), 2), layer.closed()
        (9.98, 0.0)
    """

    def __init__(
        self,
        layer: keras.Layer,
        penalty: float | None = None,
        granularity: str = "weight",
        temperature: float = 2 / 3,
        droprate: float = 0.5,
        limits: tuple[float, float] = (-0.1, 1.1),
        seed: int | None = None,
        rate: float = 10.0,
        **kwargs: Any,
    ) -> None:
        if penalty is not None:
            check_number("penalty", penalty, 0)
        check_number("rate", rate, above=0)
        check_number("droprate", droprate, above=0, below=1)
        names.lookup("granularity", granularity, {"weight": 0, "unit": 1})
        distribution = HardConcrete(temperature, limits)
        kwargs.setdefault("name", f"l0_{layer.name}")
        super().__init__(layer, **kwargs)
        self.penalty = None if penalty is None else float(penalty)
        self.granularity, self.droprate, self.rate = granularity, droprate, float(rate)
        self.distribution, self.seed = distribution, seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._log_alpha: dict[str, keras.Variable] = {}
        self._sizes: dict[str, Any] = {}

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        start = (math.log1p(-self.droprate) - math.log(self.droprate)) / self.rate
        for name, site in self._kernels.items():
            shape = site.variable.shape
            sizes: Any = 1.0  # weights behind each gate
            if self.granularity == "unit":
                units = np.broadcast_to(site.units, shape)
                shape, sizes = (site.n_units,), np.bincount(units.ravel()).astype("float32")
            self._sizes[name] = sizes
            # A regularizer rather than `add_loss`: a shared layer pays once.
            price = _Price(self._opened, self.price, sizes)
            self._log_alpha[name] = self.add_weight(
                shape, keras.initializers.Constant(start), precision(site.variable),
                autocast=False, regularizer=price, name=f"{name}_log_alpha",
            )  # fmt: skip

    @property
    def price(self) -> float:
        """What one weight costs, once the layer is built: `penalty`, or its default."""
        weights = sum(math.prod(site.variable.shape) for site in self._kernels.values())
        return 1 / weights if self.penalty is None else self.penalty

    def _opened(self, variable):
        return self.distribution.open_probability(self.rate * variable)

    def _steady(self, variable):
        return self.distribution.deterministic(self.rate * variable)

    def factor(self, name: str, training: bool = False) -> Any:
        variable = self._log_alpha[name]
        if training:
            shape, seed = variable.shape, self.seed_generator
            u = keras.random.uniform(shape, _EPS, 1 - _EPS, dtype=variable.dtype, seed=seed)
            gates = self.distribution.sample(self.rate * variable, u)
        else:
            gates = self._steady(variable)
        return ops.take(gates, self._kernels[name].units) if self.granularity == "unit" else gates

    def gates(self) -> dict[str, Array]:
        """{kernel: its gates in inference}, arrays of the kernel's shape or one for each unit."""
        return self._of_gates(self._steady)

    def expected_l0(self) -> float:
        """The expected number of non-zero weights in training: what the penalty is a price on."""
        opened = self._of_gates(self._opened)
        return sum(float(np.sum(opened[name] * self._sizes[name], dtype=float)) for name in opened)

    def closed(self) -> float:
        """The share of gates that are exactly zero in inference, in [0, 1]."""
        return float(np.mean(np.concatenate([g.ravel() for g in self.gates().values()]) == 0))

    def _of_gates(self, function):
        if not self.built:
            raise ValueError(f"layer {self.name!r} is not built: call it on data once")
        return {name: ops.convert_to_numpy(function(v)) for name, v in self._log_alpha.items()}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "penalty": self.penalty,
            "granularity": self.granularity,
            "temperature": self.distribution.temperature,
            "droprate": self.droprate,
            "limits": list(self.distribution.limits),
            "seed": self.seed,
            "rate": self.rate,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "L0Layer":
        older = {"rate": 1.0}  # of files from before there was this argument
        return super().from_config(older | config, custom_objects)
