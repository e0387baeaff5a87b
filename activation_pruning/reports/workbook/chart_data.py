"""What a chart shows, and the sheets sorted for it: each curve is one block of rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from activation_pruning.reports.tables import one_of
from activation_pruning.support.types import Table

Sheets: TypeAlias = dict[str, Table]  # by title
Block: TypeAlias = tuple[Any, int, int]  # a curve: its panel, first and last row, as Excel counts
Blocks: TypeAlias = dict[str, list[Block]]  # title of a sheet -> its curves
_KINDS = ("line", "scatter", "bar")


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
        if not numeric_x(chart, sheets[chart.sheet]):
            for curves in panels(blocks[chart.sheet]).values():
                _check_categories(chart, sheets[chart.sheet], curves)
    return sheets, blocks


def panels(blocks: Sequence[Block]) -> dict[Any, list[tuple[int, int]]]:
    """{value of the panel: its curves, as (first row, last row)}."""
    found: dict[Any, list[tuple[int, int]]] = {}
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


def numeric_x(chart: Chart, table: Table) -> bool:
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
