"""Makes a body of a report from a chart's function and its table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd

from reports.bodies import Chart
from reports.charts.look import COLUMN, PAGE, WIDE, Size

if TYPE_CHECKING:
    import altair

__all__ = ["PATTERNS", "Draw", "figure"]

PATTERNS = (
    "analysis_*",
    "attacks",
    "clean_vs_worst",
    "convergence",
    "corruptions",
    "deformations",
    "perfect_order_*",
    "radius",
    "reliability",
    "training",
)
"""Names of all figures there may be: those that a report does not draw are of an earlier one."""
Draw = Callable[[pd.DataFrame, Size], Any]
"""A chart's function: an Altair chart for a size, or ``None`` where the table has nothing to draw."""


def figure(name: str, caption: str, draw: Draw, frame: pd.DataFrame, *, wide: bool = False) -> Chart | None:
    """Return a chart for the page and for a column of a paper, or for two; ``None`` where nothing was measured."""
    drawing: altair.TopLevelMixin | None = draw(frame, PAGE)
    if drawing is None:
        return None
    return Chart(name, caption, drawing, draw(frame, WIDE if wide else COLUMN), wide)
