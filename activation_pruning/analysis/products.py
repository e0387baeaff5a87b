"""How many multiply-adds the products of `keras.ops` take, from the shapes."""

import math
from collections.abc import Callable, Sequence
from typing import Any


def einsum(subscripts: str, *shapes: Sequence[int]) -> int:
    """Of an einsum of two tensors: all letters are loops around one product; 0 for others.

    Example:
        >>> einsum("ab,bc->ac", (2, 3), (3, 4))
        24
    """
    taken = subscripts.replace(" ", "").split("->")[0].split(",")
    if len(taken) != 2 or "." in subscripts:
        return 0
    sizes: dict[str, int] = {}
    for letters, shape in zip(taken, shapes, strict=True):
        sizes |= dict(zip(letters, shape, strict=True))
    return math.prod(sizes.values())


def matmul(first: Sequence[int], output: Sequence[int]) -> int:
    """Each number that comes out is a sum along the last axis of the first tensor."""
    return math.prod(output) * first[-1]


def attention(query: Sequence[int], key: Sequence[int], value: Sequence[int]) -> int:
    """Scores q k^T and their product with v, of (samples, steps, heads, numbers of each)."""
    return math.prod(query[:-1]) * key[1] * (query[-1] + value[-1])


# {name in `keras.ops`: (arguments by name, output) -> multiply-adds}
FUNCTIONS: dict[str, Callable[[dict[str, Any], Any], int]] = {
    "einsum": lambda given, output: einsum(
        given["subscripts"], *(tuple(one.shape) for one in given["operands"])
    ),
    "matmul": lambda given, output: matmul(given["x1"].shape, output.shape),
    "dot": lambda given, output: matmul(given["x1"].shape, output.shape),
    "dot_product_attention": lambda given, output: attention(
        *(tuple(given[name].shape) for name in ("query", "key", "value"))
    ),
}
