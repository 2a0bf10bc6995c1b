"""Charts that a reader can point at: a Vega-Lite specification for each, and Vega itself, once for the whole page.

The page shows the drawing first and puts the chart in its place when it comes into view. Vega is run with its
interpreter of expressions (``ast``), which needs no ``eval``. Colours of text are ``currentColor``: the chart follows
the page from light to dark by itself.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.bodies import Chart

__all__ = ["bundle", "embedded"]

_TEXT = {
    "labelColor": "currentColor",
    "titleColor": "currentColor",
    "labelFontSize": 11,
    "titleFontSize": 11,
    "titleFontWeight": "normal",
}
_FAINT = "#88888840"


@cache
def bundle() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script, which makes ``window.vegaEmbed``."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def embedded(chart: Chart) -> str:
    """Return a chart as Vega-Lite, in JSON that may stand in a script element; its marks tell what they are of."""
    spec: dict[str, Any] = _told(chart.drawing.to_dict(validate=False))
    described = {
        **spec,
        "background": "transparent",
        "padding": {"left": 24, "right": 12, "top": 6, "bottom": 6},
        "config": {
            "font": "Arial, Helvetica, Liberation Sans, sans-serif",
            "axis": {**_TEXT, "gridColor": _FAINT, "domainColor": "#88888880", "tickColor": "#88888880"},
            "header": {**_TEXT, "labelFontWeight": 600},
            "text": {"color": "currentColor"},
            "legend": {
                **_TEXT,
                "symbolOpacity": 1,
                "symbolBaseFillColor": "#888888",
                "columnPadding": 28,
                "labelLimit": 400,
                "layout": {"bottom": {"direction": "vertical", "anchor": "start", "margin": 10}},
            },
            "view": {"stroke": _FAINT},
        },
    }
    text = json.dumps(described, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _told(spec: Any) -> Any:
    """Show the description of a mark, where it has one, as its tooltip too."""
    if isinstance(spec, list):
        return [_told(item) for item in spec]
    if not isinstance(spec, dict):
        return spec
    inner = {name: value if name in ("data", "datasets") else _told(value) for name, value in spec.items()}
    encoding = inner.get("encoding")
    if isinstance(encoding, dict) and "description" in encoding and "tooltip" not in encoding:
        inner["encoding"] = {**encoding, "tooltip": encoding["description"]}
    return inner
