"""Layers of other packages, where their base classes don't say all: one file for each package.

- hgq2.py: HGQ2, quantised layers for FPGAs.

A file is loaded once somebody else has imported its package: nobody pays for a package that their
model does not use. To add one, write its file with a `register()`, and name it here.
"""

import importlib
import sys

_FILES = {"hgq.layers": "hgq2"}  # {a module that has the layers: the file here that knows them}
_loaded: set[str] = set()


def load() -> None:
    """Register the layers of the packages known here that are imported by now, each once.

    Example:
        >>> load()
    """
    for module, name in _FILES.items():
        if module in sys.modules and module not in _loaded:
            _loaded.add(module)  # first: registering comes by here again
            importlib.import_module(f"{__name__}.{name}").register()
