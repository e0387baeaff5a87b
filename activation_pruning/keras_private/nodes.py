"""The calls of layers and operations that make up a graph, one by one."""

from collections.abc import Mapping
from typing import Any

import keras


def in_order(graph: keras.Model) -> list[Any]:
    """The calls in a Functional model, those of its inputs left out; arguments come first."""
    depths = graph._nodes_by_depth
    return [
        node for depth in sorted(depths, reverse=True) for node in depths[depth]
        if not node.is_input
    ]  # fmt: skip


def taken(node: Any) -> list[Any]:
    """The symbolic tensors that a call takes."""
    return list(node.arguments.keras_tensors)


def given(graph: keras.Model, x: Any) -> dict[int, Any]:
    """{id of a symbolic input: its value}, for one batch as the model is called on it."""
    return {id(t): v for t, v in zip(graph.inputs, graph._standardize_inputs(x), strict=True)}


def run(node: Any, known: Mapping[int, Any], operation: Any) -> dict[int, Any]:
    """{id of a symbolic output: its value}, of a call in inference; `operation` is called."""
    args, kwargs = node.arguments.fill_in(known)
    if isinstance(operation, keras.Layer):
        kwargs = {**kwargs, "training": False}
    values = keras.tree.flatten(operation(*args, **kwargs))
    return {id(tensor): value for tensor, value in zip(node.outputs, values, strict=True)}
