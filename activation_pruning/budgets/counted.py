"""Budgets that follow from the widths of the layers alone."""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np

from activation_pruning.analysis import operations
from activation_pruning.analysis.calls import record
from activation_pruning.analysis.cost import cost
from activation_pruning.analysis.parts import parts
from activation_pruning.budgets.base import CostBudget
from activation_pruning.budgets.prediction import Term, product
from activation_pruning.exchange import export
from activation_pruning.graph.channels import Coupling
from activation_pruning.support.types import Model

_FORMATS = (".keras", ".tflite", ".onnx")


def variable_terms(coupling: Coupling, factor: float = 1.0) -> Iterator[Term]:
    """So much for each number in each variable that has channels."""
    for variable, axes in coupling.slices:
        yield _sized(variable, axes, factor)


def _sized(variable, axes, factor):
    rest = math.prod(size for axis, size in enumerate(variable.shape) if axis not in axes)
    return Term(tuple(axes.values()), product(factor * rest))


@dataclasses.dataclass(frozen=True)
class Parameters(CostBudget):
    """At most so many parameters, those of all layers, in the compacted model.

    Args:
        limit: their number, or a fraction in (0, 1) of those of the dense model.

    Raises:
        ValueError: a limit that is neither.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8),
        ...                           keras.layers.Dense(1)])
        >>> report = ap.prune(model, ap.budgets.Parameters(31), granularity="unit")
        >>> ap.compact(model).count_params()
        31
    """

    unit: ClassVar[str] = "parameters"

    def terms(self, model: Model, coupling: Coupling) -> Iterator[Term]:
        return variable_terms(coupling)

    def measure(self, model: Model) -> float:
        return float(model.count_params())


@dataclasses.dataclass(frozen=True)
class MultiplyAdds(CostBudget):
    """At most so many multiply-adds for a sample, as `analysis.cost` counts them.

    Args:
        limit: their number, or a fraction in (0, 1) of those of the dense model.
        input_shape: of a sample, where the model leaves sizes open; as for `analysis.cost`.

    Raises:
        ValueError: a limit that is neither; sizes that are not known.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(8, 3),
        ...                           keras.layers.Conv2D(4, 3), keras.layers.Flatten(),
        ...                           keras.layers.Dense(2)])
        >>> report = ap.prune(model, ap.budgets.MultiplyAdds(0.5), granularity="unit")
        >>> report.spending.measured <= ap.analysis.cost(model).total["multiply_adds"] / 2
        True
    """

    unit: ClassVar[str] = "multiply-adds"
    input_shape: Any = None

    def terms(self, model: Model, coupling: Coupling) -> Iterator[Term]:
        slices = {id(variable): (variable, axes) for variable, axes in coupling.slices}
        layers = [part.layer for part in parts(model)]
        calls, batch = record(model, layers, self.input_shape)
        for layer in layers:
            for call in calls.get(id(layer), []):
                work = operations.work(layer, call)
                for kernel, times in work.kernels if work else ():
                    if id(kernel) in slices:
                        yield _sized(*slices[id(kernel)], times / batch)
                if work and work.products:
                    yield from _shared_work(layer, work.products / batch, slices)

    def measure(self, model: Model) -> float:
        return float(cost(model, self.input_shape).total["multiply_adds"])


def _shared_work(layer, products, slices):
    """What a normalisation or attention does besides its kernels: so much for each channel."""
    held = layer.query_dense.weights if hasattr(layer, "query_dense") else layer.weights
    for variable in held:
        if id(variable) in slices:
            axes = list(slices[id(variable)][1].values())
            if axes:
                yield Term((axes[-1],), product(products / len(axes[-1])))
                return


@dataclasses.dataclass(frozen=True)
class FileBytes(CostBudget):
    """At most so many bytes in the file that holds the compacted model.

    Args:
        limit: bytes, or a fraction in (0, 1) of the dense model's file.
        format: ".keras", ".tflite" or ".onnx", see `export`. A ".keras" file is that of a model
            that is not compiled: what `compile` was told takes some kilobytes more, and after
            training there is the state of the optimizer.

    Raises:
        ValueError: a limit or a format that is none.

    Example:
        >>> import keras, activation_pruning as ap
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(512),
        ...                           keras.layers.Dense(64)])
        >>> report = ap.prune(model, ap.budgets.FileBytes(100_000), granularity="unit")
        >>> 99_000 < report.spending.measured <= 100_000
        True
    """

    unit: ClassVar[str] = "bytes"
    format: str = ".keras"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format not in _FORMATS:
            raise ValueError(f"format={self.format!r}; it must be one of {', '.join(_FORMATS)}.")

    def terms(self, model: Model, coupling: Coupling) -> Iterator[Term]:
        for variable, axes in coupling.slices:
            yield _sized(variable, axes, np.dtype(_number(variable)).itemsize)

    def measure(self, model: Model) -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model{self.format}"
            if self.format == ".keras":
                _uncompiled(model).save(path)
            else:
                export(model, path)
            return float(os.path.getsize(path))


def _uncompiled(model):
    if isinstance(model, keras.Sequential):
        x = keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype)
        return keras.Sequential([x, *model.layers], name=model.name)
    return keras.Model(model.inputs, model.outputs, name=model.name)


def _number(variable):
    return "uint16" if variable.dtype == "bfloat16" else variable.dtype
