"""Tables as they come in: checked, named, and the rows of them that reports show."""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from activation_pruning.support.names import did_you_mean
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Table


def table_of(table: Table, name: str) -> Table:
    """The table with text column names, a named index as columns; ValueError where it has none."""
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"{name} is a {type(table).__name__}; give a pandas DataFrame")
    if any(level is not None for level in table.index.names):
        twice = set(table.index.names) & set(table.columns)
        if twice:
            raise ValueError(f"{name}: {sorted(twice)} names an index and a column; rename one")
        table = table.reset_index()
    if table.shape[1] == 0:
        raise ValueError(f"{name} has no columns; give a DataFrame with at least one")
    names = [" ".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in table.columns]
    return table.set_axis(names, axis=1).reset_index(drop=True)


def need(table: Table, function: str, *columns: str, empty: bool = False) -> None:
    """Raise ValueError unless the argument of `function` is a DataFrame with these columns.

    Each must hold values, unless `empty`.
    """
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"{function}: expected a DataFrame, got a {type(table).__name__}")
    for name in columns:
        one_of(name, list(table.columns), f"{function}: column")
        if not empty and table[name].isna().all():
            what = "the table has no rows" if table.empty else f"column {name!r} has no values"
            raise ValueError(f"{function}: {what}; there is nothing to draw")


def renumbered(names: Sequence[str], reference: Sequence[str]) -> dict[str, str]:
    """{name: its counterpart in `reference`}, where they differ by Keras's numbering alone.

    Keras numbers the layers of a second model on: dense_3 is what dense was in the first. Pairs
    are made by position; all names must agree without their numbers, else none is paired.

    Example:
        >>> renumbered(["dense_2/kernel", "dense_3/kernel"], ["dense/kernel", "dense_1/kernel"])
        {'dense_2/kernel': 'dense/kernel', 'dense_3/kernel': 'dense_1/kernel'}
        >>> renumbered(["a/kernel"], ["b/kernel"])
        {}
    """
    plain = [[re.sub(r"_\d+(?=/|$)", "", name) for name in own] for own in (names, reference)]
    return dict(zip(names, reference, strict=True)) if plain[0] == plain[1] else {}


def listed(name: str, value: Iterable[str]) -> list[str]:
    """The names of columns as a list; TypeError for one alone, whose letters would be taken."""
    if isinstance(value, str):
        raise TypeError(f"{name}={shown(value)}; give a list of columns, [{shown(value)}].")
    return list(value)


def check_numbers(table: Table, metric: str, function: str) -> None:
    """Raise ValueError where a column holds anything but numbers and missing ones."""
    try:
        table[metric].to_numpy(dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{function}: column {metric!r} holds what is no number: {error}"
        ) from error


def refuse_missing(table: Table, metric: str, function: str) -> None:
    """Raise ValueError where a column lacks numbers: to compare without them would not be fair."""
    check_numbers(table, metric, function)
    missing = int((~np.isfinite(table[metric].to_numpy(dtype=float))).sum())
    if missing:
        raise ValueError(
            f"{function}: column {metric!r} lacks {missing} of {len(table)} finite numbers. Leave "
            "out the runs that failed, or the methods that have such runs, before comparing."
        )


def one_of(name: Any, valid: Collection[Any], what: str) -> Any:
    """The name, if it is valid; else a ValueError that lists what is, and the closest one."""
    if name in valid:
        return name
    hint = did_you_mean(name, valid)
    raise ValueError(
        f"{what} {shown(name)} is unknown; there are {', '.join(map(repr, valid))}{hint}"
    )


def around_events(table: Table) -> Table:
    """The rows of a `SpectrumLogger`'s table from before the first pruning event and after each.

    event counts the events behind them, 0 before the first; state says so in words.

    Example:
        >>> moments = pd.DataFrame({"moment": ["before", "after", "before", "after", "epoch"],
        ...                         "event": [1, 1, 2, 2, 2]})
        >>> around_events(moments)["state"].tolist()
        ['unpruned', 'event 1', 'event 2']
    """
    after = table["moment"] == "after"
    rows = table[after | ((table["moment"] == "before") & (table["event"] == 1))]
    event = rows["event"].where(rows["moment"] == "after", 0)
    state = ("event " + event.astype(str)).where(event > 0, "unpruned")
    return rows.assign(event=event, state=state)


def in_each_match(accuracy: Table) -> Table:
    """The networks without a match, dense and pruned, beside the low-rank ones of every match.

    Example:
        >>> table = pd.DataFrame({"model": ["dense", "x", "y"], "match": ["", "rank", "weights"]})
        >>> in_each_match(table).values.tolist()
        [['dense', 'rank'], ['x', 'rank'], ['dense', 'weights'], ['y', 'weights']]
    """
    matches = [match for match in accuracy["match"].unique() if match]
    parts = [accuracy[accuracy["match"].isin(["", match])].assign(match=match) for match in matches]
    return pd.concat(parts, ignore_index=True) if parts else accuracy
