"""DataFrames in, files out: an Excel workbook, pictures, and one self-contained HTML page."""

from . import figures, files, overview, page, workbook
from .report import write

__all__ = ["figures", "files", "overview", "page", "workbook", "write"]
