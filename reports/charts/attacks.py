"""Accuracy under each attack: a point with its interval for each model, defense and access."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from reports.charts.look import COLOURS, PAGE, Size, colour, known, order, panels, shape, told

if TYPE_CHECKING:
    import altair

__all__ = ["attacks"]


def attacks(frame: pd.DataFrame, size: Size = PAGE) -> altair.TopLevelMixin | None:
    """Draw accuracies in %, a panel an attack, a line a model; ``None`` if there are none.

    Columns: ``model``, ``defense``, ``series`` (defense and access), ``column`` (attack with its strength),
    ``accuracy``, ``low``, ``high``, ``told``.
    """
    import altair as alt

    points = known(frame, "accuracy")
    if points.empty:
        return None
    models, series = order(points["model"]), order(points["series"])
    defenses = order(points["defense"])
    paint = colour("series", series, size)
    of = points.drop_duplicates("series").set_index("series")["defense"]
    # one colour for a defense, one shape for what an attacker sees of it
    paint["scale"]["range"] = [COLOURS[defenses.index(of[name]) % len(COLOURS)] for name in series]
    base = alt.Chart().encode(
        y=alt.Y("model:N", sort=models, title=None, axis=alt.Axis(labelLimit=size.label_limit, grid=True)),
        yOffset=alt.YOffset("series:N", sort=series, scale=alt.Scale(paddingOuter=0.35)),
        color=paint,
        **told(),
    )
    x = alt.X("low:Q", scale=alt.Scale(domain=[0, 100]), title="accuracy, %")
    intervals = base.mark_rule(strokeWidth=1.5 * size.line, opacity=0.6).encode(x=x, x2="high:Q")
    dots = base.mark_point(filled=True, size=size.dots(38), opacity=1).encode(
        x="accuracy:Q", shape=shape("series", series, size)
    )
    step = max(18, 8 * len(series) + 8) if not size.paper else max(9, 4.5 * len(series) + 3)
    wide = size.inner(4, models)
    chart = alt.layer(intervals, dots).properties(width=wide, height=step * len(models))
    return panels(chart, points, "column", columns=4)
