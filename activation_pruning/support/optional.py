"""Modules that come with an extra of this package."""

import importlib
from types import ModuleType


def optional(module: str, extra: str) -> ModuleType:
    """Import a module by its dotted name, or raise an ImportError that says how to install it.

    Example:
        >>> optional("json", "json").dumps([1])
        '[1]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this needs the module {module!r}, which cannot be imported ({error}): "
            f"pip install 'activation-pruning[{extra}]'"
        ) from error
