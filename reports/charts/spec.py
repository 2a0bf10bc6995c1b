"""A chart as data, for a page that draws it anew: with words for the pointer, and a legend to choose a series by."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from reports.bodies import Chart
from reports.charts.drawing import specification
from reports.charts.look import PAGE, config

__all__ = ["embedded"]

_CHOSEN = "chosen"
_FAINT = 0.12
_INSIDE = ("layer", "hconcat", "vconcat", "concat")
_DATUM = re.compile(r"datum\.(\w+)")


def embedded(chart: Chart) -> str:
    """Return the Vega-Lite spec of a chart as JSON that may stand in a ``script`` element, in the page's colours.

    Each row of its data is in it once, with the columns that are drawn. Names are text: nothing ends the element.
    """
    spec = specification(chart.drawing)
    spec["background"] = None
    spec["config"] = config(PAGE, "currentColor")
    spec["datasets"] = _drawn_columns(spec)
    _choosable(spec)
    text = json.dumps(spec, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _drawn_columns(spec: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    rest = json.dumps({name: value for name, value in spec.items() if name != "datasets"})
    used = {*_DATUM.findall(rest), *_fields(spec)}
    return {
        name: [{key: value for key, value in row.items() if key in used} for row in rows]
        for name, rows in spec.get("datasets", {}).items()
    }


def _fields(part: Any) -> Iterator[str]:
    """Yield the columns that a spec names, but for its data."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "field" and isinstance(value, str):
                yield value
            elif name != "datasets":
                yield from _fields(value)
    elif isinstance(part, list):
        for value in part:
            yield from _fields(value)


def _choosable(spec: dict[str, Any]) -> None:
    """Let a click on the legend make the other series faint."""
    units = [unit for unit in _units(spec) if _has_legend(unit)]
    if not units:
        return
    field = units[0]["encoding"]["color"]["field"]
    choice = {"type": "point", "fields": [field]}
    units[0]["params"] = [{"name": _CHOSEN, "select": choice, "bind": "legend"}]
    for unit in _units(spec):
        encoding = unit.get("encoding", {})
        if encoding.get("color", {}).get("field") == field:
            own = unit["mark"].get("opacity", 1) if isinstance(unit["mark"], dict) else 1
            encoding["opacity"] = {"condition": {"param": _CHOSEN, "value": own}, "value": _FAINT * own}


def _units(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "mark" in part:
        yield part
    for name in _INSIDE:
        for inner in part.get(name, []):
            yield from _units(inner)
    if isinstance(part.get("spec"), dict):
        yield from _units(part["spec"])


def _has_legend(unit: dict[str, Any]) -> bool:
    paint = unit.get("encoding", {}).get("color", {})
    return paint.get("type") == "nominal" and paint.get("legend") is not None
