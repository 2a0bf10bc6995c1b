"""Draws a chart without a browser: as SVG for the page, and as SVG and PDF as wide as a column of a paper.

A drawing needs no script to be shown, so the page also works where scripts are blocked, as on build servers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from reports.charts.look import COLUMN, PAGE, WIDE, Size, config
from reports.charts.steady import steady

if TYPE_CHECKING:
    import altair

    from reports.bodies import Chart

__all__ = ["files", "inline", "pdf", "specification", "svg"]

INK, GROUND = "#222222", "white"
_ROOT = re.compile(r'width="([\d.]+)" height="([\d.]+)" viewBox="[^"]*"><rect width="[^"]*" height="[^"]*"')
# a mark with a text of its own, which SVG viewers show as a tooltip when it is a title
_TOLD = re.compile(r'(<(?:path|line|rect|text) [^>]*?aria-label="([^"]*)"[^>]*>)(?=<)')
_ID = re.compile(r'(\bid="|url\(#|href="#)([^")]+)')
_INCH = 72


def svg(chart: altair.TopLevelMixin, size: Size = PAGE) -> str:
    """Return a chart drawn as SVG, dark on white; rest the pointer on a mark to read its number.

    On paper it is as wide as the column: a drawing that is narrower stands in the middle, one that is wider (for long
    names) is scaled down.
    """
    import vl_convert

    spec = specification(chart)
    spec["background"] = GROUND
    # a viewer's font may be wider than the one the space was measured with
    spec["padding"] = 2 if size.paper else {"left": 24, "right": 12, "top": 6, "bottom": 6}
    spec["config"] = config(size, INK)
    drawn = _TOLD.sub(r"\1<title>\2</title>", str(vl_convert.vegalite_to_svg(spec)))
    # ids are counted through a process, and would differ from one report to the next
    places = {name: i for i, (_, name) in enumerate(dict.fromkeys(_ID.findall(drawn)))}
    drawn = _ID.sub(lambda match: f"{match[1]}part{places[match[2]]}", drawn)
    return _ROOT.sub(lambda root: _column(root, size), drawn, count=1) if size.paper else drawn


def specification(chart: altair.TopLevelMixin) -> dict[str, Any]:
    """Return a chart in the words of Vega-Lite, with all of its data."""
    import altair as alt

    # Altair takes 5,000 rows for an oversight
    with alt.data_transformers.enable("default", max_rows=None):
        whole: dict[str, Any] = chart.to_dict(validate=False)
    return whole


def pdf(drawn: str) -> bytes:
    """Return a drawing for paper as PDF with its fonts embedded: the same bytes for the same drawing."""
    import vl_convert

    points = re.sub(
        r'(width|height)="([\d.]+)in"', lambda m: f'{m[1]}="{float(m[2]) * _INCH:.2f}"', drawn, count=2
    )
    return steady(vl_convert.svg_to_pdf(points))


def files(chart: Chart) -> dict[str, str | bytes]:
    """Return the files of a chart for papers, by their names."""
    size = WIDE if chart.wide else COLUMN
    drawn = svg(chart.drawing if chart.paper is None else chart.paper, size)
    return {f"{chart.name}.svg": drawn, f"{chart.name}.pdf": pdf(drawn)}


def inline(drawn: str, name: str) -> str:
    """Return a drawing to be put into a page: in the page's colours, with ids no other drawing has."""
    drawn = drawn.replace(f'fill="{GROUND}"', 'fill="none"', 1).replace(f'"{INK}"', '"currentColor"')
    return _ID.sub(rf"\1{name}-\2", drawn)


def _column(root: re.Match[str], size: Size) -> str:
    width, height = float(root[1]), float(root[2])
    whole = max(width, float(size.width))
    left, inches = (width - whole) / 2, size.width / _INCH
    box = f"{left:g} 0 {whole:g} {height:g}"
    return (
        f'width="{inches:g}in" height="{inches * height / whole:.4f}in" viewBox="{box}">'
        f'<rect x="{left:g}" width="{whole:g}" height="{height:g}"'
    )
