"""The look that all charts share: how wide they are, their fonts, and what tells one series from another.

Series differ in colour and in shape or dash, so that they can be told apart in grey and with any colour blindness. The
colours are ours: eight that lie at least 20 apart in CIELAB, for normal sight and with simulated deuteranopia and
protanopia (Machado et al. 2009), each with a contrast of three to the page's light and its dark ground.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

if TYPE_CHECKING:
    import altair

__all__ = [
    "COLOURS",
    "COLUMN",
    "DASHES",
    "FONT",
    "LINES",
    "PAGE",
    "POINTS",
    "REST",
    "SHAPES",
    "WIDE",
    "Size",
    "colour",
    "config",
    "dash",
    "known",
    "legend_columns",
    "order",
    "panels",
    "shape",
    "told",
]

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
"""Liberation Sans comes with the renderer and has Arial's widths: a PDF embeds it, an SVG may be shown in Arial."""
COLOURS = (
    "#0067b3",
    "#e97300",
    "#00954f",
    "#603cff",
    "#fd53a0",
    "#cc0621",
    "#007266",
    "#6878ff",
)
REST = "#b4b4b4"
"""The grey of series that are not told apart."""
SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "M-1,-.6L-.6,-1L0,-.4L.6,-1L1,-.6L.4,0L1,.6L.6,1L0,.4L-.6,1L-1,.6L-.4,0Z",  # a lying cross
    "M-1,-.9L-1,.9L1,-.9L1,.9Z",  # a bow tie
    "triangle-right",
    "triangle-left",
    "M0,-1L.29,-.4L.95,-.31L.48,.15L.59,.81L0,.5L-.59,.81L-.48,.15L-.95,-.31L-.29,-.4Z",  # a star
    "M-.9,-1L.9,-1L-.9,1L.9,1Z",  # an hourglass
    "M1,0L.5,.87L-.5,.87L-1,0L-.5,-.87L.5,-.87Z",  # a hexagon
    "M-1,.5A1,1,0,0,1,1,.5Z",  # half a disc
    "M-1,-.35L1,-.35L1,.35L-1,.35Z",  # a lying bar
    "M-.35,-1L.35,-1L.35,1L-.35,1Z",  # a standing bar
)
DASHES: tuple[tuple[int, ...], ...] = ((1, 0), (6, 2), (2, 2), (8, 2, 2, 2), (10, 4), (4, 1, 1, 1, 1, 1))
LINES, POINTS = 12, len(SHAPES)
"""How many series of lines and of points are told apart; the others are grey."""
_LETTER = 0.55
"""Mean width of a letter, in font sizes."""


class Size(NamedTuple):
    """How wide a whole drawing is and how large its letters: pixels on the page, points of 1/72 inch on paper."""

    name: str
    width: int
    font: int
    line: float
    """Width of a line, and the measure of all marks."""
    paper: bool

    def inner(self, columns: int, labels: Iterable[str] = (), *, spacing: int = 16, axes: int = 1) -> int:
        """Return how wide each of some panels side by side may be.

        ``labels`` are those of the vertical axis where it has names, and ``axes`` how many of the panels have one.
        """
        letters = max(map(len, labels), default=0)
        axis = min(letters * _LETTER * self.font + 10, self.label_limit) if letters else 4.2 * self.font
        free = self.width - axes * axis - (columns - 1) * spacing - (8 if self.paper else 40)
        return max(int(free / columns), 40)

    @property
    def label_limit(self) -> int:
        """How long the name of a line may be before it is cut off."""
        return int(0.3 * self.width) if self.paper else 220

    def dots(self, area: int) -> float:
        """Return the area of a point, given that on the page."""
        return area * self.line**2


PAGE = Size("page", 1040, 11, 1.0, False)
COLUMN, WIDE = Size("column", 234, 8, 0.75, True), Size("two columns", 486, 8, 0.75, True)
"""One column of a paper, 3.25 inches, and two, 6.75 inches, with letters of 8 points."""


def config(size: Size, ink: str) -> dict[str, Any]:
    """Return the Vega-Lite configuration of a drawing in a colour of text."""
    text = {
        "labelColor": ink,
        "titleColor": ink,
        "labelFontSize": size.font,
        "titleFontSize": size.font,
        "titleFontWeight": "normal",
    }
    faint = {"gridColor": "#88888840", "domainColor": "#88888880", "tickColor": "#88888880"}
    return {
        "font": FONT,
        "axis": {
            **text,
            **faint,
            **({"tickSize": 3, "labelPadding": 1, "titlePadding": 2} if size.paper else {}),
        },
        # one weight, and so one font in a PDF
        "header": {**text, "labelFontWeight": "normal" if size.paper else 600, "labelPadding": 4},
        "legend": {
            **text,
            "symbolOpacity": 1,
            "symbolBaseFillColor": "#888888",
            "symbolDash": [1, 0],
            "symbolStrokeWidth": size.line,
            "symbolSize": size.dots(70),
            "columnPadding": 10 if size.paper else 28,
            "labelLimit": int(0.8 * size.width) if size.paper else 400,
            # of colours and of shapes: side by side, long names of the one run into the other
            "layout": {
                "bottom": {"direction": "vertical", "anchor": "start", "margin": 4 if size.paper else 10}
            },
        },
        "text": {"color": ink},
        "view": {"stroke": "#88888840"},
    }


def known(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return the rows that have a number in these columns: what failed is not drawn, least of all as zero."""
    return frame.dropna(subset=list(columns)) if len(frame) else frame


def order(names: pd.Series[Any]) -> list[Any]:
    """Return each name once: in the order of a categorical, else in that of the rows."""
    there = list(dict.fromkeys(names))
    if isinstance(names.dtype, pd.CategoricalDtype):
        return [name for name in names.dtype.categories if name in set(there)]
    return there


def told() -> dict[str, Any]:
    """Return the encodings that let each mark tell its number, from the column ``told``."""
    return {"description": "told:N", "tooltip": "told:N"}


def colour(field: str, names: Sequence[str], size: Size = PAGE, *, rest: str | None = None) -> altair.Color:
    """Return a colour for each name, with a legend where there are several; grey for that of the rest."""
    import altair as alt

    colours = _given(COLOURS, names, rest, REST)
    return alt.Color(
        f"{field}:N", sort=list(names), scale=_scale(names, colours), legend=_legend(names, size)
    )


def shape(field: str, names: Sequence[str], size: Size = PAGE, *, rest: str | None = None) -> altair.Shape:
    """Return a shape for each name; those of the first sixteen differ."""
    import altair as alt

    shapes = _given(SHAPES, names, rest, SHAPES[0])
    return alt.Shape(f"{field}:N", sort=list(names), scale=_scale(names, shapes), legend=_legend(names, size))


def dash(field: str, names: Sequence[str], *, rest: str | None = None) -> altair.StrokeDash:
    """Return a dash for each name, which the legend of the shapes stands for."""
    import altair as alt

    dashes = [list(each) for each in _given(DASHES, names, rest, DASHES[0])]
    return alt.StrokeDash(f"{field}:N", sort=list(names), scale=_scale(names, dashes), legend=None)


def _given(looks: Sequence[Any], names: Sequence[str], rest: str | None, of_rest: Any) -> list[Any]:
    return [of_rest if name == rest else looks[i % len(looks)] for i, name in enumerate(names)]


def _scale(names: Sequence[str], looks: list[Any]) -> altair.Scale:
    import altair as alt

    return alt.Scale(domain=list(names), range=looks)


def legend_columns(names: Sequence[str], size: Size = PAGE) -> int:
    """Return in how many columns these names stand below a drawing: fewer where they are long."""
    wide = _LETTER * size.font * max(map(len, names)) + 34
    room = size.width if size.paper else 660
    return max(1, min(4, len(names), int(room / wide)))


def _legend(names: Sequence[str], size: Size) -> altair.Legend | None:
    import altair as alt

    if len(names) < 2:
        return None
    return alt.Legend(title=None, orient="bottom", columns=legend_columns(names, size))


def panels(
    chart: Any, data: pd.DataFrame, field: str, *, columns: int, independent: Sequence[str] = ()
) -> altair.TopLevelMixin:
    """Return a chart once for each name of a column, side by side; a single one without a name has no heading."""
    import altair as alt

    names = order(data[field])
    if names == [""]:
        whole: altair.TopLevelMixin = chart.properties(data=data)
        return whole
    facet = alt.Facet(f"{field}:N", sort=names, title=None, header=alt.Header(labelLimit=320))
    beside = chart.properties(data=data).facet(facet=facet, columns=min(columns, len(names)), spacing=16)
    if independent:
        beside = beside.resolve_scale(**dict.fromkeys(independent, "independent"))
    drawn: altair.TopLevelMixin = beside
    return drawn
