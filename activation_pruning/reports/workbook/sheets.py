"""The cells of a sheet: typed, in readable formats, coloured and laid out for print."""

from typing import Any

from openpyxl.cell import WriteOnlyCell
from openpyxl.formatting.rule import ColorScaleRule
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter

from activation_pruning.reports.formats import GENERAL, as_text, column_formats, plain
from activation_pruning.support.types import Table

MAX_ROWS, MAX_COLUMNS = 1_048_576, 16_384  # of one Excel sheet
_WIDEST = 80  # characters; longer text wraps
_ROW = 15  # points, of one line of text


def fill(sheet: Any, table: Table) -> None:
    """Write a table to an empty openpyxl sheet, with a header that stays in sight."""
    codes = column_formats(table)
    _lay_out(sheet, table, codes)
    bold = Font(name="Calibri", size=11, bold=True)  # the workbook's own font, which is regular
    grey = PatternFill("solid", start_color="E8ECF2")
    line = Border(bottom=Side("thin", color="7F8794"))
    header = []
    for name, code in zip(table.columns, codes, strict=True):
        cell = _cell(sheet, plain(name), GENERAL)
        side = "left" if code == GENERAL else "right"
        cell.font, cell.fill, cell.border = bold, grey, line
        cell.alignment = Alignment(horizontal=side, vertical="center", indent=side == "left")
        header.append(cell)
    sheet.append(header)
    for i, row in enumerate(table.itertuples(index=False, name=None), 2):
        lines = max(map(_lines, row), default=1)
        if lines > 1:  # not every program finds the height of wrapped text by itself
            sheet.row_dimensions[i].height = min(_ROW * lines, 409)  # the most in Excel
        # All cells of a row begin on its first line.
        vertical = "top" if lines > 1 else None
        sheet.append([_cell(sheet, plain(v), c, vertical) for v, c in zip(row, codes, strict=True)])
    sheet.auto_filter.ref = f"A1:{get_column_letter(table.shape[1])}{len(table) + 1}"


def colour(sheet: Any, table: Table, columns: dict[str, str]) -> None:
    """Colour columns of numbers from white to orange: {column: the end that is orange}."""
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
