"""Native Excel charts: put beside the data of their sheet, to which their curves refer."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

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
from activation_pruning.reports.workbook.chart_data import Blocks, Chart, Sheets, numeric_x, panels
from activation_pruning.reports.workbook.sheets import MAX_COLUMNS

_MARKERS = ("circle", "square", "triangle", "diamond", "x", "plus", "star")
_DASHES = ("solid", "dash", "sysDot", "dashDot", "lgDash", "sysDash", "lgDashDot")
_CHART_ROWS = 21  # a chart of 10 cm and some air, in rows of 15 points


def add_charts(book: Any, sheets: Sheets, blocks: Blocks, charts: Sequence[Chart]) -> None:
    """Put charts to the right of their data, one below the other; see `chart_data.arrange`."""
    seen = dict.fromkeys(sheets, 0)
    for chart in charts:
        sheet, table = book[chart.sheet], sheets[chart.sheet]
        column = get_column_letter(min(table.shape[1] + 2, MAX_COLUMNS))
        for panel, curves in panels(blocks[chart.sheet]).items():
            title = chart.title or f"{chart.y} against {chart.x}".replace("_", " ")
            named = replace(chart, title=title if panel is None else f"{panel}: {title}")
            anchor = f"{column}{2 + _CHART_ROWS * seen[chart.sheet]}"
            sheet.add_chart(_native(named, sheet, table, curves), anchor)
            seen[chart.sheet] += 1


def _native(chart, sheet, table, blocks):
    """The openpyxl chart, one series per block of rows."""
    numeric = numeric_x(chart, table)
    native = (ScatterChart if numeric else BarChart if chart.kind == "bar" else LineChart)()
    for i, rows in enumerate(blocks):
        series = _series(chart, sheet, table, rows, numeric)
        _paint(series, i, chart.kind, many=rows[1] - rows[0] > 30)
        native.series.append(series)
    native.title = _title(chart.title, 1200)
    native.width, native.height = 17, 10  # cm
    native.roundedCorners = False
    if chart.series is None:
        native.legend = None
    else:
        native.legend.position, native.legend.overlay = "b", False
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
    """Colour, marker and dash together, so that the curves stay apart in grey.

    many: so many points that their markers would hide the curve.
    """
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
