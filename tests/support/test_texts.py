"""Texts made safe: what a spreadsheet, an XML parser or a file system would stumble over."""

import csv
import io
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activation_pruning.support import texts

pytestmark = pytest.mark.lowest
EVIL = ["=cmd|' /C calc'!A0", "+1+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1",
        "'=1", "''-x", "-", "=", "+"]  # fmt: skip
HARMLESS = ["dense", "", "'quoted'", "a=b", "1-2", "conv_1/kernel", "é\U0001f600"]
NUMBERS = ["-0.5", "+1", "-1e-07", "-.5", "-inf", "3", "-12.", "nan"]


def test_cells_that_begin_like_a_formula_begin_with_an_apostrophe():
    for text in EVIL:
        assert texts.for_csv(text) == "'" + text
    for text in HARMLESS + NUMBERS:
        assert texts.for_csv(text) == text


@settings(max_examples=500, deadline=None)
@given(st.text() | st.sampled_from("'=+-@\t\r\n").flatmap(lambda c: st.text().map(c.__add__)))
def test_what_is_read_is_what_was_written(text):
    safe = texts.for_csv(text)
    assert texts.from_csv(safe) == text
    assert safe[:1] not in "=+-@\t\r\n＝＋－＠" or safe == "" or float(safe) == float(text)


@pytest.mark.parametrize("more", [[], ["a\rb"], ["a\r\nb", '"', ",", "\0", "\ud800", " "]])
def test_tables_come_back(tmp_path, more):
    cells = EVIL + HARMLESS + NUMBERS + more
    table = pd.DataFrame({"name": cells, "number": np.linspace(-1, 1, len(cells)), "=c": "x"})
    texts.write_csv(table, tmp_path / "t.csv")
    found = texts.read_csv(tmp_path / "t.csv")
    assert list(found.columns) == ["name", "number", "=c"]
    assert found["name"].tolist() == cells
    assert found["number"].astype(float).tolist() == table["number"].tolist()
    raw = (tmp_path / "t.csv").read_bytes().decode("utf-8", "surrogatepass")
    rows = list(csv.reader(io.StringIO(raw, newline="")))
    for row in rows:  # as a spreadsheet sees them
        for cell in row:
            assert cell == "" or cell[0] not in "=+-@\t\r\n" or isinstance(float(cell), float)
    assert table["name"].tolist() == cells  # the table given is as it was
    texts.write_csv(found, tmp_path / "again.csv")
    assert texts.read_csv(tmp_path / "again.csv").equals(found)


def test_tables_of_categories_and_missing_cells(tmp_path):
    table = pd.DataFrame({"arm": pd.Categorical(["=a", "b", None]), "x": [None, "@y", np.nan]})
    texts.write_csv(table, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "arm,x\n'=a,\nb,'@y\n,\n"
    assert texts.read_csv(tmp_path / "t.csv").values.tolist() == [["=a", ""], ["b", "@y"], ["", ""]]


@pytest.mark.parametrize(
    "text", ["a,b\n1\n", "a,b\n1,2,3\n", "a,a\n1,2\n", 'a,b\n1,"2\n', 'a\n"x"y\n', "a,b\n1,2\n\n"]
)
def test_what_is_no_table_is_refused(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match="it is no"):
        texts.read_csv(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(ValueError, match="utf-8"):
        texts.read_csv(tmp_path / "t.csv")


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(), min_size=1))
def test_xml_holds_any_text(text):
    found = ElementTree.fromstring(f"<a><![CDATA[{texts.for_xml(text).replace(']]>', '')}]]></a>")
    assert isinstance(found.text, str)
    kept = [c for c in text if c.isprintable()]
    assert [c for c in texts.for_xml(text) if c.isprintable() and c != "\ufffd"] == [
        c for c in kept if c not in "\ufffd\ufffe\uffff"
    ]


def test_lengths_are_those_of_excel():
    assert [texts.width(text) for text in ("", "ab", "é", "\U0001f600" * 31)] == [0, 2, 1, 62]
    assert texts.clipped("\U0001f600" * 31, 62) == "\U0001f600" * 31
    assert texts.clipped("\U0001f600" * 31, 61) == "\U0001f600" * 30 + "…"
    assert texts.clipped("\U0001f600" * 31, 60) == "\U0001f600" * 29 + "…"


@pytest.mark.parametrize("text", ["../x", "/etc/passwd", "a\0b", "a\\b", "C:x", "..", "\U0001f600"])
def test_file_names_hold_no_folders(tmp_path, text):
    name = texts.file_name(text)
    path = tmp_path / f"t_{name}.csv"
    path.write_text("")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert len(texts.file_name("a" * 1000)) == 100
