"""Accuracy against the radius that an attacker may spend: curves of smallest perturbations, points of fixed radii."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from reports.charts.foremost import shown
from reports.charts.look import PAGE, Size, colour, dash, known, panels, shape, told

if TYPE_CHECKING:
    import altair

__all__ = ["radius"]


def radius(frame: pd.DataFrame, size: Size = PAGE) -> altair.TopLevelMixin | None:
    """Draw accuracies in %, a panel a norm, a line a series with its band; ``None`` if there are none.

    Columns: ``panel`` (norm and unit), ``series`` (model and defense), ``shown`` (see :func:`foremost`), ``radius``,
    ``accuracy``, ``low``, ``high``, ``kind``: ``curve``, a point of it that is ``marked``, or ``point``, measured at
    this radius; ``told`` of the two last.
    """
    import altair as alt

    points = known(frame, "accuracy")
    if points.empty:
        return None
    names, rest = shown(points)
    paint = colour("shown", names, size, rest=rest)
    x = alt.X("radius:Q", title="radius", scale=alt.Scale(zero=True, nice=False), axis=alt.Axis(tickCount=5))
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=alt.Scale(domain=[0, 100]))
    base = alt.Chart().encode(x=x, color=paint, detail="series:N")
    walked = base.transform_filter("datum.kind != 'point'")
    bands = walked.mark_area(opacity=0.1).encode(y=alt.Y("low:Q", title="accuracy, %"), y2="high:Q")
    curves = walked.mark_line(strokeWidth=1.5 * size.line, opacity=0.9).encode(
        y=y, strokeDash=dash("shown", names, rest=rest)
    )
    errors = base.transform_filter("datum.kind == 'point'").mark_rule(strokeWidth=size.line, opacity=0.5)
    dots = base.transform_filter("datum.kind != 'curve'").mark_point(
        filled=True, size=size.dots(42), opacity=1
    )
    chart = alt.layer(
        *([bands] if rest is None else []),
        curves,
        errors.encode(y=alt.Y("low:Q"), y2="high:Q"),
        dots.encode(y=y, shape=shape("shown", names, size, rest=rest), **told()),
    )
    count = points["panel"].nunique()
    columns = min(count, 2 if size.width > 300 else 1)
    wide = size.inner(columns, axes=columns)
    chart = chart.properties(width=wide if size.paper else min(wide, 460), height=130 if size.paper else 260)
    return panels(chart, points, "panel", columns=columns, independent=["x"])
