"""The layers of a model one by one, each with the weights of its own."""

import dataclasses
from typing import Any

import keras

from activation_pruning import keras_private
from activation_pruning.layers.kernel_wrapper import KernelWrapper
from activation_pruning.sites import kernels
from activation_pruning.support.types import Array


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """A layer, or an operation of `keras.ops` in a graph, and the weights that no other part has.

    Attributes:
        path: names from the outside in, as in `sites`.
        layer: the `keras.Layer` or operation.
        weights: list of variables; one that several layers share is with the first of them.
        inside: the layers directly in it, which are parts too.
        wrapper: the `KernelWrapper` that multiplies its kernels, or None.
    """

    path: str
    layer: Any
    weights: list[keras.Variable]
    inside: list[Any]
    wrapper: keras.Layer | None = None

    @property
    def kernels(self) -> list[keras.Variable]:
        """Its weights that pruning is about: those registered in `sites`, biases never.

        Of a class that is not registered, weights with two axes or more.
        """
        described = kernels.of(self.layer) or []
        registered = [id(kernel.variable(self.layer)) for kernel in described]
        known = [variable for variable in self.weights if id(variable) in registered]
        return known or [w for w in self.weights if len(w.shape) > 1 and "bias" not in w.name]

    def values(self, variable: keras.Variable) -> Array:
        """The values that act now, as a NumPy array: 0 behind a closed mask or gate."""
        if self.wrapper is None or not any(variable is kernel for kernel in self.kernels):
            return keras.ops.convert_to_numpy(variable)
        return self.wrapper.acting_of(variable)


def parts(model: keras.Layer) -> list[Part]:
    """The parts of a model in its order, whatever is nested in it; shared layers come once.

    Wrappers with masks or gates stand for the layer in them, without what they hold besides. A
    Sequential or Functional model is no part itself.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a")])
        >>> [(part.path, len(part.weights)) for part in parts(model)]
        [('a', 2)]
    """
    found: list[Part] = []
    seen: set[int] = set()
    owned: set[int] = set()

    def visit(layer, path, wrapper):
        if id(layer) in seen:
            return
        seen.add(id(layer))
        if isinstance(layer, KernelWrapper):
            seen.update(id(child) for child in keras_private.sublayers(layer))
            seen.discard(id(layer.layer))
            visit(layer.layer, path, layer)
            return
        inside = _inside(layer)
        theirs = {id(weight) for child in inside for weight in getattr(child, "weights", [])}
        weights = [w for w in getattr(layer, "weights", []) if id(w) not in owned | theirs]
        owned.update(id(w) for w in weights)
        if weights or not _is_container(layer):
            found.append(Part(path or layer.name, layer, weights, inside, wrapper))
        for child in inside:
            visit(child, f"{path}/{child.name}".lstrip("/"), wrapper)

    visit(model, "" if isinstance(model, keras.Model) else model.name, None)
    return found


def _is_container(layer):
    """Whether a layer only runs others, one after the other: a Sequential or Functional model."""
    plain = type(layer).call.__qualname__ in ("Sequential.call", "Functional.call")
    return isinstance(layer, keras.Model) and plain


def _inside(layer):
    if isinstance(layer, keras.layers.RNN) or not isinstance(layer, keras.Layer):
        return []  # cells run inside of an RNN, and are never called alone
    inside = list(getattr(layer, "operations", []))  # of a graph: layers, and what lies between
    known = {id(item) for item in inside}
    return inside + [child for child in keras_private.sublayers(layer) if id(child) not in known]
