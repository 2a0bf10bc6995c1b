"""The report for papers: ``table.tex``, a file for each further table, and ``report.tex``, which compiles as it is."""

from reports.formats.tex.document import MADE, tex_files

__all__ = ["MADE", "tex_files"]
