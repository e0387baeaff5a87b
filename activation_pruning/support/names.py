"""The one way in which things are chosen by name."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any


def lookup(kind, name, table):
    """Return `table[name]`, or say which names there are.

    Args:
        kind: what is being looked up, for the message ("criterion").
        name: the name asked for.
        table: dict from name to object.

    Returns:
        The object registered under `name`.

    Raises:
        ValueError: `name` is not in `table`; lists the valid names and the closest match.

    Example:
        >>> lookup("criterion", "magnitude", {"magnitude": abs})
        <built-in function abs>
        >>> lookup("criterion", "magnitud", {"magnitude": abs, "erk": id})
        Traceback (most recent call last):
            ...
        ValueError: unknown criterion 'magnitud'; did you mean 'magnitude'? Valid: erk, magnitude.
    """
    if name in table:
        return table[name]
    close = get_close_matches(name, table, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise ValueError(f"unknown {kind} {name!r}{hint} Valid: {', '.join(sorted(table))}.")


def chosen(kind: str, spec: Any, table: Mapping[str, Any], otherwise: str) -> Any:
    """Return `table[spec]` for a name; a callable is returned as it is.

    Args:
        kind, table: as for `lookup`.
        spec: a name, or a callable.
        otherwise: what may be given in place of a name, for the message.

    Raises:
        ValueError, TypeError: an unknown name; neither a name nor a callable.

    Example:
        >>> chosen("criterion", 5, {"magnitude": abs}, "a function")
        Traceback (most recent call last):
            ...
        TypeError: criterion=5 is a int; give one of ['magnitude'] or a function.
    """
    if isinstance(spec, str):
        return lookup(kind, spec, table)
    if callable(spec):
        return spec
    raise TypeError(
        f"{kind}={spec!r} is a {type(spec).__name__}; give one of {sorted(table)} or {otherwise}."
    )
