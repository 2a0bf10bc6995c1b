"""Accuracy after each pass of training: a curve for each model, in the band of its seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from reports.charts.foremost import shown
from reports.charts.look import PAGE, Size, colour, dash, known, panels, shape, told

if TYPE_CHECKING:
    import altair

__all__ = ["training"]


def training(frame: pd.DataFrame, size: Size = PAGE) -> altair.TopLevelMixin | None:
    """Draw accuracies in %, a panel for each set of images, a line a model; ``None`` if there are none.

    Columns: ``series`` (model), ``shown`` (see :func:`foremost`), ``set``, ``pass``, ``accuracy``, ``low``, ``high``,
    ``told``.
    """
    import altair as alt

    points = known(frame, "accuracy")
    if points.empty:
        return None
    names, rest = shown(points)
    base = alt.Chart().encode(
        x=alt.X("pass:Q", title="pass", axis=alt.Axis(tickMinStep=1)),
        color=colour("shown", names, size, rest=rest),
        detail="series:N",
    )
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=alt.Scale(zero=False))
    bands = base.mark_area(opacity=0.15).encode(y=alt.Y("low:Q", title="accuracy, %"), y2="high:Q")
    curves = base.mark_line(strokeWidth=1.5 * size.line).encode(
        y=y, strokeDash=dash("shown", names, rest=rest)
    )
    dots = base.mark_point(filled=True, size=size.dots(22), opacity=1).encode(
        y=y, shape=shape("shown", names, size, rest=rest), **told()
    )
    columns = min(points["set"].nunique(), 3 if size.width > 300 else 1)
    wide = size.inner(columns)
    chart = alt.layer(bands, curves, dots).properties(
        width=wide if size.paper else 260, height=110 if size.paper else 220
    )
    return panels(chart, points, "set", columns=columns)
