"""What an analysis found: lines, shares or bars of each model, as the analysis asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from reports.charts.look import PAGE, Size, colour, dash, known, order, panels, shape, told

if TYPE_CHECKING:
    import altair

__all__ = ["analysis"]

_FEW = 30
"""Points of a line that each have a mark."""


def analysis(
    frame: pd.DataFrame, size: Size = PAGE, *, x: str, y: str, bars: bool, shares: bool
) -> altair.TopLevelMixin | None:
    """Draw what the table holds, a panel a ``split``, a line or bars a ``line``; ``None`` if there is nothing.

    Columns: ``line``, ``split`` (all empty for a single panel), ``x``, ``y``, ``told``. ``x`` and ``y`` are the titles
    of the axes; ``shares`` says that the points are too dense for marks and in one unit.
    """
    import altair as alt

    points = known(frame, "y")
    if points.empty:
        return None
    lines, splits = order(points["line"]), order(points["split"])
    words = points["x"].dtype == object or isinstance(points["x"].dtype, pd.StringDtype)
    discrete = bars or words
    across = alt.X(
        "x:N" if discrete else "x:Q",
        sort=order(points["x"]) if words else "ascending",
        title=x,
        scale=alt.Undefined if discrete else alt.Scale(zero=False, nice=False),
        axis=alt.Axis(labelAngle=0, labelOverlap=True) if discrete else alt.Axis(tickCount=5),
    )
    up = alt.Y("y:Q", title=y, scale=alt.Scale(zero=True))
    base = alt.Chart().encode(x=across, y=up, color=colour("line", lines, size), **told())
    drawn: Any = [base.mark_line(strokeWidth=1.8 * size.line).encode(strokeDash=dash("line", lines))]
    marked = base.mark_point(filled=True, size=size.dots(30), opacity=1).encode(
        shape=shape("line", lines, size)
    )
    if bars:
        beside = alt.XOffset("line:N", sort=lines)
        drawn = [base.mark_bar(opacity=0.55).encode(xOffset=beside), marked.encode(xOffset=beside)]
    elif not shares and points.groupby(["line", "split"]).size().max() <= _FEW:
        drawn.append(marked)
    else:  # without marks the legend shows the dashes
        drawn = [base.mark_line(strokeWidth=1.8 * size.line).encode(strokeDash=_dash(lines, size))]
    columns = 1 if splits == [""] else min(3, len(splits))
    columns = min(columns, 2) if size.paper and size.width < 300 else columns
    wide = size.inner(columns, axes=columns) if size.paper else 560 if splits == [""] else 260
    chart = alt.layer(*drawn).properties(width=wide, height=100 if size.paper else 190)
    # lines may be of quantities in different units; shares and bars are compared with each other
    return panels(chart, points, "split", columns=columns, independent=[] if shares or bars else ["x", "y"])


def _dash(lines: list[str], size: Size) -> altair.StrokeDash:
    encoding = dash("line", lines)
    encoding["legend"] = colour("line", lines, size)["legend"]
    return encoding
