"""How a quantity is spread over many networks: a histogram for each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from reports.charts.look import PAGE, Size, colour, known, panels, told

if TYPE_CHECKING:
    import altair

__all__ = ["histograms"]


def histograms(frame: pd.DataFrame, size: Size = PAGE, *, x: str) -> altair.TopLevelMixin | None:
    """Draw counts, a panel an epoch; ``None`` if there are none.

    Columns: ``epoch``, ``series`` (one name), ``low`` and ``high`` (the step of a bar), ``networks``, ``ground`` (0),
    ``told``. ``x`` is the title of the axis.
    """
    import altair as alt

    bars = known(frame, "networks")
    if bars.empty:
        return None
    columns = min(2, bars["epoch"].nunique())
    chart = (
        alt.Chart()
        .mark_bar(stroke="#88888840")
        .encode(
            x=alt.X("low:Q", title=x, scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(tickCount=5)),
            x2="high:Q",
            y=alt.Y("networks:Q", title="networks", scale=alt.Scale(zero=True)),
            y2="ground:Q",
            color=colour("series", ["networks"], size),
            **told(),
        )
        .properties(
            width=size.inner(columns, axes=columns) if size.paper else 260, height=80 if size.paper else 170
        )
    )
    return panels(chart, bars, "epoch", columns=columns, independent=["x", "y"])
