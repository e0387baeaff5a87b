"""Which calls of `fit`, `evaluate` and `predict` are under way, seen in the frames."""

import gc
import sys
import threading
from types import FrameType
from typing import Any, NamedTuple

import keras


class Run(NamedTuple):
    """A call of `fit`, `evaluate` or `predict` that is under way."""

    name: str
    model: Any
    callbacks: Any  # as the user gave them, and a CallbackList when it has begun
    times: int  # how often the callback is among them
    validates: bool  # whether `fit` has validation data


def runs(callback: keras.callbacks.Callback) -> list[Run]:
    """The calls under way that have `callback`: in this thread, innermost first, then in others.

    Keras tells nobody when `fit` raises, nor of validation data: it can be seen in the frames.
    """
    frames = _frames()
    found: list[Run] = []
    for innermost in [frames.pop(threading.get_ident()), *frames.values()]:
        frame: FrameType | None = innermost
        while frame is not None:
            name, module = frame.f_code.co_name, frame.f_globals.get("__name__", "")
            if name in ("fit", "evaluate", "predict") and module.startswith("keras."):
                own = frame.f_locals
                given, validates = own.get("callbacks"), own.get("validation_data") is not None
                known = getattr(given, "callbacks", None) or keras.tree.flatten(given)
                if times := sum(one is callback for one in known):
                    found.append(Run(name, own.get("self"), given, times, validates))
            frame = frame.f_back
    return found


def _frames() -> dict[int, Any]:
    """The innermost frame of each thread.

    Until Python 3.12 the interpreter holds a lock while it collects them; a garbage collection that
    begins meanwhile may wait for that lock for ever (CPython issue 106883).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return dict(sys._current_frames())
    finally:
        if enabled:
            gc.enable()
