"""How much memory a model takes, measured in a process of its own."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import pandas as pd

from activation_pruning.analysis.running import batch_of, checked_sizes, runner
from activation_pruning.support.types import Model, Table

_STATUS = Path("/proc/self/status")
_CALLS = 3  # the first traces and compiles; later ones may hold other buffers


def peak_memory(
    model: Model | Callable[[Any], Any], x: Any, batch_sizes: int | Sequence[int] | None = None
) -> Table:
    """Peak resident memory of a fresh process that loads a model and runs a batch.

    The whole process is measured, libraries (hundreds of MB) and compilation included, so compare
    models rather than read the numbers alone. Linux: VmHWM of /proc/self/status; macOS: ru_maxrss.
    Memory of GPUs is not seen.

    Args:
        model: a built `keras.Model`, or a function of a batch that can be pickled (no lambda).
        x: samples, as for `latency`.
        batch_sizes: samples per call, an integer or several, a process for each; None is 1 and
            256, or the only size that the model takes.

    Returns:
        Tidy DataFrame, one row for each batch size: batch_size, loaded_bytes (resident with the
        model loaded, before the first batch), peak_bytes (most ever, after three calls).

    Raises:
        TypeError: for what cannot be called or pickled.
        ValueError: for no samples, or a batch size below 1.
        RuntimeError: where the other process fails; with its last words.

    Example:
        >>> import numpy as np
        >>> peak_memory(np.sum, np.ones((8, 2)), 0)
        Traceback (most recent call last):
            ...
        ValueError: batch_sizes=0; it must be an integer of at least 1.
    """
    runner(model)
    sizes = checked_sizes(batch_sizes, [model])
    return pd.DataFrame([{"batch_size": n, **_measured(model, batch_of(x, n))} for n in sizes])


def measure(given: str, result: str) -> None:
    """What the other process does: load, run, and write down its memory (paths of files)."""
    with open(given, "rb") as file:
        model, batch = pickle.load(file)  # written by `peak_memory` itself
    run, loaded = runner(model), _memory("VmRSS")
    for _ in range(_CALLS):
        run(batch)
    found = {"loaded_bytes": loaded, "peak_bytes": _memory("VmHWM")}
    Path(result).write_text(json.dumps(found), encoding="utf-8")


def _measured(model, batch):
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder) / "given", Path(folder) / "result"
        try:
            given.write_bytes(pickle.dumps((model, batch)))
        except Exception as error:  # whatever a class of the user's own raises
            raise TypeError(
                f"{model!r} cannot be handed to another process ({error}); give a keras.Model "
                "that can be saved, or a function at the top of a module"
            ) from error
        code = f"from {__name__} import measure; measure({str(given)!r}, {str(result)!r})"
        path = os.pathsep.join(filter(None, sys.path))
        known = {"KERAS_BACKEND": keras.backend.backend(), "PYTHONPATH": path}
        command, environment = [sys.executable, "-c", code], {**os.environ, **known}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode or not result.exists():
            raise RuntimeError(
                f"the process that measures memory ended with {done.returncode}: "
                f"{done.stderr.strip()[-500:]}"
            )
        return json.loads(result.read_text(encoding="utf-8"))


def _memory(name):
    """Bytes that this process holds, or held at most."""
    if _STATUS.exists():
        # Not ru_maxrss: Linux hands that of the parent on to the process it starts.
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        return int(lines[name].split()[0]) * 1024
    import resource  # Windows has none

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
