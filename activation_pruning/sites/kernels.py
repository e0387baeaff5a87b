"""Which weights of which layer class are prunable, and how their axes are numbered."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from activation_pruning.sites import foreign, layer_classes
from activation_pruning.support.checks import check_count, check_flags, is_integer
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Array

_L = keras.layers


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Where a layer class keeps a prunable weight, and which of its axes number the units.

    attribute: dotted name of the variable, such as "kernel" or "cell.kernel".
    unit_axes: axes of the weight that index output units, in increasing order.
    input_axis: axis along which consecutive weights feed the same unit (for N:M groups).
    copies: how often the units repeat along the unit axes (4 for the gates of an LSTM).
    output_axes: axes of the layer's output that index the same units.
    observed: False where the units never show in the output (the first half of SeparableConv).
    quantizer: dotted name of what the layer quantises the weight with before it computes. None
        stands for the name that QKeras gives it, such as "kernel_quantizer".

    Example:
        >>> import keras
        >>> from activation_pruning import sites
        >>> kernel = sites.Kernel("kernel", unit_axes=(-2,), input_axis=-1)
        >>> layer = keras.layers.Conv1DTranspose(5, 2)
        >>> layer.build((None, 8, 3))
        >>> kernel.variable(layer) is layer.kernel, kernel.unit_index((2, 5, 3)).ravel().tolist()
        (True, [0, 1, 2, 3, 4])
    """

    attribute: str
    unit_axes: tuple[int, ...] = (-1,)
    input_axis: int = -2
    copies: int = 1
    output_axes: tuple[int, ...] = (-1,)
    observed: bool = True
    quantizer: str | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.attribute, str) and self.attribute):
            raise TypeError(
                f"attribute={shown(self.attribute)}; give the name of a weight, such as 'kernel'"
            )
        axes = {"unit_axes": self.unit_axes, "output_axes": self.output_axes}
        axes["input_axis"] = (self.input_axis,)
        for name, value in axes.items():
            if not (isinstance(value, (tuple, list)) and all(map(is_integer, value))):
                raise TypeError(f"{name}={shown(value)}; give a tuple of integers, such as (-1,)")
        if not self.unit_axes:
            raise ValueError("unit_axes=(); give at least one axis, that of the units")
        check_count("copies", self.copies, 1)
        check_flags(observed=self.observed)
        if not isinstance(self.quantizer, (str, type(None))):
            raise TypeError(
                f"quantizer={shown(self.quantizer)}; give the name of what the layer quantises the "
                "weight with, such as 'kernel_quantizer', or None"
            )

    def variable(self, layer: keras.Layer) -> Any:
        """The variable of `layer`, or None where the attribute holds anything else."""
        value = _attribute(layer, self.attribute)
        return value if isinstance(value, keras.Variable) else None

    def quantizer_of(self, layer: keras.Layer) -> tuple[str, Any]:
        """(name, value) of what `layer` quantises the weight with; None where it has no such.

        Example:
            >>> import keras
            >>> Kernel("depthwise_kernel").quantizer_of(keras.layers.SeparableConv1D(3, 2))
            ('depthwise_quantizer', None)
        """
        name = self.quantizer or f"{self.attribute.removesuffix('_kernel')}_quantizer"
        return name, _attribute(layer, name)

    def unit_index(self, shape: Sequence[int]) -> Array:
        """The unit of each weight: an int array that broadcasts to `shape`.

        Example:
            >>> Kernel("kernel").unit_index((4, 3))
            array([[0, 1, 2]])
        """
        axes = [axis % len(shape) for axis in self.unit_axes]
        index = np.arange(math.prod(shape[axis] for axis in axes))
        if self.copies > 1:
            index %= len(index) // self.copies  # gate blocks lie side by side
        return index.reshape([size if axis in axes else 1 for axis, size in enumerate(shape)])


def _attribute(layer, dotted):
    """The value of a dotted name, or None where there is none."""
    for part in dotted.split("."):
        layer = getattr(layer, part, None)
    return layer


_REGISTRY: dict[type, Callable[[keras.Layer], list[Kernel]]] = {}


def register(layer_class: type, *kernels: Kernel | Callable[[keras.Layer], list[Kernel]]) -> None:
    """Make the weights of your own layer class prunable.

    Args:
        layer_class: a subclass of `keras.Layer`; its subclasses are covered as well.
        *kernels: one `Kernel` for each prunable weight, or a single function
            `layer -> list of Kernel` where the axes depend on the instance. An empty list says
            that none of the weights is prunable; then reports don't name them either.

    Raises:
        TypeError: when `layer_class` is not a layer class or no kernel is given.

    Example:
        >>> import keras
        >>> from activation_pruning import sites
        >>> class Scale(keras.Layer):
        ...     def build(self, shape):
        ...         self.table = self.add_weight(shape=(shape[-1], 3), name="table")
        ...     def call(self, x):
        ...         return keras.ops.matmul(x, self.table)
        >>> sites.register(Scale, sites.Kernel("table"))
        >>> model = keras.Sequential([keras.Input((2,)), Scale(name="scale")])
        >>> [site.name for site in sites.find(model, exclude=()).sites]
        ['scale/table']
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.Layer)):
        raise TypeError(
            f"layer_class must be a subclass of keras.Layer, received {shown(layer_class)}"
        )
    foreign.load()  # before, so that what users say holds
    if not kernels:
        raise TypeError(f"register({layer_class.__name__}) needs at least one sites.Kernel")
    if len(kernels) == 1 and callable(kernels[0]):
        _REGISTRY[layer_class] = kernels[0]
        return
    for kernel in kernels:
        if not isinstance(kernel, Kernel):
            raise TypeError(f"kernels must be sites.Kernel objects, received {shown(kernel)}")
    _REGISTRY[layer_class] = lambda layer: list(kernels)  # type: ignore[arg-type]


def _convolutional(kernels, layer):
    # Counted from the end, so that it also holds behind a TimeDistributed axis.
    rank = len(layer.kernel_size)
    axis = -1 - rank if layer.data_format == "channels_first" else -1
    return [dataclasses.replace(kernel, output_axes=(axis,)) for kernel in kernels]


def _einsum(layer):
    """Unit axes are the kernel's letters that reach the output; the others are contracted."""
    inputs, result = layer.equation.split("->")
    letters = inputs.split(",")[1].replace("...", "")
    units = [axis for axis, letter in enumerate(letters) if letter in result]
    contracted = [axis for axis, letter in enumerate(letters) if letter not in result]
    output_axes = tuple(_output_axis(result, letters[axis]) for axis in units)
    return [Kernel("kernel", tuple(units), (contracted or [0])[-1], output_axes=output_axes)]


def _output_axis(result, letter):
    """The output axis of `letter`; an ellipsis hides axes, so count from the end it is not at."""
    before = result.index(letter)
    if "..." in result[before:]:
        return before
    return before - len(result)


def of(layer: keras.Layer) -> list[Kernel] | None:
    """The `Kernel`s of `layer`, or None when its class is not registered."""
    foreign.load()
    describe = next((_REGISTRY[kind] for kind in type(layer).__mro__ if kind in _REGISTRY), None)
    if describe is None:
        return None
    found = describe(layer)
    if not all(isinstance(one, Kernel) for one in found):
        raise TypeError(
            f"the function registered for {type(layer).__name__} returned {shown(found)}; it must "
            "return a list of sites.Kernel"
        )
    return found


def of_class(layer_class: type, layer: keras.Layer) -> list[Kernel]:
    """The `Kernel`s of `layer`, as if it were of a registered class."""
    return _REGISTRY[layer_class](layer)


for _classes, _kernels in (
    (layer_classes.CONVOLUTIONS, [Kernel("kernel")]),
    (layer_classes.TRANSPOSED, [Kernel("kernel", (-2,), -1)]),
    (layer_classes.DEPTHWISE, [Kernel("kernel", (-2, -1), 0)]),
    (
        layer_classes.SEPARABLE,
        [Kernel("depthwise_kernel", (-2, -1), 0, observed=False), Kernel("pointwise_kernel")],
    ),
    (
        layer_classes.CONV_RECURRENT,
        [Kernel(f"cell.{name}", copies=4) for name in ("kernel", "recurrent_kernel")],
    ),
):
    for _class in _classes:
        register(_class, functools.partial(_convolutional, _kernels))
for _class, _gates in ((_L.LSTM, 4), (_L.GRU, 3), (_L.SimpleRNN, 1)):
    _names = ("cell.kernel", "cell.recurrent_kernel")
    register(_class, *(Kernel(name, copies=_gates, input_axis=0) for name in _names))
register(_L.Dense, Kernel("kernel", input_axis=0))
register(_L.Embedding, Kernel("embeddings", input_axis=0))
register(_L.EinsumDense, _einsum)
