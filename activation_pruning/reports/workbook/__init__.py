"""An Excel workbook from tables: typed cells, readable formats, native charts, settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from openpyxl import Workbook

from activation_pruning.reports.formats import plain
from activation_pruning.reports.tables import one_of, table_of
from activation_pruning.reports.workbook.charts import Chart, add_charts, arrange
from activation_pruning.reports.workbook.sheets import MAX_COLUMNS, MAX_ROWS, colour, fill
from activation_pruning.support import types
from activation_pruning.support.files import check_path, replacing
from activation_pruning.support.settings import settings_table
from activation_pruning.support.shown import shown
from activation_pruning.support.texts import width
from activation_pruning.support.types import Table

__all__ = ["MAX_COLUMNS", "MAX_ROWS", "SETTINGS", "Chart", "settings_table", "write"]

SETTINGS = "Settings"


def write(
    path: types.Path,
    tables: dict[str, Table],
    charts: Sequence[Chart] = (),
    settings: Table | None = None,
    scales: dict[str, dict[str, str]] | None = None,
) -> Path:
    """Write tables as the sheets of an Excel workbook, with a sheet of settings at the end.

    A named index becomes columns, another one is left out. A sheet with a chart has its rows
    sorted by the chart's series and x, so that each curve is one block of rows; the charts of a
    sheet share both. The file appears complete or not at all.

    Args:
        path: the .xlsx file; missing folders are made.
        tables: sheet title -> DataFrame. Titles follow Excel's rules and are never shortened.
        charts: stand to the right of the data.
        settings: DataFrame of the last sheet; None for `settings_table()`.
        scales: sheet title -> dict of column of numbers -> "high" or "low", the end that is
            coloured orange; the other end is white.

    Raises:
        ValueError: a bad suffix, title, chart or scale, or a table beyond Excel's limits of
            1,048,576 rows (header included) and 16,384 columns. Nothing is written then.
        OSError: the file cannot be written; the message names it.

    Example:
        >>> write("runs.xlsx", {"Runs": table})                         # doctest: +SKIP
        PosixPath('runs.xlsx')
    """
    path = check_path(path, ".xlsx")
    sheets, blocks = arrange(_checked(tables, settings), charts)
    scales = scales or {}
    for title, columns in scales.items():
        _check_scale(sheets[one_of(title, sheets, "scale of sheet")], columns)
    with replacing(path) as temporary:
        book = Workbook(write_only=True)  # rows go to disk as they come
        book.properties.creator = "activation-pruning"
        try:
            for title, table in sheets.items():
                sheet = book.create_sheet(title)
                fill(sheet, table)
                colour(sheet, table, scales.get(title, {}))
            add_charts(book, sheets, blocks, charts)
            book.save(temporary)
        finally:
            for sheet in book.worksheets:
                if not sheet.closed:  # after a failure; else openpyxl complains later, on stderr
                    sheet.close()
    return path


def _checked(tables, settings):
    """All sheets with sound titles and sizes; settings last."""
    if not isinstance(tables, Mapping):
        raise TypeError(f"tables={shown(tables)}; give a dict of sheet titles and DataFrames")
    if SETTINGS.casefold() in [str(title).casefold() for title in tables]:
        raise ValueError(f"the sheet {SETTINGS!r} is written by settings=; rename your table")
    sheets, seen = {}, {}
    for title, table in tables.items():
        _check_title(title)
        other = seen.setdefault(title.casefold(), title)
        if other != title:
            raise ValueError(
                f"sheet titles {other!r} and {title!r} differ in case only, which Excel does not "
                "allow; rename one"
            )
        sheets[title] = table_of(table, f"the table of sheet {title!r}")
    settings = settings_table() if settings is None else settings
    sheets[SETTINGS] = table_of(settings, "settings")
    for title, table in sheets.items():
        _check_size(title, *table.shape)
    return sheets


def _check_title(title):
    if not isinstance(title, str) or not title.strip():
        fault = "must be a text that is not empty"
    elif width(title) > 31:
        fault = f"has {width(title)} characters; Excel allows 31, and an emoji counts as two"
    elif set(title) & set("[]:*?/\\") or plain(title) != title or not title.isprintable():
        fault = "must not contain [ ] : * ? / \\ or control characters"
    elif title.startswith("'") or title.endswith("'"):
        fault = "must not begin or end with an apostrophe"
    elif title.lower() == "history":
        fault = "is reserved by Excel; take another, for example 'Training'"
    else:
        return
    raise ValueError(f"sheet title {shown(title)} {fault}")


def _check_size(title, rows, columns):
    if rows + 1 > MAX_ROWS:
        raise ValueError(
            f"sheet {title!r} has {rows:,} rows and a header; Excel allows {MAX_ROWS:,} in all. "
            "Split the table over several sheets, summarise it, or write it with DataFrame.to_csv"
        )
    if columns > MAX_COLUMNS:
        raise ValueError(
            f"sheet {title!r} has {columns:,} columns; Excel allows {MAX_COLUMNS:,}. "
            "Make the table long with DataFrame.melt, or write it with DataFrame.to_csv"
        )


def _check_scale(table, columns):
    if not isinstance(columns, dict):
        raise ValueError(f'scale {shown(columns)} is no dict of column -> "high" or "low"')
    for name, end in columns.items():
        one_of(name, list(table.columns), "scale column")
        one_of(end, ("high", "low"), f"coloured end of {name!r}")
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise ValueError(f"scale column {name!r} holds no numbers")
