"""Metrics that have no section of their own: one table each, under attack and under corruptions."""

from __future__ import annotations

from collections.abc import Iterator

from reports.bodies import Numbers
from reports.comparison import comparison, metrics
from reports.section import Section, Source
from reports.sections import certified
from reports.sections.corruptions import few_or_means
from reports.tables import Comparison, heading, unit_of
from robust_eval.metrics.classification import CALIBRATION

__all__ = ["sections"]

ELSEWHERE = ("accuracy", "median_distance", certified.METRIC, *CALIBRATION)

GROUP = "Other metrics"
OF_ALL_IMAGES = ("top", "nll", "brier")
"""How metrics begin that count every image of a cell, attacked or not."""
WITH_THE_REST = "Over all images: those that were wrong already were never attacked, and count as they are."


def sections(source: Source) -> Iterator[Section]:
    """Yield the metrics by name, details all of them."""
    for metric in metrics(source.results):
        if metric in ELSEWHERE:
            continue
        for table in _pieces(comparison(source.results, metric=metric)):
            title = heading(table)
            mixes = metric.startswith(OF_ALL_IMAGES) and not table.part("attack").empty
            whose = f" {WITH_THE_REST}" if mixes else ""
            yield Section(
                title,
                Numbers(table, f"{metric}-corruptions" if table.corrupted else metric),
                unit_of(metric) + whose,
                at_length="",
                caption=f"{title}, with 95 % intervals.{whose}",
                folded=True,
                group=GROUP,
            )


def _pieces(table: Comparison) -> Iterator[Comparison]:
    """Return the attacks of a table and its corruptions, whichever are there."""
    attacks = table.part("clean", "attack")
    if not attacks.empty:
        yield attacks
    if table.corrupted:
        yield few_or_means(table.part("corruption").without_access())
