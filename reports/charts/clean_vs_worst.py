"""Clean accuracy against the worst case, with the front of those that no other beats in both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reports.charts.foremost import shown
from reports.charts.look import PAGE, Size, colour, known, panels, shape, told

if TYPE_CHECKING:
    import altair

__all__ = ["clean_vs_worst", "front"]

_LABEL = 26
"""Letters of a label beside a point."""
_APART = (15.0, 6.0)
"""Points of clean and of robust accuracy within which there is room for one label."""


def clean_vs_worst(frame: pd.DataFrame, size: Size = PAGE) -> altair.TopLevelMixin | None:
    """Draw accuracies in %, a panel a threat, the points of the front labelled; ``None`` if there are none.

    Columns: ``column`` (the threat), ``series`` (model and defense), ``shown`` (see :func:`foremost`), ``clean``,
    ``clean_low``, ``clean_high``, ``accuracy``, ``low``, ``high``, ``told``.
    """
    import altair as alt

    points = known(frame, "accuracy", "clean")
    if points.empty:
        return None
    points = front(points)
    names, rest = shown(points)
    base = alt.Chart().encode(color=colour("shown", names, size, rest=rest), **told())
    x, y = alt.Scale(zero=False), alt.Scale(zero=True)
    upright = base.mark_rule(opacity=0.45, strokeWidth=size.line).encode(
        x=alt.X("clean:Q", scale=x, title="clean accuracy, %"),
        y=alt.Y("low:Q", scale=y, title="worst case, %"),
        y2="high:Q",
    )
    flat = base.mark_rule(opacity=0.45, strokeWidth=size.line).encode(
        y="accuracy:Q", x="clean_low:Q", x2="clean_high:Q"
    )
    dots = base.mark_point(filled=True, size=size.dots(75), opacity=1).encode(
        x="clean:Q", y="accuracy:Q", shape=shape("shown", names, size, rest=rest)
    )
    ahead = alt.Chart().transform_filter("datum.front")
    line = ahead.mark_line(
        strokeDash=[4, 2], strokeWidth=size.line, color="#888888", interpolate="step-before"
    )
    words = ahead.mark_text(align="right", dx=-6, dy=-7, fontSize=size.font - 1).encode(text="label:N")
    chart = alt.layer(
        line.encode(x="clean:Q", y="accuracy:Q"),
        upright,
        flat,
        dots,
        words.encode(x="clean:Q", y="accuracy:Q"),
    )
    columns = min(points["column"].nunique(), 3)
    wide = size.inner(columns, axes=1)
    tall = min(wide, 150) if size.paper else 260
    return panels(
        chart.properties(width=wide if size.paper else 300, height=tall), points, "column", columns=columns
    )


def front(points: pd.DataFrame) -> pd.DataFrame:
    """Add ``front``, whether no other of the same panel is at least as good in both and better in one, and ``label``.

    Of equal points all are in front.
    """
    ahead = pd.Series(True, index=points.index)
    for _, panel in points.groupby("column", sort=False, observed=True):
        clean, worst = panel["clean"].to_numpy(), panel["accuracy"].to_numpy()
        no_worse = (clean[None] >= clean[:, None]) & (worst[None] >= worst[:, None])
        better = (clean[None] > clean[:, None]) | (worst[None] > worst[:, None])
        ahead[panel.index] = ~np.any(no_worse & better, axis=1)
    return points.assign(front=ahead, label=_labels(points[ahead]).reindex(points.index, fill_value=""))


def _labels(ahead: pd.DataFrame) -> pd.Series[str]:
    """Return the names of points as far as they have room: the highest first, none where another label stands."""
    found: dict[Any, str] = {}
    for _, panel in ahead.groupby("column", sort=False, observed=True):
        taken: list[tuple[float, float]] = []
        for place, row in panel.sort_values("accuracy", ascending=False, kind="stable").iterrows():
            here = (float(row["clean"]), float(row["accuracy"]))
            if all(abs(here[0] - x) > _APART[0] or abs(here[1] - y) > _APART[1] for x, y in taken):
                name = str(row["series"])
                found[place] = name if len(name) <= _LABEL else f"{name[: _LABEL - 1]}…"
                taken.append(here)
    return pd.Series(found, dtype=object)
