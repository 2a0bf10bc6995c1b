"""Reliability diagram: how often a model is right where it is so confident; on the diagonal it knows itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from reports.charts.foremost import shown
from reports.charts.look import PAGE, Size, colour, dash, known, panels, shape, told

if TYPE_CHECKING:
    import altair

__all__ = ["ENOUGH", "reliability"]

ENOUGH = 5
"""Images of a bin that a line goes through; of fewer there is a point alone."""


def reliability(frame: pd.DataFrame, size: Size = PAGE) -> altair.TopLevelMixin | None:
    """Draw shares in %, a panel a model, a line a series; ``None`` if there are none.

    Columns: ``panel``, ``series`` (model and defense), ``shown`` (see :func:`foremost`), ``confidence`` and
    ``accuracy``, means over the images of a bin, ``low``, ``high``, ``images`` and ``told``.
    """
    import altair as alt

    points = known(frame, "accuracy", "confidence")
    if points.empty:
        return None
    names, rest = shown(points)
    whole = alt.Scale(domain=[0, 100])
    x = alt.X("confidence:Q", title="confidence, %", scale=whole, axis=alt.Axis(tickCount=5))
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=whole)
    perfect = (
        alt.Chart()
        .transform_aggregate(images="sum(images)")
        .mark_rule(color="#888888", strokeDash=[2, 2], strokeWidth=size.line)
        .encode(x=alt.datum(0), y=alt.datum(0), x2=alt.datum(100), y2=alt.datum(100))
    )
    many = f"datum.images >= {ENOUGH}"
    base = alt.Chart().encode(x=x, color=colour("shown", names, size, rest=rest), detail="series:N")
    errors = (
        base.transform_filter(many)
        .mark_rule(strokeWidth=size.line, opacity=0.35)
        .encode(y=alt.Y("low:Q", title="accuracy, %", scale=whole), y2="high:Q")
    )
    curves = (
        base.transform_filter(many)
        .mark_line(strokeWidth=1.2 * size.line, opacity=0.9)
        .encode(y=y, strokeDash=dash("shown", names, rest=rest))
    )
    dots = base.mark_point(filled=True, opacity=1).encode(
        y=y,
        shape=shape("shown", names, size, rest=rest),
        size=alt.Size(
            "images:Q", scale=alt.Scale(type="sqrt", range=[size.dots(14), size.dots(110)]), legend=None
        ),
        **told(),
    )
    columns = min(points["panel"].nunique(), 3 if size.width > 300 or not size.paper else 1)
    wide = size.inner(columns, axes=1)
    side = min(wide, 170) if size.paper else 250
    chart = alt.layer(perfect, errors, curves, dots).properties(width=side, height=side)
    return panels(chart, points, "panel", columns=columns)
