"""How far the smallest perturbations are that were found."""

from __future__ import annotations

from collections.abc import Iterator

from reports.bodies import Numbers
from reports.comparison import comparison
from reports.section import Section, Source

__all__ = ["sections"]

WHERE = "In the attack's norm, pixels in [0, 1], over the images that were attacked"


def sections(source: Source) -> Iterator[Section]:
    """Yield their median for each attack that looks for the smallest, if there is one."""
    table = comparison(source.results, metric="median_distance")
    if not table.empty:
        yield Section(
            "Median distance of the smallest perturbation",
            Numbers(table, "distances"),
            f"{WHERE}, with 95 % intervals.",
            f"{WHERE}; not found: most of them resisted.",
            "Median distance of the smallest perturbation found.",
        )
