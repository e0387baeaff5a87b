"""How a value reads in a message: briefly, whatever it is."""

import reprlib
from typing import Any

MOST = 60  # characters


class _Brief(reprlib.Repr):
    """Python's own brief representations, with the shapes of arrays, also within lists."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = MOST

    def repr1(self, x: Any, level: int) -> str:
        shape = getattr(x, "shape", None)
        if isinstance(x, type) or shape is None or shape == ():
            return super().repr1(x, level)
        size = " x ".join(map(str, shape)) if isinstance(shape, (tuple, list)) else str(shape)
        return f"<{type(x).__name__}, {size}>"


def shown(value: Any) -> str:
    """A value as a message shows it: type and shape of arrays and tables, else 60 characters.

    Example:
        >>> import numpy as np
        >>> shown(0.5), shown("dense"), shown(np.zeros((60, 4)))
        ('0.5', "'dense'", '<ndarray, 60 x 4>')
        >>> shown([np.zeros(3)] * 1000)
        '[<ndarray, 3>, <ndarray, 3>, <ndarray, 3>, <ndarray, 3>, ...'
    """
    try:
        text = " ".join(_Brief().repr(value).split())
    except Exception:  # a class of the user's own, or a shape that nobody knows yet
        text = f"<{type(value).__name__}>"
    return text if len(text) <= MOST else f"{text[: MOST - 3]}..."
