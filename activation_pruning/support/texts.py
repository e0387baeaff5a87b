"""Texts from anywhere (names of layers, messages), made safe for the kind of file they go into."""

import csv
import re
from collections.abc import Callable
from typing import Any

import pandas as pd

from activation_pruning.support import types

_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_NO_NAME = re.compile(r"[^\w.+-]+")
# What a spreadsheet takes for a formula, in the wide letters of East Asia as well.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*(e[+-]?\d+)?|\.\d+(e[+-]?\d+)?|inf|nan)", re.IGNORECASE)


def for_xml(text: str) -> str:
    """The text with U+FFFD for characters that XML forbids: for workbooks, pages and pictures.

    Example:
        >>> for_xml("dense" + chr(1)) == "dense" + chr(0xFFFD)
        True
    """
    return _NOT_XML.sub("\ufffd", text)


def width(text: str) -> int:
    """How long a text is for Excel, which counts in UTF-16: an emoji takes two.

    Example:
        >>> width("a" + chr(0x1F600))
        3
    """
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def clipped(text: str, most: int) -> str:
    """The text, cut to a `width` and ended by an ellipsis where it is longer.

    Example:
        >>> len(clipped("a" * 300, 255))
        255
    """
    if width(text) <= most:
        return text
    cut = text.encode("utf-16-le", "surrogatepass")[: 2 * (most - 1)]
    return cut.decode("utf-16-le", "ignore") + "…"


def file_name(text: str) -> str:
    """A text as part of a file's name: letters, digits, `.`, `+` and `-`, at most 100 of them.

    Example:
        >>> file_name("../Low rank: 5 %")
        '.._Low_rank_5_'
    """
    return _NO_NAME.sub("_", text)[:100]


def for_csv(text: str) -> str:
    """The text with an apostrophe in front where a spreadsheet would take it for a formula.

    Numbers stay as they are; `from_csv` takes the apostrophe away.

    Example:
        >>> for_csv("=1+1"), for_csv("-0.5"), for_csv("dense")
        ("'=1+1", '-0.5', 'dense')
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def from_csv(text: str) -> str:
    """The text that `for_csv` was given.

    Example:
        >>> from_csv("'=1+1"), from_csv("'quoted'")
        ('=1+1', "'quoted'")
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def write_csv(table: types.Table, path: types.Path) -> None:
    """Write a table as a CSV file, in UTF-8, whose texts no spreadsheet takes for formulas."""
    cells = translated(table, for_csv)
    # Python does not quote a lone carriage return, which readers take for the end of a row.
    texts = cells.select_dtypes(exclude="number").to_numpy(dtype=object).ravel()
    lone = any("\r" in str(text) for text in [*cells.columns, *texts])
    quoting = csv.QUOTE_NONNUMERIC if lone else csv.QUOTE_MINIMAL
    cells.to_csv(path, index=False, quoting=quoting, errors="surrogatepass")


def read_csv(path: types.Path) -> types.Table:
    """The table that `write_csv` wrote, all cells as texts: empty ones are "".

    Raises:
        ValueError: it is no table: rows of another length than the first, text that is no UTF-8.
    """
    with open(path, encoding="utf-8", errors="surrogatepass", newline="") as file:
        try:
            rows = list(csv.reader(file, strict=True))
        except csv.Error as error:
            raise ValueError(f"it is no CSV file ({error})") from error
    header = rows[0] if rows else []
    if len(set(header)) < len(header) or any(len(row) != len(header) for row in rows):
        raise ValueError("it is no table: a row has another length, or a column comes twice")
    return translated(pd.DataFrame(rows[1:], columns=header, dtype=str), from_csv)


def translated(value: Any, change: Callable[[str], str]) -> Any:
    """A value with its texts changed: those of a table's cells and columns, of lists and dicts.

    Example:
        >>> translated({"a": ["b", 1]}, str.upper)
        {'A': ['B', 1]}
    """
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {translated(k, change): translated(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [translated(one, change) for one in value]
    if not isinstance(value, pd.DataFrame):
        return value
    table = value.rename(columns=lambda name: translated(name, change))
    for i in range(table.shape[1]):
        column = table.iloc[:, i]
        if not pd.api.types.is_numeric_dtype(column):
            known = column.unique()
            others = {one: change(one) for one in known if isinstance(one, str)}
            if any(one != other for one, other in others.items()):
                table.isetitem(i, [others.get(one, one) for one in column.astype(object)])
    return table
