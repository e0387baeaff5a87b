"""DataFrames in, files out: an Excel workbook, pictures, and one self-contained HTML page."""

from . import figures, files, page, workbook

__all__ = ["figures", "files", "page", "workbook"]
