"""The sections of a report in their order, which is that of every format.

A new section is one file beside this one, with a function that yields its sections from a
:class:`~reports.section.Source` and nothing where it has nothing to say, and one line in :data:`SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reports.section import Section, Source
from reports.sections import (
    agreement,
    analyses,
    answer,
    attack_charts,
    attacks,
    beside,
    calibration,
    certified,
    classes,
    convergence,
    corruption_errors,
    corruptions,
    deformations,
    differences,
    distances,
    estimates,
    every_corruption,
    everything,
    failed,
    gallery,
    left_out,
    memorisation,
    models,
    other_metrics,
    paper_said,
    parameters,
    perfect_order,
    profiles,
    provenance,
    radius,
    reading,
    records,
    sheet,
    training,
    trust,
)

__all__ = ["SECTIONS", "contents"]

SECTIONS: tuple[Callable[[Source], Iterator[Section]], ...] = (
    answer.sections,
    left_out.sections,
    failed.sections,
    paper_said.sections,
    trust.sections,
    attacks.sections,
    estimates.sections,
    reading.sections,
    attack_charts.sections,
    radius.sections,
    convergence.sections,
    distances.sections,
    gallery.sections,
    corruptions.sections,
    corruption_errors.sections,
    deformations.sections,
    sheet.sections,
    differences.sections,
    beside.sections,
    memorisation.sections,
    training.sections,
    classes.sections,
    calibration.sections,
    analyses.sections,
    perfect_order.sections,
    certified.sections,
    other_metrics.sections,
    every_corruption.sections,
    everything.sections,
    agreement.sections,
    parameters.sections,
    models.sections,
    profiles.sections,
    provenance.sections,
    records.sections,
)


def contents(source: Source) -> tuple[Section, ...]:
    """Return what the records say, section by section.

    Raises ``DataError`` for a baseline that was not measured.
    """
    return tuple(section for sections in SECTIONS for section in sections(source))
