"""What every kind of report shares: how a number reads, and how a file gets to its place."""

import datetime
import math
import re

import numpy as np
import pandas as pd
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from activation_pruning.support.names import did_you_mean

# From dark to light (CIE lightness 13 to 74), so that neighbours stay apart in grey.
PALETTE = ("#14213d", "#8f1d5c", "#1f67a8", "#c8553d", "#3f9f6b", "#d99a1c", "#74c2e1")

GENERAL, TEXT, DATE = "General", "@", "yyyy-mm-dd hh:mm:ss"
_SHARE = re.compile(r"sparsity|accuracy|frequency|(^|[_ ])(share|fraction|top[_-]?5)([_ ]|$)")
_BOUND = re.compile(r"_(low|high|ci[\d.]+)$")
_BAD_TEXT = re.compile(ILLEGAL_CHARACTERS_RE.pattern + "|[\ud800-\udfff\ufffe\uffff]")
MAX_ROWS, MAX_COLUMNS = 1_048_576, 16_384  # of one Excel sheet
_LONGEST_TEXT = 32_767  # characters in one Excel cell
_EXACT = (
    10**15
)  # Excel keeps 15 digits: a larger integer would be changed, so it is written as text


def column_format(name, values):
    """Number format (an Excel code) of a column, by its name and its values.

    Fractions (``sparsity``, ``accuracy``, ``frequency``, ``share``, ``top5`` in the name, and all
    values in [-1, 1]) read ``0.0%``, or ``0.00%`` where they have more digits; seconds
    (``time_s``) ``0.00``; whole numbers and bytes ``#,##0``; other numbers show four
    significant digits of the largest one.

    Args:
        name: the column's name.
        values: the column, a Series or a sequence of any type.

    Returns:
        The format code; ``"General"`` for text, truth values and columns of mixed type.

    Example:
        >>> column_format("test_accuracy", [0.5, 0.25]), column_format("size_bytes", [2048])
        ('0.0%', '#,##0')
    """
    values = pd.Series(values).infer_objects().dropna()
    if pd.api.types.is_datetime64_any_dtype(values):
        return DATE
    if values.empty or pd.api.types.is_bool_dtype(values):
        return GENERAL
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_complex_dtype(values):
        return GENERAL
    return _numeric_format(str(name).lower(), values)


def column_formats(table):
    """Number formats of a table's columns, see `column_format`.

    Ends of an interval (``<name>_low``, ``<name>_high``) and half-widths (``<name>_ci95``) read as
    percent where <name> does: beyond 100 % as well, which wide intervals of few runs are.

    Args:
        table: a DataFrame.

    Returns:
        A list of format codes.

    Example:
        >>> column_formats(pd.DataFrame({"accuracy": [0.5, 0.25], "accuracy_ci95": [1.5, 0.1]}))
        ['0.0%', '0.00%']
    """
    names = [str(name) for name in table.columns]
    codes = [column_format(name, table.iloc[:, i]) for i, name in enumerate(names)]
    for i, name in enumerate(names):
        whole = _BOUND.sub("", name)
        if whole != name and whole in names and codes[i] != GENERAL:
            of = codes[names.index(whole)]
            codes[i] = "0.00%" if of.endswith("%") and not codes[i].endswith("%") else codes[i]
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


def as_text(value, code):
    """The value as the workbook shows it under this format code; a missing one is empty.

    Args:
        value: anything that a table holds.
        code: a code that `column_format` returned.

    Returns:
        The text.

    Example:
        >>> as_text(0.8, "0.0%"), as_text(266610, "#,##0"), as_text(None, "0.00")
        ('80.0%', '266,610', '')
    """
    value = plain(value)
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, (bool, str)) or not isinstance(value, (int, float)):
        return str(value)
    if code in (GENERAL, TEXT):
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    places = len(re.search(r"\.?(0*)(%|E\+00)?$", code.partition(".")[2])[1])
    kind = "%" if code.endswith("%") else "E" if "E" in code else "f"
    return format(value, f"{',' if ',' in code else ''}.{places}{kind}")


def plain(value):
    """One table cell as the Python value that a file can hold, or None where it is missing.

    Numbers stay numbers; infinities, integers beyond 15 digits and everything else become text.
    A time with a zone is given in UTC, since Excel knows no zones. In text, characters that XML
    forbids become U+FFFD, and text beyond 32,767 characters is cut and ends in an ellipsis.

    Args:
        value: anything that a table holds.

    Returns:
        None, bool, int, float, datetime, timedelta or str.

    Example:
        >>> plain(np.float32(0.5)), plain(float("nan")), plain(float("inf"))
        (0.5, None, 'inf')
    """
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, datetime.date):  # a datetime is one, too
        return _moment(value)
    if isinstance(value, (bool, datetime.timedelta)):
        return value
    if isinstance(value, int) and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    text = _BAD_TEXT.sub("\ufffd", str(value))
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


def _moment(value):
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    value = value.to_pydatetime(warn=False) if isinstance(value, pd.Timestamp) else value
    if value.tzinfo is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value if value.year >= 1900 else value.isoformat(sep=" ")  # Excel counts from 1900


def table_of(table, name):
    """The table with text column names, and with a named index turned into columns.

    Args:
        table: a DataFrame.
        name: how messages call it.

    Returns:
        A DataFrame with a plain index.

    Raises:
        ValueError: it is not a DataFrame, or has no columns.
    """
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


def need(table, function, *columns, empty=False):
    """Raise unless the table has rows, and these columns with values in them.

    Args:
        table: what should be a DataFrame.
        function: whose argument it is, for the message.
        *columns: names.
        empty: whether a table or column without values will do.

    Raises:
        ValueError: it is not a DataFrame, or lacks a column or its values.
    """
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"{function}: expected a DataFrame, got a {type(table).__name__}")
    for name in columns:
        one_of(name, list(table.columns), f"{function}: column")
        if not empty and table[name].isna().all():
            what = "the table has no rows" if table.empty else f"column {name!r} has no values"
            raise ValueError(f"{function}: {what}; there is nothing to draw")


def listed(name, value):
    """The names of columns as a list.

    Args:
        name: of the argument, for the message.
        value: what was received.

    Raises:
        TypeError: one name alone, whose letters would be taken for names.
    """
    if isinstance(value, str):
        raise TypeError(f"{name}={value!r}; give a list of columns, [{value!r}].")
    return list(value)


def refuse_missing(table, metric, function):
    """Raise where a column of numbers lacks some: a comparison without them would not be fair.

    Args:
        table: a DataFrame.
        metric: the column.
        function: whose argument the table is, for the message.

    Raises:
        ValueError: there are missing numbers; the message says how many.
    """
    missing = int((~np.isfinite(table[metric].to_numpy(dtype=float))).sum())
    if missing:
        raise ValueError(
            f"{function}: column {metric!r} lacks {missing} of {len(table)} finite numbers. Leave "
            "out the runs that failed, or the methods that have such runs, before comparing."
        )


def one_of(name, valid, what):
    """The name, if it is valid.

    Raises:
        ValueError: it is not; the message lists the valid names and the closest one.
    """
    if name in valid:
        return name
    hint = did_you_mean(name, valid)
    raise ValueError(f"{what} {name!r} is unknown; there are {', '.join(map(repr, valid))}{hint}")
