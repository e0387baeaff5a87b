"""How values read, in workbooks, pages and pictures alike: number formats, texts, colours."""

import datetime
import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from activation_pruning.support import texts
from activation_pruning.support.types import Table

# From dark to light (CIE lightness 13 to 74), so that neighbours stay apart in grey.
PALETTE = ("#14213d", "#8f1d5c", "#1f67a8", "#c8553d", "#3f9f6b", "#d99a1c", "#74c2e1")
GENERAL, DATE = "General", "yyyy-mm-dd hh:mm:ss"
_SHARE = re.compile(r"sparsity|accuracy|frequency|(^|[_ ])(share|fraction|top[_-]?5)([_ ]|$)")
_BOUND = re.compile(r"_(low|high|ci[\d.]+)$")
_LONGEST_TEXT = 32_767  # in one Excel cell
_EXACT = 10**15  # Excel keeps 15 digits: a larger integer would be changed, so it becomes text


def column_format(name: str, values: Iterable[Any]) -> str:
    """Excel's number format of a column, by its name and its values.

    Fractions (``sparsity``, ``accuracy``, ``frequency``, ``share``, ``top5`` in the name, and all
    values in [-1, 1]) read ``0.0%``, or ``0.00%`` where they have more digits; seconds
    (``time_s``) ``0.00``; whole numbers and bytes ``#,##0``; other numbers show four significant
    digits of the largest one; text, truth values and columns of mixed type are ``"General"``.

    Example:
        >>> column_format("test_accuracy", [0.5, 0.25]), column_format("size_bytes", [2048])
        ('0.0%', '#,##0')
    """
    column = pd.Series(values).infer_objects().dropna()
    of = pd.api.types
    if of.is_datetime64_any_dtype(column):
        return DATE
    number = of.is_numeric_dtype(column) and not of.is_complex_dtype(column)
    if column.empty or not number or of.is_bool_dtype(column):
        return GENERAL
    return _numeric_format(str(name).lower(), column)


def column_formats(table: Table) -> list[str]:
    """Number formats of a table's columns, see `column_format`.

    Ends of an interval (``<name>_low``, ``<name>_high``) and half-widths (``<name>_ci95``) read as
    percent where <name> does, beyond 100 % as well.

    Example:
        >>> column_formats(pd.DataFrame({"accuracy": [0.5, 0.25], "accuracy_ci95": [1.5, 0.1]}))
        ['0.0%', '0.00%']
    """
    names = [str(name) for name in table.columns]
    codes = [column_format(name, table.iloc[:, i]) for i, name in enumerate(names)]
    for i, name in enumerate(names):
        whole = _BOUND.sub("", name)
        of = codes[names.index(whole)] if whole in names else GENERAL
        if codes[i] != GENERAL and of.endswith("%") and not codes[i].endswith("%"):
            codes[i] = "0.00%"
    return codes


def _numeric_format(name, values):
    finite = np.abs(values.to_numpy(dtype=float))
    largest = finite[np.isfinite(finite)].max(initial=0.0)
    if _SHARE.search(name) and largest <= 1:
        whole = np.round(finite, 3) == np.round(finite, 6)  # to a tenth of a percent
        return "0.0%" if np.all(whole | ~np.isfinite(finite)) else "0.00%"
    if re.search(r"(^|_)time_s$", name):
        return "0.00"
    if re.search(r"(^|_)seed$", name):
        return "0"  # a seed is a name: no thousands separator
    if name.endswith("_bytes") or np.all(finite == np.floor(finite)):
        return "#,##0"  # also whole numbers that pandas holds as floats because some are missing
    digits = 3 - math.floor(math.log10(largest)) if largest else 3
    if not -6 <= digits <= 7:
        return "0.000E+00"
    return "#,##0." + "0" * digits if digits > 0 else "#,##0"


def as_text(value: Any, code: str) -> str:
    """The value as the workbook shows it under this format code; a missing one is empty.

    Example:
        >>> as_text(0.8, "0.0%"), as_text(266610, "#,##0"), as_text(None, "0.00")
        ('80.0%', '266,610', '')
    """
    value = plain(value)
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if code == GENERAL:
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    places = code.partition(".")[2].partition("E")[0].count("0")
    kind = "%" if code.endswith("%") else "E" if "E" in code else "f"
    return format(value, f"{',' if ',' in code else ''}.{places}{kind}")


def plain(value: Any) -> bool | float | str | datetime.datetime | datetime.timedelta | None:
    """One table cell as the Python value that a file can hold, or None where it is missing.

    Infinities, integers beyond 15 digits and other objects become text. Times are given in UTC,
    since Excel knows no zones. In text, characters that XML forbids become U+FFFD, and beyond
    32,767 characters (an emoji counts as two) it is cut and ends in an ellipsis.

    Example:
        >>> plain(np.float32(0.5)), plain(float("nan")), plain(float("inf"))
        (0.5, None, 'inf')
    """
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, np.generic):
        value = value.item()
    nan = isinstance(value, float) and math.isnan(value)
    if nan or value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, datetime.date):  # a datetime is one, too
        return _moment(value)
    if isinstance(value, (bool, datetime.timedelta)):
        return value
    if isinstance(value, int) and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    return texts.clipped(texts.for_xml(str(value)), _LONGEST_TEXT)


def _moment(value):
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    value = value.to_pydatetime(warn=False) if isinstance(value, pd.Timestamp) else value
    if value.tzinfo is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value if value.year >= 1900 else value.isoformat(sep=" ")  # Excel counts from 1900
