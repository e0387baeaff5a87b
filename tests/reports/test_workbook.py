import datetime
import re
import zipfile
from xml.etree import ElementTree

import numpy as np
import openpyxl
import pandas as pd
import pytest

from activation_pruning.reports import formats, page, workbook
from activation_pruning.reports.workbook import Chart, charts
from activation_pruning.support.files import check_folder

pytestmark = pytest.mark.lowest


def runs():
    return pd.DataFrame(
        {
            "arm": pd.Categorical(["b", "a", "b", "a"]),
            "sparsity": [0.9, 0.9, 0.8, 0.8],
            "test_accuracy": [0.91, 0.95, 0.93, 0.97],
            "time_s": [12.345, 10.0, 9.5, np.nan],
            "size_bytes": [1_066_440, 2, 3, 4],
            "seed": [20_240, 1, 2, 3],
            "loss": [0.12345, 1.5, 2.25, 0.5],
            "done": [True, False, True, True],
            "at": pd.to_datetime(
                ["2024-05-05 10:11:12", None, "2024-02-02", "2024-02-03"], format="ISO8601"
            ),
        }
    )


def saved(tmp_path, tables, **options):
    path = workbook.write(tmp_path / "out.xlsx", tables, **options)
    return openpyxl.load_workbook(path)


def row_of(sheet, number):
    return [cell.value for cell in sheet[number]]


def test_cells_keep_their_types(tmp_path):
    sheet = saved(tmp_path, {"Runs": runs()})["Runs"]
    assert row_of(sheet, 1) == list(runs().columns)
    first = row_of(sheet, 2)
    moment = datetime.datetime(2024, 5, 5, 10, 11, 12)
    assert first == ["b", 0.9, 0.91, 12.345, 1_066_440, 20_240, 0.12345, True, moment]
    assert [type(value) for value in first] == [
        str, float, float, float, int, int, float, bool, datetime.datetime,
    ]  # fmt: skip
    assert sheet["I3"].value is None
    assert sheet["D5"].value is None


def test_number_formats_follow_the_column_names(tmp_path):
    sheet = saved(tmp_path, {"Runs": runs()})["Runs"]
    formats = {sheet.cell(1, i).value: sheet.cell(2, i).number_format for i in range(1, 9)}
    assert formats == {
        "arm": "General",
        "sparsity": "0.0%",
        "test_accuracy": "0.0%",
        "time_s": "0.00",
        "size_bytes": "#,##0",
        "seed": "0",
        "loss": "#,##0.000",
        "done": "General",
    }
    assert sheet["I2"].number_format == "yyyy-mm-dd hh:mm:ss"


@pytest.mark.parametrize(
    ("name", "values", "code"),
    [
        ("total_sparsity", [0.5], "0.0%"),
        ("top5", [0.99], "0.0%"),
        ("test_accuracy", [0.5, 0.8813], "0.00%"),
        ("accuracy_difference", [-0.0026, float("nan")], "0.00%"),
        ("val_top_5", [0.99], "0.0%"),
        ("share", [1], "0.0%"),
        ("frequency", [1523.0, 10.5], "#,##0"),
        ("shared", [0.25], "#,##0.0000"),
        ("runs", [1.0, np.nan], "#,##0"),
        ("loss", [2.5e-9], "0.000E+00"),
        ("loss", [0.0123], "#,##0.00000"),
        ("loss", [1e10 + 0.5], "0.000E+00"),
        ("loss", [0.0], "#,##0"),
        ("loss", [], "General"),
        ("anything", ["a", 1], "General"),
        ("time_s", [3], "0.00"),
    ],
)
def test_format_rules(name, values, code):
    assert formats.column_format(name, values) == code


def test_header_is_bold_frozen_and_filtered(tmp_path):
    sheet = saved(tmp_path, {"Runs": runs()})["Runs"]
    assert all(cell.font.bold for cell in sheet[1])
    assert not any(cell.font.bold for cell in sheet[2])
    assert sheet.freeze_panes == "A2"
    assert sheet.auto_filter.ref == "A1:I5"
    assert sheet.print_title_rows == "$1:$1"


def test_widths_follow_the_contents(tmp_path):
    table = pd.DataFrame({"name": ["x" * 30], "text": ["y" * 500], "n": [1]})
    sheet = saved(tmp_path, {"Widths": table})["Widths"]
    widths = [sheet.column_dimensions[letter].width for letter in "ABC"]
    assert widths == [32, 80, 6]
    assert sheet.row_dimensions[2].height == 15 * 7  # 500 characters at 72 per line
    assert sheet["B2"].alignment.wrap_text


@pytest.mark.parametrize(
    "text", ["=1+1", "=HYPERLINK(1)", "#N/A", "#DIV/0!", "+1", "'quoted", " x "]
)
def test_text_stays_text(tmp_path, text):
    sheet = saved(tmp_path, {"Text": pd.DataFrame({text: [text]})})["Text"]
    for cell in (sheet["A1"], sheet["A2"]):
        assert (cell.value, cell.data_type) == (text, "s")
    assert sheet["A2"].quotePrefix == text.startswith("=")


def test_values_that_a_file_cannot_hold(tmp_path):
    values = [
        "a\x00b\x1f",
        "\ud800",
        float("inf"),
        10**15,
        np.int64(7),
        None,
        pd.NA,
        [1],
        "z" * 40_000,
    ]
    table = pd.DataFrame({"value": pd.Series(values, dtype=object)})
    sheet = saved(tmp_path, {"Odd": table})["Odd"]
    read = [cell.value for cell in sheet["A"][1:]]
    assert read[:8] == ["a\ufffdb\ufffd", "\ufffd", "inf", str(10**15), 7, None, None, "[1]"]
    assert len(read[8]) == 32_767
    assert read[8].endswith("z…")


def test_a_time_with_a_zone_is_given_in_utc():
    time = pd.Timestamp("2024-01-01 12:00", tz="Europe/Berlin")
    assert formats.plain(time) == datetime.datetime(2024, 1, 1, 11)


def test_named_index_and_nested_columns_are_kept(tmp_path):
    table = runs().groupby("arm", observed=True).agg({"loss": ["mean", "max"]})
    sheet = saved(tmp_path, {"Summary": table})["Summary"]
    assert row_of(sheet, 1) == ["arm ", "loss mean", "loss max"]
    assert row_of(sheet, 2) == ["a", 1.0, 1.5]


def test_empty_table_is_a_header(tmp_path):
    sheet = saved(tmp_path, {"Events": pd.DataFrame(columns=["event", "epoch"])})["Events"]
    assert (sheet.max_row, row_of(sheet, 1)) == (1, ["event", "epoch"])


@pytest.mark.parametrize(
    ("title", "reason"),
    [
        ("x" * 32, "31"), ("a/b", "must not contain"), ("a[1]", "must not contain"),
        ("a\nb", "control"), ("'a", "apostrophe"), ("", "empty"), ("History", "reserved"),
        (3, "text"), ("settings", "rename"),
    ],
)  # fmt: skip
def test_bad_titles(tmp_path, title, reason):
    with pytest.raises(ValueError, match=reason):
        workbook.write(tmp_path / "out.xlsx", {title: runs()})
    assert list(tmp_path.iterdir()) == []


def test_titles_that_differ_in_case_only(tmp_path):
    with pytest.raises(ValueError, match="'Runs' and 'RUNS'"):
        workbook.write(tmp_path / "out.xlsx", {"Runs": runs(), "RUNS": runs()})


def test_longest_title_is_kept(tmp_path):
    assert saved(tmp_path, {"x" * 31: runs()}).sheetnames == ["x" * 31, "Settings"]


@pytest.mark.parametrize(
    ("shape", "found", "allowed", "advice"),
    [
        ((1_048_576, 1), "1,048,576 rows", "1,048,576 in all", "Split the table"),
        ((1, 16_385), "16,385 columns", "16,384", "melt"),
    ],
)
def test_excel_limits(tmp_path, shape, found, allowed, advice):
    table = pd.DataFrame(np.zeros(shape, dtype=np.int8))
    with pytest.raises(ValueError) as caught:
        workbook.write(tmp_path / "new" / "out.xlsx", {"Fine": runs(), "Large": table})
    assert all(part in str(caught.value) for part in ("'Large'", found, allowed, advice))
    assert list(tmp_path.iterdir()) == []


def test_the_limit_itself_is_allowed():
    table = pd.DataFrame(np.zeros((1_048_575, 1), dtype=np.int8))
    assert len(workbook._checked({"Large": table}, None)["Large"]) == 1_048_575


@pytest.mark.parametrize("table", [[1, 2], pd.DataFrame(index=[1]), None])
def test_tables_that_are_none(tmp_path, table):
    with pytest.raises(ValueError, match=r"'Runs'.*DataFrame"):
        workbook.write(tmp_path / "out.xlsx", {"Runs": table})


def test_suffix(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.xlsx"):
        workbook.write(tmp_path / "out.xls", {"Runs": runs()})


def test_line_chart_has_one_series_per_curve(tmp_path):
    chart = Chart("Runs", "sparsity", "test_accuracy", "arm", title="Accuracy", y_title="accuracy")
    sheet = saved(tmp_path, {"Runs": runs()}, charts=[chart])["Runs"]
    # Sorted by curve, in the order of appearance, then by x: so each curve is one block.
    data = [row[:2] for row in sheet.iter_rows(min_row=2, values_only=True)]
    assert data == [("b", 0.8), ("b", 0.9), ("a", 0.8), ("a", 0.9)]
    (native,) = sheet._charts
    assert native.tagname == "scatterChart"
    references = [(s.tx.strRef.f, s.xVal.numRef.f, s.yVal.numRef.f) for s in native.series]
    assert references == [
        ("'Runs'!$A$2", "'Runs'!$B$2:$B$3", "'Runs'!$C$2:$C$3"),
        ("'Runs'!$A$4", "'Runs'!$B$4:$B$5", "'Runs'!$C$4:$C$5"),
    ]
    dashes = [s.graphicalProperties.line.dashStyle for s in native.series]
    assert len(set(dashes)) == len({s.marker.symbol for s in native.series}) == 2
    assert native.anchor._from.col > sheet.max_column  # zero-based: one free column between


def test_chart_axes_are_visible_titled_and_in_percent(tmp_path):
    chart = Chart(
        "Runs", "sparsity", "test_accuracy", "arm", x_title="sparsity", y_title="accuracy"
    )
    native = saved(tmp_path, {"Runs": runs()}, charts=[chart])["Runs"]._charts[0]
    for axis, title in ((native.x_axis, "sparsity"), (native.y_axis, "accuracy")):
        assert axis.delete is False
        assert axis.number_format.formatCode == "0%"
        assert axis.title.tx.rich.p[0].r[0].t == title
        assert axis.title.overlay is False
    assert (native.y_axis.scaling.min, native.y_axis.scaling.max) == (0.9, 0.98)


def test_bar_and_scatter_and_single_curve(tmp_path):
    layers = pd.DataFrame({"layer": ["dense_1", "dense_2"], "sparsity": [0.9, 0.5]})
    charts = [
        Chart("It's layers", "layer", "sparsity", kind="bar"),
        Chart("Runs", "sparsity", "loss", kind="scatter"),
        Chart("Runs", "sparsity", "time_s", kind="scatter"),
    ]
    book = saved(tmp_path, {"It's layers": layers, "Runs": runs()}, charts=charts)
    (bar,) = book["It's layers"]._charts
    assert bar.tagname == "barChart"
    assert bar.series[0].cat.strRef.f == "'It''s layers'!$A$2:$A$3"
    assert bar.series[0].tx.strRef.f == "'It''s layers'!$B$1"
    assert bar.legend is None
    assert bar.y_axis.scaling.min == 0
    first, second = book["Runs"]._charts
    assert first.series[0].graphicalProperties.line.noFill
    assert second.anchor._from.row - first.anchor._from.row == 21


@pytest.mark.parametrize(
    ("chart", "reason"),
    [
        (Chart("Run", "sparsity", "loss"), "chart sheet 'Run' is unknown.*mean 'Runs'"),
        (Chart("Runs", "sparsty", "loss"), "'sparsty' is unknown.*mean 'sparsity'"),
        (Chart("Runs", "sparsity", "loss", kind="pie"), "'line', 'scatter', 'bar'"),
        (Chart("Runs", "sparsity", "arm"), "'arm'.*no numbers"),
        (Chart("None", "x", "y"), "no rows"),
        (Chart("Uneven", "layer", "y", "arm", kind="bar"), "different values of 'layer'"),
    ],
)
def test_bad_charts(tmp_path, chart, reason):
    uneven = pd.DataFrame({"arm": ["a", "a", "b"], "layer": ["1", "2", "1"], "y": [1, 2, 3]})
    empty = pd.DataFrame({"x": [0.0], "y": [0.0]}).head(0)
    tables = {"Runs": runs(), "None": empty, "Uneven": uneven}
    with pytest.raises(ValueError, match=reason):
        workbook.write(tmp_path / "out.xlsx", tables, charts=[chart])
    assert list(tmp_path.iterdir()) == []


def test_charts_of_a_sheet_share_their_order(tmp_path):
    charts = [Chart("Runs", "sparsity", "loss", "arm"), Chart("Runs", "time_s", "loss", "arm")]
    with pytest.raises(ValueError, match="must share x, series and panel"):
        workbook.write(tmp_path / "out.xlsx", {"Runs": runs()}, charts=charts)


def test_settings_come_last(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.orig_argv", ["/usr/bin/python3", "my run.py", "--seeds", "3"])
    settings = workbook.settings_table(backend="jax", seeds=[0, 1], limit_s=60)
    book = saved(tmp_path, {"Runs": runs()}, settings=settings)
    assert book.sheetnames == ["Runs", "Settings"]
    rows = {key: (value, unit) for key, value, unit in book["Settings"].values}
    assert rows["command"] == ("python 'my run.py' --seeds 3", None)
    assert rows["backend"] == ("jax", None)
    assert rows["seeds"] == ("0, 1", None)
    assert rows["limit_s"] == (60, "s")
    assert rows["version of numpy"] == (np.__version__, None)
    assert {"version of keras", "version of tensorflow", "version of pandas"} <= set(rows)
    assert "version of activation-pruning" in rows
    assert isinstance(rows["date"][0], datetime.datetime)
    assert abs(datetime.datetime.now() - rows["date"][0]) < datetime.timedelta(minutes=5)


def test_settings_are_there_by_default(tmp_path):
    assert saved(tmp_path, {"Runs": runs()})["Settings"]["A2"].value == "command"


def test_a_package_that_is_not_there(monkeypatch):
    monkeypatch.setattr("activation_pruning.support.settings._PACKAGES", ("no-such-package-here",))
    assert workbook.settings_table().iloc[-1].tolist() == [
        "version of no-such-package-here", "not installed", "",
    ]  # fmt: skip


def test_the_file_is_sound_xml_without_formulas(tmp_path):
    chart = Chart("Runs", "sparsity", "test_accuracy", "arm")
    path = workbook.write(tmp_path / "out.xlsx", {"Runs": runs()}, charts=[chart])
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    roots = [ElementTree.fromstring(t) for n, t in parts.items() if n.endswith((".xml", ".rels"))]
    assert len(roots) == len(parts)
    sheets = [text for name, text in parts.items() if name.startswith("xl/worksheets/sheet")]
    assert len(sheets) == 2
    assert not any("<f>" in text for text in sheets)
    assert re.search(r"<c:?\w*.*delete val=\"0\"", parts["xl/charts/chart1.xml"])


def test_parents_are_made_and_an_older_file_is_replaced(tmp_path):
    path = tmp_path / "a" / "b" / "out.xlsx"
    workbook.write(path, {"Old": runs()})
    assert workbook.write(str(path), {"New": runs()}) == path
    assert openpyxl.load_workbook(path).sheetnames == ["New", "Settings"]
    assert [entry.name for entry in path.parent.iterdir()] == ["out.xlsx"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = workbook.write(tmp_path / "out.xlsx", {"Old": runs()})
    before = path.read_bytes()

    def fail(book, target):
        target.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("openpyxl.Workbook.save", fail)
    with pytest.raises(OSError, match=r"out\.xlsx.*No space left.*room"):
        workbook.write(path, {"New": runs()})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.xlsx"]


def test_an_error_that_is_no_oserror_leaves_the_old_file_too(tmp_path, monkeypatch):
    path = workbook.write(tmp_path / "out.xlsx", {"Old": runs()})
    before = path.read_bytes()
    monkeypatch.setattr(charts, "_native", lambda *args: 1 / 0)
    chart = Chart("New", "sparsity", "loss")
    with pytest.raises(ZeroDivisionError):
        workbook.write(path, {"New": runs()}, charts=[chart])
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.xlsx"]


def test_paths_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder.xlsx").mkdir()
    with pytest.raises(OSError, match=r"cannot write '.*file/out\.xlsx'.*Give a path in a folder"):
        workbook.write(tmp_path / "file" / "out.xlsx", {"Runs": runs()})
    with pytest.raises(IsADirectoryError, match=r"folder\.xlsx.*is a folder"):
        workbook.write(tmp_path / "folder.xlsx", {"Runs": runs()})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.xlsx"]


def test_check_folder(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"cannot write '.*file/results'"):
        check_folder(tmp_path / "file" / "results")
    assert check_folder(tmp_path / "new") == tmp_path / "new"
    assert list((tmp_path / "new").iterdir()) == []


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.xlsx").symlink_to(tmp_path / "real" / "out.xlsx")
    workbook.write(tmp_path / "link.xlsx", {"Runs": runs()})
    assert (tmp_path / "link.xlsx").is_symlink()
    assert (tmp_path / "real" / "out.xlsx").stat().st_size > 0


@pytest.mark.parametrize(
    ("value", "code", "text"),
    [
        (0.12345, "0.0%", "12.3%"), (1234567, "#,##0", "1,234,567"), (1.5, "#,##0.000", "1.500"),
        (2.5e-9, "0.000E+00", "2.500E-09"), (12.345, "0.00", "12.35"), (7, "0", "7"),
        (None, "0.00", ""), (float("nan"), "0.0%", ""), (float("inf"), "0.0%", "inf"),
        (True, "General", "True"), ("x", "General", "x"), (0.1, "General", "0.1"),
        (pd.Timestamp("2024-05-05 10:11"), formats.DATE, "2024-05-05 10:11:00"),
    ],
)  # fmt: skip
def test_as_text(value, code, text):
    assert formats.as_text(value, code) == text


def test_an_index_named_like_a_column_is_refused(tmp_path):
    table = pd.DataFrame({"a": [1]}, index=pd.Index([5], name="a"))
    with pytest.raises(ValueError, match=r"'T'.*\['a'\] names an index and a column"):
        workbook.write(tmp_path / "t.xlsx", {"T": table})


def test_ticks_of_bars_are_counted_from_zero(tmp_path):
    table = pd.DataFrame({"network": ["dense", "pruned"], "accuracy": [0.977, 0.972]})
    chart = Chart("T", "network", "accuracy", kind="bar")
    book = openpyxl.load_workbook(workbook.write(tmp_path / "t.xlsx", {"T": table}, [chart]))
    axis = book["T"]._charts[0].y_axis
    assert (axis.scaling.min, axis.scaling.max, axis.majorUnit) == (0, 1, 0.2)


def test_a_chart_for_each_panel_of_its_own_rows(tmp_path):
    table = pd.DataFrame(
        {
            "site": ["b", "a", "b", "a", "b", "b"],
            "state": ["old", "old", "new", "new", "old", "new"],
            "index": [2, 1, 1, 1, 1, 2],
            "value": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        }
    )
    chart = Chart("Spectra", "index", "value", "state", panel="site", title="Values")
    book = saved(tmp_path, {"Spectra": table}, charts=[chart])
    rows = list(book["Spectra"].iter_rows(min_row=2, values_only=True))
    assert rows == [
        ("b", "old", 1, 5.0), ("b", "old", 2, 1.0), ("b", "new", 1, 3.0), ("b", "new", 2, 6.0),
        ("a", "old", 1, 2.0), ("a", "new", 1, 4.0),
    ]  # fmt: skip
    drawn = book["Spectra"]._charts
    refs = [[series.yVal.numRef.f.rpartition("!")[2] for series in one.series] for one in drawn]
    assert refs == [["$D$2:$D$3", "$D$4:$D$5"], ["$D$6", "$D$7"]]
    titles = [one.title.tx.rich.p[0].r[0].t for one in drawn]
    assert titles == ["b: Values", "a: Values"]


@pytest.mark.parametrize(("end", "last"), [("high", "00F2A679"), ("low", "00FFFFFF")])
def test_colour_scales_cover_their_columns(tmp_path, end, last):
    sheet = saved(tmp_path, {"Runs": runs()}, scales={"Runs": {"loss": end}})["Runs"]
    (area,) = sheet.conditional_formatting
    letter = next(cell.column_letter for cell in sheet[1] if cell.value == "loss")
    assert str(area.sqref) == f"{letter}2:{letter}5"
    assert area.rules[0].colorScale.color[-1].rgb == last


@pytest.mark.parametrize(
    ("scales", "reason"),
    [
        ({"Run": {"loss": "high"}}, r"unknown.*did you mean 'Runs'"),
        ({"Runs": {"los": "high"}}, r"unknown.*did you mean 'loss'"),
        ({"Runs": {"loss": "top"}}, "there are 'high', 'low'"),
        ({"Runs": {"arm": "high"}}, "'arm' holds no numbers"),
        ({"Runs": "loss"}, "'loss' is no dict"),
    ],
)
def test_bad_scales(tmp_path, scales, reason):
    with pytest.raises(ValueError, match=reason):
        workbook.write(tmp_path / "out.xlsx", {"Runs": runs()}, scales=scales)
    assert list(tmp_path.iterdir()) == []


def test_a_row_of_several_lines_begins_at_its_top(tmp_path):
    table = pd.DataFrame({"question": ["why", "how"], "answer": ["y" * 500, "short"], "n": [1, 2]})
    sheet = saved(tmp_path, {"Overview": table})["Overview"]
    assert [cell.alignment.vertical for cell in sheet[2]] == ["top"] * 3
    assert [cell.alignment.vertical for cell in sheet[3]] == [None] * 3


@pytest.mark.parametrize("path", [None, 5, True, b"run.xlsx"])
def test_what_is_no_path(path):
    with pytest.raises(TypeError, match=r"path=.*give the path of a file"):
        workbook.write(path, {"Runs": pd.DataFrame({"a": [1]})})
    with pytest.raises(TypeError, match=r"path=.*give the path of a file"):
        page.write(path, "Runs", [page.Section("a", "text")])


@pytest.mark.parametrize("tables", [None, [], pd.DataFrame({"a": [1]})])
def test_tables_are_a_dict(tmp_path, tables):
    with pytest.raises(TypeError, match=r"tables=.*give a dict of sheet titles"):
        workbook.write(tmp_path / "run.xlsx", tables)
