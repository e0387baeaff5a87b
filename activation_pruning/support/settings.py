"""What a run needs to be repeated: its command, date, settings and versions."""

import datetime
import importlib.metadata
import platform
import shlex
import sys
from typing import Any

from activation_pruning.support.types import Table

_BACKENDS = ("tensorflow", "jax", "torch")
_PACKAGES = ("keras", *_BACKENDS, "numpy", "pandas", "activation-pruning")
_MISSING = "not installed"


def settings_table(**extra: Any) -> Table:
    """What is needed to repeat a run: command, date, your settings, versions.

    Args:
        **extra: settings such as `seeds=[0, 1, 2]`, `time_s=3.5`; the ending of a name (_s, _ms,
            _bytes) is its unit.

    Returns:
        DataFrame with the columns key, value, unit.

    Example:
        >>> settings_table(limit_s=60).query("key == 'limit_s'").values.tolist()
        [['limit_s', 60, 's']]
    """
    import pandas as pd

    now = datetime.datetime.now().astimezone().replace(microsecond=0)
    # The interpreter's folder says nothing about the run; its arguments do, exactly as typed.
    rows = [
        ("command", shlex.join(["python", *sys.orig_argv[1:]]), ""),
        ("date", now.replace(tzinfo=None), f"local time, UTC{now:%z}"),
    ]
    for key, value in extra.items():
        if isinstance(value, (list, tuple, set, frozenset, range)):
            value = ", ".join(map(str, value))
        unit = key.rpartition("_")[2]
        rows.append((key, value, unit if unit in ("s", "ms", "bytes") and unit != key else ""))
    rows.append(("version of python", platform.python_version(), ""))
    rows += [(f"version of {name}", _version(name), "") for name in _PACKAGES if _shown(name)]
    return pd.DataFrame(rows, columns=["key", "value", "unit"]).astype({"value": object})


def _shown(name: str) -> bool:
    """Whether to list a package; of the backends TensorFlow where it is there, and what is used."""
    keras = sys.modules.get("keras")  # as long as nobody has imported it, no backend is in use
    used = keras is not None and keras.config.backend() == name
    there = name == "tensorflow" and _version(name) != _MISSING
    return used or there or name not in _BACKENDS


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return _MISSING
