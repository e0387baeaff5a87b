"""Weights of an ONNX file as integers, where they lie on a grid that zero is on."""

import pathlib

import numpy as np

from activation_pruning.support.types import Array

_KERNELS = {"Conv": (1, 0), "MatMul": (1, 1), "Gemm": (1, 1), "ConvTranspose": (1, 1)}
_CLOSE = 1e-3  # of a step of the grid


def write_integers(path: pathlib.Path, bits: int) -> None:
    """Store the kernels of a file as int8 with a scale for each unit, behind DequantizeLinear.

    Only those whose weights are all whole multiples of max |w| / (2^(bits - 1) - 1) of their unit,
    so that nothing changes but the storage. (Layers that were folded into a kernel scale its units,
    which keeps it on such a grid.)
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(path))
    graph, nodes = model.graph, []
    held = {one.name: one for one in graph.initializer}
    for node in list(graph.node):
        place = _KERNELS.get(node.op_type)
        if place is None or node.input[place[0]] not in held:
            nodes.append(node)
            continue
        name, axis = node.input[place[0]], place[1]
        kernel = numpy_helper.to_array(held[name])
        if node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute):
            axis = 0
        found = on_grid(kernel, axis % kernel.ndim, bits)
        if found is not None:
            parts = dict(zip(("values", "scale", "zero"), found, strict=True))
            names = {part: f"{name}_{node.name}_{part}".replace("/", "_") for part in parts}
            graph.initializer.extend(
                numpy_helper.from_array(array, names[part]) for part, array in parts.items()
            )
            output = f"{names['values']}_float"
            nodes.append(
                helper.make_node(
                    "DequantizeLinear", [*names.values()], [output], axis=axis % kernel.ndim
                )
            )
            node.input[place[0]] = output
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    left = [one for one in graph.initializer if one.name in used]
    del graph.initializer[:]
    graph.initializer.extend(left)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def on_grid(kernel: Array, axis: int, bits: int) -> tuple[Array, Array, Array] | None:
    """(int8 values, scale and zero point of each unit along `axis`); None where it is on no grid.

    Example:
        >>> values, scale, _ = on_grid(np.array([[3.0, -1.0], [0.0, 0.5]]), axis=0, bits=3)
        >>> values.tolist(), scale.tolist()
        ([[3, -1], [0, 3]], [1.0, 0.1666666716337204])
        >>> on_grid(np.array([[3.0, -1.4]]), axis=0, bits=3) is None
        True
    """
    rest = tuple(other for other in range(kernel.ndim) if other != axis)
    most = np.abs(kernel).max(axis=rest, keepdims=True, initial=0.0)
    scale = np.where(most > 0, most, 1.0) / (2 ** (bits - 1) - 1)
    steps = kernel / scale
    values = np.rint(steps)
    if np.abs(steps - values).max(initial=0.0) > _CLOSE:
        return None
    flat = scale.reshape(-1).astype(np.float32)
    return values.astype(np.int8), flat, np.zeros(len(flat), np.int8)
