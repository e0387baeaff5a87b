"""What is chosen by name, and what may have been meant by an unknown one."""

import inspect
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from activation_pruning.support.shown import shown

T = TypeVar("T")


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return `table[name]`, or raise a ValueError that lists the names and the closest match.

    Args:
        kind: what is being looked up, for the message.

    Example:
        >>> lookup("criterion", "magnitud", {"magnitude": abs, "erk": id})
        Traceback (most recent call last):
            ...
        ValueError: unknown criterion 'magnitud'; did you mean 'magnitude'? Valid: erk, magnitude.
    """
    if name in table:
        return table[name]
    hint = did_you_mean(name, table) or "."
    raise ValueError(f"unknown {kind} {shown(name)}{hint} Valid: {', '.join(sorted(table))}.")


def name_of(value: Any, table: Mapping[str, Any]) -> str:
    """The name of a value in a table; of one that is not in it its own, or its representation.

    Example:
        >>> name_of(abs, {"magnitude": abs}), name_of(len, {})
        ('magnitude', 'len')
    """
    found = next((name for name, one in table.items() if one is value), None)
    return found or str(getattr(value, "__name__", repr(value)))


def called(made: object) -> str:
    """How an object was made, in short: its class with the arguments that are not the defaults.

    They are read from attributes of the same names; what has none, or takes more than 60 letters,
    is left out or named by its type.

    Example:
        >>> class Wheel:
        ...     def __init__(self, size, spokes=20, tyre=None):
        ...         self.size, self.spokes, self.tyre = size, spokes, tyre
        >>> called(Wheel(28)), called(Wheel(28, tyre=list(range(99))))
        ('Wheel(28)', 'Wheel(28, tyre=<list>)')
    """
    said = []
    for name, parameter in inspect.signature(type(made)).parameters.items():
        if not hasattr(made, name):
            continue
        value = repr(getattr(made, name))
        value = value if len(value) <= 60 else f"<{type(getattr(made, name)).__name__}>"
        if parameter.default is inspect.Parameter.empty:
            said.append(value)
        elif value != repr(parameter.default):
            said.append(f"{name}={value}")
    return f"{type(made).__name__}({', '.join(said)})"


def did_you_mean(name: Any, valid: Iterable[Any], opening: str = "; did") -> str:
    """The end of a message about an unknown name: the closest valid one, "" where none is close.

    Example:
        >>> did_you_mean("mnst", ["digits", "mnist"], opening=" Did")
        " Did you mean 'mnist'?"
    """
    close = get_close_matches(str(name), list(map(str, valid)), n=1, cutoff=0.5)
    return f"{opening} you mean {close[0]!r}?" if close else ""


def picked(wanted: str, names: Sequence[Collection[str]]) -> list[int]:
    """Which of several things a name or pattern stands for: their indices.

    An exact name wins over a pattern; where a pattern with brackets matches nothing, they are
    taken as they are.

    Args:
        wanted: a name, or a pattern with `*`, `?`, `[...]`.
        names: of each thing all that it is called.

    Example:
        >>> picked("a[0]", [{"a0"}, {"a[0]"}]), picked("a[0]*", [{"b"}, {"a[0]/x"}])
        ([1], [1])
    """
    exact = [index for index, own in enumerate(names) if wanted in own]
    if exact:
        return exact
    for pattern in dict.fromkeys((wanted, wanted.replace("[", "[[]"))):
        found = [i for i, own in enumerate(names) if any(fnmatchcase(n, pattern) for n in own)]
        if found:
            return found
    return []


def shortened(names: Iterable[Any], most: int = 10) -> str:
    """Names for a message: the first ones, and how many more there are.

    Example:
        >>> shortened(["a", "b", "c", "d"], most=2)
        'a, b and 2 more'
    """
    found = list(map(str, dict.fromkeys(names)))
    more = len(found) - most
    return ", ".join(found[:most]) + (f" and {more} more" if more > 0 else "")


def quoted(names: Iterable[str], most: int = 10) -> str:
    """The same as `shortened`, as a list of Python.

    Example:
        >>> quoted(["a", "b", "c"], most=2)
        "['a', 'b'] and 1 more"
    """
    found = list(dict.fromkeys(names))
    more = len(found) - most
    return f"{found[:most]}" + (f" and {more} more" if more > 0 else "")


def chosen(kind: str, spec: Any, table: Mapping[str, Any], otherwise: str) -> Any:
    """Return `table[spec]` for a name; a callable is returned as it is.

    Args:
        kind, otherwise: what is being looked up, and what else may be given, for the message.

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
        f"{kind}={shown(spec)} is a {type(spec).__name__}; give one of {sorted(table)} or "
        f"{otherwise}."
    )


def unused(name: str, taken: set[str], first: int) -> str:
    """The name, with a number behind it where it is `taken`; from now on it is.

    Args:
        first: the number of the second one of this name.

    Example:
        >>> taken = {"add"}
        >>> unused("add", taken, 1), unused("add", taken, 1), unused("dense", taken, 1)
        ('add_1', 'add_2', 'dense')
    """
    fresh, number = name, first
    while fresh in taken:
        fresh, number = f"{name}_{number}", number + 1
    taken.add(fresh)
    return fresh
