"""Whether a run is partial: its plan had more than is measured, as its time was up or somebody stopped it."""

from __future__ import annotations

from collections.abc import Iterator

from reports.section import Source
from reports.tables import counted
from robust_eval.results.planned import unmeasured
from robust_eval.results.runs import run_names

__all__ = ["partial_sentence"]


def partial_sentence(source: Source) -> Iterator[str]:
    """Yield one sentence for each run that was stopped before all that it planned was measured."""
    for folder, name in zip(source.folders, run_names(source.folders), strict=True):
        if left := len(unmeasured(folder)):
            cells = counted(left, "planned cell")
            yield f"{name} is partial: {cells} not measured; the same command goes on from there."
