"""Layers may have any name: workbooks, pages and pictures stay whole and show it."""

import shutil
import subprocess
import zipfile
from xml.etree import ElementTree

import openpyxl
import pandas as pd
import pytest

from activation_pruning.reports import figures, page, workbook
from activation_pruning.reports.workbook import Chart

NAMES = ["dense\x01", "a\ufffeb", "c\ud800", "=cmd|' /C calc'!A0", "<b>&\"'", "]]>", "a\rb\nc\td",
         "$x^$", "a$b$", "--", "\U0001f600" * 200, "x" * 300, "_x0041_", "'quoted'", "\x7f\x85",
         "{0}%s\\", "../outside", " ", "\u202egnp"]  # fmt: skip
SHOWN = {"dense\x01": "dense\ufffd", "a\ufffeb": "a\ufffdb", "c\ud800": "c\ufffd"}
TITLES = ["Runs", "It's 5 %", "=1+1", "\U0001f600" * 15, "a" * 31, "-", "1", "TRUE", "R1C1", "A1",
          "ÄÖ & <b>", '"', "#REF!", "!"]  # fmt: skip


def table():
    rows = [(name, x, x / 4) for name in NAMES for x in (1, 2)]
    return pd.DataFrame(rows, columns=["site", "epoch", "sparsity"])


def evil_charts(sheet):
    yield Chart(sheet, "epoch", "sparsity", panel="site", title="t\x02\ufffe" + "x" * 400)
    yield Chart(sheet, "epoch", "sparsity", panel="site", x_title="x\x03", y_title="\ud800")


def parts(path):
    """The parts of a workbook, each of which an XML parser reads."""
    with zipfile.ZipFile(path) as file:
        return {n: ElementTree.fromstring(file.read(n)) for n in file.namelist() if "xml" in n}


def converted(path, folder):
    """The first sheet as LibreOffice sees it, as CSV."""
    if not shutil.which("soffice"):
        pytest.skip("LibreOffice is not installed")
    home = f"-env:UserInstallation=file://{folder}/profile"
    kind = "csv:Text - txt - csv (StarCalc):44,34,76"
    command = ["soffice", home, "--headless", "--convert-to", kind, "--outdir", folder, path]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return pd.read_csv(folder / f"{path.stem}.csv", keep_default_na=False)


def test_workbooks_stay_whole(tmp_path):
    path = tmp_path / "evil.xlsx"
    named = table().rename(columns={"site": "si\x01te"}).assign(site=table()["site"])
    workbook.write(path, {"Runs": named}, [*evil_charts("Runs")], pd.DataFrame({"key": NAMES}))
    found = parts(path)
    charts = [one for name, one in found.items() if "charts/chart" in name]
    assert len(charts) == 2 * len(NAMES)
    texts = ["".join(t.text or "" for t in one.iter() if t.tag.endswith("}t")) for one in charts]
    assert any(text.startswith("dense\ufffd: t\ufffd\ufffd") for text in texts)
    titles = [next(t.text for t in one.iter() if t.tag.endswith("}t")) for one in charts]
    assert max(len(one.encode("utf-16-le")) // 2 for one in titles) == 255
    sheet = openpyxl.load_workbook(path)["Runs"]
    assert sheet["A1"].value == "si\ufffdte"
    cells = [sheet.cell(2 * i + 2, 1).value for i in range(len(NAMES))]
    assert cells[:6] == [SHOWN.get(name, name) for name in NAMES[:6]]
    assert sheet["A8"].data_type == "s"


@pytest.mark.slow
def test_libreoffice_opens_them(tmp_path):
    path = tmp_path / "evil.xlsx"
    workbook.write(path, {"Runs": table()}, [*evil_charts("Runs")])
    seen = converted(path, tmp_path)
    assert seen["site"].tolist()[::2][:6] == [SHOWN.get(name, name) for name in NAMES[:6]]
    assert len(seen) == len(table())


def test_titles_that_excel_takes_are_taken(tmp_path):
    path = tmp_path / "titles.xlsx"
    tables = {title: table().assign(n=i) for i, title in enumerate(TITLES)}
    workbook.write(path, tables, [Chart(title, "epoch", "sparsity", "site") for title in TITLES])
    found = openpyxl.load_workbook(path)
    assert found.sheetnames == [*TITLES, "Settings"]
    assert [found[title]["D2"].value for title in TITLES] == list(range(len(TITLES)))
    parts(path)


@pytest.mark.parametrize(
    ("title", "why"),
    [
        ("\U0001f600" * 16, "has 32 characters; Excel allows 31, and an emoji counts as two"),
        ("\U0001f600" * 31, "has 62 characters"),
        ("a" * 32, "has 32"),
        ("a\x01", "control"),
        ("a\ufffe", "control"),
        ("a\ud800", "control"),
        ("a:b", "must not contain"),
        ("'a", "apostrophe"),
        ("a'", "apostrophe"),
        ("History", "reserved"),
        ("hiSTORY", "reserved"),
        ("", "not empty"),
        (" ", "not empty"),
        (5, "must be a text"),
    ],
)
def test_titles_that_excel_does_not_take_are_refused(tmp_path, title, why):
    with pytest.raises(ValueError, match=why):
        workbook.write(tmp_path / "t.xlsx", {title: table()})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pair", [("Runs", "rUNS"), ("É", "é"), ("Straße", "STRASSE"), ("ſ", "S")])
def test_titles_that_differ_in_case_only_are_refused(tmp_path, pair):
    with pytest.raises(ValueError, match="differ in case only"):
        workbook.write(tmp_path / "t.xlsx", dict.fromkeys(pair, table()))


def test_long_texts_are_cut_to_what_a_cell_holds(tmp_path):
    texts = ["\U0001f600" * 20_000, "a" * 32_767, "a" * 32_768]
    path = workbook.write(tmp_path / "t.xlsx", {"T": pd.DataFrame({"t": texts})})
    cells = [cell.value for cell in openpyxl.load_workbook(path)["T"]["A"][1:]]
    assert [len(cell.encode("utf-16-le")) // 2 for cell in cells] == [32_767, 32_767, 32_767]
    assert cells[1] == texts[1]


def drawn():
    events = table().assign(event=1, layer=table()["site"])
    activity = table().rename(columns={"site": "layer", "epoch": "unit", "sparsity": "frequency"})
    yield figures.sparsity_by_layer(events[events["layer"].isin(NAMES[:8])])
    yield figures.activation_frequency(activity[activity["layer"].isin(NAMES[8:12])])


@pytest.mark.filterwarnings("ignore:Glyph", "ignore:Tight layout", "ignore:constrained_layout")
def test_pictures_are_drawn_and_read(tmp_path):
    for i, figure in enumerate(drawn()):
        found = figures.save(figure, tmp_path / f"{i}.svg")
        assert ElementTree.fromstring(found.read_bytes()).tag.endswith("svg")
        figures.save(figure, tmp_path / f"{i}.png", dpi=30)
        figures.save(figure, tmp_path / f"{i}.pdf")


def test_names_are_drawn_letter_by_letter():
    figure = figures.activation_frequency(
        pd.DataFrame({"layer": ["a$b$", "$x^$"], "unit": 0, "frequency": 0.5})
    )
    figure.draw_without_rendering()  # an unfinished formula would raise
    assert [ax.get_title() for ax in figure.axes] == [r"a\$b\$", r"\$x^\$"]


def test_pages_stay_whole(tmp_path):
    path = page.write(
        tmp_path / "p.html", "t\x01<script>", [page.Section(n, n, table()) for n in NAMES]
    )
    text = path.read_text(encoding="utf-8")
    assert "<script>" not in text
    assert not set(text) & {"\x01", "\ufffe", "\ud800"}
    assert text.count("&lt;b&gt;&amp;&quot;&#x27;") > len(NAMES)
