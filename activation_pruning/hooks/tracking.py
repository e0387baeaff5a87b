"""What the gradients of one kernel say, followed step by step while a model trains."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from activation_pruning import keras_private
from activation_pruning.hooks.counting import sums_variable
from activation_pruning.support.types import Array

TRACKED = {
    # name: (value so far, gradient of the step, weight before the step) -> value
    "last_gradient": lambda value, gradient, weight: gradient,
    "movement": lambda value, gradient, weight: value - gradient * weight,
}


class Tracker:
    """Values of the kernel's shape that each training step updates from its gradient.

    The gradient is that of the loss (with regularizers, before masks, clipping and weight decay)
    for one batch: with gradient accumulation, each of the batches that make one update.

    Args:
        variable: the kernel.
        statistics: names in `TRACKED`; each costs a pass over the kernel and its memory.
    """

    def __init__(self, variable: keras.Variable, statistics: Iterable[str]):
        shape, placement = tuple(variable.shape), keras_private.placement(variable)
        self.variables = {name: sums_variable(shape, **placement) for name in statistics}

    def update(self, gradient: Any, weight: Any, counts: Any = True) -> None:
        """Take in the gradient of one step, unless `counts` (a bool, maybe traced) is False."""
        gradient = ops.cast(gradient, "float32")
        weight = ops.stop_gradient(ops.cast(weight, "float32"))
        for name, variable in self.variables.items():
            value = TRACKED[name](variable.value, gradient, weight)
            variable.assign(value if counts is True else ops.where(counts, value, variable.value))

    def read(self) -> dict[str, Array]:
        """{statistic: float32 array of the kernel's shape}; zeros before the first step."""
        return {name: ops.convert_to_numpy(variable) for name, variable in self.variables.items()}

    def reset(self) -> None:
        """Start the sums again from zero; the last gradient stays the last."""
        if "movement" in self.variables:
            variable = self.variables["movement"]
            variable.assign(np.zeros(variable.shape, "float32"))
