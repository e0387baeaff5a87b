"""Native Excel charts: what they show, the sheets sorted for them, and how they are drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pandas as pd
from openpyxl.chart import BarChart, LineChart, Reference, ScatterChart, Series
from openpyxl.chart.axis import ChartLines
from openpyxl.chart.data_source import AxDataSource, NumRef, StrRef
from openpyxl.chart.marker import Marker
from openpyxl.chart.series import SeriesLabel
from openpyxl.chart.shapes import GraphicalProperties
from openpyxl.chart.title import title_maker
from openpyxl.drawing.text import CharacterProperties, ParagraphProperties
from openpyxl.utils import get_column_letter, quote_sheetname

from activation_pruning.reports.formats import GENERAL, PALETTE, column_format
from activation_pruning.reports.tables import one_of
from activation_pruning.reports.workbook.sheets import MAX_COLUMNS
from activation_pruning.support import texts
from activation_pruning.support.types import Table

Sheets: TypeAlias = dict[str, Table]  # by title
Blocks: TypeAlias = dict[str, list[tuple[Any, int, int]]]  # title -> (panel, rows) of its curves
_KINDS = ("line", "scatter", "bar")
_MARKERS = ("circle", "square", "triangle", "diamond", "x", "plus", "star")
_DASHES = ("solid", "dash", "sysDot", "dashDot", "lgDash", "sysDash", "lgDashDot")
_LONGEST_TITLE = 255  # that Excel lets one write
_CHART_ROWS = 21  # a chart of 10 cm and some air, in rows of 15 points


@dataclass(frozen=True)
class Chart:
    """A native Excel chart of one sheet; the columns are given by name.

    Attributes:
        sheet: title of the sheet that holds the data.
        x, y: columns of the horizontal and of the vertical axis; y holds numbers.
        series, panel: columns whose values get a curve each, and a chart each; None for only one.
        kind: ``"line"`` (points joined in the order of x), ``"scatter"`` (points) or ``"bar"``.
        title, x_title, y_title: texts; the columns' names where empty.

    Example:
        >>> Chart("Runs", "sparsity", "test_accuracy", series="arm").kind
        'line'
    """

    sheet: str
    x: str
    y: str
    series: str | None = None
    kind: str = "line"
    title: str = ""
    x_title: str = ""
    y_title: str = ""
    panel: str | None = None


def arrange(sheets: Sheets, charts: Sequence[Chart]) -> tuple[Sheets, Blocks]:
    """The sheets, those with charts so sorted that each curve is a block of rows; these blocks.

    Raises ValueError for a chart that names what is not there, or cannot be drawn from its sheet.
    """
    keys: dict[str, tuple] = {}
    sheets, blocks = dict(sheets), {}
    for chart in charts:
        _check(chart, sheets)
        own = (chart.panel, chart.series, chart.x)
        if keys.setdefault(chart.sheet, own) != own:
            raise ValueError(
                f"the charts of sheet {chart.sheet!r} must share x, series and panel, by which its "
                "rows are sorted; give the table a second sheet for the other chart"
            )
    for title, key in keys.items():
        sheets[title], blocks[title] = _sorted(title, sheets[title], *key)
    for chart in charts:
        if not _numeric_x(chart, sheets[chart.sheet]):
            for curves in _panels(blocks[chart.sheet]).values():
                _check_categories(chart, sheets[chart.sheet], curves)
    return sheets, blocks


def _panels(blocks):
    """{value of the panel: its curves, as (first row, last row)}."""
    found = {}
    for panel, first, last in blocks:
        found.setdefault(panel, []).append((first, last))
    return found


def _check(chart, sheets):
    """Raise unless the chart's sheet, kind and columns exist and its y are numbers."""
    one_of(chart.sheet, sheets, "chart sheet")
    one_of(chart.kind, _KINDS, "chart kind")
    table = sheets[chart.sheet]
    for name in (chart.x, chart.y, chart.series, chart.panel):
        if name is not None:
            one_of(name, list(table.columns), f"chart column of {chart.sheet!r}")
    if not pd.api.types.is_numeric_dtype(table[chart.y]):
        raise ValueError(f"chart column {chart.y!r} of sheet {chart.sheet!r} holds no numbers")


def _sorted(title, table, panel, series, x):
    """The table, sorted; the panel, first and last row of each curve."""
    if table.empty:
        raise ValueError(f"sheet {title!r} has a chart but no rows; leave the chart out")
    order = pd.DataFrame({"panel": 0, "curve": 0, "x": table[x]})
    for name, column in (("panel", panel), ("curve", series)):
        if column is not None:  # in the order of their first row; rows without one go last
            codes = pd.factorize(table[column])[0]
            order[name] = [len(table) if code < 0 else code for code in codes]
    if not pd.api.types.is_numeric_dtype(order["x"]):
        order["x"] = pd.factorize(order["x"])[0]  # names stay in the order of the table
    order = order.sort_values(["panel", "curve", "x"], kind="stable")
    table, order = table.loc[order.index].reset_index(drop=True), order.reset_index(drop=True)
    used = order[(order[["panel", "curve"]] < len(table)).all(axis=1)]
    most = used.groupby("panel")["curve"].nunique().max()
    if most > 255:
        raise ValueError(
            f"a chart of sheet {title!r} would have {most} curves (values of "
            f"{series!r}); Excel allows 255. Keep fewer values, or drop the chart"
        )
    ends = [(part.index[0], part.index[-1]) for _, part in used.groupby(["panel", "curve"])]
    names = [None] * len(table) if panel is None else table[panel]
    return table, [(names[first], first + 2, last + 2) for first, last in ends]


def _numeric_x(chart, table):
    """Whether the chart's horizontal axis is one of numbers and not of names."""
    return chart.kind != "bar" and pd.api.types.is_numeric_dtype(table[chart.x])


def _check_categories(chart, table, blocks):
    """Bars and lines over names take the names of the first curve: the others must agree."""
    names = [table[chart.x].iloc[first - 2 : last - 1].tolist() for first, last in blocks]
    if any(other != names[0] for other in names):
        raise ValueError(
            f"the curves of the chart {chart.y!r} on sheet {chart.sheet!r} have different values of"
            f" {chart.x!r}; give each value of {chart.series!r} one row for each {chart.x!r}"
        )


def add_charts(book: Any, sheets: Sheets, blocks: Blocks, charts: Sequence[Chart]) -> None:
    """Put charts to the right of their data, one below the other; see `arrange`."""
    seen = dict.fromkeys(sheets, 0)
    for chart in charts:
        sheet, table = book[chart.sheet], sheets[chart.sheet]
        column = get_column_letter(min(table.shape[1] + 2, MAX_COLUMNS))
        for panel, curves in _panels(blocks[chart.sheet]).items():
            title = chart.title or f"{chart.y} against {chart.x}".replace("_", " ")
            named = replace(chart, title=title if panel is None else f"{panel}: {title}")
            anchor = f"{column}{2 + _CHART_ROWS * seen[chart.sheet]}"
            sheet.add_chart(_native(named, sheet, table, curves), anchor)
            seen[chart.sheet] += 1


def _native(chart, sheet, table, blocks):
    """The openpyxl chart, one series per block of rows."""
    numeric = _numeric_x(chart, table)
    native = (ScatterChart if numeric else BarChart if chart.kind == "bar" else LineChart)()
    for i, rows in enumerate(blocks):
        series = _series(chart, sheet, table, rows, numeric)
        _paint(series, i, chart.kind, many=rows[1] - rows[0] > 30)
        native.series.append(series)
    native.title = _title(chart.title, 1200)
    native.width, native.height = 17, 10  # cm
    native.roundedCorners = False
    native.legend.position, native.legend.overlay = "b", False
    if chart.series is None:
        native.legend = None
    if numeric:
        native.style, native.scatterStyle = 13, "lineMarker"
    _axis(native.x_axis, chart.x_title or chart.x, chart.x, table[chart.x], numeric)
    bar = chart.kind == "bar"  # bars start at 0, from which the ticks must be counted as well
    heights = pd.concat([table[chart.y], pd.Series([0])]) if bar else table[chart.y]
    _axis(native.y_axis, chart.y_title or chart.y, chart.y, heights, True)
    if bar:
        native.y_axis.scaling.min = None if table[chart.y].min() < 0 else 0
    native.x_axis.majorGridlines = None
    grid = GraphicalProperties()
    grid.line.solidFill, grid.line.width = "D9D9D9", 6350  # EMU: half a point
    native.y_axis.majorGridlines = ChartLines(spPr=grid)
    return native


def _series(chart, sheet, table, rows, numeric):
    """One curve, from its block of rows; all by reference, so that it follows the cells."""
    first, last = rows
    column = {name: i + 1 for i, name in enumerate(table.columns)}
    x, y = (
        Reference(sheet, column[name], first, column[name], last) for name in (chart.x, chart.y)
    )
    series = Series(y, x) if numeric else Series(y)
    if not numeric:
        numbers = pd.api.types.is_numeric_dtype(table[chart.x])  # bars stand over numbers as well
        named = {"numRef": NumRef(str(x))} if numbers else {"strRef": StrRef(str(x))}
        series.cat = AxDataSource(**named)
    name = get_column_letter(column[chart.series or chart.y])
    row = 1 if chart.series is None else first  # the header names the only curve
    series.tx = SeriesLabel(strRef=StrRef(f"{quote_sheetname(chart.sheet)}!${name}${row}"))
    return series


def _paint(series, i, kind, many):
    """Colour, marker and dash, apart in grey as well; `many` points go without markers."""
    colour = PALETTE[i % len(PALETTE)].lstrip("#").upper()
    look = series.graphicalProperties = GraphicalProperties()
    if kind == "bar":
        look.solidFill = colour
        return
    look.line.width = 22225  # EMU: 1.75 points
    if kind == "scatter":
        look.line.noFill = True
    else:
        look.line.solidFill = colour
        look.line.dashStyle = _DASHES[(i + i // len(_DASHES)) % len(_DASHES)]
    series.smooth = False
    if many and kind == "line":
        series.marker = Marker("none")
        return
    series.marker = Marker(_MARKERS[i % len(_MARKERS)], size=6)
    series.marker.graphicalProperties = GraphicalProperties(solidFill=colour)
    series.marker.graphicalProperties.line.solidFill = colour


def _title(text, size):
    """A title of this size (hundredths of a point) that does not cover the plot."""
    font = CharacterProperties(sz=size, b=False)
    title = title_maker(texts.clipped(texts.for_xml(text), _LONGEST_TITLE))
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
    if code.endswith("%") and scaled:  # tight bounds on whole percents, and no tick labelled 120 %
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
