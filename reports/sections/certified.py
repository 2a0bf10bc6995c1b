"""Accuracy that a defense proves, radius by radius."""

from __future__ import annotations

from collections.abc import Iterator

from reports.bodies import Numbers
from reports.comparison import comparison
from reports.section import Section, Source
from reports.tables import heading, unit_of

__all__ = ["METRIC", "sections"]

METRIC = "certified_accuracy"
NOTE = (
    "Clean images that are right and proven to stay so under any perturbation shorter than the l2 radius, each with "
    "the confidence that the defense states. –: no model can be certified so far by this many draws "
    "(gaussian_smoothing: σ Φ⁻¹(α^(1/n)) at most for n draws); raise certify_draws."
)


def sections(source: Source) -> Iterator[Section]:
    """Yield one table, if a defense certified its answers."""
    table = comparison(source.results, metric=METRIC).part("clean", "attack")
    if not table.empty:
        title = heading(table)
        yield Section(
            title,
            Numbers(table, METRIC),
            f"{NOTE} {unit_of(METRIC)}",
            at_length=NOTE,
            caption=f"{title}, with 95 % intervals.",
        )
