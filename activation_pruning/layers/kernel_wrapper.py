"""What the wrappers share: a layer that runs with its kernels multiplied by something."""

import inspect
from typing import Any

import keras
import numpy as np
from keras import ops

from activation_pruning import keras_private, sites
from activation_pruning.hooks.masking import masked
from activation_pruning.keras_private import wrapped
from activation_pruning.support.types import Array


class KernelWrapper(keras.layers.Wrapper):
    """A layer whose kernels act multiplied by factors: masks, gates.

    y = layer(x; w * factor), with everything else that the layer does (updates, losses, masking)
    as it would do it alone. `sites.find` sees through the wrapper and gives the weights that act.
    Subclasses make in `build` what their factors consist of and give them in `factor`; where the
    weights that act are no product, they say in `acting` and `acting_of` what they are.

    Args:
        layer: the layer to wrap; it must hold at least one prunable kernel once built.

    Raises:
        ValueError: when the layer turns out to hold nothing prunable, or a wrapper already.
    """

    def __init__(self, layer: keras.Layer, **kwargs: Any) -> None:
        # Kernels meet their factors in full precision; the layer casts by its own policy.
        kwargs.setdefault("dtype", layer.variable_dtype)
        super().__init__(layer, **kwargs)
        self.supports_masking = layer.supports_masking
        wrapped.take_arguments_of(self, layer)
        self._kernels: dict[str, sites.LiveSite] = {}
        self._masks: dict[str, keras.Variable] = {}

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        wrapped.build_inside(self.layer, input_shape)
        for site in sites.find(self.layer, exclude=()).sites:
            if site.wrapper is not None:
                raise ValueError(
                    f"layer={self.layer.name!r} is or holds the {type(site.wrapper).__name__} "
                    f"{site.wrapper.name!r}; wrap plain layers, each once"
                )
            name = site.name.removeprefix(f"{self.layer.name}/").replace("/", "_")
            self._kernels[name] = site

    def factor(self, name: str, training: bool = False) -> Any:
        """What the kernel `name` is multiplied by: a tensor that broadcasts to its shape."""
        raise NotImplementedError

    def acting(self, name: str, values: Any, training: bool = False) -> Any:
        """The weights that act for the kernel `name`, where its variable holds `values`."""
        return masked(values, self.factor(name, training))

    def acting_of(self, variable: keras.Variable) -> Array:
        """The weights that act in inference for one of the layer's kernels, as a NumPy array.

        Where the factor is 0 these are zeros, whatever momentum made of the variable.
        """
        values = ops.convert_to_numpy(variable)
        factor = ops.convert_to_numpy(self.factor(self._name_of(variable)))
        factor = np.broadcast_to(factor.astype(values.dtype), values.shape)
        return np.multiply(values, factor, out=np.zeros_like(values), where=factor != 0)

    def mask_of(self, variable: keras.Variable) -> keras.Variable | None:
        """The mask variable of one of the layer's kernels; None where factors are no masks."""
        return self._masks.get(self._name_of(variable))

    def _name_of(self, variable):
        return next((name for name, s in self._kernels.items() if s.variable is variable), None)

    def call(self, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        if "training" in inspect.signature(self.layer.call).parameters:
            kwargs["training"] = training
        values = {id(variable): variable.value for variable in self.layer.variables}
        for name, site in self._kernels.items():
            key = id(site.variable)
            values[key] = self.acting(name, values[key], bool(training))
        mapping = [(variable, values[id(variable)]) for variable in self.layer.variables]
        updatable = self.layer.non_trainable_variables
        with keras_private.stateless_scope(mapping, collect_losses=True) as scope:
            before = [scope.get_current_value(variable) for variable in updatable]
            outputs = self.layer(*args, **kwargs)
        for variable, old in zip(updatable, before, strict=True):
            new = scope.get_current_value(variable)
            if new is not old:
                variable.assign(new)
        for loss in scope.losses:
            self.add_loss(loss + 0)  # a tensor of its own: Keras knows the layer's by identity
        return outputs

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, previous_mask)


def precision(variable: keras.Variable) -> str:
    """The dtype of what is kept beside a kernel: as precise as that, and float32 at least."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return "float64" if dtype == "float64" else "float32"
