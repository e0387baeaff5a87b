"""From tables, pictures and findings to the files of an experiment: workbook, pictures, page."""

import functools
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from activation_pruning.reports import figures, page, workbook
from activation_pruning.support.files import replacing
from activation_pruning.support.texts import file_name, write_csv

DPI = 120  # the pictures stand in the page as well, which shall stay small
# What is asked for is a target; `sparsity` is measured wherever a table or a result says it.
TARGET = {"sparsity": "target_sparsity"}
SETTING = TARGET | {"events": "events"}  # of runs: settings, and what tables call them
RUN = {setting: f"run_{name}" for setting, name in SETTING.items()}  # where rows have their own
MOST_ROWS = 20_000  # of a sheet; a cell of a workbook takes a hundred times as long as one of a CSV


@dataclass(frozen=True)
class Picture:
    """A figure with its title and caption."""

    title: str
    figure: Figure
    caption: str = ""


@dataclass(frozen=True)
class Publication:
    """What an experiment has to show.

    name: of the files. title: of the page. findings: sentences. about: says how to read the first
    table. tables: sheets by title, the first is printed; one of more than MOST_ROWS rows goes to a
    CSV file instead. charts: of the workbook. pictures: by
    file name; None for one that cannot be drawn this time, so that no older one stays behind.
    on_page: tables shown on the page besides the first. packages: whose versions count, too.
    """

    name: str
    title: str
    findings: list[str]
    about: str
    tables: dict[str, pd.DataFrame]
    charts: list[workbook.Chart]
    pictures: dict[str, Picture | None]
    on_page: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    def write(self, out: Path, settings: pd.DataFrame) -> None:
        """Print the findings, write all files to a folder, and print their paths."""
        print("\n" + "\n".join(self.findings) + "\n")
        if not self.tables:
            return
        tables = {title: table for title, table in self.tables.items() if len(table)}
        said = self.findings + self._long_tables(tables, out)
        first = next(iter(tables))
        findings = {"Findings": pd.DataFrame({"finding": said})}
        book = out / f"{self.name}.xlsx"
        charts = [chart for chart in self.charts if chart.sheet in tables]
        workbook.write(book, findings | tables, charts, settings)
        print(book)
        drawn = {}
        for name, picture in self.pictures.items():
            path = out / f"{name}.png"
            if picture is None:
                path.unlink(missing_ok=True)
            else:
                drawn[figures.save(picture.figure, path, DPI)] = picture
                print(path)
        sections = [
            page.Section("Findings", text="\n\n".join(said)),
            page.Section(first, text=self.about, table=tables[first]),
            *(
                page.Section(picture.title, figure=path, caption=picture.caption)
                for path, picture in drawn.items()
            ),
            *(page.Section(name, table=tables[name]) for name in self.on_page if name in tables),
            page.Section("Settings", table=settings),
        ]
        print(page.write(out / f"{self.name}.html", self.title, sections))

    def _long_tables(self, tables, out):
        """Take the tables that are too long for a workbook out, to files; say so."""
        said = []
        for title, table in list(tables.items()):
            path = out / f"{self.name}_{file_name(title.lower())}.csv"
            if len(table) <= MOST_ROWS or any(chart.sheet == title for chart in self.charts):
                path.unlink(missing_ok=True)
                continue
            with replacing(path) as part:
                write_csv(tables.pop(title), part)
            print(path)
            said.append(f"The table {title} has {len(table):,} rows and stands in {path.name}.")
        return said


Show = Callable[..., Publication]


def nothing(findings: list[str]) -> Publication:
    """What is published where there is nothing to show: sentences that say why."""
    return Publication("", "", findings, "", {}, [], {})


def publishing(show: Show) -> Callable[..., None]:
    """Make a function of (records, folder, options) that writes what `show` of these returns.

    It prints the findings, writes workbook, pictures and page, and prints their paths. What comes
    after the three arguments is handed on.
    """

    @functools.wraps(show)
    def publish(records, out, options, *more):
        found = show(records, out, options, *more)
        found.write(out, settings_table(records, options, found.packages))

    return publish


def warnings_table(records: list[dict]) -> pd.DataFrame:
    """What was warned of in any of the runs."""
    told = {text for record in records for text in record["result"].get("warnings", [])}
    return pd.DataFrame({"warning": sorted(told)})


def where(table: pd.DataFrame) -> str:
    """The setting of the pruned runs in a table, for a caption."""
    pruned = table[table["events"] > 0]
    if pruned.empty:
        return "Nothing is pruned."
    shares = ", ".join(f"{share:.0%}" for share in pruned["target_sparsity"].unique())
    return f"{shares} sparsity, {', '.join(map(str, pruned['events'].unique()))} pruning event(s)."


def one_setting(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the pruned runs that pictures show: most sparse, fewest events."""
    pruned = table[table["events"] > 0]
    pruned = pruned[pruned["target_sparsity"] == pruned["target_sparsity"].max()]
    return pruned[pruned["events"] == pruned["events"].min()]


def rows(records: list[dict], key: str, run: dict[str, str] = RUN) -> pd.DataFrame:
    """The rows kept under `key` in each record's result, as one table with the run in front.

    run: settings of the run, and what they are called in the table, besides arm and seed.
    """
    names = {"arm": "arm"} | run | {"seed": "seed"}
    table = pd.DataFrame(
        [
            row | {name: record["settings"][setting] for setting, name in names.items()}
            for record in records
            for row in record["result"].get(key) or ()
        ]
    )
    front = list(names.values())
    return table if table.empty else table[front + [n for n in table.columns if n not in front]]


def as_target(table: pd.DataFrame) -> pd.DataFrame:
    """The table in the words of today; older rows, without a measured one, say sparsity for it."""
    return table if "target_sparsity" in table else table.rename(columns=TARGET)


def settings_table(records: list[dict], options: dict, packages=()) -> pd.DataFrame:
    """The Settings sheet: command, options, seeds, backend, versions (of more packages, too)."""
    seeds = sorted({record["settings"]["seed"] for record in records})
    shown = {key: value for key, value in options.items() if value is not None and key != "seeds"}
    backend = records[0]["settings"]["backend"]
    table = workbook.settings_table(seeds=seeds, **shown, backend=backend)
    packages = (*packages, *([backend] if backend != "tensorflow" else []))
    more = [(f"version of {name}", importlib.metadata.version(name), "") for name in packages]
    return pd.concat([table, pd.DataFrame(more, columns=table.columns)], ignore_index=True)
