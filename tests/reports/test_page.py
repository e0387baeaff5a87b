import base64
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from activation_pruning.reports import figures, page, workbook
from activation_pruning.reports.page import Section

pytestmark = pytest.mark.lowest

VOID = {"meta", "link", "img", "br", "hr"}


class Reader(HTMLParser):
    """Checks that tags nest, and keeps what the tests ask about."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def text(self, tag):
        return [data for name, data in self.texts if name == tag]


def runs():
    return pd.DataFrame(
        {
            "arm": ["activation", "<b>&"],
            "test_accuracy": [0.91234, np.nan],
            "time_s": [12.345, 3.0],
            "size_bytes": [1_066_440, 12],
            "done": [True, False],
        }
    )


def picture():
    return figures.mask_heatmap({"dense": np.eye(4, dtype=bool)})


def read(tmp_path, *sections, title="Pruning"):
    path = page.write(tmp_path / "out.html", title, sections)
    text = path.read_text(encoding="utf-8")
    return Reader(text), text


def test_page_is_self_contained_and_nests(tmp_path):
    reader, text = read(
        tmp_path,
        Section("Results", "First.\n\nSecond.", runs(), picture(), "A caption."),
        Section("Settings", table=workbook.settings_table()),
    )
    assert text.startswith("<!DOCTYPE html>")
    assert not re.search(r"(https?:)?//\w", re.sub(r"base64,[^\"]+", "", text))
    assert not re.search(r"url\(|@import|<script|<iframe", text)
    sources = [attrs[key] for _, attrs in reader.tags for key in ("src", "href") if key in attrs]
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert {"charset": "utf-8"} in reader.all("meta")
    assert any(meta.get("name") == "viewport" for meta in reader.all("meta"))
    assert reader.text("p") == ["First.", "Second."]
    assert "A caption." in reader.text("figcaption")


def test_style_serves_dark_screens_paper_and_long_tables(tmp_path):
    _, text = read(tmp_path, Section("Runs", table=runs()))
    for rule in ("prefers-color-scheme: dark", "@media print", "position: sticky", "max-height"):
        assert rule in text


def test_contents_link_to_the_sections(tmp_path):
    reader, _ = read(tmp_path, Section("Results"), Section("Results"), Section("Größe & mehr"))
    targets = [attrs["id"] for attrs in reader.all("section")]
    assert [attrs["href"] for attrs in reader.all("a")] == [f"#{name}" for name in targets]
    assert len(set(targets)) == 3
    assert reader.text("a") == reader.text("h2") == ["Results", "Results", "Größe & mehr"]


def test_numbers_read_as_in_the_workbook(tmp_path):
    reader, _ = read(tmp_path, Section("Runs", table=runs()))
    cells = ["activation", "91.23%", "12.35", "1,066,440", "True", "<b>&", "3.00", "12", "False"]
    assert reader.text("td") == cells  # the missing accuracy is an empty cell
    assert len(reader.all("td")) == 10
    sides = [attrs.get("class") for attrs in reader.all("th")]
    assert sides == [None, "n", "n", "n", None]
    assert [attrs.get("class") for attrs in reader.all("td")] == sides * 2


def test_all_text_is_escaped(tmp_path):
    bad = '<script>alert("x")</script>\x00'
    table = pd.DataFrame({bad: [bad]})
    reader, text = read(tmp_path, Section(bad, bad, table, picture(), bad, bad), title=bad)
    assert "<script" not in text
    assert "\x00" not in text
    clean = bad.replace("\x00", "\ufffd")
    for tag in ("title", "h1", "h2", "a", "p", "th", "td", "figcaption"):
        assert "".join(reader.text(tag)) == clean
    assert reader.all("img")[0]["alt"] == clean


def test_pictures_are_embedded_with_alternative_texts(tmp_path):
    path = figures.save(picture(), tmp_path / "masks.png")
    reader, _ = read(
        tmp_path,
        Section("A", figure=picture(), alt="in words"),
        Section("B", figure=path, caption="caption"),
        Section("C", figure=str(path)),
    )
    images = reader.all("img")
    assert [image["alt"] for image in images] == ["in words", "caption", "C"]
    data = [base64.b64decode(image["src"].partition("base64,")[2]) for image in images]
    assert all(picture.startswith(b"\x89PNG") for picture in data)
    assert data[1] == data[2] == path.read_bytes()


def test_long_tables_say_what_they_leave_out(tmp_path):
    table = pd.DataFrame({"unit": np.arange(2_001)})
    reader, _ = read(tmp_path, Section("Units", table=table), Section("Fits", table=table[:2_000]))
    assert len(reader.all("td")) == 4_000
    assert reader.text("figcaption") == ["The first 2,000 of 2,001 rows."]


def test_scrolling_boxes_can_be_reached_by_keyboard(tmp_path):
    reader, _ = read(tmp_path, Section("Runs", table=runs()))
    box = next(attrs for attrs in reader.all("div") if "box" in attrs["class"].split())
    assert (box["tabindex"], box["role"], box["aria-label"]) == ("0", "region", "Runs")


def test_named_index_is_shown(tmp_path):
    reader, _ = read(tmp_path, Section("Mean", table=runs().set_index("arm")[["time_s"]]))
    assert reader.text("th") == ["arm", "time_s"]


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ([], "sections is empty"),
        ([Section("Runs", table=[1])], "section 'Runs' is a list"),
        ([Section("Runs", figure=3)], "figure of section 'Runs' is a int"),
    ],
)
def test_bad_sections(tmp_path, sections, reason):
    with pytest.raises(ValueError, match=reason):
        page.write(tmp_path / "out.html", "Title", sections)
    assert list(tmp_path.iterdir()) == []


def test_bad_paths(tmp_path):
    (tmp_path / "file").write_text("not a picture")
    with pytest.raises(ValueError, match=r"must end in \.html"):
        page.write(tmp_path / "out.pdf", "Title", [Section("A")])
    with pytest.raises(ValueError, match="not a PNG"):
        page.write(tmp_path / "out.html", "Title", [Section("A", figure=tmp_path / "file")])
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        page.write(tmp_path / "out.html", "Title", [Section("A", figure=tmp_path / "absent.png")])
    with pytest.raises(OSError, match=r"cannot write '.*file/out\.html'"):
        page.write(tmp_path / "file" / "out.html", "Title", [Section("A")])
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    path = page.write(tmp_path / "out.html", "Old", [Section("A", figure=Figure())])
    before = path.read_bytes()

    def fail(source, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(PermissionError, match=r"out\.html.*Permission denied.*other program"):
        page.write(path, "New", [Section("A")])
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.html"]


@pytest.mark.parametrize("section", ["text", Section("x", text=None)])
def test_what_is_no_section_is_refused(tmp_path, section):
    with pytest.raises(ValueError, match="section"):
        page.write(tmp_path / "p.html", "t", [section])
