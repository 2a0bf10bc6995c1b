"""Charts: each a function of its own file, from a table to an Altair chart for a page or for a paper.

A section makes the table and asks :func:`figure` for the body. The shared look is in :mod:`reports.charts.look`, the
drawing to SVG and PDF in :mod:`reports.charts.drawing`, what a page needs to let a reader point at marks in
:mod:`reports.charts.bundle` and :mod:`reports.charts.spec`.
"""

from reports.charts.figure import figure

__all__ = ["figure"]
