"""An Excel workbook from tables: typed cells, readable formats, native charts, settings."""

import datetime
import importlib.metadata
import math
import platform
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.chart import BarChart, LineChart, Reference, ScatterChart, Series
from openpyxl.chart.axis import ChartLines
from openpyxl.chart.data_source import AxDataSource, NumRef, StrRef
from openpyxl.chart.marker import Marker
from openpyxl.chart.series import SeriesLabel
from openpyxl.chart.shapes import GraphicalProperties
from openpyxl.chart.title import title_maker
from openpyxl.drawing.text import CharacterProperties, ParagraphProperties
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter, quote_sheetname

from .files import (
    GENERAL,
    PALETTE,
    as_text,
    column_format,
    one_of,
    plain,
    replacing,
    table_of,
)

MAX_ROWS, MAX_COLUMNS = 1_048_576, 16_384
SETTINGS = "Settings"
_PACKAGES = ("keras", "tensorflow", "numpy", "pandas", "activation-pruning")
_KINDS = ("line", "scatter", "bar")
_MARKERS = ("circle", "square", "triangle", "diamond", "x", "plus", "star")
_DASHES = ("solid", "dash", "sysDot", "dashDot", "lgDash", "sysDash", "lgDashDot")
_WIDEST = 60  # characters; longer text wraps
_CHART_ROWS = 21  # a chart of 10 cm and some air, in rows of 15 points


@dataclass(frozen=True)
class Chart:
    """A native Excel chart of one sheet; the columns are given by name.

    Attributes:
        sheet: title of the sheet that holds the data.
        x: column of the horizontal axis.
        y: column of the vertical axis, numbers.
        series: column whose values split the rows into curves; None for one curve.
        kind: ``"line"`` (points joined in the order of x), ``"scatter"`` (points) or ``"bar"``.
        title, x_title, y_title: texts; the columns' names where empty.
    """

    sheet: str
    x: str
    y: str
    series: str | None = None
    kind: str = "line"
    title: str = ""
    x_title: str = ""
    y_title: str = ""


def write(path, tables, charts=(), settings=None):
    """Write tables as the sheets of an Excel workbook, with a sheet of settings at the end.

    A named index becomes columns, another one is left out. A sheet with a chart has its rows
    sorted by the chart's series and x, so that each curve is one block of rows; the charts of a
    sheet share both. The file appears complete or not at all.

    Args:
        path: the .xlsx file; missing folders are made, an older file is replaced.
        tables: sheet title -> DataFrame. Titles follow Excel's rules and are never shortened.
        charts: `Chart` objects; they stand to the right of the data.
        settings: DataFrame of the last sheet; None for `settings_table()`.

    Returns:
        The path, as a `Path`.

    Raises:
        ValueError: a bad suffix, title or chart, or a table beyond Excel's limits of 1,048,576
            rows (header included) and 16,384 columns. Nothing is written then.
        OSError: the file cannot be written; the message names it.

    Example:
        >>> write("runs.xlsx", {"Runs": table})                         # doctest: +SKIP
        PosixPath('runs.xlsx')
    """
    path = Path(path)
    if path.suffix.lower() != ".xlsx":
        raise ValueError(f"path {str(path)!r} must end in .xlsx, the format that is written")
    sheets = _checked(tables, settings)
    sheets, blocks = _arranged(sheets, charts)
    with replacing(path) as temporary:
        book = Workbook(write_only=True)  # rows go to disk as they come
        book.properties.creator = "activation-pruning"
        try:
            for title, table in sheets.items():
                _fill(book.create_sheet(title), table)
            _add_charts(book, sheets, blocks, charts)
            book.save(temporary)
        finally:
            for sheet in book.worksheets:
                if not sheet.closed:  # after a failure; else openpyxl complains later, on stderr
                    sheet.close()
    return path


def settings_table(**extra):
    """What is needed to repeat a run: command, date, your settings, versions.

    Args:
        **extra: settings such as ``backend="jax"``, ``seeds=[0, 1, 2]``, ``time_s=3.5``. The unit
            is read from the name's ending (``_s``, ``_ms``, ``_bytes``).

    Returns:
        DataFrame with the columns key, value, unit.

    Example:
        >>> table = settings_table(seeds=[0, 1, 2], limit_s=60)
        >>> table[table.key.isin(["seeds", "limit_s"])].values.tolist()
        [['seeds', '0, 1, 2', ''], ['limit_s', 60, 's']]
    """
    now = datetime.datetime.now().astimezone().replace(microsecond=0)
    # The interpreter's folder says nothing about the run; its arguments do, exactly as typed.
    rows = [
        ("command", shlex.join(["python", *sys.orig_argv[1:]]), ""),
        ("date", now.replace(tzinfo=None), f"local time, UTC{now:%z}"),
    ]
    for key, value in extra.items():
        if isinstance(value, (list, tuple, set, frozenset, range)):
            value = ", ".join(map(str, value))
        unit = key.rpartition("_")[2]
        rows.append((key, value, unit if unit in ("s", "ms", "bytes") and unit != key else ""))
    rows.append(("version of python", platform.python_version(), ""))
    rows += [(f"version of {name}", _version(name), "") for name in _PACKAGES]
    return pd.DataFrame(rows, columns=["key", "value", "unit"]).astype({"value": object})


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


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


def _arranged(sheets, charts):
    """Sheets sorted for their charts, and by sheet its curves: (first row, last row) each."""
    keys = {}
    for chart in charts:
        one_of(chart.sheet, sheets, "chart sheet")
        one_of(chart.kind, _KINDS, "chart kind")
        columns = [name for name in (chart.x, chart.y, chart.series) if name is not None]
        for name in columns:
            one_of(name, list(sheets[chart.sheet].columns), f"chart column of {chart.sheet!r}")
        if not pd.api.types.is_numeric_dtype(sheets[chart.sheet][chart.y]):
            raise ValueError(f"chart column {chart.y!r} of sheet {chart.sheet!r} holds no numbers")
        key = keys.setdefault(chart.sheet, (chart.series, chart.x))
        if key != (chart.series, chart.x):
            raise ValueError(
                f"the charts of sheet {chart.sheet!r} must share x and series, by which its rows "
                "are sorted; give the table a second sheet for the other chart"
            )
    blocks = {}
    for title, (series, x) in keys.items():
        sheets[title], blocks[title] = _sorted(title, sheets[title], series, x)
        for chart in charts:
            if chart.sheet == title and not _numeric_x(chart, sheets[title]):
                _check_categories(chart, sheets[title], blocks[title])
    return sheets, blocks


def _sorted(title, table, series, x):
    if table.empty:
        raise ValueError(f"sheet {title!r} has a chart but no rows; leave the chart out")
    order = pd.DataFrame({"curve": 0, "x": table[x]})
    if series is not None:  # curves in the order of their first row; rows without one go last
        codes = pd.factorize(table[series])[0]
        order["curve"] = [len(table) if code < 0 else code for code in codes]
    if not pd.api.types.is_numeric_dtype(order["x"]):
        order["x"] = pd.factorize(order["x"])[0]  # names stay in the order of the table
    order = order.sort_values(["curve", "x"], kind="stable")
    table = table.loc[order.index].reset_index(drop=True)
    curves = order["curve"].reset_index(drop=True)
    if curves.nunique() > 255:
        raise ValueError(
            f"a chart of sheet {title!r} would have {curves.nunique()} curves (values of "
            f"{series!r}); Excel allows 255. Keep fewer values, or drop the chart"
        )
    groups = curves[curves < len(table)].groupby(curves)
    return table, [(part.index[0] + 2, part.index[-1] + 2) for _, part in groups]


def _numeric_x(chart, table):
    return chart.kind != "bar" and pd.api.types.is_numeric_dtype(table[chart.x])


def _check_categories(chart, table, blocks):
    """Bars and lines over names take the names of the first curve: the others must agree."""
    names = [table[chart.x].iloc[first - 2 : last - 1].tolist() for first, last in blocks]
    if any(other != names[0] for other in names):
        raise ValueError(
            f"the curves of the chart {chart.y!r} on sheet {chart.sheet!r} have different values of"
            f" {chart.x!r}; give each value of {chart.series!r} one row for each {chart.x!r}"
        )


def _fill(sheet, table):
    codes = [column_format(name, table.iloc[:, i]) for i, name in enumerate(table.columns)]
    _lay_out(sheet, table, codes)
    bold = Font(name="Calibri", size=11, bold=True)  # the workbook's own font, which is regular
    fill = PatternFill("solid", start_color="E8ECF2")
    line = Border(bottom=Side("thin", color="7F8794"))
    header = []
    for name, code in zip(table.columns, codes, strict=True):
        cell = _cell(sheet, plain(name), GENERAL)
        side = "left" if code == GENERAL else "right"
        cell.font, cell.fill, cell.border = bold, fill, line
        cell.alignment = Alignment(horizontal=side, vertical="center")
        header.append(cell)
    sheet.append(header)
    for row in zip(*(table.iloc[:, i] for i in range(table.shape[1])), strict=True):
        sheet.append([_cell(sheet, plain(v), c) for v, c in zip(row, codes, strict=True)])
    sheet.auto_filter.ref = f"A1:{get_column_letter(table.shape[1])}{len(table) + 1}"


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


def _cell(sheet, value, code):
    cell = WriteOnlyCell(sheet, value)
    if isinstance(value, str):
        # Never a formula or an error value, also after the user has edited the cell.
        cell.quotePrefix = value.startswith("=")
        cell.data_type = "s"
    elif code != GENERAL:
        cell.number_format = code
    side = "left" if code == GENERAL else "right"
    if isinstance(value, str) and len(value) > _WIDEST:
        cell.alignment = Alignment(horizontal=side, vertical="top", wrap_text=True)
    elif isinstance(value, str) == (code != GENERAL):  # not where Excel puts it anyway
        cell.alignment = Alignment(horizontal=side)
    return cell


def _add_charts(book, sheets, blocks, charts):
    """Charts to the right of the data, one below the other."""
    seen = dict.fromkeys(sheets, 0)
    for chart in charts:
        sheet, table = book[chart.sheet], sheets[chart.sheet]
        column = get_column_letter(min(table.shape[1] + 2, MAX_COLUMNS))
        anchor = f"{column}{2 + _CHART_ROWS * seen[chart.sheet]}"
        sheet.add_chart(_native(chart, sheet, table, blocks[chart.sheet]), anchor)
        seen[chart.sheet] += 1


def _native(chart, sheet, table, blocks):
    """The openpyxl chart, one series per block of rows."""
    numeric = _numeric_x(chart, table)
    kind = ScatterChart if numeric else BarChart if chart.kind == "bar" else LineChart
    native = kind()
    column = {name: i + 1 for i, name in enumerate(table.columns)}
    for i, (first, last) in enumerate(blocks):
        x = Reference(sheet, column[chart.x], first, column[chart.x], last)
        y = Reference(sheet, column[chart.y], first, column[chart.y], last)
        series = Series(y, x) if numeric else Series(y)
        if not numeric:
            series.cat = _categories(x, table[chart.x])
        name = get_column_letter(column[chart.series or chart.y])
        row = 1 if chart.series is None else first  # the header names the only curve
        where = f"{quote_sheetname(chart.sheet)}!${name}${row}"
        series.tx = SeriesLabel(strRef=StrRef(where))
        _paint(series, i, chart.kind)
        native.series.append(series)
    native.title = _title(chart.title or f"{chart.y} against {chart.x}".replace("_", " "), 1200)
    native.width, native.height = 17, 10  # cm
    native.roundedCorners = False
    if chart.series is None:
        native.legend = None
    else:
        native.legend.position, native.legend.overlay = "b", False
    if kind is ScatterChart:
        native.style, native.scatterStyle = 13, "lineMarker"
    _axis(native.x_axis, chart.x_title or chart.x, chart.x, table[chart.x], numeric)
    _axis(native.y_axis, chart.y_title or chart.y, chart.y, table[chart.y], True)
    if kind is BarChart:
        native.y_axis.scaling.min = None if table[chart.y].min() < 0 else 0  # bars start at 0
    native.x_axis.majorGridlines = None
    grid = GraphicalProperties()
    grid.line.solidFill, grid.line.width = "D9D9D9", 6350  # EMU: half a point
    native.y_axis.majorGridlines = ChartLines(spPr=grid)
    return native


def _categories(reference, values):
    if pd.api.types.is_numeric_dtype(values):
        return AxDataSource(numRef=NumRef(str(reference)))
    return AxDataSource(strRef=StrRef(str(reference)))


def _paint(series, i, kind):
    """Colour, marker and dash together, so that the curves stay apart in grey."""
    colour = PALETTE[i % len(PALETTE)].lstrip("#").upper()
    look = series.graphicalProperties = GraphicalProperties()
    if kind == "bar":
        look.solidFill = colour
        return
    look.line.width = 22225  # EMU: 1.75 points
    if kind == "scatter":
        look.line.noFill = True
    else:
        look.line.solidFill, look.line.dashStyle = colour, _DASHES[i % len(_DASHES)]
    series.smooth = False
    series.marker = Marker(_MARKERS[i % len(_MARKERS)], size=6)
    series.marker.graphicalProperties = GraphicalProperties(solidFill=colour)
    series.marker.graphicalProperties.line.solidFill = colour


def _title(text, size):
    """A title of this size (hundredths of a point) that does not cover the plot."""
    font = CharacterProperties(sz=size, b=False)
    title = title_maker(text)
    title.tx.rich.p[0].pPr = ParagraphProperties(defRPr=font)
    title.tx.rich.p[0].r[0].rPr = font
    title.overlay = False
    return title


def _axis(axis, title, name, values, scaled):
    axis.title = _title(title, 1000)
    axis.delete = False  # openpyxl hides the axes by default
    axis.tickLblPos = "low"  # also when the other axis crosses in the middle
    code = column_format(name, values)
    if code == GENERAL:
        return
    if code == "0.0%" and scaled:  # tight bounds on whole percents, and no tick labelled 120 %
        low, high = values.min(), values.max()
        spread = round(high - low, 6)
        step = 0.2 if spread > 0.5 else 0.05 if spread >= 0.1 else 0.01
        floor, ceiling = math.floor(low / step - 0.01), math.ceil(high / step + 0.01)
        axis.scaling.min = round(step * (max(floor, 0) if low >= 0 else floor), 2)
        axis.scaling.max = round(min(1, step * ceiling), 2)
        axis.majorUnit = step
        code = "0%"
    axis.number_format = code
    axis.numFmt.sourceLinked = False
