"""Accuracy after each step of an attack: a curve that is still falling at its end asks for more steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from reports.charts.foremost import shown
from reports.charts.look import PAGE, Size, colour, dash, known, panels, shape, told

if TYPE_CHECKING:
    import altair

__all__ = ["convergence"]

_LONG = 200
"""Steps beyond which the first ones are spread out."""


def convergence(frame: pd.DataFrame, size: Size = PAGE) -> altair.TopLevelMixin | None:
    """Draw accuracies in %, a panel an attack, a line a series; ``None`` if there are none.

    Columns: ``panel`` (attack and strength), ``series`` (model and defense), ``shown`` (see :func:`foremost`),
    ``step``, ``accuracy``, ``marked``, whether the point has a mark, and its ``told``.
    """
    import altair as alt

    points = known(frame, "accuracy")
    if points.empty:
        return None
    names, rest = shown(points)
    long = points["step"].max() > _LONG
    x = alt.X(
        "step:Q",
        title="steps",
        scale=alt.Scale(type="symlog", constant=10, nice=False) if long else alt.Scale(nice=False),
        axis=alt.Axis(tickMinStep=1, tickCount=5),
    )
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=alt.Scale(domain=[0, 100]))
    base = alt.Chart().encode(x=x, y=y, color=colour("shown", names, size, rest=rest), detail="series:N")
    curves = base.mark_line(strokeWidth=1.5 * size.line, opacity=0.9, interpolate="step-after").encode(
        strokeDash=dash("shown", names, rest=rest)
    )
    dots = (
        base.transform_filter("datum.marked")
        .mark_point(filled=True, size=size.dots(36), opacity=1)
        .encode(shape=shape("shown", names, size, rest=rest), **told())
    )
    columns = min(points["panel"].nunique(), 3 if size.width > 300 else 2)
    wide = size.inner(columns, axes=columns)
    chart = alt.layer(curves, dots).properties(
        width=wide if size.paper else min(wide, 460), height=95 if size.paper else 190
    )
    return panels(chart, points, "panel", columns=columns, independent=["x"])
