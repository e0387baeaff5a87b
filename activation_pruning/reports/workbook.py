"""An Excel workbook from tables: typed cells, readable formats, native charts, settings."""

from pathlib import Path

import pandas as pd
from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.formatting.rule import ColorScaleRule
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter

from activation_pruning.support.files import replacing
from activation_pruning.support.settings import settings_table

from .charts import Chart, add_charts, arrange
from .files import (
    GENERAL,
    MAX_COLUMNS,
    MAX_ROWS,
    as_text,
    column_formats,
    one_of,
    plain,
    table_of,
)

__all__ = ["MAX_COLUMNS", "MAX_ROWS", "SETTINGS", "Chart", "settings_table", "write"]

SETTINGS = "Settings"
_WIDEST = 80  # characters; longer text wraps
_ROW = 15  # points, of one line of text


def write(path, tables, charts=(), settings=None, scales=None):
    """Write tables as the sheets of an Excel workbook, with a sheet of settings at the end.

    A named index becomes columns, another one is left out. A sheet with a chart has its rows
    sorted by the chart's series and x, so that each curve is one block of rows; the charts of a
    sheet share both. The file appears complete or not at all.

    Args:
        path: the .xlsx file; missing folders are made, an older file is replaced.
        tables: sheet title -> DataFrame. Titles follow Excel's rules and are never shortened.
        charts: `Chart` objects; they stand to the right of the data.
        settings: DataFrame of the last sheet; None for `settings_table()`.
        scales: sheet title -> dict of column of numbers -> "high" or "low", the end that is
            coloured orange; the other end is white.

    Returns:
        The path, as a `Path`.

    Raises:
        ValueError: a bad suffix, title, chart or scale, or a table beyond Excel's limits of
            1,048,576 rows (header included) and 16,384 columns. Nothing is written then.
        OSError: the file cannot be written; the message names it.

    Example:
        >>> write("runs.xlsx", {"Runs": table})                         # doctest: +SKIP
        PosixPath('runs.xlsx')
    """
    path = Path(path)
    if path.suffix.lower() != ".xlsx":
        raise ValueError(f"path {str(path)!r} must end in .xlsx, the format that is written")
    sheets = _checked(tables, settings)
    sheets, blocks = arrange(sheets, charts)
    scales = scales or {}
    for title, columns in scales.items():
        _check_scale(sheets[one_of(title, sheets, "scale of sheet")], columns)
    with replacing(path) as temporary:
        book = Workbook(write_only=True)  # rows go to disk as they come
        book.properties.creator = "activation-pruning"
        try:
            for title, table in sheets.items():
                sheet = book.create_sheet(title)
                _fill(sheet, table)
                _colour(sheet, table, scales.get(title, {}))
            add_charts(book, sheets, blocks, charts)
            book.save(temporary)
        finally:
            for sheet in book.worksheets:
                if not sheet.closed:  # after a failure; else openpyxl complains later, on stderr
                    sheet.close()
    return path


def _checked(tables, settings):
    """All sheets with sound titles and sizes; settings last."""
    if SETTINGS.lower() in [str(title).lower() for title in tables]:
        raise ValueError(f"the sheet {SETTINGS!r} is written by settings=; rename your table")
    sheets, seen = {}, {}
    for title, table in tables.items():
        _check_title(title)
        if title.lower() in seen:
            raise ValueError(
                f"sheet titles {seen[title.lower()]!r} and {title!r} differ in case only, which "
                "Excel does not allow; rename one"
            )
        seen[title.lower()] = title
        sheets[title] = table_of(table, f"the table of sheet {title!r}")
    settings = settings_table() if settings is None else settings
    sheets[SETTINGS] = table_of(settings, "settings")
    for title, table in sheets.items():
        _check_size(title, *table.shape)
    return sheets


def _check_title(title):
    fault = None
    if not isinstance(title, str) or not title.strip():
        fault = "must be a text that is not empty"
    elif len(title) > 31:
        fault = f"has {len(title)} characters; Excel allows 31"
    elif set(title) & set("[]:*?/\\") or plain(title) != title or not title.isprintable():
        fault = "must not contain [ ] : * ? / \\ or control characters"
    elif title.startswith("'") or title.endswith("'"):
        fault = "must not begin or end with an apostrophe"
    elif title.lower() == "history":
        fault = "is reserved by Excel; take another, for example 'Training'"
    if fault:
        raise ValueError(f"sheet title {title!r} {fault}")


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


def _fill(sheet, table):
    codes = column_formats(table)
    _lay_out(sheet, table, codes)
    bold = Font(name="Calibri", size=11, bold=True)  # the workbook's own font, which is regular
    fill = PatternFill("solid", start_color="E8ECF2")
    line = Border(bottom=Side("thin", color="7F8794"))
    header = []
    for name, code in zip(table.columns, codes, strict=True):
        cell = _cell(sheet, plain(name), GENERAL)
        side = "left" if code == GENERAL else "right"
        cell.font, cell.fill, cell.border = bold, fill, line
        cell.alignment = Alignment(horizontal=side, vertical="center", indent=side == "left")
        header.append(cell)
    sheet.append(header)
    for i, row in enumerate(
        zip(*(table.iloc[:, i] for i in range(table.shape[1])), strict=True), 2
    ):
        lines = max(map(_lines, row), default=1)
        if lines > 1:  # not every program finds the height of wrapped text by itself
            sheet.row_dimensions[i].height = min(_ROW * lines, 409)  # the most in Excel
        # All cells of a row begin on its first line.
        vertical = "top" if lines > 1 else None
        sheet.append([_cell(sheet, plain(v), c, vertical) for v, c in zip(row, codes, strict=True)])
    sheet.auto_filter.ref = f"A1:{get_column_letter(table.shape[1])}{len(table) + 1}"


def _check_scale(table, columns):
    if not isinstance(columns, dict):
        raise ValueError(f'scale {columns!r} is no dict of column -> "high" or "low"')
    for name, end in columns.items():
        one_of(name, list(table.columns), "scale column")
        one_of(end, ("high", "low"), f"coloured end of {name!r}")
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise ValueError(f"scale column {name!r} holds no numbers")


def _colour(sheet, table, columns):
    white, orange = "FFFFFF", "F2A679"  # black text stays readable on both
    for name, end in columns.items():
        letter = get_column_letter(list(table.columns).index(name) + 1)
        start, stop = (white, orange) if end == "high" else (orange, white)
        scale = ColorScaleRule(start_type="min", start_color=start, end_type="max", end_color=stop)
        sheet.conditional_formatting.add(f"{letter}2:{letter}{len(table) + 1}", scale)


def _lay_out(sheet, table, codes):
    sheet.freeze_panes = "A2"
    sheet.print_title_rows = "1:1"
    sheet.page_setup.orientation = "landscape"
    sheet.page_setup.fitToHeight = 0  # as many pages as needed, each as wide as the sheet
    sheet.sheet_properties.pageSetUpPr.fitToPage = True
    for i, (name, code) in enumerate(zip(table.columns, codes, strict=True)):
        shown = (len(as_text(value, code)) for value in table.iloc[:1000, i])
        longest = max(len(name) + 3, max(shown, default=0))  # 3: the filter's button
        sheet.column_dimensions[get_column_letter(i + 1)].width = min(longest + 2, _WIDEST)


def _lines(value):
    """Lines that a text takes in a column of the greatest width; a tenth is lost at their ends."""
    if not isinstance(value, str) or (len(value) <= _WIDEST and "\n" not in value):
        return 1
    return sum(max(1, -(-len(line) * 10 // (_WIDEST * 9))) for line in value.split("\n"))


def _cell(sheet, value, code, vertical=None):
    cell = WriteOnlyCell(sheet, value)
    if isinstance(value, str):
        # Never a formula or an error value, also after the user has edited the cell.
        cell.quotePrefix = value.startswith("=")
        cell.data_type = "s"
    elif code != GENERAL:
        cell.number_format = code
    # A little room on the left of texts, which else touch the number in the column before.
    place = {"horizontal": "left", "indent": 1} if code == GENERAL else {"horizontal": "right"}
    wrapped = isinstance(value, str) and _lines(value) > 1
    # Numbers stand where Excel puts them.
    if vertical or isinstance(value, str) or code == GENERAL:
        cell.alignment = Alignment(vertical=vertical, wrap_text=wrapped or None, **place)
    return cell
