"""Accuracy on deformed images: bars beside one another, with intervals, in the order of the deformations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from reports.charts.look import PAGE, Size, colour, known, order, shape, told

if TYPE_CHECKING:
    import altair

__all__ = ["deformations"]


def deformations(frame: pd.DataFrame, size: Size = PAGE) -> altair.TopLevelMixin | None:
    """Draw accuracies in %, a group of bars a deformation, a bar a series; ``None`` if there are none.

    Columns: ``series`` (model and defense), ``column`` (the deformation), ``accuracy``, ``low``, ``high``, ``told``.
    """
    import altair as alt

    bars = known(frame, "accuracy")
    if bars.empty:
        return None
    series, columns = order(bars["series"]), order(bars["column"])
    base = alt.Chart().encode(
        x=alt.X(
            "column:N",
            sort=columns,
            title=None,
            axis=alt.Axis(labelAngle=-40 if len(columns) > 4 or size.paper else 0, labelLimit=180),
        ),
        xOffset=alt.XOffset("series:N", sort=series),
        color=colour("series", series, size),
        **told(),
    )
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=alt.Scale(domain=[0, 100]))
    drawn = base.mark_bar(opacity=0.55).encode(y=y)
    errors = base.mark_rule(strokeWidth=size.line).encode(y=alt.Y("low:Q", title="accuracy, %"), y2="high:Q")
    dots = base.mark_point(filled=True, size=size.dots(30), opacity=1).encode(
        y=y, shape=shape("series", series, size)
    )
    wide = size.inner(1) if size.paper else min(900, max(180, (12 * len(series) + 18) * len(columns)))
    whole: altair.TopLevelMixin = alt.layer(drawn, errors, dots).properties(
        width=wide, height=100 if size.paper else 210, data=bars
    )
    return whole
