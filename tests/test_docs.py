"""The pages in docs/ name what exists, quote what is there, and their examples run."""

import re
import subprocess
import sys
from pathlib import Path

import models
import pytest

ROOT = models.ROOT
PACKAGE = ROOT / "activation_pruning"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
# A block of code, with the file that it is quoted from where the line before says so.
BLOCK = re.compile(r"(?:From `(?P<source>[^`\n]+)`:\n\n)?```python\n(?P<code>.*?)```", re.DOTALL)


def blocks(page):
    return [(found["source"], found["code"]) for found in BLOCK.finditer(page.read_text())]


def test_there_are_pages():
    assert ROOT / "docs" / "architecture.md" in PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_folders_that_are_named_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    named = re.findall(r"`([\w./-]+(?:\.py|\.md|\.csv|/))`", text)
    missing = [name for name in named if not exists(name)]
    assert missing == []


def exists(name):
    """Below the package, the repository, or (a bare file name) anywhere in the package."""
    if (PACKAGE / name).exists() or (ROOT / name).exists():
        return True
    return "/" not in name and any(PACKAGE.rglob(name))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_quoted_code_is_what_the_files_hold(page):
    for source, code in blocks(page):
        if source is not None:
            assert code.strip("\n") in (ROOT / source).read_text(), f"{source} reads otherwise now"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page, tmp_path):
    for source, code in blocks(page):
        if source is None:
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=False,
                cwd=tmp_path, env=models.environment(),
            )  # fmt: skip
            assert done.returncode == 0, done.stderr


def test_the_map_shows_every_room():
    page = (ROOT / "docs" / "architecture.md").read_text()
    shown = re.findall(r"^  (\w+)(?:/|\.py) ", page, flags=re.MULTILINE)
    there = [path for path in PACKAGE.iterdir() if path.suffix in ("", ".py")]
    assert sorted(shown) == sorted({Path(path).stem for path in there} - {"__pycache__"})
