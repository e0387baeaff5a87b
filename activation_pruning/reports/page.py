"""One self-contained HTML page from texts, tables and pictures: it opens offline, anywhere."""

import base64
import html
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from activation_pruning.reports.formats import GENERAL, as_text, column_formats, plain
from activation_pruning.reports.tables import table_of
from activation_pruning.support import types
from activation_pruning.support.files import check_path, replacing
from activation_pruning.support.shown import shown
from activation_pruning.support.types import Table

MAX_ROWS = 2_000  # more would make a page that a phone cannot scroll; the workbook has them all
_WHOLE = 20  # rows that are shown without scrolling down

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5a6575; --paper: #ffffff;
  --line: #d5dae1; --head: #eef1f5; --stripe: #f8f9fb; --link: #1f5f9f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #a3adba; --paper: #14181e;
  --line: #37404c; --head: #222934; --stripe: #1a1f27; --link: #86b8ea; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; color: var(--ink);
  background: var(--paper); font: 16px/1.55 system-ui, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0.5rem 0 1rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.5rem 0 0.6rem; scroll-margin-top: 1rem; }
p { margin: 0 0 0.8rem; max-width: 44rem; }
a { color: var(--link); }
nav ol { margin: 0; padding-left: 1.4rem; }
nav { border-left: 3px solid var(--line); padding: 0.2rem 0 0.2rem 0.6rem; }
figure { margin: 1rem 0; }
figure img { display: block; width: 100%; max-width: 54rem; height: auto; background: #ffffff;
  border: 1px solid var(--line); border-radius: 4px; padding: 0.5rem; }
.picture { overflow-x: auto; }
@media (max-width: 40rem) { .picture img { width: 38rem; max-width: none; } }
@media print { .picture img { width: 100%; } }
figcaption { color: var(--soft); font-size: 0.9rem; margin-top: 0.4rem; max-width: 44rem; }
.box { overflow: auto; max-height: 30rem; border: 1px solid var(--line); border-radius: 4px;
  width: fit-content; max-width: 100%; }
.whole { max-height: none; }
table { border-collapse: separate; border-spacing: 0; font-size: 0.875rem; line-height: 1.4;
  font-variant-numeric: tabular-nums; }
th { position: sticky; top: 0; background: var(--head); border-bottom: 1px solid var(--line);
  font-weight: 600; white-space: nowrap; }
th, td { padding: 0.3rem 0.75rem; text-align: left; vertical-align: top; }
td { max-width: 30rem; }
tbody tr:nth-child(even) { background: var(--stripe); }
th.n, td.n { text-align: right; white-space: nowrap; }
@media print { :root { --ink: #000; --soft: #333; --paper: #fff; --head: #eee; --stripe: #fff;
    --line: #999; --link: #000; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  .box { max-height: none; overflow: visible; border: 0; }
  table { font-size: 8pt; } th { position: static; } thead { display: table-header-group; }
  tr, .picture { break-inside: avoid; } h2 { break-after: avoid; } }
"""


@dataclass(frozen=True)
class Section:
    """One part of a page, shown in the order text, figure, table.

    An empty line in the text starts a new paragraph. The figure is a matplotlib Figure or the path
    of a .png; the caption is a line beneath it or, without one, beneath the table. alt is the
    figure in words, for those who cannot see it: caption or heading where empty.
    """

    heading: str
    text: str = ""
    table: Table | None = None
    figure: Figure | str | Path | None = None
    caption: str = ""
    alt: str = ""


def write(path: types.Path, title: str, sections: Iterable[Section]) -> Path:
    """Write sections as one HTML file that needs no other file and no network.

    Numbers read as in the workbook. Pictures are embedded; a table shows its first 2,000 rows and
    says so. The file appears complete or not at all; missing folders are made. Raises ValueError
    for a suffix other than .html, no sections, or a section with a bad table or figure; OSError
    where the file cannot be written or a picture not be read.

    Example:
        >>> write("report.html", "Pruning", [Section("Runs", table=runs)])   # doctest: +SKIP
        PosixPath('report.html')
    """
    path, sections = check_path(path, ".html", ".htm"), list(sections)
    if not sections:
        raise ValueError("sections is empty; give at least one Section")
    for section in sections:
        if not isinstance(section, Section):
            raise ValueError(f"sections holds {shown(section)}; each must be a page.Section")
        if not isinstance(section.text, str):
            raise ValueError(
                f"section {section.heading!r}: text={shown(section.text)} is not a text"
            )
    slugs = [re.sub(r"[^a-z0-9]+", "-", str(part.heading).lower()).strip("-") for part in sections]
    names = [f"{i}-{slug}" for i, slug in enumerate(slugs, 1)]
    named = list(zip(names, sections, strict=True))
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',  # or browsers ask the server for one
        f"<title>{_escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f'<header><h1>{_escape(title)}</h1></header>\n<nav aria-label="Contents"><ol>',
        *(f'<li><a href="#{name}">{_escape(part.heading)}</a></li>' for name, part in named),
        "</ol></nav>\n<main>",
        *(_section(name, part) for name, part in named),
        "</main>\n</body>\n</html>\n",
    ]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")
    return path


def _section(name, section):
    paragraphs = [part for part in re.split(r"\n\s*\n", section.text) if part.strip()]
    parts = [f'<section id="{name}">\n<h2>{_escape(section.heading)}</h2>']
    parts += [f"<p>{_escape(part.strip())}</p>" for part in paragraphs]
    caption = f"<figcaption>{_escape(section.caption)}</figcaption>" if section.caption else ""
    if section.figure is not None:
        alt = _escape(section.alt or section.caption or section.heading)
        source = base64.b64encode(_png(section)).decode("ascii")
        image = f'<img alt="{alt}" src="data:image/png;base64,{source}">'
        box = '<div class="picture" tabindex="0" role="group" aria-label="Picture">'
        parts.append(f"<figure>{box}{image}</div>{caption}</figure>")
        caption = ""
    if section.table is not None:
        table = table_of(section.table, f"the table of section {section.heading!r}")
        cut = f"<figcaption>The first {MAX_ROWS:,} of {len(table):,} rows.</figcaption>"
        cut = cut if len(table) > MAX_ROWS else ""
        parts.append(f"<figure>{_table(table, section.heading)}{cut}{caption}</figure>")
    return "\n".join([*parts, "</section>"])


def _png(section):
    if isinstance(section.figure, Figure):
        memory = io.BytesIO()
        section.figure.savefig(memory, format="png", dpi=150)
        return memory.getvalue()
    if not isinstance(section.figure, (str, Path)):
        raise ValueError(
            f"the figure of section {section.heading!r} is a {type(section.figure).__name__}; "
            "give a matplotlib Figure or the path of a .png"
        )
    data = Path(section.figure).read_bytes()
    if not data.startswith(b"\x89PNG"):
        raise ValueError(f"{str(section.figure)!r} is not a PNG picture; save it as .png")
    return data


def _table(table, heading):
    codes = column_formats(table)
    sides = ["" if code == GENERAL else ' class="n"' for code in codes]
    named = zip(table.columns, sides, strict=True)
    head = [f'<th scope="col"{side}>{_escape(name)}</th>' for name, side in named]
    shown = table.head(MAX_ROWS)
    columns = [
        [f"<td{side}>{_escape(as_text(value, code))}</td>" for value in shown.iloc[:, i]]
        for i, (side, code) in enumerate(zip(sides, codes, strict=True))
    ]
    rows = [f"<tr>{''.join(cells)}</tr>\n" for cells in zip(*columns, strict=True)]
    kind = "box" if len(shown) > _WHOLE else "box whole"
    return (  # the box scrolls: it must be reachable by keyboard, and have a name
        f'<div class="{kind}" tabindex="0" role="region" aria-label="{_escape(heading)}">'
        f"<table>\n<thead><tr>{''.join(head)}</tr></thead>\n"
        f"<tbody>\n{''.join(rows) or chr(10)}</tbody>\n</table></div>"
    )


def _escape(text):
    return html.escape(plain(str(text)) or "")
