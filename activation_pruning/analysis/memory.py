"""How much memory a model takes, measured in a process of its own."""

from __future__ import annotations

import contextlib
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
import numpy as np
import pandas as pd

from activation_pruning.analysis.running import batch_of, checked_sizes, runner
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Model, Table

_STATUS, _REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_CALLS = 3  # the first traces and compiles; later ones may hold other buffers


def peak_memory(
    model: Model | Callable[[Any], Any],
    x: Any,
    batch_sizes: int | Sequence[int] | None = None,
    verbose: int = 1,
) -> Table:
    """Resident memory that a model takes in a fresh process, above that of the process without it.

    The process loads Keras and its backend and runs a model of one weight: what it holds then is
    the baseline. Then it loads the model and runs a batch of each size, from small to large.
    Compilation is included. Linux: VmHWM of /proc/self/status; macOS: ru_maxrss, which only rises.
    Memory of GPUs is not seen.

    Args:
        model: a built `keras.Model`, or a function of a batch that can be pickled (no lambda).
        x: samples, as for `latency`.
        batch_sizes: samples per call, an integer or several; None is 1 and 256, or the only size
            that the model takes.
        verbose: 0 for silence; else a line that says what is under way.

    Returns:
        Tidy DataFrame, one row for each batch size: batch_size, loaded_bytes (with the model
        loaded, before the first batch), peak_bytes (the most during three calls), both above the
        baseline; baseline_bytes (of interpreter, Keras and backend).

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
    rising = sorted(set(sizes))
    batches = [batch_of(x, size) for size in rising]
    if verbose:
        print(
            f"peak_memory: a process of its own loads {keras.backend.backend()} and the model, and "
            f"runs batches of {', '.join(map(str, rising))} ...",
            flush=True,
        )
    found = dict(zip(rising, _measured(model, batches), strict=True))
    return pd.DataFrame([{"batch_size": size, **found[size]} for size in sizes])


def measure(given: str, result: str) -> None:
    """What the other process does: load, run, and write down its memory (paths of files)."""
    small = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    for _ in range(_CALLS):  # what the backend sets up with its first model is none of the model's
        small.predict_on_batch(np.zeros((1, 1)))
    baseline = _memory("VmRSS")
    with open(given, "rb") as file:
        model, batches = pickle.load(file)  # written by `peak_memory` itself
    run, loaded, found = runner(model), _memory("VmRSS") - baseline, []
    for batch in batches:
        with contextlib.suppress(OSError):
            _REFS.write_text("5", encoding="ascii")  # Linux forgets the peak of the batch before
        for _ in range(_CALLS):
            run(batch)
        peak = _memory("VmHWM") - baseline
        row = {"loaded_bytes": max(loaded, 0), "peak_bytes": max(peak, 0)}
        found.append(row | {"baseline_bytes": baseline})
    Path(result).write_text(json.dumps(found), encoding="utf-8")


def _measured(model, batches):
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder) / "given", Path(folder) / "result"
        try:
            given.write_bytes(pickle.dumps((model, batches)))
        except Exception as error:  # whatever a class of the user's own raises
            raise TypeError(
                f"{shown(model)} cannot be handed to another process ({error}); give a keras.Model "
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
