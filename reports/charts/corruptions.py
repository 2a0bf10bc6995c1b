"""Accuracy on corrupted images as a heat map: types by severities, or models by corruptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from reports.charts.look import PAGE, Size, known, order, told

if TYPE_CHECKING:
    import altair

__all__ = ["by_severity", "side_by_side"]


def by_severity(frame: pd.DataFrame, size: Size = PAGE) -> altair.TopLevelMixin | None:
    """Draw accuracies in %, types by severities, a panel a series; ``None`` if there are none.

    Columns: ``series`` (model and defense), ``type``, ``severity``, ``accuracy``, ``told``.
    """
    import altair as alt

    cells = known(frame, "accuracy")
    if cells.empty:
        return None
    series, types = order(cells["series"]), order(cells["type"])
    columns = min(3, len(series)) if not size.paper else min(len(series), 3 if size.width > 300 else 1)
    wide = 34 * 5 if not size.paper else min(size.inner(columns, types, spacing=8), 16 * 5)
    chart = _heat("severity:O", "type:N", [*range(1, 6)], types, size, wide=wide)
    facet = alt.Facet(
        "series:N", sort=series, title=None, header=alt.Header(labelLimit=wide if size.paper else 320)
    )
    faceted: altair.FacetChart = chart.properties(data=cells).facet(
        facet=facet, columns=columns, spacing=8 if size.paper else 16
    )
    return faceted


def side_by_side(frame: pd.DataFrame, size: Size = PAGE) -> altair.TopLevelMixin | None:
    """Draw accuracies in %, series by corruptions; ``None`` if there are none.

    Columns: ``series`` (model and defense), ``column`` (what was done to the images), ``accuracy``, ``told``.
    """
    cells = known(frame, "accuracy")
    if cells.empty:
        return None
    series, columns = order(cells["series"]), order(cells["column"])
    wide = min(size.inner(1, series), 18 * len(columns)) if size.paper else 34 * len(columns)
    whole: altair.TopLevelMixin = _heat("column:N", "series:N", columns, series, size, wide=wide).properties(
        data=cells
    )
    return whole


def _heat(x: str, y: str, columns: Sequence[Any], lines: Sequence[str], size: Size, *, wide: int) -> Any:
    """Return squares coloured and labelled by accuracy: the colours also rise in grey."""
    import altair as alt

    numbered = x.endswith(":O")
    axis = alt.Axis(
        labelAngle=0 if numbered else -90 if size.paper else -40,
        labelLimit=90 if size.paper else 220,
        orient="top",
    )
    base = alt.Chart().encode(
        x=alt.X(x, sort=list(columns), title="severity" if numbered else None, axis=axis),
        y=alt.Y(
            y,
            sort=list(lines),
            title=None,
            axis=alt.Axis(labelLimit=size.label_limit + 100 * (not size.paper)),
        ),
        **told(),
    )
    legend = alt.Legend(title="accuracy, %", gradientLength=60 if size.paper else 120)
    if size.paper:
        legend = alt.Legend(
            title="accuracy, %",
            orient="bottom",
            direction="horizontal",
            gradientLength=90,
            gradientThickness=6,
        )
    squares = base.mark_rect(stroke="#88888840").encode(
        color=alt.Color("accuracy:Q", scale=alt.Scale(scheme="viridis", domain=[0, 100]), legend=legend)
    )
    words = base.mark_text(fontSize=size.font - 1).encode(
        text=alt.Text("accuracy:Q", format=".0f"),
        color=alt.condition("datum.accuracy > 60", alt.value("#111111"), alt.value("#ffffff")),
    )
    # cells too narrow for their numbers have none
    layers = [squares, words] if wide / len(columns) >= 1.3 * size.font else [squares]
    return alt.layer(*layers).properties(width=wide, height=(11 if size.paper else 20) * len(lines))
