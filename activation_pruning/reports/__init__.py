"""DataFrames in, files out: an Excel workbook, pictures, one self-contained HTML page.

`write`: the report of one pruning. `statistics`: which of several methods is better, from tables
to tables. Parts are loaded when they are used first: Matplotlib, seaborn and openpyxl load slowly.
"""

import importlib
from typing import TYPE_CHECKING, Any

from activation_pruning.support.files import check_folder, replacing

if TYPE_CHECKING:
    from activation_pruning.reports import figures, formats, overview, page, statistics, workbook
    from activation_pruning.reports.report import write

__all__ = [
    "check_folder", "figures", "formats", "overview", "page", "replacing", "statistics", "workbook",
    "write",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "write":
        return importlib.import_module(f"{__name__}.report").write
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
