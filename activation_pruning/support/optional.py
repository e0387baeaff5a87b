"""Modules that come with an extra."""

import importlib
from types import ModuleType


def optional(module: str, extra: str) -> ModuleType:
    """Import a module that comes with an extra.

    Args:
        module: its dotted name.
        extra: of this package, which brings it.

    Returns:
        The module.

    Raises:
        ImportError: it cannot be imported; names the command that installs it.

    Example:
        >>> optional("json", "text").dumps([1])
        '[1]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this needs the module {module!r}, which cannot be imported ({error}): "
            f"pip install 'activation-pruning[{extra}]'"
        ) from error
