"""DataFrames in, files out: an Excel workbook, pictures, one self-contained HTML page.

`statistics`: what these say of several methods, from tables to tables.
"""

from . import figures, files, overview, page, statistics, workbook
from .report import write

__all__ = ["figures", "files", "overview", "page", "statistics", "workbook", "write"]
