"""Drawings of the accuracy under each attack, and of clean accuracy against the worst case."""

from __future__ import annotations

from collections.abc import Iterator

from reports import charts, frames
from reports.charts.attacks import attacks
from reports.charts.clean_vs_worst import clean_vs_worst
from reports.charts.foremost import foremost, only_best
from reports.charts.look import POINTS
from reports.section import Section, Source
from reports.tables import CLEAN

__all__ = ["sections"]

_MODELS = 24
"""Lines of the chart of attacks that a reader takes in."""


def sections(source: Source) -> Iterator[Section]:
    """Yield those whose numbers were measured."""
    table = source.table
    attacked = frames.accuracies(table.part("attack"))
    caption = "Accuracy under each attack, with 95 % intervals"
    if (models := attacked["model"].nunique()) > _MODELS:
        caption += f": the {_MODELS} models of {models} with the highest mean"
    drawn = only_best(attacked, "model", _MODELS)
    wide = attacked["column"].nunique() > 1
    if (chart := charts.figure("attacks", caption, attacks, drawn, wide=wide)) is not None:
        yield Section("", chart)
    sides = frames.sides(table, CLEAN)
    caption = "Clean accuracy against the worst case over attacks; dashed: no other is better in both"
    if sides["series"].nunique() > POINTS:
        caption += f", in colour are the {POINTS} with the highest worst case"
    wide = sides["column"].nunique() > 1
    sides = foremost(sides, POINTS)
    if (chart := charts.figure("clean_vs_worst", caption, clean_vs_worst, sides, wide=wide)) is not None:
        yield Section("", chart)
