"""The charts of a report: accuracy under each attack, clean against worst case, corruptions.

Each is a Vega-Lite chart that is drawn to SVG without a browser, for a file and for the page. A drawing needs
no script to be shown, so the page also works where scripts are blocked, as on build servers.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from reports.bodies import Chart
from reports.tables import CLEAN, MEAN, Column, Comparison, Line, Number, counted, place_of_type

if TYPE_CHECKING:
    import altair

__all__ = ["TITLES", "colour", "figure", "inline", "svg"]

TITLES = {
    "attacks": "Accuracy under each attack, with 95 % intervals",
    "clean_vs_worst": "Clean accuracy against the worst case over attacks",
    "corruptions": "Accuracy on corrupted images",
}
"""Every figure there may be: name of its file and title."""

# close to Okabe and Ito's colours: readable on light and dark grounds and with most colour blindness
_COLOURS = (
    "#1f86c9",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    "#8c8c8c",
    "#b8a800",
    "#7b5cd6",
    "#a0522d",
)
_SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
)
_SEEN = {"none": "the model itself", "transfer": "transfer", "adaptive": "adaptive", "any": "any of both"}
_SIDE_BY_SIDE, _MAPS = 8, 6
"""Corruptions beyond which they are drawn type by severity, and how many models are then drawn one by one."""
_LEGEND = 90
"""Letters that the names in one line of a legend may have."""
INK, GROUND = "#222222", "white"
# a mark with a text of its own, which SVG viewers show as a tooltip when it is a title
_TOLD = re.compile(r'(<(?:path|line|rect|text) [^>]*?aria-label="([^"]*)"[^>]*>)(?=<)')

_ID = re.compile(r'(\bid="|url\(#|href="#)([^")]+)')


def figure(name: str, table: Comparison) -> Chart | None:
    """Return one of :data:`TITLES` drawn from the accuracies; ``None`` if its numbers were not measured."""
    draw = {"attacks": _attacks, "clean_vs_worst": _clean_vs_worst, "corruptions": _corruptions}[name]
    drawing = draw(table)
    return None if drawing is None else Chart(name, TITLES[name], drawing)


def svg(chart: altair.TopLevelMixin) -> str:
    """Return a chart drawn as SVG, dark on white; rest the pointer on a mark to read its number."""
    import vl_convert

    spec: dict[str, Any] = chart.to_dict(validate=False)
    text = {
        "labelColor": INK,
        "titleColor": INK,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    }
    spec["background"] = GROUND
    # a viewer's font may be wider than the one the space was measured with
    spec["padding"] = {"left": 24, "right": 12, "top": 6, "bottom": 6}
    spec["config"] = {
        "font": "Arial, Helvetica, Liberation Sans, sans-serif",
        "axis": {**text, "gridColor": "#88888840", "domainColor": "#88888880", "tickColor": "#88888880"},
        "header": {**text, "labelFontWeight": 600},
        "legend": {
            **text,
            "symbolOpacity": 1,
            "symbolBaseFillColor": "#888888",
            "columnPadding": 28,
            "labelLimit": 400,
            # of colours and of shapes: side by side, long names of the one run into the other
            "layout": {"bottom": {"direction": "vertical", "anchor": "start", "margin": 10}},
        },
        "view": {"stroke": "#88888840"},
    }
    drawn = _TOLD.sub(r"\1<title>\2</title>", str(vl_convert.vegalite_to_svg(spec)))
    # ids are counted through a process, and would differ from one report to the next
    places = {name: i for i, (_, name) in enumerate(dict.fromkeys(_ID.findall(drawn)))}
    return _ID.sub(lambda match: f"{match[1]}part{places[match[2]]}", drawn)


def inline(drawn: str, name: str) -> str:
    """Return a drawing to be put into a page: in the page's colours, with ids no other drawing has."""
    drawn = drawn.replace(f'fill="{GROUND}"', 'fill="none"', 1).replace(f'"{INK}"', '"currentColor"')
    return _ID.sub(rf"\1{name}-\2", drawn)


def _subject(table: Comparison, line: Line) -> str:
    """Return the model, with data and seeds where they differ."""
    others = [name for name in table.heads if name not in ("model", "defense", "access")]
    extra = ", ".join(f"{name.replace('_', ' ')} {getattr(line, name)}" for name in others)
    return f"{line.model} ({extra})" if extra else line.model


def _points(table: Comparison) -> pd.DataFrame:
    rows = []
    for line in table.lines:
        for column in table.columns:
            number = table.cells.get((line, column))
            if number is None or number.value is None:
                continue
            rows.append(
                {
                    "model": _subject(table, line),
                    "defense": "no defense" if line.defense == "none" else line.defense,
                    "access": _SEEN.get(line.access, line.access),
                    "series": f"{line.defense} {line.access}",
                    "column": column.text,
                    "type": column.name,
                    "severity": column.severity,
                    "accuracy": 100 * number.value,
                    "low": 100 * (number.value if number.low is None else number.low),
                    "high": 100 * (number.value if number.high is None else number.high),
                    "told": _told(line, column, number),
                }
            )
    return pd.DataFrame(rows)


def _told(line: Line, column: Column, number: Number) -> str:
    who = ", ".join(word for word in (line.model, line.defense, line.access) if word != "none")
    doubts = "" if number.checks == "ok" else f"; checks: {number.checks}"
    return f"{who}; {column.text}: {number.full} %, n = {number.n}{doubts}"


def _attacks(table: Comparison) -> altair.TopLevelMixin | None:
    import altair as alt

    attacked = table.part("attack")
    points = _points(attacked)
    if points.empty:
        return None
    models, series = _order(points["model"]), _order(points["series"])
    base = alt.Chart().encode(
        y=alt.Y("model:N", sort=models, title=None, axis=alt.Axis(labelLimit=220, grid=True)),
        yOffset=alt.YOffset("series:N", sort=series, scale=alt.Scale(paddingOuter=0.35)),
        color=colour("defense", _order(points["defense"])),
        description="told:N",
    )
    x = alt.X("low:Q", scale=alt.Scale(domain=[0, 100]), title="accuracy, %")
    intervals = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(x=x, x2="high:Q")
    dots = base.mark_point(filled=True, size=38, opacity=1).encode(
        x="accuracy:Q",
        shape=_shape("access", [seen for seen in _SEEN.values() if seen in set(points["access"])]),
    )
    height = max(18, 8 * len(series) + 8) * len(models)
    chart = alt.layer(intervals, dots, data=points).properties(width=215, height=height)
    return _faceted(chart, attacked, columns=4)


def _clean_vs_worst(table: Comparison) -> altair.TopLevelMixin | None:
    """Plot a model's or a defense's worst number only: over both kinds of access where there are two."""
    import altair as alt

    both = {line._replace(access="none") for line in table.lines if line.access == "any"}
    honest = [
        line for line in table.lines if line.access == "any" or line._replace(access="none") not in both
    ]
    table = replace(table, lines=tuple(honest))
    worst_case = table.only(tuple(column for column in table.columns if column.perturbation == "worst_case"))
    clean, worst = _points(table.only((CLEAN,))), _points(worst_case)
    if clean.empty or worst.empty:
        return None
    same = ["model", "series"]
    sides = worst.merge(clean[[*same, "accuracy", "low", "high"]], on=same, suffixes=("", "_clean"))
    if sides.empty:
        return None
    base = alt.Chart().encode(color=colour("model", _order(sides["model"])), description="told:N")
    x, y = alt.Scale(zero=False), alt.Scale(zero=True)
    upright = base.mark_rule(opacity=0.45).encode(
        x=alt.X("accuracy_clean:Q", scale=x, title="clean accuracy, %"),
        y=alt.Y("low:Q", scale=y, title="worst case, %"),
        y2="high:Q",
    )
    flat = base.mark_rule(opacity=0.45).encode(y="accuracy:Q", x="low_clean:Q", x2="high_clean:Q")
    dots = base.mark_point(filled=True, size=75, opacity=1).encode(
        x="accuracy_clean:Q", y="accuracy:Q", shape=_shape("defense", _order(sides["defense"]))
    )
    chart = alt.layer(upright, flat, dots, data=sides).properties(width=300, height=260)
    return _faceted(chart, worst_case, columns=3)


def _faceted(chart: Any, table: Comparison, *, columns: int) -> altair.TopLevelMixin:
    import altair as alt

    names = [column.text for column in table.columns]
    facet = alt.Facet("column:N", sort=names, title=None)
    faceted: altair.FacetChart = chart.facet(facet=facet, columns=min(columns, len(names)), spacing=16)
    return faceted


def _corruptions(table: Comparison) -> altair.TopLevelMixin | None:
    """Draw heat maps: models by corruptions, or types by severities for each of a few models where there are many."""
    corrupted = table.part("corruption", without=[MEAN])
    columns = [column for column in corrupted.columns if column.severity is not None]
    if len(columns) <= _SIDE_BY_SIDE:
        return _side_by_side(table) if corrupted.columns else None
    cells = _points(corrupted.only(tuple(columns)).without_access())
    cells["line"] = _models(cells)
    lines = _order(cells["line"])
    types = sorted(set(cells["type"]), key=place_of_type)
    if len(lines) <= _MAPS:
        chart = _heat("severity:O", "type:N", [*range(1, 6)], types, wide=34)
        faceted: altair.FacetChart = chart.properties(data=cells).facet(
            facet=_facet("line:N", lines), columns=min(3, len(lines)), spacing=16
        )
        return faceted
    means = cells.groupby(["line", "type"], sort=False)["accuracy"].agg(["mean", "size"]).reset_index()
    means["told"] = [
        f"{line}; {name}: {mean:.1f} %, mean over {counted(size, 'severity', 'severities')}"
        for line, name, mean, size in means.itertuples(index=False)
    ]
    means = means.rename(columns={"mean": "accuracy"})
    return _with_data(_heat("type:N", "line:N", types, lines, wide=34), means)


def _side_by_side(table: Comparison) -> altair.TopLevelMixin:
    shown = table.part("clean", "corruption", without=[MEAN]).without_access()
    cells = _points(shown)
    cells["line"] = _models(cells)
    columns = [column.text for column in shown.columns]
    return _with_data(_heat("column:N", "line:N", columns, _order(cells["line"]), wide=34), cells)


def _with_data(chart: Any, data: pd.DataFrame) -> altair.TopLevelMixin:
    whole: altair.TopLevelMixin = chart.properties(data=data)
    return whole


def _models(cells: pd.DataFrame) -> list[str]:
    return [
        model if defense == "no defense" else f"{model} + {defense}"
        for model, defense in zip(cells["model"], cells["defense"], strict=True)
    ]


def _facet(field: str, names: list[str]) -> altair.Facet:
    import altair as alt

    return alt.Facet(field, sort=names, title=None, header=alt.Header(labelLimit=320))


def _heat(x: str, y: str, columns: list[Any], lines: list[str], *, wide: int) -> Any:
    """Return squares coloured and labelled by accuracy."""
    import altair as alt

    numbered = x.endswith(":O")
    axis = alt.Axis(labelAngle=0 if numbered else -40, labelLimit=220, orient="top")
    base = alt.Chart().encode(
        x=alt.X(x, sort=columns, title="severity" if numbered else None, axis=axis),
        y=alt.Y(y, sort=lines, title=None, axis=alt.Axis(labelLimit=320)),
        description="told:N",
    )
    squares = base.mark_rect(stroke="#88888840").encode(
        color=alt.Color(
            "accuracy:Q",
            scale=alt.Scale(scheme="viridis", domain=[0, 100]),
            legend=alt.Legend(title="accuracy, %", gradientLength=120),
        )
    )
    words = base.mark_text(fontSize=10).encode(
        text=alt.Text("accuracy:Q", format=".0f"),
        color=alt.condition("datum.accuracy > 60", alt.value("#111111"), alt.value("#ffffff")),
    )
    return alt.layer(squares, words).properties(width=wide * len(columns), height=20 * len(lines))


def _order(names: pd.Series[str]) -> list[str]:
    return list(dict.fromkeys(names))


def colour(field: str, names: list[str]) -> altair.Color:
    """Return a colour for each name, with a legend where there are several."""
    import altair as alt

    colours = [_COLOURS[i % len(_COLOURS)] for i in range(len(names))]
    return alt.Color(
        f"{field}:N", sort=names, scale=alt.Scale(domain=names, range=colours), legend=_legend(names)
    )


def _shape(field: str, names: list[str]) -> altair.Shape:
    import altair as alt

    shapes = [_SHAPES[i % len(_SHAPES)] for i in range(len(names))]
    return alt.Shape(
        f"{field}:N", sort=names, scale=alt.Scale(domain=names, range=shapes), legend=_legend(names)
    )


def _legend(names: list[str]) -> altair.Legend | None:
    import altair as alt

    if len(names) < 2:
        return None
    columns = max(1, min(4, len(names), _LEGEND // max(map(len, names))))
    return alt.Legend(title=None, orient="bottom", columns=columns)
